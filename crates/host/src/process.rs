//! A process that a later command must recognize. The system reuses process numbers, so a process is identified by its
//! number and its start time.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sanctum_config::system_program;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::command;

/// How long `ps` may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a process may take to end after SIGKILL.
const END: Duration = Duration::from_secs(10);

/// A process; a later process of the same number is another one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProcessIdentity {
    /// Its number.
    pub pid: u32,
    /// Its start time, in the system's own form: clock ticks since boot on Linux, a date in UTC elsewhere.
    pub started: String,
}

impl ProcessIdentity {
    /// The process that has a number now; none if it has ended. Reads `/proc` if it exists, unless `$SANCTUM_PS` names a
    /// program to use instead of `ps`.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn of(pid: u32) -> Result<Option<Self>, Error> {
        let proc =
            std::env::var_os("SANCTUM_PS").is_none() && Path::new("/proc/self/stat").exists();
        let found = match proc {
            true => in_proc(pid)?,
            false => in_ps(&system_program("ps"), pid)?,
        };
        // A zombie has ended.
        let running = found.filter(|found| !found.state.starts_with(['Z', 'X']));
        Ok(running.map(|ProcessState { started, .. }| Self { pid, started }))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// As [`ProcessIdentity::of`].
    pub fn is_running(&self) -> Result<bool, Error> {
        Ok(Self::of(self.pid)?.as_ref() == Some(self))
    }

    /// Sends SIGKILL and waits until the process has ended. Returns whether it has ended; true if it had ended before.
    ///
    /// # Errors
    /// As [`ProcessIdentity::of`].
    pub fn kill(&self) -> Result<bool, Error> {
        let begun = Instant::now();
        while self.is_running()? {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            let Some(pid) = pid.filter(|_| begun.elapsed() < END) else {
                return Ok(false);
            };
            // It may have ended in the meantime.
            let _ = kill_process(pid, Signal::KILL);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }
}

/// The state and start time of a process.
#[derive(Debug, PartialEq, Eq)]
struct ProcessState {
    /// `S`, `R`, `Z` for a zombie, and others.
    state: String,
    started: String,
}

fn in_proc(pid: u32) -> Result<Option<ProcessState>, Error> {
    let path = format!("/proc/{pid}/stat");
    let stat = match std::fs::read(&path) {
        Ok(stat) => stat,
        // It ends between open and read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(Path::new(&path), error)),
    };
    let found = parse_stat(&String::from_utf8_lossy(&stat));
    let malformed = || {
        Error::Refused(format!(
            "cannot parse {path}: it has no state or no start time"
        ))
    };
    found.ok_or_else(malformed).map(Some)
}

/// `ps` exits with 1 and prints nothing if there is no such process. Its date depends on the time zone, so `ps` runs in
/// UTC.
fn in_ps(ps: &Path, pid: u32) -> Result<Option<ProcessState>, Error> {
    let (ps, number) = (ps.to_string_lossy(), pid.to_string());
    let words = [
        "TZ=UTC", &ps, "-o", "state=", "-o", "lstart=", "-p", &number,
    ];
    let output = command::run("/usr/bin/env", &words, LIMIT)?;
    if output.code == Some(1) && output.stdout.trim().is_empty() && output.stderr.trim().is_empty()
    {
        return Ok(None);
    }
    let found = parse_ps(&output.stdout).filter(|_| output.succeeded());
    let malformed = || {
        let reason = output.reason();
        Error::Refused(format!(
            "`{ps} -o state= -o lstart= -p {pid}` printed no start time: {reason}"
        ))
    };
    found.ok_or_else(malformed).map(Some)
}

/// proc_pid_stat(5): field 22 is the start time; fields are counted after the name, which may contain anything.
fn parse_stat(stat: &str) -> Option<ProcessState> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.to_owned();
    let started = fields.nth(18)?.to_owned();
    Some(ProcessState { state, started })
}

/// A line of `ps -o state= -o lstart=`: `S+   Mon Nov 30 10:24:57 2026`.
fn parse_ps(line: &str) -> Option<ProcessState> {
    let mut words = line.split_whitespace();
    let state = words.next()?.to_owned();
    let started: Vec<&str> = words.collect();
    let is_known = !started.is_empty() || state.starts_with('Z');
    is_known.then(|| ProcessState {
        state,
        started: started.join(" "),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn process_that_has_ended_is_not_running() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let process = ProcessIdentity::of(child.id()).unwrap().unwrap();
        assert!(process.is_running().unwrap());
        let later = ProcessIdentity {
            started: "another time".into(),
            ..process.clone()
        };
        assert!(
            !later.is_running().unwrap(),
            "the number alone does not identify it"
        );
        assert!(
            later.kill().unwrap(),
            "and another process of that number is not killed"
        );
        assert!(process.is_running().unwrap());
        assert!(process.kill().unwrap());
        assert!(!process.is_running().unwrap());
        child.wait().unwrap();
        assert_eq!(ProcessIdentity::of(process.pid).unwrap(), None);
    }

    #[test]
    fn start_time_is_read_from_both_systems() {
        let found = |state: &str, started: &str| {
            let (state, started) = (state.to_owned(), started.to_owned());
            Some(ProcessState { state, started })
        };
        let stat =
            "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(stat), found("S", "987654"));
        assert_eq!(parse_stat("4711 (a) S 1"), None);
        let ps = "Ss+  Mon Nov  3 10:24:57 2026    \n";
        assert_eq!(parse_ps(ps), found("Ss+", "Mon Nov 3 10:24:57 2026"));
        assert_eq!(parse_ps("Z    \n"), found("Z", ""));
        assert_eq!(parse_ps("S    \n"), None);
        assert_eq!(parse_ps(""), None);
    }

    #[test]
    fn ps_runs_in_utc_and_its_failure_is_not_an_ended_process() {
        let folder = tempfile::tempdir().unwrap();
        let ps = folder.path().join("ps");
        let run_ps = |script: &str| {
            std::fs::write(&ps, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&ps, std::fs::Permissions::from_mode(0o755)).unwrap();
            in_ps(&ps, 4711)
        };
        let found = run_ps("echo \"S $TZ $LC_ALL $*\"").unwrap().unwrap();
        assert_eq!(found.started, "UTC C -o state= -o lstart= -p 4711");
        assert_eq!(run_ps("exit 1").unwrap(), None);
        for broken in ["exit 2", "echo 'no permission' >&2; exit 1", "echo S"] {
            let error = run_ps(broken).unwrap_err().to_string();
            assert!(error.contains("printed no start time"), "{broken}: {error}");
        }
        assert!(in_ps(&folder.path().join("none"), 4711).is_err());
    }
}
