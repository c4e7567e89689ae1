//! A loaded job: its process, and the state kept of earlier ones.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::job::Job;
use crate::wire::Status;

/// A loaded job.
pub(crate) struct LoadedJob {
    pub job: Job,
    pub pid: Option<Pid>,
    pub runs: u32,
    pub last: Option<ExitStatus>,
    /// When it was started last.
    pub started: Option<Instant>,
    /// When it will be started, if it waits.
    pub due: Option<Instant>,
    /// When it is killed, if SIGTERM was sent.
    pub kill_at: Option<Instant>,
    /// Whether it is removed when its process has exited.
    pub leaving: bool,
    /// Whether it is started again at once when its process has exited.
    pub restarting: bool,
}

impl LoadedJob {
    pub(crate) fn new(job: Job) -> Self {
        Self {
            job,
            pid: None,
            runs: 0,
            last: None,
            started: None,
            due: None,
            kill_at: None,
            leaving: false,
            restarting: false,
        }
    }

    /// Starts its process. `session` has the variables that `setenv` set in the domain.
    pub(crate) fn start(&mut self, session: &BTreeMap<String, String>) -> io::Result<Child> {
        self.due = None;
        self.restarting = false;
        self.started = Some(Instant::now());
        self.runs += 1;
        let job = &self.job;
        let mut command = Command::new(&job.program);
        command
            .arg0(&job.arguments[0])
            .args(&job.arguments[1..])
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(Stdio::null())
            .stdout(output(job.out.as_deref())?)
            .stderr(output(job.err.as_deref())?)
            .process_group(0);
        for name in ["HOME", "USER", "LOGNAME", "SHELL", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(session).envs(&job.environment);
        if let Some(folder) = &job.folder {
            command.current_dir(folder);
        }
        let child = command.spawn().inspect_err(|_| {
            // launchd reports EX_CONFIG for a program that cannot be executed.
            self.last = Some(ExitStatus::from_raw(78 << 8));
        })?;
        self.pid = Pid::from_raw(child.id() as i32);
        #[cfg(target_os = "linux")]
        self.limit_files();
        Ok(child)
    }

    #[cfg(target_os = "linux")]
    fn limit_files(&self) {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
        let (soft, hard) = self.job.files;
        if soft.is_none() && hard.is_none() {
            return;
        }
        let now = getrlimit(Resource::Nofile);
        let maximum = hard.or(now.maximum);
        let limit = Rlimit {
            current: soft.or(now.current).min(maximum.or(Some(u64::MAX))),
            maximum,
        };
        let _ = prlimit(self.pid, Resource::Nofile, limit);
    }

    /// Sends SIGTERM, and sets the time at which the process is killed.
    pub(crate) fn terminate(&mut self, patience: std::time::Duration) {
        if let Some(pid) = self.pid
            && self.kill_at.is_none()
        {
            let _ = kill_process(pid, Signal::TERM);
            self.kill_at = Some(Instant::now() + patience);
        }
    }

    /// Kills the process and the others of its group.
    pub(crate) fn kill(&mut self) {
        self.kill_at = None;
        if let Some(pid) = self.pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            label: self.job.label.clone(),
            pid: self.pid.map(|pid| pid.as_raw_nonzero().get()),
            runs: self.runs,
            last_code: self.last.and_then(|last| last.code()),
            last_signal: self.last.and_then(|last| last.signal()),
            scheduled: self.due.is_some(),
            leaving: self.leaving,
        }
    }
}

fn output(path: Option<&Path>) -> io::Result<Stdio> {
    let Some(path) = path else {
        return Ok(Stdio::null());
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file: File = OpenOptions::new().append(true).create(true).open(path)?;
    Ok(file.into())
}
