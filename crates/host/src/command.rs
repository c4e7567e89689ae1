//! External programs (`launchctl`, `ps`, `ssh`, `sysctl`, `osascript`), each with a time limit and a limit on its output.
//!
//! A watchdog that waits for a command without a limit checks nothing. A command that hangs, or whose children do, leaves
//! no thread and no pipe behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sanctum_config::{UntrustedText, system_program};

/// Bytes that are kept of each output stream; the rest is read and discarded.
const MAX_OUTPUT: usize = 4 << 20;

/// The exit code and the output of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, unescaped, to be parsed; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, in the same form.
    pub stderr: String,
}

/// Why a command has no output.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot run `{line}`: {source}")]
    Start {
        /// The command line.
        line: String,
        /// The system's error.
        source: io::Error,
    },
    /// It did not exit within its time limit and was killed.
    #[error("`{line}` did not finish within {} seconds and was killed", limit.as_secs())]
    Timeout {
        /// The command line.
        line: String,
        /// The time limit.
        limit: Duration,
    },
}

impl Output {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Why it failed: standard error, else standard output, else the exit code, on one line that is safe to show.
    pub fn reason(&self) -> String {
        let text = match self.stderr.trim() {
            "" => self.stdout.trim(),
            text => text,
        };
        match (text, self.code) {
            ("", Some(code)) => format!("exit code {code}"),
            ("", None) => "ended by a signal".to_owned(),
            (text, _) => {
                let lines: Vec<&str> = text.lines().map(str::trim).collect();
                UntrustedText::new(&lines.join("; ")).into()
            }
        }
    }
}

