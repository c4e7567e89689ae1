//! Sessions of ssh, each with a time limit.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use sanctum_config::{UntrustedText, system_program};

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
}
