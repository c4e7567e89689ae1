//! Commands of the system (`launchctl`, `ps`, `sysctl`, `osascript`), each bounded in time and in what it may say.
//!
//! A watchdog that waits for ever for a command has stopped watching, so nothing here does.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is kept of each of a command's streams; the rest is read and dropped.
const KEPT: u64 = 4 << 20;

/// What a command said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub out: String,
    /// Standard error, in the same way.
    pub err: String,
}

/// A command that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot run `{line}`: {source}")]
    Start {
        /// The command line.
        line: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ran too long and was killed.
    #[error("`{line}` gave no answer for {} seconds and was stopped", limit.as_secs())]
    Late {
        /// The command line.
        line: String,
        /// How long it had.
        limit: Duration,
    },
}

impl Said {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// What it complained about, on one line.
    pub fn complaint(&self) -> String {
        let text = match self.err.trim() {
            "" => self.out.trim(),
            err => err,
        };
        match (text, self.code) {
            ("", Some(code)) => format!("exit code {code}"),
            ("", None) => "ended by a signal".to_owned(),
            (text, _) => text.lines().map(str::trim).collect::<Vec<_>>().join("; "),
        }
    }
}

/// Runs a program without a shell and without input, for `limit` at most.
///
/// # Errors
/// If it cannot be started or takes too long. Its exit code is no error here.
pub fn run<A: AsRef<str>>(
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Said, CommandError> {
    let line = || {
        std::iter::once(program)
            .chain(arguments.iter().map(AsRef::as_ref))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let start = |source| CommandError::Start {
        line: line(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments.iter().map(AsRef::as_ref))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let out = listen(child.stdout.take());
    let err = listen(child.stderr.take());
    let ended = wait(&mut child, &[&out, &err], limit).map_err(start)?;
    if !ended {
        return Err(CommandError::Late {
            line: line(),
            limit,
        });
    }
    let code = child.wait().map_err(start)?.code();
    let text = |from: JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&from.join().unwrap_or_default()).into_owned()
    };
    Ok(Said {
        code,
        out: text(out),
        err: text(err),
    })
}

/// Does on a thread of its own what blocks: a watchdog that is told to stop meanwhile stops, and leaves it behind. None if
/// `work` panicked.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, wait) = tokio::sync::oneshot::channel();
    // Nobody may be left to take it.
    thread::spawn(move || drop(done.send(work())));
    wait.await.ok()
}

/// Waits until the process has ended and its streams are closed: true. Kills it when the time is over: false. A
/// grandchild may hold the streams open; its listener threads end when it does.
fn wait(child: &mut Child, streams: &[&JoinHandle<Vec<u8>>], limit: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let ended = child.try_wait()?.is_some();
        if ended && streams.iter().all(|stream| stream.is_finished()) {
            return Ok(true);
        }
        if begun.elapsed() >= limit {
            if !ended {
                child.kill()?;
                child.wait()?;
            }
            return Ok(false);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn listen(from: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut from) = from {
            // A stream that breaks has said what it said.
            let _ = (&mut from).take(KEPT).read_to_end(&mut kept);
            let _ = io::copy(&mut from, &mut io::sink());
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_something_and_exits() {
        let said = run(
            "sh",
            &["-c", "echo out; echo err >&2; exit 3"],
            Duration::from_secs(10),
        )
        .unwrap();
        assert_eq!((said.code, said.out.as_str()), (Some(3), "out\n"));
        assert_eq!(said.complaint(), "err");
        assert!(!said.succeeded());
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        let begun = Instant::now();
        let error = run("sleep", &["60"], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, CommandError::Late { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        // Its child holds the pipe, and must not hold us.
        let error = run("sh", &["-c", "sleep 5 &"], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, CommandError::Late { .. }), "{error}");
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let error = run("no-such-program", &["x"], Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("`no-such-program x`"), "{error}");
    }
}
