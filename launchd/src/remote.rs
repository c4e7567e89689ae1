//! The same command on another host, over ssh: its own sanctum-launchd runs it, and its output is passed on line by line.

use std::io::{self, Write};
use std::time::Duration;

use sanctum_config::{UntrustedText, escape_json};
use sanctum_host::ssh::{self, RemoteStream};
use sanctum_host::{Installation, this_host};
use serde_json::Value;

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

/// Runs `words` as the command of that host's sanctum-launchd, and passes its output on. It is given up when it prints nothing
/// for `idle`.
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
    let line = line(installation, words, console.is_json(), console.dry_run);
    session(installation, destination, &line, idle, |text| {
        writeln!(console.raw(), "{text}").and_then(|()| console.raw().flush())
    })
}

/// Runs `words` with `--json` as the command of that host's sanctum-launchd, and returns the object that it has printed, with
/// all texts escaped. It prints that at its end, so it has `limit` for all it does.
///
/// # Errors
/// As [`run`]; also if it has printed no object, whatever its exit code.
pub(crate) fn ask(
    installation: &Installation,
    destination: &str,
    words: &[&str],
    limit: Duration,
    dry_run: bool,
) -> Result<Value, Error> {
    let line = line(installation, words, true, dry_run);
    let mut output = String::new();
    session(installation, destination, &line, Some(limit), |text| {
        output.push_str(text.as_str());
        output.push('\n');
        Ok(())
    })?;
    object(&output).ok_or_else(|| {
        let why = "its sanctum-launchd ended without an error and without the result";
        Error::refused(ssh::failure(destination, &line, why))
    })
}

/// The first JSON object of an output. A login shell may have printed something before it.
fn object(output: &str) -> Option<Value> {
    let begin = output.find('{')?;
    let mut values = serde_json::Deserializer::from_str(&output[begin..]).into_iter::<Value>();
    values.next()?.ok().map(escape_json)
}

fn line(installation: &Installation, words: &[&str], json: bool, dry_run: bool) -> String {
    let mut words: Vec<String> = words.iter().map(|word| ssh::quoted(word)).collect();
    words.extend(json.then(|| "--json".to_owned()));
    words.extend(dry_run.then(|| "--dry-run".to_owned()));
    ssh::launchd(&installation.fleet, &words.join(" "))
}

/// Runs a line on that host, if that host runs commands at all. Standard output is passed to `on_output`, standard error to
/// this command's.
fn session(
    installation: &Installation,
    destination: &str,
    line: &str,
    idle: Option<Duration>,
    mut on_output: impl FnMut(UntrustedText) -> io::Result<()>,
) -> Result<(), Error> {
    let host = &installation.host;
    ssh::check_answers(destination).map_err(Error::refused)?;
    let mut ends_badly = None;
    let code = ssh::stream(destination, line, idle, |stream, text| match stream {
        RemoteStream::Output => on_output(text),
        RemoteStream::Error => {
            ends_badly = Some(text.to_string());
            writeln!(std::io::stderr(), "{host}: {text}")
        }
    });
    let code = code.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::refused(ssh::failure(destination, line, &error.to_string()))
        }
        _ => error.into(),
    })?;
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Ok(()),
        // The exit codes of sanctum-launchd.
        Some(code @ 1..=3) => Err(Error::Remote {
            host: host.clone(),
            code,
            next: ssh::by_hand(destination, line),
        }),
        _ => {
            let why = ends_badly.unwrap_or_else(|| "it printed nothing".to_owned());
            let why = ssh::with_shell_code(code, why);
            Err(Error::refused(ssh::failure(destination, line, &why)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_of_a_command_is_its_object_whatever_a_shell_prints_before_it() {
        let stopped = "welcome\n{\n  \"agent\": \"a\\u001b\"\n}\n";
        assert_eq!(object(stopped).unwrap()["agent"], r"a\u{1b}");
        for none in ["", "stopped", "{", "{\"agent\": "] {
            assert_eq!(object(none), None, "{none}");
        }
    }
}