/// Runs a program without a shell and without input, for `limit` at most, and with `LC_ALL=C`, so that numbers, dates
/// and messages have the form that is parsed here. A bare name is looked up with [`system_program`].
///
/// # Errors
/// If it cannot be started, or does not finish within `limit`. A nonzero exit code is not an error here.
pub fn run<A: AsRef<str>>(
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Output, CommandError> {
    run_in_locale("C", program, arguments, limit)
}

/// Runs a program as [`run`] does, in another locale: some programs decode their arguments by it.
///
/// # Errors
/// As [`run`].
pub fn run_in_locale<A: AsRef<str>>(
    locale: &str,
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Output, CommandError> {
    let program = match program.contains('/') {
        true => program.into(),
        false => system_program(program),
    };
    let line = || -> String {
        let words = std::iter::once(program.to_string_lossy());
        let words = words.chain(arguments.iter().map(|argument| argument.as_ref().into()));
        UntrustedText::new(&words.collect::<Vec<_>>().join(" ")).into()
    };
    let start = |source| CommandError::Start {
        line: line(),
        source,
    };
    let mut child = Command::new(&program)
        .args(arguments.iter().map(AsRef::as_ref))
        .env("LC_ALL", locale)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let streams = [
        Stream::of(child.stdout.take().map(OwnedFd::from)),
        Stream::of(child.stderr.take().map(OwnedFd::from)),
    ];
    let outcome = match streams {
        [Ok(out), Ok(err)] => wait(&mut child, out, err, limit),
        [Err(error), _] | [_, Err(error)] => stop(&mut child).and(Err(error)),
    };
    match outcome.map_err(start)? {
        Some((status, stdout, stderr)) => Ok(Output {
            code: status.code(),
            stdout,
            stderr,
        }),
        None => Err(CommandError::Timeout {
            line: line(),
            limit,
        }),
    }
}

/// Waits until the process has ended and its streams are closed. None if `limit` passed first; the process is killed then.
/// A grandchild that holds the streams open writes into closed pipes.
fn wait(
    child: &mut Child,
    mut out: Stream,
    mut err: Stream,
    limit: Duration,
) -> io::Result<Option<(ExitStatus, String, String)>> {
    const SHORTEST: Duration = Duration::from_millis(1);
    let begun = Instant::now();
    let mut pause = SHORTEST;
    loop {
        let has_read = out.read() | err.read();
        let ended = child.try_wait()?;
        if let Some(status) = ended
            && out.is_closed()
            && err.is_closed()
        {
            return Ok(Some((status, out.text(), err.text())));
        }
        if begun.elapsed() >= limit {
            if ended.is_none() {
                stop(child)?;
            }
            return Ok(None);
        }
        if has_read {
            pause = SHORTEST;
            continue;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills the process. A process in an uninterruptible wait, such as one for a hung volume, is not waited for longer.
fn stop(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    reap(child, Duration::from_secs(2)).map(drop)
}

/// Waits at most `limit` for the process to end. Returns whether it has ended.
fn reap(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        if begun.elapsed() >= limit {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// One of a command's output streams, read without waiting for it.
struct Stream {
    /// None once it has ended.
    pipe: Option<File>,
    kept: Vec<u8>,
}

impl Stream {
    fn of(pipe: Option<OwnedFd>) -> io::Result<Self> {
        let pipe = pipe.map(File::from);
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self {
            pipe,
            kept: Vec::new(),
        })
    }

    /// Reads some of the available bytes. Returns whether there were any, or the stream has ended.
    fn read(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else {
            return false;
        };
        let mut part = [0; 64 << 10];
        match pipe.read(&mut part) {
            Ok(0) => {
                self.pipe = None;
                true
            }
            Ok(count) => {
                let room = MAX_OUTPUT - self.kept.len();
                self.kept.extend_from_slice(&part[..count.min(room)]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            // A broken stream has no more output.
            Err(_) => {
                self.pipe = None;
                true
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn command_output_and_exit_code_are_returned() {
        let output = run("sh", &["-c", "echo out; echo err >&2; exit 3"], SOON).unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (Some(3), "out\n"));
        assert_eq!(output.reason(), "err");
        assert!(!output.succeeded());
    }

    #[test]
    fn command_that_hangs_is_killed_at_its_limit() {
        let begun = Instant::now();
        let error = run("sleep", &["60"], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < SOON);
    }

    #[test]
    fn process_that_does_not_end_is_waited_for_with_a_limit() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        // Not killed, like a process in an uninterruptible wait.
        assert!(!reap(&mut child, Duration::from_millis(20)).unwrap());
        stop(&mut child).unwrap();
        assert!(reap(&mut child, Duration::ZERO).unwrap());
    }

    #[test]
    fn command_whose_child_holds_its_pipes_leaves_no_thread() {
        const NAME: &str = "pipe-holder";
        let hangs = || run("sh", &["-c", "sleep 5 &"], Duration::from_millis(100)).unwrap_err();
        // On Linux, a new thread inherits the name of the thread that starts it.
        let named = thread::Builder::new().name(NAME.to_owned());
        let error = named.spawn(hangs).unwrap().join().unwrap();
        assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
        if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
            let names = tasks.flatten().map(|task| task.path().join("comm"));
            let names = names.filter_map(|comm| std::fs::read_to_string(comm).ok());
            assert_eq!(names.filter(|name| name.trim() == NAME).count(), 0);
        }
    }

    #[test]
    fn command_that_prints_more_than_is_kept_is_read_to_its_end() {
        let line = "head -c 6000000 /dev/zero; head -c 100 /dev/zero >&2";
        let output = run("sh", &["-c", line], SOON).unwrap();
        assert!(output.succeeded());
        assert_eq!(
            (output.stdout.len(), output.stderr.len()),
            (MAX_OUTPUT, 100)
        );
    }

    #[test]
    fn command_that_is_missing_is_named() {
        let error = run("no-such-program", &["x"], Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("`no-such-program x`"), "{error}");
    }

    #[test]
    fn command_runs_in_the_c_locale() {
        let output = run("sh", &["-c", "printf %s \"$LC_ALL\""], SOON).unwrap();
        assert_eq!(output.stdout, "C");
    }

    #[test]
    fn reason_with_control_characters_is_escaped() {
        let output = Output {
            code: Some(1),
            stderr: "no\x1b]52;c;AAAA\x07 way\n\u{202e}gpj\n".into(),
            ..Output::default()
        };
        assert_eq!(output.reason(), r"no\u{1b}]52;c;AAAA\u{7} way; \u{202e}gpj");
        let line = "exit\x1b[31m";
        let error = run("no-such-program", &[line], SOON).unwrap_err();
        assert!(!error.to_string().contains('\x1b'), "{error}");
    }
}
