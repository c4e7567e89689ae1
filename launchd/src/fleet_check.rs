//! What makes a fleet.toml unusable beyond its form: a property list that cannot be made, a watchdog or a channel that does
//! not start. `check` and `init` report it.

use std::path::Path;

use sanctum_config::{Fleet, Home};
use sanctum_watch::alert::Channel;

use crate::Error;
use crate::plist::{check_watchdogs, render};

/// Checks what is deployed with `fleet`, which was read from `file`, on all of its hosts.
///
/// # Errors
/// The first problem, with its section, its key and its fix.
pub(crate) fn check_fleet(fleet: &Fleet, file: &Path, home: &Home) -> Result<(), Error> {
    for host in fleet.hosts.keys() {
        render(fleet, home, host)?;
        check_watchdogs(fleet, file, host)?;
    }
    for name in fleet.alerts.keys() {
        // A section that no watchdog uses may be unfinished.
        let is_used = fleet.watch.values().any(|watch| watch.alert.contains(name));
        if let Err(error) = Channel::of(fleet, file, name)
            && is_used
        {
            return Err(Error::refused(error.to_string()));
        }
    }
    Ok(())
}
