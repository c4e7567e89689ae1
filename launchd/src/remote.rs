//! The same command on another host, over ssh: its own sanctum-launchd runs it, and its output is passed on line by line.

use std::io::{self, Write};
use std::time::Duration;

use sanctum_config::{UntrustedText, escape_json};
use sanctum_host::ssh::{self, RemoteStream};
use sanctum_host::{Installation, this_host};
use serde_json::Value;

use crate::Error;
use crate::console::Console;
use crate::wait::Wait;

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
    session(installation, destination, &line, idle, None, |text| {
        writeln!(console.raw(), "{text}").and_then(|()| console.raw().flush())
    })
}

/// Runs `words` with `--json` as the command of that host's sanctum-launchd, and returns the object that it has printed, with
/// all texts escaped. It prints that at its end, so all it does must end within `wait`.
///
/// # Errors
/// As [`run`]; also if it has printed no object, whatever its exit code.
pub(crate) fn ask(
    installation: &Installation,
    destination: &str,
    words: &[&str],
    wait: &Wait,
    dry_run: bool,
) -> Result<Value, Error> {
    let line = line(installation, words, true, dry_run);
    let mut output = String::new();
    let limit = Some(wait.left());
    session(
        installation,
        destination,
        &line,
        limit,
        Some(wait),
        |text| {
            output.push_str(text.as_str());
            output.push('\n');
            Ok(())
        },
    )?;
    object(&output).ok_or_else(|| {
        let why = "its sanctum-launchd ended without an error and without the result";
        Error::refused(ssh::failure(destination, &line, why))
    })
}

/// The last JSON object of an output that begins on a line of its own. A login shell may have printed something before it.
fn object(output: &str) -> Option<Value> {
    let begins = output.rmatch_indices('{');
    let begins = begins.map(|(at, _)| output.split_at(at));
    let mut begins = begins.filter(|(before, _)| before.is_empty() || before.ends_with('\n'));
    begins.find_map(|(_, text)| {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        values.next()?.ok().map(escape_json)
    })
}

fn line(installation: &Installation, words: &[&str], json: bool, dry_run: bool) -> String {
    let mut words: Vec<String> = words.iter().map(|word| ssh::quoted(word)).collect();
    words.extend(json.then(|| "--json".to_owned()));
    words.extend(dry_run.then(|| "--dry-run".to_owned()));
    ssh::launchd(&installation.fleet, &words.join(" "))
}

/// Runs a line on that host, if that host runs commands at all. Standard output is passed to `on_output`, standard error to
/// this command's, beside the progress of `wait`.
fn session(
    installation: &Installation,
    destination: &str,
    line: &str,
    idle: Option<Duration>,
    wait: Option<&Wait>,
    mut on_output: impl FnMut(UntrustedText) -> io::Result<()>,
) -> Result<(), Error> {
    let host = &installation.host;
    ssh::check_answers(destination).map_err(Error::refused)?;
    let mut ends_badly = None;
    let code = ssh::stream(destination, line, idle, |stream, text| match stream {
        RemoteStream::Output => on_output(text),
        RemoteStream::Error => {
            ends_badly = Some(text.to_string());
            let print = || writeln!(io::stderr(), "{host}: {text}");
            wait.map_or_else(print, |wait| wait.beside(print))
        }
    });
    let code = code.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::refused(ssh::failure(destination, line, &error.to_string()))
        }
        _ => error.into(),
    })?;
    match code {
        Some(0) => Ok(()),
        // ssh could not connect, or the shell there could not start the command.
        None | Some(ssh::FAILED | 126 | 127) => {
            let why = ends_badly.unwrap_or_else(|| "it printed nothing".to_owned());
            let why = ssh::with_shell_code(code, why);
            Err(Error::refused(ssh::failure(destination, line, &why)))
        }
        Some(code) => Err(Error::Remote {
            host: host.clone(),
            // Those of sanctum-launchd; others are of one that was killed or has panicked.
            code: match code {
                2 => 2,
                3 => 3,
                _ => 1,
            },
            next: ssh::by_hand(destination, line),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_of_a_command_is_its_object_whatever_a_shell_prints_before_it() {
        for banner in ["", "welcome\n", "{host} welcomes {you}\n{}s\n"] {
            let stopped = format!("{banner}{{\n  \"agent\": \"a\\u001b\"\n}}\n");
            assert_eq!(object(&stopped).unwrap()["agent"], r"a\u{1b}", "{banner}");
        }
        for none in ["", "stopped", "{", "{\"agent\": ", "[\n {}\n]"] {
            assert_eq!(object(none), None, "{none}");
        }
    }
}
