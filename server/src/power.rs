//! Keeps a Mac awake while a request runs: an idle Mac may sleep during a long answer.
//!
//! macOS ships `caffeinate` for that. `-i` prevents idle sleep only (the display may sleep), and `-w PID` ends it with
//! the server, also where the server is killed.

use std::path::PathBuf;
use std::process::Stdio;

use sanctum_config::system_program;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

/// How long the machine is still kept awake after the last request: the next one often follows at once.
const LINGER: Duration = Duration::from_secs(10);
/// How long after `caffeinate` has ended by itself it is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(30);

/// Counts the requests that run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningRequests(watch::Sender<usize>);

/// One request that runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunningRequest(RunningRequests);

impl RunningRequests {
    /// One more.
    pub(crate) fn begin(&self) -> RunningRequest {
        self.0.send_modify(|running| *running += 1);
        RunningRequest(self.clone())
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.0.send_modify(|running| *running -= 1);
    }
}

/// Whether the machine is kept awake, and since when it need not be.
#[derive(Debug, Default, PartialEq)]
struct PowerState {
    held: bool,
    idle_since: Option<Instant>,
    /// `caffeinate` is not started before this time: it ended by itself.
    not_before: Option<Instant>,
}

/// What to do next.
#[derive(Debug, PartialEq)]
enum PowerAction {
    /// Keep the machine awake.
    Hold,
    /// Let it sleep.
    Release,
    /// Decide again when the number of requests changes or `caffeinate` ends, and at this time at the latest.
    Wait(Option<Instant>),
}

impl PowerState {
    /// The next action, which the caller takes at once.
    fn next(&mut self, running: usize, now: Instant) -> PowerAction {
        match (running > 0, self.held) {
            (true, false) => match self.not_before.filter(|&at| now < at) {
                Some(at) => PowerAction::Wait(Some(at)),
                None => {
                    self.held = true;
                    PowerAction::Hold
                }
            },
            (true, true) => {
                self.idle_since = None;
                PowerAction::Wait(None)
            }
            (false, true) => {
                let until = *self.idle_since.get_or_insert(now) + LINGER;
                if now < until {
                    return PowerAction::Wait(Some(until));
                }
                *self = Self::default();
                PowerAction::Release
            }
            (false, false) => PowerAction::Wait(None),
        }
    }

    /// `caffeinate` has ended although it was not released, or could not be started.
    fn lost(&mut self, now: Instant) {
        *self = Self {
            not_before: Some(now + RESTART_PAUSE),
            ..Self::default()
        };
    }
}

/// Keeps the machine awake while requests run, until the server ends. Only where there is something to keep it awake
/// with: on macOS, and wherever `SANCTUM_CAFFEINATE` names a program.
pub(crate) async fn keep_awake(requests: RunningRequests) {
    if cfg!(target_os = "macos") || std::env::var_os("SANCTUM_CAFFEINATE").is_some() {
        let assertion = Assertion::new(system_program("caffeinate"));
        follow(requests.0.subscribe(), assertion).await;
    }
}

async fn follow(mut running: watch::Receiver<usize>, mut assertion: Assertion) {
    let mut state = PowerState::default();
    loop {
        let now = *running.borrow_and_update();
        let until = match state.next(now, Instant::now()) {
            PowerAction::Hold => {
                if !assertion.hold() {
                    state.lost(Instant::now());
                }
                continue;
            }
            PowerAction::Release => {
                assertion.release().await;
                continue;
            }
            PowerAction::Wait(until) => until,
        };
        let deadline = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = running.changed() => if changed.is_err() {
                return;
            },
            () = assertion.ended() => state.lost(Instant::now()),
            () = deadline => {}
        }
    }
}

/// The `caffeinate` process that keeps the machine awake.
struct Assertion {
    program: PathBuf,
    /// Killed when it is dropped.
    child: Option<Child>,
    /// It could not be started or has ended, which was reported.
    warned: bool,
}

impl Assertion {
    fn new(program: PathBuf) -> Self {
        Self {
            program,
            child: None,
            warned: false,
        }
    }

