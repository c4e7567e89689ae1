//! Commands of the system (`launchctl`, `ps`, `sysctl`, `osascript`), each bounded in time and in what it may print.
//!
//! A watchdog that waits for a command without a limit has stopped watching, so nothing here does. No thread and no
//! pipe is left behind by a command that hangs or whose children do.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sanctum_config::{UntrustedText, system_program};

/// What is kept of each of a command's streams; the rest is read and dropped.
const KEPT: usize = 4 << 20;

/// What a command said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, as it is, to be parsed; bytes that are no UTF-8 are replaced.
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

    /// What it complained about, on one line that is safe to show.
    pub fn complaint(&self) -> String {
        let text = match self.err.trim() {
            "" => self.out.trim(),
            err => err,
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
/// If it cannot be started or takes too long. Its exit code is no error here.
pub fn run<A: AsRef<str>>(
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Said, CommandError> {
    run_in_locale("C", program, arguments, limit)
}

/// The same in another locale, for a program that decodes its arguments by it.
pub(crate) fn run_in_locale<A: AsRef<str>>(
    locale: &str,
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Said, CommandError> {
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
        Some((status, out, err)) => Ok(Said {
            code: status.code(),
            out,
            err,
        }),
        None => Err(CommandError::Late {
            line: line(),
            limit,
        }),
    }
}

/// Threads of [`aside`] that may run at a time. Work on a hung volume never ends; one thread for each round of a watchdog
/// would fill the process.
const MOST_ASIDE: usize = 8;

/// Does blocking work on a thread of its own: a watchdog that is told to stop meanwhile stops, and leaves it behind. None if
/// `work` panicked, and without a start while [`MOST_ASIDE`] earlier ones have not ended.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    aside_within(&RUNNING, work).await
}

async fn aside_within<T: Send + 'static>(
    running: &'static AtomicUsize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    /// A thread that counts until it ends, by a panic as well.
    struct Counted(&'static AtomicUsize);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let counted = Counted(running);
    if running.fetch_add(1, Ordering::AcqRel) >= MOST_ASIDE {
        tracing::error!(
            "{MOST_ASIDE} earlier calls have not ended; does a volume hang? Run: mount; df"
        );
        return None;
    }
    let (done, wait) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let _counted = counted;
        // The receiver may be gone.
        drop(done.send(work()));
    });
    wait.await.ok()
}

/// Waits until the process has ended and its streams are closed; none if the time was over before, and it was killed.
/// A grandchild may hold the streams open: it writes into pipes that are closed then.
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

/// Kills the process. One that the kernel does not end, such as one that waits for a hung volume, is left behind.
fn stop(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    reap(child, Duration::from_secs(2)).map(drop)
}

/// Waits for the process to end, for `limit` at most; whether it has ended.
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

    /// Takes some of what is there; whether there was anything, its end included.
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
                let room = KEPT - self.kept.len();
                self.kept.extend_from_slice(&part[..count.min(room)]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            // A stream that breaks has said what it said.
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
    fn a_command_says_something_and_exits() {
        let said = run("sh", &["-c", "echo out; echo err >&2; exit 3"], SOON).unwrap();
        assert_eq!((said.code, said.out.as_str()), (Some(3), "out\n"));
        assert_eq!(said.complaint(), "err");
        assert!(!said.succeeded());
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        let begun = Instant::now();
        let error = run("sleep", &["60"], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, CommandError::Late { .. }), "{error}");
        assert!(begun.elapsed() < SOON);
    }

    #[test]
    fn process_that_does_not_end_is_waited_for_with_a_limit() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        // Not killed, as one that the kernel does not end.
        assert!(!reap(&mut child, Duration::from_millis(20)).unwrap());
        stop(&mut child).unwrap();
        assert!(reap(&mut child, Duration::ZERO).unwrap());
    }

    #[tokio::test]
    async fn blocking_work_that_never_ends_takes_a_bounded_number_of_threads() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hang = std::sync::Arc::new(std::sync::Mutex::new(hang));
        for _ in 0..MOST_ASIDE {
            let hang = hang.clone();
            let hangs = aside_within(&RUNNING, move || hang.lock().unwrap().recv());
            assert!(
                tokio::time::timeout(Duration::from_millis(1), hangs)
                    .await
                    .is_err()
            );
        }
        assert_eq!(aside_within(&RUNNING, || 4).await, None);
        drop(release);
        // The threads end, and there is room again.
        while RUNNING.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(aside_within(&RUNNING, || 4).await, Some(4));
        let panics = aside_within(&RUNNING, || assert_eq!(1, 2, "on purpose"));
        assert_eq!(panics.await, None);
        assert_eq!(RUNNING.load(Ordering::Acquire), 0);
    }

    #[test]
    fn command_whose_child_holds_its_pipes_leaves_no_thread() {
        const NAME: &str = "pipe-holder";
        let hangs = || run("sh", &["-c", "sleep 5 &"], Duration::from_millis(100)).unwrap_err();
        // A thread that is spawned inherits the name of its parent on Linux.
        let named = thread::Builder::new().name(NAME.to_owned());
        let error = named.spawn(hangs).unwrap().join().unwrap();
        assert!(matches!(error, CommandError::Late { .. }), "{error}");
        if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
            let names = tasks.flatten().map(|task| task.path().join("comm"));
            let names = names.filter_map(|comm| std::fs::read_to_string(comm).ok());
            assert_eq!(names.filter(|name| name.trim() == NAME).count(), 0);
        }
    }

    #[test]
    fn command_that_prints_more_than_is_kept_is_read_to_its_end() {
        let line = "head -c 6000000 /dev/zero; head -c 100 /dev/zero >&2";
        let said = run("sh", &["-c", line], SOON).unwrap();
        assert!(said.succeeded());
        assert_eq!((said.out.len(), said.err.len()), (KEPT, 100));
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let error = run("no-such-program", &["x"], Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("`no-such-program x`"), "{error}");
    }

    #[test]
    fn command_runs_in_the_c_locale() {
        let said = run("sh", &["-c", "printf %s \"$LC_ALL\""], SOON).unwrap();
        assert_eq!(said.out, "C");
    }

    #[test]
    fn complaint_with_control_characters_is_escaped() {
        let said = Said {
            code: Some(1),
            err: "no\x1b]52;c;AAAA\x07 way\n\u{202e}gpj\n".into(),
            ..Said::default()
        };
        assert_eq!(
            said.complaint(),
            r"no\u{1b}]52;c;AAAA\u{7} way; \u{202e}gpj"
        );
        let line = "exit\x1b[31m";
        let error = run("no-such-program", &[line], SOON).unwrap_err();
        assert!(!error.to_string().contains('\x1b'), "{error}");
    }
}
