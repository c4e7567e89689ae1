//! The checks after a deployment: each server that runs must become ready, however long it loads, and answer a question.

use std::time::Duration;

use sanctum_config::{Fleet, Label, Role};
use sanctum_host::Installation;
use sanctum_host::launchctl::LastExit;

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
/// `patience` at most.
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
    let home = &installation.home;
    for agent in to.receipt.agents.iter().filter(|agent| agent.enabled) {
        let Some(server) = served_by(&to.fleet, &agent.name) else {
            continue;
        };
        let name = format!("`{}`", agent.name);
        let failed = |reason: String| Error::refused(format!("{name}: {reason}"));
        let file = home.fleet_toml();
        let probe = ServerProbe::from_host(&to.fleet, &file, home, &installation.host, server);
        let probe = probe.map_err(failed)?;
        before_each()?;
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
        let asked = test_question(&to.fleet, server).ask_with_retries(&probe, &wait);
        drop(wait);
        let took = asked.map_err(|error| failed(error.to_string()))?;
        console.note(&format!(
            "{name} was ready after {:.1} s and answered correctly in {:.1} s",
            waited.as_secs_f64(),
            took.as_secs_f64()
        ))?;
    }
    fault_point("checked");
    Ok(())
}

/// The server that an agent is, or that it serves for.
fn served_by<'a>(fleet: &'a Fleet, agent: &'a Label) -> Option<&'a Label> {
    match fleet.role(agent)? {
        Role::Server(_) => Some(agent),
        Role::Agent(standby) => standby.standby_for.as_ref(),
        Role::Watch(_) => None,
    }
}
