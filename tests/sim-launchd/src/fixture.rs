//! The daemon as a test fixture.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::{self, CommandRequest, Reply, Status};

/// A session of the simulated launchd; dropping it ends everything that runs in it, and so does the end of this process.
pub struct Launchd {
    folder: PathBuf,
    program: PathBuf,
    home: PathBuf,
    time_scale: f64,
    /// None while it is shut down. The daemon ends when its standard input, a pipe from this process, is closed.
    daemon: Mutex<Option<Child>>,
}

impl Launchd {
    /// Starts the daemon with its state in `folder`. `program` is the `launchctl` of this package, `home` the home folder
    /// of the user who is logged in, `time_scale` the factor on its times.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(folder: &Path, program: &Path, home: &Path, time_scale: f64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let launchd = Self {
            folder: folder.to_owned(),
            program: program.to_owned(),
            home: home.to_owned(),
            time_scale,
            daemon: Mutex::new(None),
        };
        launchd.boot()?;
        Ok(launchd)
    }

    /// Starts the daemon, after [`Launchd::shut_down`]; no service is loaded. What was disabled is disabled.
    ///
    /// # Errors
    /// If it does not start.
    pub fn boot(&self) -> io::Result<()> {
        match std::fs::remove_file(self.folder.join(wire::OFF)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // In a process group of its own, so that Ctrl-C in a terminal does not end it before its services.
        let mut daemon = Command::new(&self.program)
            .args(["sim-daemon", wire::UNTIL_STDIN_CLOSES])
            .env(wire::FOLDER, &self.folder)
            .env(wire::TIME_SCALE, self.time_scale.to_string())
            .env("HOME", &self.home)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut word = String::new();
        if let Some(out) = daemon.stdout.take() {
            BufReader::new(out).read_line(&mut word)?;
        }
        let mut running = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        *running = Some(daemon);
        Ok(())
    }

    /// Kills everything that runs in the session, and the daemon, as a power failure does.
    pub fn shut_down(&self) {
        let mut running = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut daemon) = running.take() {
            // A process that still runs must not start the daemon again.
            let _ = std::fs::write(self.folder.join(wire::OFF), "");
            // It answers when everything was killed. If it does not, closing its standard input ends it.
            let _ = self.run(&["sim-shutdown"]);
            let _ = daemon.wait();
        }
    }

    /// The environment variables with which programs use it instead of the real launchd.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            (wire::FOLDER, self.folder.clone()),
            ("SANCTUM_LAUNCHCTL", self.program.clone()),
        ]
    }

    /// The domain, `gui/<uid>`.
    pub fn domain(&self) -> String {
        format!("gui/{}", rustix::process::getuid().as_raw())
    }

    /// Runs a command.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn run(&self, arguments: &[&str]) -> io::Result<Reply> {
        let request = CommandRequest {
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            folder: std::env::current_dir()?,
        };
        wire::ask(&self.folder, &self.program, &request)
    }

    /// Waits until the loaded services satisfy `wanted`, which gets all of them in the order of their labels.
    ///
    /// # Errors
    /// If that takes longer than `limit`; the error has the last state.
    pub fn wait(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&[Status]) -> bool,
    ) -> io::Result<Vec<Status>> {
        let stream = wire::connect(&self.folder, &self.program)?;
        let request = CommandRequest {
            arguments: vec!["sim-watch".into()],
            folder: PathBuf::new(),
        };
        wire::send(&stream, &request)?;
        let deadline = Instant::now() + limit;
        let mut lines = BufReader::new(&stream);
        let mut seen: Vec<Status> = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let late = || io::Error::other(format!("not within {limit:?}; last seen: {seen:?}"));
            if left.is_zero() {
                return Err(late());
            }
            stream.set_read_timeout(Some(left))?;
            let mut line = String::new();
            match lines.read_line(&mut line) {
                Ok(0) => return Err(io::Error::other("the daemon has ended")),
                Ok(_) => seen = serde_json::from_str(&line)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(error) => return Err(error),
            }
            if wanted(&seen) {
                return Ok(seen);
            }
        }
    }

    /// Waits until one service satisfies `wanted`.
    ///
    /// # Errors
    /// As [`Launchd::wait`].
    pub fn wait_for(
        &self,
        label: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> io::Result<Status> {
        let find = |all: &[Status]| all.iter().find(|s| s.label == label && wanted(s)).cloned();
        let all = self.wait(limit, |all| find(all).is_some())?;
        Ok(find(&all).expect("it was there a moment ago"))
    }

    /// Whether `bootout` and `kickstart -k` return only when the process has exited; they do by default.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn blocking(&self, blocking: bool) -> io::Result<Reply> {
        self.run(&["sim-blocking", if blocking { "on" } else { "off" }])
    }

    /// The user logs out and in again.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn login(&self) -> io::Result<Reply> {
        self.run(&["sim-login"])
    }
}

impl Drop for Launchd {
    fn drop(&mut self) {
        self.shut_down();
    }
}
