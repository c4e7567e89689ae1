//! Other hosts over ssh: a request to their own `sanctum-launchd`, or commands of their system.
//!
//! ssh must connect without a prompt (`BatchMode`). `$SANCTUM_SSH` names a program to use instead of ssh.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal};
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

/// How long another host may take for what it does in moments: its status, or a command of its system.
pub const SHORT_LIMIT: Duration = Duration::from_secs(15);

/// Checks that another host runs commands at all, before it is asked for something that may take longer.
///
/// # Errors
/// If it cannot be reached, or does not answer within [`SHORT_LIMIT`]: the reason, with what to do.
pub fn check_answers(destination: &str) -> Result<(), String> {
    const LINE: &str = "true";
    let output = run(destination, LINE, SHORT_LIMIT)
        .map_err(|error| failure(destination, LINE, &in_short(&error)))?;
    match output.succeeded() {
        true => Ok(()),
        false => Err(failure(destination, LINE, &output.reason())),
    }
}

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

/// Runs a command line in the shell of another host, and passes each line of its output to `on_line` as it arrives, escaped.
/// It is ended when nothing has arrived for `idle`; none waits for ever. ssh ends by itself if that host stops answering.
/// Returns the exit code; none if a signal ended ssh.
///
/// # Errors
/// If ssh cannot be started, nothing arrives for `idle`, or the error of `on_line`, after which ssh is ended.
pub fn stream(
    destination: &str,
    line: &str,
    idle: Option<Duration>,
    on_line: impl FnMut(RemoteStream, UntrustedText) -> io::Result<()>,
) -> io::Result<Option<i32>> {
    stream_from(&mut patient(destination, line), idle, on_line)
}

/// ssh, which notices within a minute that the other host no longer answers.
fn patient(destination: &str, line: &str) -> Command {
    let mut ssh = Command::new(system_program("ssh"));
    ssh.args(WITHOUT_PROMPT)
        .args([
            "-o",
            "ServerAliveInterval=15",
            "-o",
            "ServerAliveCountMax=4",
        ])
        .args(["--", destination, line]);
    ssh
}

fn stream_from(
    command: &mut Command,
    idle: Option<Duration>,
    mut on_line: impl FnMut(RemoteStream, UntrustedText) -> io::Result<()>,
) -> io::Result<Option<i32>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
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
    loop {
        let next = match idle {
            Some(idle) => lines.recv_timeout(idle),
            None => lines.recv().map_err(RecvTimeoutError::from),
        };
        let passed = match next {
            Ok((stream, text)) => on_line(stream, text),
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?.code()),
            Err(RecvTimeoutError::Timeout) => Err(silent(idle.unwrap_or_default())),
        };
        if let Err(error) = passed {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    }
}

