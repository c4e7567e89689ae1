//! The checks after a deployment: each server that runs must become ready, however long it loads, and answer a question.

use std::time::Duration;

use sanctum_config::{Fleet, Label, Role};
use sanctum_host::launchctl::LastExit;
use sanctum_host::{Installation, InstalledAgent, StoppedAgents};

use crate::Error;
use crate::console::Console;
use crate::fault::fault_point;
use crate::host_state::HostState;
use crate::log_excerpt::LogEnds;
use crate::server_probe::ServerProbe;
use crate::test_question::test_question;
use crate::wait::Wait;

/// How long a server may take to become ready by default, in seconds. A 27B model with its manifest takes half a minute from
/// an SSD, and several minutes from a network volume.
pub(crate) const PATIENCE: u64 = 15 * 60;

/// Waits until each enabled server is ready, and asks it. `before_each` is called before each of these waits, which take
/// `patience` at most. A server that an operator has stopped is not waited for.
///
/// # Errors
/// If a server does not become ready, exits or gives a wrong answer, or `before_each` fails.
pub(crate) fn run(
    installation: &Installation,
    to: &HostState,
    patience: Duration,
    logs: &LogEnds,
    console: &mut Console,
    mut before_each: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let stopped = StoppedAgents::read(&installation.home.stopped())?;
    for agent in to.receipt.agents.iter().filter(|agent| agent.enabled) {
        let Some(server) = served_by(&to.fleet, &agent.name) else {
            continue;
        };
        if let Some(stopped) = stopped.get(&agent.name) {
            let name = &agent.name;
            console.note(&format!(
                "`{name}` is {}, and stays so; to start it, run: {}",
                stopped.describe(),
                installation.typed(&format!("start {name}"))
            ))?;
            continue;
        }
        before_each()?;
        let started = StartedServer {
            installation,
            fleet: &to.fleet,
            agent,
            server,
        };
        started.check(patience, logs, console)?;
    }
    fault_point("checked");
    Ok(())
}

/// A server, or a standby in its place, that has just been started.
pub(crate) struct StartedServer<'a> {
    pub(crate) installation: &'a Installation,
    pub(crate) fleet: &'a Fleet,
    pub(crate) agent: &'a InstalledAgent,
    /// The server that the agent is, or that it serves for.
    pub(crate) server: &'a Label,
}

impl StartedServer<'_> {
    /// Waits until it is ready, and asks it.
    ///
    /// # Errors
    /// If it does not become ready within `patience`, exits, or gives a wrong answer.
    pub(crate) fn check(
        &self,
        patience: Duration,
        logs: &LogEnds,
        console: &mut Console,
    ) -> Result<(), Error> {
        let Self {
            installation,
            fleet,
            agent,
            server,
        } = self;
        let home = &installation.home;
        let name = format!("`{}`", agent.name);
        let failed = |reason: String| Error::refused(format!("{name}: {reason}"));
        let file = home.fleet_toml();
        let probe = ServerProbe::from_host(fleet, &file, home, &installation.host, server);
        let probe = probe.map_err(failed)?;
        console.note(&format!("waiting until {name} is ready"))?;
        let wait = Wait::new(patience);
        let log = || logs.excerpt(home, &agent.name);
        let has_process = || {
            let Some(service) = installation.launchctl.print(&agent.label)? else {
                return Err(Error::refused(format!(
                    "{name} is no longer loaded: another process has unloaded it"
                )));
            };
            let exit = service.last_exit.filter(|exit| *exit != LastExit::Never);
            match (service.pid, exit) {
                (None, Some(exit)) => Err(Error::refused(format!(
                    "{name} exited when it started ({exit}){}",
                    log()
                ))),
                // Without a process of its own, another program has answered.
                (pid, _) => Ok(pid.is_some()),
            }
        };
        let waited = wait.until_ready(&name, &probe, has_process, log)?;
        let asked = test_question(fleet, server).ask_with_retries(&probe, &wait);
        drop(wait);
        let took = asked.map_err(|error| failed(error.to_string()))?;
        console.note(&format!(
            "{name} was ready after {:.1} s and answered correctly in {:.1} s",
            waited.as_secs_f64(),
            took.as_secs_f64()
        ))?;
        Ok(())
    }
}

/// The server that an agent is, or that it serves for.
pub(crate) fn served_by<'a>(fleet: &'a Fleet, agent: &'a Label) -> Option<&'a Label> {
    match fleet.role(agent)? {
        Role::Server(_) => Some(agent),
        Role::Agent(standby) => standby.standby_for.as_ref(),
        Role::Watch(_) | Role::Page(_) => None,
    }
}
