//! After a start: the servers must become ready, however long they load, and answer correctly.

use std::thread::sleep;
use std::time::Duration;

use sanctum_config::{Fleet, Label, Role};
use sanctum_host::InstalledAgent;
use sanctum_host::launchctl::LastExit;

use crate::Failure;
use crate::ask::{Door, Health};
use crate::journal::boundary;
use crate::log_excerpt::LogEnds;
use crate::question::question;
use crate::report::Report;
use crate::site::Site;
use crate::target::Target;
use crate::wait::Wait;

/// How long a server may take to be ready. A 27B model with its manifest takes half a minute from an SSD, and several
/// from a network volume.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// After the start of new servers: waits until each that should run is ready, and asks it. `before_each` is called before
/// each of these waits, so that a lease lasts for all of them.
///
/// # Errors
/// If one does not become ready in `patience`, exits, or answers wrong; or `before_each` fails.
pub fn after(
    site: &Site,
    to: &Target,
    patience: Duration,
    logs: &LogEnds,
    report: &mut Report,
    mut before_each: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    for agent in to.receipt.agents.iter().filter(|agent| agent.enabled) {
        let Some(server) = served_by(&to.fleet, &agent.name) else {
            continue;
        };
        let refused = |why: String| Failure::Refused(format!("`{}`: {why}", agent.name));
        let file = site.home.fleet_toml();
        let door = Door::to(&to.fleet, &file, &site.home, &site.host, server).map_err(refused)?;
        before_each()?;
        report.note(&format!("waiting until `{}` is ready", agent.name))?;
        let wait = Wait::new(patience);
        let waited = ready(site, agent, &door, &wait, logs)?;
        let asked = question(&to.fleet, server).ask_patiently(&door, &wait);
        drop(wait);
        let took = asked.map_err(|wrong| refused(wrong.to_string()))?;
        report.note(&format!(
            "`{}` was ready after {:.1} s and answered correctly in {:.1} s",
            agent.name,
            waited.as_secs_f64(),
            took.as_secs_f64()
        ))?;
    }
    boundary("asked");
    Ok(())
}

/// The server that an agent is, or in whose place it serves.
fn served_by<'a>(fleet: &'a Fleet, agent: &'a Label) -> Option<&'a Label> {
    match fleet.role(agent)? {
        Role::Server(_) => Some(agent),
        Role::Agent(standby) => standby.standby_for.as_ref(),
        Role::Watch(_) => None,
    }
}

/// Waits until a server is ready; how long that took. A model that loads for a minute is waited for; a process that
/// has exited is not.
fn ready(
    site: &Site,
    agent: &InstalledAgent,
    door: &Door,
    wait: &Wait,
    logs: &LogEnds,
) -> Result<Duration, Failure> {
    let log = || logs.excerpt(&site.home, &agent.name);
    loop {
        let refused = |why: String| Err(Failure::Refused(format!("`{}` {why}", agent.name)));
        let Some(service) = site.launchctl.print(&agent.label)? else {
            return refused(
                "is no longer loaded: another process booted it out meanwhile".to_owned(),
            );
        };
        let exit = service.last_exit.filter(|exit| *exit != LastExit::Never);
        if let (None, Some(exit)) = (service.pid, exit) {
            return refused(format!("ended at its start ({exit}){}", log()));
        }
        // While it has no process, an answer is another program's.
        let health = door.health(wait.left());
        if health == Health::Ready && service.is_running() {
            return Ok(wait.waited());
        }
        if wait.is_over() {
            let limit = wait.limit().as_secs();
            return refused(format!("was not ready after {limit} s: {health}{}", log()));
        }
        wait.show(&format!("`{}`: {health}", agent.name));
        sleep(Duration::from_millis(250).min(wait.left()));
    }
}
