//! The same command on another host, over ssh: its own sanctum-launchd runs it, and its output is passed on line by line.

use std::io::{self, Write};
use std::time::Duration;

use sanctum_host::ssh::{self, RemoteStream};
use sanctum_host::{Installation, this_host};

use crate::Error;
use crate::console::Console;

/// How the host that the command line names is reached; none if it is this one.
///
/// # Errors
/// If it is another host, and fleet.toml does not say how to reach it.
pub(crate) fn destination(installation: &Installation) -> Result<Option<&str>, Error> {
    let host = &installation.host;
    let here = this_host(&installation.fleet, &installation.home)?;
    if here.as_ref() == Some(host) {
        return Ok(None);
    }
    match installation.fleet.hosts[host].ssh.as_deref() {
        Some(destination) => Ok(Some(destination)),
        // A machine that cannot tell its own name is the host that the operator says.
        None if here.is_none() => Ok(None),
        None => Err(Error::refused(format!(
            "[hosts.{host}] has no `ssh`, so no command can be run there from here; write `ssh = \"DESTINATION\"`, or run \
             the command on {host}"
        ))),
    }
}

/// Runs `words` as the command of that host's sanctum-launchd. It is given up when it prints nothing for `idle`.
///
/// # Errors
/// If ssh fails, or the command does: it has printed why.
pub(crate) fn run(
    installation: &Installation,
    destination: &str,
    words: &[&str],
    idle: Option<Duration>,
    console: &mut Console,
) -> Result<(), Error> {
    let mut words: Vec<String> = words.iter().map(|word| ssh::quoted(word)).collect();
    if console.is_json() {
        words.push("--json".to_owned());
    }
    if console.dry_run {
        words.push("--dry-run".to_owned());
    }
    let line = ssh::launchd(&installation.fleet, &words.join(" "));
    let mut ends_badly = None;
    let code = ssh::stream(destination, &line, idle, |stream, text| match stream {
        RemoteStream::Output => {
            writeln!(console.raw(), "{text}").and_then(|()| console.raw().flush())
        }
        RemoteStream::Error => {
            ends_badly = Some(text.to_string());
            writeln!(std::io::stderr(), "{}: {text}", installation.host)
        }
    });
    let code = code.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::refused(ssh::failure(destination, &line, &error.to_string()))
        }
        _ => error.into(),
    })?;
    match code {
        Some(0) => Ok(()),
        Some(code) if code != ssh::FAILED && (1..=255).contains(&code) => Err(Error::Remote {
            host: installation.host.clone(),
            // Those of sanctum-launchd; others are the shell's, such as 127 for a program that is not there.
            code: u8::try_from(code)
                .ok()
                .filter(|code| *code <= 3)
                .unwrap_or(1),
            next: ssh::by_hand(destination, &line),
        }),
        _ => Err(Error::refused(format!(
            "`ssh {destination}` failed ({}); try it by hand: {}",
            ends_badly.unwrap_or_else(|| "it printed nothing".to_owned()),
            ssh::by_hand(destination, &line)
        ))),
    }
}
