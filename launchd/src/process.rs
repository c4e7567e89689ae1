//! A process that a later command must be able to recognize: process numbers are used again, so it is known by its
//! number and the time at which it was started.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sanctum_config::system_program;
use sanctum_watch::command;
use serde::{Deserialize, Serialize};

/// How long `ps` may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a process may take to end after SIGKILL.
const END: Duration = Duration::from_secs(10);

/// A process, which is not another one that has its number later.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it was started, in the system's own words: clock ticks since boot on Linux, a date elsewhere.
    pub started: String,
}

impl Process {
    /// The process that has a number now; none if it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let started = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => started_in_stat(&stat),
            Err(_) if cfg!(target_os = "linux") => None,
            Err(_) => {
                let ps = system_program("ps");
                let number = pid.to_string();
                let words = ["-o", "state=", "-o", "lstart=", "-p", &number];
                let said = command::run(&ps.to_string_lossy(), &words, LIMIT).ok()?;
                started_in_ps(&said.out)
            }
        };
        started.map(|started| Self { pid, started })
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Ends it with SIGKILL and waits until it has ended. Whether it has; one that ended before has.
    pub fn kill(&self) -> bool {
        let begun = Instant::now();
        while self.is_running() {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            let Some(pid) = pid.filter(|_| begun.elapsed() < END) else {
                return false;
            };
            // It may end by itself meanwhile.
            let _ = kill_process(pid, Signal::KILL);
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

/// proc_pid_stat(5): field 22 is the start time; fields are counted after the name, which may contain anything. None for
/// a zombie, which has ended.
fn started_in_stat(stat: &str) -> Option<String> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| started.to_owned())
}

/// A line of `ps -o state= -o lstart=`: `S+   Mon Nov 30 10:24:57 2026`. None for a zombie.
fn started_in_ps(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let state = words.next()?;
    let started: Vec<&str> = words.collect();
    (!state.starts_with('Z') && !started.is_empty()).then(|| started.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_that_has_ended_is_not_running() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_running());
        let later = Process {
            started: "another time".into(),
            ..process.clone()
        };
        assert!(!later.is_running(), "the number alone proves nothing");
        assert!(later.kill(), "and it is not killed for its number");
        assert!(process.is_running());
        assert!(process.kill());
        assert!(!process.is_running());
        child.wait().unwrap();
        assert_eq!(Process::of(process.pid), None);
    }

    #[test]
    fn start_time_is_read_from_both_systems() {
        let stat =
            "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(started_in_stat(stat).as_deref(), Some("987654"));
        assert_eq!(started_in_stat(&stat.replace(" S ", " Z ")), None);
        let ps = "Ss+  Mon Nov  3 10:24:57 2026    \n";
        assert_eq!(
            started_in_ps(ps).as_deref(),
            Some("Mon Nov 3 10:24:57 2026")
        );
        assert_eq!(started_in_ps("Z    Mon Nov  3 10:24:57 2026\n"), None);
        assert_eq!(started_in_ps(""), None);
    }
}
