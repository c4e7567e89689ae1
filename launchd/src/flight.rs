//! After a start: the servers must become ready, however long they load, and answer right.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sanctum_config::{Fleet, InstalledAgent, Label, Role, UntrustedText, files};
use sanctum_watch::launchctl::LastExit;

use crate::Failure;
use crate::ask::{Door, Health};
use crate::journal::boundary;
use crate::question::question;
use crate::report::Report;
use crate::site::Site;
use crate::target::Target;

/// How long a server may take to be ready. A 27B model with its manifest takes half a minute from an SSD, and several
/// from a network volume.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often somebody who waits is told that we wait.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// After the start of new servers: waits until each that should run is ready, and asks it.
///
/// # Errors
/// If one does not become ready in `patience`, exits, or answers wrong.
pub fn after(
    site: &Site,
    to: &Target,
    patience: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    for agent in to.receipt.agents.iter().filter(|agent| agent.enabled) {
        let Some(server) = served_by(&to.fleet, &agent.name) else {
            continue;
        };
        let refused = |why: String| Failure::Refused(format!("`{}`: {why}", agent.name));
        let file = site.home.fleet_toml();
        let door = Door::to(&to.fleet, &file, &site.home, &site.host, server).map_err(refused)?;
        report.note(&format!("waiting until `{}` is ready", agent.name))?;
        let waited = ready(site, agent, &door, patience, report)?;
        let asked = question(&to.fleet, server).ask_patiently(&door);
        let took = asked.map_err(|wrong| refused(wrong.to_string()))?;
        report.note(&format!(
            "`{}` was ready after {:.1} s and answered right in {:.1} s",
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
    patience: Duration,
    report: &mut Report,
) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        let refused = |why: String| Err(Failure::Refused(format!("`{}` {why}", agent.name)));
        let Some(service) = site.launchctl.print(&agent.label)? else {
            return refused("is no longer loaded: somebody booted it out meanwhile".to_owned());
        };
        let exit = service.last_exit.filter(|exit| *exit != LastExit::Never);
        if let (None, Some(exit)) = (service.pid, exit) {
            let log = last_line(&site.home.log(&agent.name));
            return refused(format!("ended at its start ({exit}){log}"));
        }
        // Whoever answers while it has no process is somebody else.
        let health = door.health();
        if health == Health::Ready && service.is_running() {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() >= patience {
            return refused(format!(
                "was not ready after {} s: {health}{}",
                patience.as_secs(),
                last_line(&site.home.log(&agent.name))
            ));
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs();
            report.note(&format!("`{}`: {health}, {seconds} s", agent.name))?;
        }
        sleep(Duration::from_millis(250));
    }
}

/// The last line of a log, as the end of a sentence.
pub(crate) fn last_line(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = Vec::new();
    if let Ok(mut file) = files::open(log) {
        let size = file.metadata().map_or(0, |about| about.len());
        let read = file
            .seek(SeekFrom::Start(size.saturating_sub(4096)))
            .and_then(|_| file.read_to_end(&mut text));
        if read.is_err() {
            return String::new();
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(String::new, |line| {
        let line = UntrustedText::bounded(line, 300);
        format!("; its log ends: {line}")
    })
}