/// The error for a command on another host that no longer does anything.
fn silent(idle: Duration) -> io::Error {
    let why = format!(
        "the command there did not read or write for {} s, so it was given up",
        idle.as_secs()
    );
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// Runs a command line in the shell of another host, and writes its standard input with `write`. Its output is expected to be
/// short. It is ended when it has neither read nor written anything for `idle`.
///
/// # Errors
/// If ssh cannot be started, nothing moves for `idle`, or the error of `write`. An error that only says that the command no
/// longer reads is not returned: the output says why.
pub fn send(
    destination: &str,
    line: &str,
    idle: Duration,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Output> {
    send_to(&mut patient(destination, line), idle, write)
}

fn send_to(
    command: &mut Command,
    idle: Duration,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let activity = Arc::new(Activity::default());
    let output = [
        child.stdout.take().map(OwnedFd::from),
        child.stderr.take().map(OwnedFd::from),
    ];
    let output = output.map(|pipe| {
        let activity = Arc::clone(&activity);
        std::thread::spawn(move || {
            let lines = lines_of(pipe.map(File::from)).inspect(|_| activity.note());
            let lines: Vec<String> = lines.map(String::from).collect();
            lines.join("\n")
        })
    });
    let (ended, has_ended) = channel::<()>();
    let watch = {
        let activity = Arc::clone(&activity);
        let process = Pid::from_child(&child);
        std::thread::spawn(move || activity.kill_when_silent(process, idle, &has_ended))
    };
    let written = match child.stdin.take() {
        Some(stdin) => {
            let mut stdin = WatchedPipe(stdin, &activity);
            write(&mut stdin).and_then(|()| stdin.flush())
        }
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
    drop(ended);
    if watch.join().unwrap_or(false) {
        return Err(silent(idle));
    }
    let [stdout, stderr] = output.map(|thread| thread.join().unwrap_or_default());
    Ok(Output {
        code,
        stdout,
        stderr,
    })
}

/// Counts what a process reads and writes.
#[derive(Debug, Default)]
struct Activity(AtomicU64);

impl Activity {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Kills the process when nothing was noted for `idle`. Returns whether it did; it stops when `ended` is closed.
    fn kill_when_silent(&self, process: Pid, idle: Duration, ended: &Receiver<()>) -> bool {
        let mut last = self.0.load(Ordering::Relaxed);
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(idle) {
            let now = self.0.load(Ordering::Relaxed);
            if now == last {
                // `ended` is closed as soon as it is reaped, so the number is still its own.
                let _ = rustix::process::kill_process(process, Signal::KILL);
                return true;
            }
            last = now;
        }
        false
    }
}

/// A pipe whose writes are noted.
struct WatchedPipe<'a, W>(W, &'a Activity);

impl<W: Write> Write for WatchedPipe<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1.note();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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

/// A path quoted for the shell.
pub fn quoted_file(path: &Path) -> String {
    quoted(&path.to_string_lossy())
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
    let [answer] = ask_launchd_for(fleet, destination, [command], limit)?;
    Ok(answer)
}

/// As [`ask_launchd_within`], for several commands in one ssh session, one after the other.
///
/// # Errors
/// As [`ask_launchd`]; also if one of them has printed no JSON.
pub fn ask_launchd_for<const N: usize>(
    fleet: &Fleet,
    destination: &str,
    commands: [&str; N],
    limit: Duration,
) -> Result<[Value; N], String> {
    let line = commands
        .map(|command| launchd_line(fleet, command))
        .join("; ");
    let output = run(destination, &line, limit)
        .map_err(|error| failure(destination, &line, &in_short(&error)))?;
    answers(&output.stdout).ok_or_else(|| {
        let why = with_shell_code(output.code, output.reason());
        failure(destination, &line, &why)
    })
}

/// Why a line failed, with what the exit code of the shell there says about its sanctum-launchd.
pub fn with_shell_code(code: Option<i32>, why: String) -> String {
    match code {
        Some(127) => format!(
            "{why}; its sanctum-launchd is missing: send a release with `sanctum-launchd push HOST --release FOLDER`, and \
             install it there"
        ),
        Some(126) => {
            format!("{why}; its sanctum-launchd cannot be executed: install it again there")
        }
        _ => why,
    }
}

/// That a line failed on another host, with the command that does the same.
pub fn failure(destination: &str, line: &str, why: &str) -> String {
    format!(
        "`ssh {destination}` failed ({why}); try it by hand: {}",
        by_hand(destination, line)
    )
}

/// Why ssh has no output, without its command line.
fn in_short(error: &CommandError) -> String {
    match error {
        CommandError::Start { source, .. } => format!("it cannot be started: {source}"),
        CommandError::Timeout { limit, .. } => {
            format!("it did not answer within {} s", limit.as_secs())
        }
    }
}

/// The JSON values of a text, one after the other, with all texts escaped; none if it has anything else.
fn answers<const N: usize>(text: &str) -> Option<[Value; N]> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .map(|value| value.map(escape_json))
        .collect();
    values.ok()?.try_into().ok()
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

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn command_that_hangs_is_given_up() {
        const IDLE: Duration = Duration::from_millis(200);
        let hangs = || shell("exec sleep 1000");
        // It reads nothing, until the pipe is full.
        let endless = |to: &mut dyn Write| -> io::Result<()> {
            loop {
                to.write_all(&[0; 1 << 16])?;
            }
        };
        let error = send_to(&mut hangs(), IDLE, endless).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let error = send_to(&mut hangs(), IDLE, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let error = stream_from(&mut hangs(), Some(IDLE), |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("given up"), "{error}");
    }

    #[test]
    fn command_that_works_is_not_given_up() {
        let idle = Duration::from_secs(60);
        let done = send_to(&mut shell("cat; echo no >&2; exit 3"), idle, |to| {
            to.write_all(b"a\nb\n")
        });
        let done = done.unwrap();
        assert_eq!(
            (done.code, &*done.stdout, &*done.stderr),
            (Some(3), "a\nb", "no")
        );
        let mut lines = Vec::new();
        let code = stream_from(&mut shell("echo a; echo b"), Some(idle), |_, line| {
            lines.push(line.to_string());
            Ok(())
        });
        assert_eq!(
            (code.unwrap(), lines),
            (Some(0), vec!["a".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn host_that_does_not_answer_is_a_short_reason() {
        let hangs = command::run("sleep", &["1000"], Duration::from_millis(100)).unwrap_err();
        assert_eq!(in_short(&hangs), "it did not answer within 0 s");
        let missing = command::run("/no/such/ssh", &["x"], LIMIT).unwrap_err();
        let why = in_short(&missing);
        assert!(why.starts_with("it cannot be started: No such"), "{why}");
    }

    #[test]
    fn exit_codes_of_a_shell_have_their_fix() {
        let why = |code| with_shell_code(Some(code), "sh: not found".to_owned());
        assert!(why(127).contains("sh: not found; its sanctum-launchd is missing: send a release"));
        assert!(why(126).contains("install it again"));
        assert_eq!(why(FAILED), "sh: not found");
    }

    #[test]
    fn answers_are_as_many_values_as_commands() {
        let two = answers::<2>("{\"a\":\"\\u001b\"}\n\n[1]\n").unwrap();
        assert_eq!(two[0]["a"], r"\u{1b}");
        for text in ["", "{}", "{}{}{}", "welcome\n{}{}", "{}{"] {
            assert_eq!(answers::<2>(text), None, "{text}");
        }
    }

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