    /// Starts the process; whether it was started.
    fn hold(&mut self) -> bool {
        let started = Command::new(&self.program)
            .args(["-i", "-w", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match started {
            Ok(child) => self.child = Some(child),
            Err(error) => self.warn(&format!("cannot start: {error}")),
        }
        self.child.is_some()
    }

    /// Waits until the process ends by itself; for ever where there is none.
    async fn ended(&mut self) {
        let Some(child) = &mut self.child else {
            return std::future::pending().await;
        };
        let problem = match child.wait().await {
            Ok(status) => format!("ended although requests run: {status}"),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        self.child = None;
        self.warn(&problem);
    }

    fn warn(&mut self, problem: &str) {
        if !self.warned {
            self.warned = true;
            tracing::warn!(
                "{} {problem}. It is started again after {} s while requests run; until then the machine may go to sleep. \
                 To silence this, set keep_awake = false",
                self.program.display(),
                RESTART_PAUSE.as_secs()
            );
        }
    }

    async fn release(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rustix::process::{Pid, Signal, kill_process, test_kill_process};

    #[test]
    fn machine_is_held_from_the_first_request_until_some_seconds_after_the_last() {
        let (mut state, start) = (PowerState::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(state.next(0, at(0)), PowerAction::Wait(None));
        assert_eq!(state.next(1, at(1)), PowerAction::Hold);
        assert_eq!(state.next(1, at(1)), PowerAction::Wait(None));
        assert_eq!(state.next(2, at(2)), PowerAction::Wait(None));
        assert_eq!(state.next(0, at(5)), PowerAction::Wait(Some(at(15))));
        // Another request in between.
        assert_eq!(state.next(1, at(14)), PowerAction::Wait(None));
        assert_eq!(state.next(0, at(20)), PowerAction::Wait(Some(at(30))));
        assert_eq!(state.next(0, at(29)), PowerAction::Wait(Some(at(30))));
        assert_eq!(state.next(0, at(30)), PowerAction::Release);
        assert_eq!(state.next(0, at(30)), PowerAction::Wait(None));
        assert_eq!(state.next(3, at(99)), PowerAction::Hold);
    }

    #[test]
    fn dropped_requests_are_not_counted() {
        let requests = RunningRequests::default();
        let (first, second) = (requests.begin(), requests.begin());
        assert_eq!(*requests.0.borrow(), 2);
        drop((first, second));
        assert_eq!(*requests.0.borrow(), 0);
    }

    /// A program that says how it was called and waits.
    fn fake(folder: &Path) -> PathBuf {
        let program = folder.join("caffeinate");
        let script = "#!/bin/sh\necho \"$$ $*\" > \"$0.started\"\nmv \"$0.started\" \"$0.called\"\nexec sleep 600\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        program
    }

    /// Its process and arguments, once it was called.
    async fn called(program: &Path) -> (Pid, String) {
        let file = program.with_extension("called");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "it was not started");
            if let Ok(text) = fs::read_to_string(&file) {
                let (pid, arguments) = text.trim().split_once(' ').unwrap();
                let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
                return (pid, arguments.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn caffeinate_waits_for_this_process_and_ends_on_release() {
        let folder = tempfile::tempdir().unwrap();
        let program = fake(folder.path());
        let mut assertion = Assertion::new(program.clone());
        assert!(assertion.hold());
        let (pid, arguments) = called(&program).await;
        assert_eq!(arguments, format!("-i -w {}", std::process::id()));
        assert!(test_kill_process(pid).is_ok());
        assertion.release().await;
        assert!(test_kill_process(pid).is_err(), "it still runs");
    }

    #[tokio::test]
    async fn request_starts_caffeinate() {
        let folder = tempfile::tempdir().unwrap();
        let program = fake(folder.path());
        let requests = RunningRequests::default();
        let assertion = Assertion::new(program.clone());
        let following = tokio::spawn(follow(requests.0.subscribe(), assertion));
        assert!(!program.with_extension("called").exists());
        let _request = requests.begin();
        called(&program).await;
        following.abort();
    }

    #[test]
    fn caffeinate_that_ended_is_started_again_after_a_pause() {
        let (mut state, start) = (PowerState::default(), Instant::now());
        assert_eq!(state.next(1, start), PowerAction::Hold);
        state.lost(start);
        let again = start + RESTART_PAUSE;
        assert_eq!(state.next(1, start), PowerAction::Wait(Some(again)));
        assert_eq!(state.next(0, start), PowerAction::Wait(None));
        assert_eq!(state.next(2, again), PowerAction::Hold);
    }

    #[tokio::test]
    async fn killed_caffeinate_is_noticed_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let program = fake(folder.path());
        let mut assertion = Assertion::new(program.clone());
        assert!(assertion.hold());
        let (first, _) = called(&program).await;
        kill_process(first, Signal::KILL).unwrap();
        assertion.ended().await;
        assert!(assertion.child.is_none() && assertion.warned);
        fs::remove_file(program.with_extension("called")).unwrap();
        assert!(assertion.hold());
        let (second, _) = called(&program).await;
        assert_ne!(first, second);
        assertion.release().await;
    }

    #[tokio::test]
    async fn program_that_is_missing_is_no_failure() {
        let mut assertion = Assertion::new("/nowhere/caffeinate".into());
        assert!(!assertion.hold());
        assert!(!assertion.hold());
        assert!(assertion.warned && assertion.child.is_none());
        assertion.release().await;
    }
}
