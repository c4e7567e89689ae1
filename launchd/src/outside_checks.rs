//! The checks of an upgrade from outside: the hosts that watch this one, if they can be asked over ssh, must reach its servers
//! as well as before.
//!
//! What has failed before the upgrade does not roll it back: the new release is not the cause.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use sanctum_config::Label;
use sanctum_host::{Installation, ssh};

use crate::Error;
use crate::console::Console;
use crate::doctor::{DoctorLine, ask_from_outside, watchers_elsewhere};

/// How often a host is asked until its checks pass.
const ATTEMPTS: u32 = 3;
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// The hosts that could be asked before the upgrade.
#[derive(Debug, Default)]
pub(crate) struct OutsideChecks(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    host: Label,
    destination: String,
    /// The checks that have failed before.
    failed_before: BTreeSet<String>,
}

impl OutsideChecks {
    /// How long [`OutsideChecks::check`] may take.
    pub(crate) fn limit(&self) -> Duration {
        let hosts = u32::try_from(self.0.len()).unwrap_or(1);
        (ssh::SHORT_LIMIT + ssh::LIMIT + PAUSE) * ATTEMPTS * hosts
    }

    /// Asks each of these hosts before the upgrade.
    ///
    /// # Errors
    /// If a line cannot be written.
    pub(crate) fn before(
        installation: &Installation,
        console: &mut Console,
    ) -> Result<Self, Error> {
        let mut watchers = Vec::new();
        for (host, destination) in watchers_elsewhere(&installation.fleet, &installation.host) {
            match ask_from_outside(installation, destination) {
                Ok(lines) => watchers.push(Watcher {
                    host: host.clone(),
                    destination: destination.to_owned(),
                    failed_before: failed(&lines).map(|line| line.check.clone()).collect(),
                }),
                Err(why) => console.note(&format!(
                    "{host} cannot be asked, so nothing is checked from there: {why}"
                ))?,
            }
        }
        Ok(Self(watchers))
    }

    /// Asks them again.
    ///
    /// # Errors
    /// If a check fails that has not failed before.
    pub(crate) fn check(
        &self,
        installation: &Installation,
        console: &mut Console,
    ) -> Result<(), Error> {
        for watcher in &self.0 {
            let Watcher {
                host, destination, ..
            } = watcher;
            match watcher.ask(installation) {
                Ok(None) => console.note(&format!("{host} reaches the servers of this host"))?,
                Ok(Some(line)) => {
                    return Err(Error::refused(format!(
                        "{host} does not reach this host as before: {}: {}",
                        line.check, line.detail
                    )));
                }
                Err(why) => console.note(&format!(
                    "{host} can no longer be asked, so nothing is checked from there: {why}; check it by hand: ssh \
                     {destination} true"
                ))?,
            }
        }
        Ok(())
    }
}

impl Watcher {
    /// The first check that fails now and has not failed before.
    fn ask(&self, installation: &Installation) -> Result<Option<DoctorLine>, String> {
        let mut attempt = 1;
        loop {
            let lines = ask_from_outside(installation, &self.destination)?;
            let worse = failed(&lines).find(|line| !self.failed_before.contains(&line.check));
            match worse {
                Some(_) if attempt < ATTEMPTS => {}
                worse => return Ok(worse.cloned()),
            }
            attempt += 1;
            sleep(PAUSE);
        }
    }
}

fn failed(lines: &[DoctorLine]) -> impl Iterator<Item = &DoctorLine> {
    lines.iter().filter(|line| line.is_failure())
}
