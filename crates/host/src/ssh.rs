//! Other hosts over ssh: a request to their own `sanctum-launchd`, or commands of their system.
//!
//! ssh must connect without a prompt (`BatchMode`). `$SANCTUM_SSH` names a program to use instead of ssh.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use sanctum_config::{Fleet, UntrustedText, escape_json, system_program};
use serde_json::Value;

use crate::command::{self, CommandError, Output};

/// The exit code of ssh if it could not connect, or was not authorized.
pub const FAILED: i32 = 255;

/// ssh fails instead of asking for a password or a host key.
const WITHOUT_PROMPT: [&str; 4] = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"];

/// A longer line of another host is divided.
const MAX_LINE: u64 = 64 << 10;

/// How long another host may take to answer.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command line in the shell of another host.
///
/// # Errors
/// If ssh cannot be started or does not finish within `limit`. Its exit code is 255 if the host cannot be reached.
pub fn run(destination: &str, line: &str, limit: Duration) -> Result<Output, CommandError> {
    let arguments = [&WITHOUT_PROMPT[..], &["--", destination, line]].concat();
    command::run("ssh", &arguments, limit)
}

/// An output stream of a command on another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteStream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Runs a command line in the shell of another host, without a time limit, and passes each line of its output to `on_line`
/// as it arrives, escaped. ssh ends by itself if that host stops answering. Returns the exit code; none if a signal ended
/// ssh.
///
/// # Errors
/// If ssh cannot be started, or the error of `on_line`, after which ssh is ended.
pub fn stream(
    destination: &str,
    line: &str,
    mut on_line: impl FnMut(RemoteStream, UntrustedText) -> io::Result<()>,
) -> io::Result<Option<i32>> {
    let mut child = spawn(destination, line, Stdio::null())?;
    let (sender, lines) = sync_channel(64);
    for (stream, pipe) in [
        (RemoteStream::Output, child.stdout.take().map(OwnedFd::from)),
        (RemoteStream::Error, child.stderr.take().map(OwnedFd::from)),
    ] {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let lines = lines_of(pipe.map(File::from));
            // The receiver is gone after an error of `on_line`.
            lines
                .map(|line| (stream, line))
                .try_for_each(|line| sender.send(line))
        });
    }
    drop(sender);
    for (stream, text) in lines {
        if let Err(error) = on_line(stream, text) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    }
    Ok(child.wait()?.code())
}

/// Runs a command line in the shell of another host, and writes its standard input with `write`. Its output is expected to be
/// short.
///
/// # Errors
/// If ssh cannot be started, or the error of `write`. An error that only says that the command no longer reads is not
/// returned: the output says why.
pub fn send(
    destination: &str,
    line: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Output> {
    let mut child = spawn(destination, line, Stdio::piped())?;
    let output = [
        child.stdout.take().map(OwnedFd::from),
        child.stderr.take().map(OwnedFd::from),
    ];
    let output = output.map(|pipe| {
        std::thread::spawn(move || {
            let lines: Vec<String> = lines_of(pipe.map(File::from)).map(String::from).collect();
            lines.join("\n")
        })
    });
    let written = match child.stdin.take() {
        Some(mut stdin) => write(&mut stdin).and_then(|()| stdin.flush()),
        None => Ok(()),
    };
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    let code = child.wait()?.code();
    let [stdout, stderr] = output.map(|thread| thread.join().unwrap_or_default());
    Ok(Output {
        code,
        stdout,
        stderr,
    })
}

/// Starts ssh, which ends by itself if the other host stops answering.
fn spawn(destination: &str, line: &str, stdin: Stdio) -> io::Result<Child> {
    Command::new(system_program("ssh"))
        .args(WITHOUT_PROMPT)
        .args([
            "-o",
            "ServerAliveInterval=15",
            "-o",
            "ServerAliveCountMax=4",
        ])
        .args(["--", destination, line])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// The lines of a pipe, escaped, until it is closed.
fn lines_of(pipe: Option<File>) -> impl Iterator<Item = UntrustedText> {
    let mut pipe = pipe.map(BufReader::new);
    std::iter::from_fn(move || {
        let mut bytes = Vec::new();
        let read = pipe.as_mut()?.take(MAX_LINE).read_until(b'\n', &mut bytes);
        read.ok().filter(|read| *read > 0)?;
        let text = String::from_utf8_lossy(&bytes);
        Some(UntrustedText::multiline(
            text.trim_end_matches(['\n', '\r']),
        ))
    })
}

/// A word quoted for any shell; without quotes where it needs none.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The command that an operator can type to do the same as [`run`].
pub fn by_hand(destination: &str, line: &str) -> String {
    format!("ssh {destination} {}", quoted(line))
}

/// A path of fleet.toml, quoted for the other host's shell. A `~` stays unquoted: it means that host's home folder.
pub fn quoted_path(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => format!("~/{}", quoted(rest)),
        None => quoted(path),
    }
}

/// Runs `sanctum-launchd COMMAND --json` on another host and returns its output, with all texts escaped.
///
/// # Errors
/// If the host cannot be reached, or its output is not JSON: the reason, with what to do.
pub fn ask_launchd(fleet: &Fleet, destination: &str, command: &str) -> Result<Value, String> {
    ask_launchd_within(fleet, destination, command, LIMIT)
}

/// As [`ask_launchd`], with another time limit.
///
/// # Errors
/// As [`ask_launchd`].
pub fn ask_launchd_within(
    fleet: &Fleet,
    destination: &str,
    command: &str,
    limit: Duration,
) -> Result<Value, String> {
    let line = launchd_line(fleet, command);
    let output = run(destination, &line, limit).map_err(|error| error.to_string())?;
    let answer = serde_json::from_str(&output.stdout).map(escape_json);
    answer.map_err(|_| {
        format!(
            "`ssh {destination}` failed ({}); try it by hand: {}",
            output.reason(),
            by_hand(destination, &line)
        )
    })
}

fn launchd_line(fleet: &Fleet, command: &str) -> String {
    launchd(fleet, &format!("{command} --json"))
}

/// The line that runs the sanctum-launchd of another host. `command` is quoted for the shell already.
pub fn launchd(fleet: &Fleet, command: &str) -> String {
    let home = fleet.fleet.home.as_str();
    let program = quoted_path(&format!("{home}/bin/sanctum-launchd"));
    let config = quoted_path(&format!("{home}/fleet.toml"));
    format!("{program} {command} --config {config}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn line_for_another_host_names_that_hosts_home() {
        let fleet = |home: &str| {
            let text = format!("[fleet]\nhome = \"{home}\"\n");
            Fleet::parse(&text, Path::new("fleet.toml")).unwrap()
        };
        assert_eq!(
            launchd_line(&fleet("~/.sanctum"), "verify"),
            "~/.sanctum/bin/sanctum-launchd verify --json --config ~/.sanctum/fleet.toml"
        );
        // The local shell must not expand `~`.
        assert_eq!(by_hand("mini", "ls ~/.sanctum"), "ssh mini 'ls ~/.sanctum'");
        assert_eq!(quoted_path("~/my fleet"), "~/'my fleet'");
        assert!(launchd_line(&fleet("/srv/it's"), "x").starts_with(r"'/srv/it'\''s/bin/"));
    }
}
