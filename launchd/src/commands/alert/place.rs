//! The host whose alerts a command is about, and who acts on them.

use sanctum_config::{Label, UntrustedText};
use sanctum_host::{Installation, ssh, this_host};

use crate::Error;
use crate::args::GlobalArgs;
use crate::commands::open_installed;

/// The installation on this host: the state of alerts is in its files.
pub(super) fn here(args: &GlobalArgs, command: &str) -> Result<Installation, Error> {
    let installation = open_installed(args)?;
    match elsewhere(&installation)? {
        None => Ok(installation),
        Some(host) => {
            let there = installation.fleet.hosts.get(&host);
            let destination = there
                .and_then(|host| host.ssh.as_deref())
                .unwrap_or(host.as_str());
            Err(Error::refused(format!(
                "the alerts of {host} are changed on {host}; run: {}",
                ssh::by_hand(
                    destination,
                    &ssh::launchd(&installation.fleet, &format!("alert {command} …"))
                )
            )))
        }
    }
}

/// The host that the command line names, if it is known to be another machine.
pub(super) fn elsewhere(installation: &Installation) -> Result<Option<Label>, Error> {
    let here = this_host(&installation.fleet, &installation.home)?;
    Ok(here
        .filter(|here| *here != installation.host)
        .map(|_| installation.host.clone()))
}

/// Who runs this command, for the record.
pub(super) fn operator() -> UntrustedText {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let name = names.into_iter().find_map(|name| std::env::var(name).ok());
    let name = name.filter(|name| !name.is_empty());
    let unknown = || format!("user {}", rustix::process::geteuid().as_raw());
    UntrustedText::bounded(&name.unwrap_or_else(unknown), 64)
}

/// The reason that the command line gives.
pub(super) fn reason(why: Option<&str>) -> UntrustedText {
    UntrustedText::bounded(why.unwrap_or_default(), 500)
}
