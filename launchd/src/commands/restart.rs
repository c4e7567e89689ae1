//! `sanctum-launchd restart`: restart an agent, and wait until it is healthy.

use std::time::Duration;

use sanctum_host::{Installation, StoppedAgents, ssh};
use serde_json::json;

use super::open_installed;
use crate::agent_control::{AgentControl, agent_of_host, check_loaded, installed_agent};
use crate::args::{GlobalArgs, StartArgs};
use crate::console::Console;
use crate::{Error, remote};

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    restart: &StartArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    if let Some(destination) = remote::destination(&installation)? {
        let patience = restart.patience.to_string();
        let idle = Some(ssh::LIMIT + Duration::from_secs(restart.patience));
        agent_of_host(&installation, &restart.agent)?;
        let words = ["restart", restart.agent.as_str(), "--patience", &patience];
        return remote::run(&installation, destination, &words, idle, console);
    }
    let Installation { home, host, .. } = &installation;
    let agent = installed_agent(&installation, &restart.agent)?;
    let name = agent.name.clone();
    let result = |changed: bool| json!({ "host": host, "agent": name, "changed": changed });
    if let Some(stopped) = StoppedAgents::read(&home.stopped())?.get(&name) {
        return Err(Error::refused(format!(
            "`{name}` is {}; to start it, run: {}",
            stopped.describe(),
            installation.typed(&format!("start {name}"))
        )));
    }
    if !agent.enabled {
        return Err(Error::refused(format!(
            "`{name}` is on standby on {host}; to let it serve, run: {}",
            installation.typed(&format!("rollback --agent {name}"))
        )));
    }
    check_loaded(&installation, &agent)?;
    console.step("restart", &format!("restart {name}"))?;
    if console.dry_run {
        let line = format!("{name} would be restarted; nothing has been changed");
        return Ok(console.end(&line, result(false))?);
    }
    let patience = Duration::from_secs(restart.patience);
    AgentControl::begin(&installation, "restart", agent, console)?.restart(patience)?;
    Ok(console.end(&format!("{name} is restarted"), result(true))?)
}
