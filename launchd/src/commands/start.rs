//! `sanctum-launchd start`: start an agent that was stopped, and wait until it is healthy.

use std::time::Duration;

use sanctum_host::{Installation, StoppedAgents, ssh};
use serde_json::json;

use super::open_installed;
use crate::agent_control::{AgentControl, agent_of_host, installed_agent};
use crate::args::{GlobalArgs, StartArgs};
use crate::console::Console;
use crate::{Error, remote};

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    start: &StartArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    if let Some(destination) = remote::destination(&installation)? {
        let patience = start.patience.to_string();
        let idle = Some(ssh::LIMIT + Duration::from_secs(start.patience));
        agent_of_host(&installation, &start.agent)?;
        let words = ["start", start.agent.as_str(), "--patience", &patience];
        let done = remote::run(&installation, destination, &words, idle, console);
        // An outage after a start that failed is reported. If ssh has failed, nothing was started.
        if !console.dry_run && matches!(done, Ok(()) | Err(Error::Remote { .. })) {
            StoppedAgents::remove(&installation.home.stopped(), &start.agent)?;
        }
        return done;
    }
    let Installation {
        home,
        host,
        launchctl,
        ..
    } = &installation;
    let agent = installed_agent(&installation, &start.agent)?;
    let name = agent.name.clone();
    let result = |changed: bool| json!({ "host": host, "agent": name, "stopped": false, "changed": changed });
    if !agent.enabled {
        if !console.dry_run {
            StoppedAgents::remove(&home.stopped(), &name)?;
        }
        return Err(Error::refused(format!(
            "`{name}` is on standby on {host}; to let it serve, run: {}",
            installation.typed(&format!("rollback --agent {name}"))
        )));
    }
    let is_stopped = StoppedAgents::read(&home.stopped())?.contains(&name);
    let service = launchctl.print(&agent.label)?;
    if !is_stopped && service.is_some_and(|service| service.is_running()) {
        let line = format!(
            "nothing to do: {name} runs; to restart it, run: {}",
            installation.typed(&format!("restart {name}"))
        );
        return Ok(console.end(&line, result(false))?);
    }
    console.step("start", &format!("start {name}"))?;
    if console.dry_run {
        let line = format!("{name} would be started; nothing has been changed");
        return Ok(console.end(&line, result(false))?);
    }
    let patience = Duration::from_secs(start.patience);
    AgentControl::begin(&installation, "start", agent, console)?.start(patience)?;
    Ok(console.end(&format!("{name} is started"), result(true))?)
}
