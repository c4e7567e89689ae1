//! The daemon: one loop over requests, process exits and timers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::job::Job;
use crate::service::LoadedJob;
use crate::text;
use crate::wire::{self, CommandRequest, Reply, Status};

/// The interval at which the daemon checks that its folder still exists.
const LOOK: Duration = Duration::from_secs(1);

enum DaemonEvent {
    Asked(UnixStream, CommandRequest),
    Ended(String, Pid, ExitStatus),
    StdinClosed,
}

/// Serves until a shutdown request, the removal of its folder, or the end of its standard input if `until_stdin_closes`.
/// Returns at once if another daemon serves the folder.
///
/// # Errors
/// If the socket cannot be made.
pub fn run(folder: &Path, until_stdin_closes: bool) -> std::io::Result<()> {
    let socket = wire::socket(folder);
    let listener = match UnixListener::bind(&socket) {
        Ok(listener) => listener,
        Err(_) if UnixStream::connect(&socket).is_ok() => return Ok(()),
        Err(_) => {
            std::fs::remove_file(&socket)?;
            UnixListener::bind(&socket)?
        }
    };
    println!("listening");
    std::io::stdout().flush()?;
    let (events, inbox) = mpsc::channel();
    let asked = events.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = asked.clone();
            std::thread::spawn(move || {
                let mut line = String::new();
                if BufReader::new(&stream).read_line(&mut line).is_ok()
                    && let Ok(request) = serde_json::from_str(&line)
                {
                    let _ = asked.send(DaemonEvent::Asked(stream, request));
                }
            });
        }
    });
    if until_stdin_closes {
        let closed = events.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = closed.send(DaemonEvent::StdinClosed);
        });
    }
    let mut world = World::new(folder, events);
    loop {
        let wait = world.next().map_or(LOOK, |due| {
            due.saturating_duration_since(Instant::now()).min(LOOK)
        });
        match inbox.recv_timeout(wait) {
            Ok(DaemonEvent::Asked(stream, request)) => {
                if request
                    .arguments
                    .first()
                    .is_some_and(|word| word == "sim-shutdown")
                {
                    world.end();
                    let _ = std::fs::remove_file(&socket);
                    let _ = wire::send(&stream, &Reply::default());
                    return Ok(());
                }
                world.asked(stream, &request);
            }
            Ok(DaemonEvent::Ended(label, pid, status)) => world.ended(&label, pid, status),
            Ok(DaemonEvent::StdinClosed) => {
                world.end();
                let _ = std::fs::remove_file(&socket);
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) if !socket.exists() => {
                world.end();
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        world.tick();
        world.tell();
    }
}

struct World {
    folder: PathBuf,
    domain: String,
    scale: f64,
    events: Sender<DaemonEvent>,
    services: BTreeMap<String, LoadedJob>,
    /// Overrides that outlive the daemon, as launchd's do: by label, whether it is disabled.
    disabled: BTreeMap<String, bool>,
    session: BTreeMap<String, String>,
    /// Requests that wait for a service's next process.
    starting: Vec<(String, UnixStream, bool)>,
    /// Requests that wait until a service is gone.
    stopping: Vec<(String, UnixStream)>,
    /// Whether bootout and kickstart -k return only when the process has exited.
    blocking: bool,
    watchers: Vec<UnixStream>,
    told: Option<Vec<Status>>,
    /// A login has begun: loaded services must end first.
    login: bool,
}

impl World {
    fn new(folder: &Path, events: Sender<DaemonEvent>) -> Self {
        let scale = std::env::var(wire::TIME_SCALE).ok();
        let overrides = std::fs::read(folder.join("disabled.json")).ok();
        Self {
            folder: folder.to_owned(),
            domain: format!("gui/{}", rustix::process::getuid().as_raw()),
            scale: scale.and_then(|scale| scale.parse().ok()).unwrap_or(1.0),
            events,
            services: BTreeMap::new(),
            disabled: overrides
                .and_then(|json| serde_json::from_slice(&json).ok())
                .unwrap_or_default(),
            session: BTreeMap::new(),
            starting: Vec::new(),
            stopping: Vec::new(),
            blocking: true,
            watchers: Vec::new(),
            told: None,
            login: false,
        }
    }

    /// The time of the next timer.
    fn next(&self) -> Option<Instant> {
        let services = self.services.values();
        services
            .flat_map(|service| [service.due, service.kill_at])
            .flatten()
            .min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let mut start = Vec::new();
        for (label, service) in &mut self.services {
            if service.kill_at.is_some_and(|at| at <= now) {
                service.kill();
            }
            if service.due.is_some_and(|at| at <= now) {
                start.push(label.clone());
            }
        }
        start.iter().for_each(|label| self.start(label));
        if self.login && self.services.is_empty() {
            self.login = false;
            self.load_agents();
        }
    }

    fn scaled(&self, time: Duration) -> Duration {
        time.mul_f64(self.scale)
    }

    fn start(&mut self, label: &str) {
        let Some(service) = self.services.get_mut(label) else {
            return;
        };
        match service.start(&self.session) {
            Ok(mut child) => {
                let pid = service.pid.expect("a child has a process id");
                let (events, label) = (self.events.clone(), label.to_owned());
                std::thread::spawn(move || {
                    if let Ok(status) = child.wait() {
                        let _ = events.send(DaemonEvent::Ended(label, pid, status));
                    }
                });
            }
            Err(_) => self.again(label),
        }
        let pid = self.services.get(label).and_then(|service| service.pid);
        let waited = std::mem::take(&mut self.starting);
        for (name, stream, show) in waited {
            if name != label {
                self.starting.push((name, stream, show));
                continue;
            }
            let shown = pid.filter(|_| show);
            let out = shown.map(|pid| format!("{}\n", pid.as_raw_nonzero()));
            let _ = wire::send(&stream, &done(out.unwrap_or_default()));
        }
    }

    /// A job that ended, or could not start, waits for its throttle if it is restarted.
    fn again(&mut self, label: &str) {
        let scale = self.scale;
        let Some(service) = self.services.get_mut(label) else {
            return;
        };
        let last = service.status();
        if service.job.comes_back(last.last_code, last.last_signal) {
            let since = service.started.unwrap_or_else(Instant::now);
            let due = since + service.job.throttle.mul_f64(scale);
            service.due = Some(due.max(Instant::now()));
        }
    }

    fn ended(&mut self, label: &str, pid: Pid, status: ExitStatus) {
        let Some(service) = self.services.get_mut(label) else {
            return;
        };
        if service.pid != Some(pid) {
            return;
        }
        // Processes left in its group do not outlive it.
        service.kill();
        service.pid = None;
        service.last = Some(status);
        if service.leaving {
            self.services.remove(label);
            self.starting.retain(|(name, ..)| name != label);
            let waited = std::mem::take(&mut self.stopping);
            let (gone, others) = waited.into_iter().partition(|(name, _)| name == label);
            self.stopping = others;
            for (_, stream) in gone as Vec<(String, UnixStream)> {
                let _ = wire::send(&stream, &done(String::new()));
            }
        } else if service.restarting {
            self.start(label);
        } else {
            self.again(label);
        }
    }

    fn asked(&mut self, stream: UnixStream, request: &CommandRequest) {
        let words: Vec<&str> = request.arguments.iter().map(String::as_str).collect();
        let reply = match words.as_slice() {
            ["sim-watch"] => {
                self.told = None;
                self.watchers.push(stream);
                return;
            }
            ["kickstart", options @ .., target] => {
                let has = |letter| options.iter().any(|option| option.contains(letter));
                match self.kickstart(target, has('k'), has('p'), &stream) {
                    Some(reply) => reply,
                    None => return,
                }
            }
            ["bootstrap", domain, paths @ ..] if !paths.is_empty() => {
                self.bootstrap(domain, paths, &request.folder)
            }
            ["bootout", target] => match self.bootout(target, &stream) {
                Some(reply) => reply,
                None => return,
            },
            ["sim-blocking", mode @ ("on" | "off")] => {
                self.blocking = *mode == "on";
                done(String::new())
            }
            ["enable", target] => self.switch(target, false),
            ["disable", target] => self.switch(target, true),
            ["print", target] => self.print(target),
            ["print-disabled", domain] if *domain == self.domain => {
                done(text::disabled(&self.disabled))
            }
            ["list"] => done(text::list(self.services.values().map(LoadedJob::status))),
            ["list", label] => match self.services.get(*label) {
                Some(service) => done(text::listed(&service.job, &service.status())),
                None => failed(
                    113,
                    &format!("Could not find service \"{label}\" in domain for port"),
                ),
            },
            ["kill", signal, target] => self.signal(signal, target),
            ["setenv", name, value] => {
                self.session.insert((*name).to_owned(), (*value).to_owned());
                done(String::new())
            }
            ["unsetenv", name] => {
                self.session.remove(*name);
                done(String::new())
            }
            ["getenv", name] => match self.session.get(*name) {
                Some(value) => done(format!("{value}\n")),
                None => failed(1, ""),
            },
            ["sim-login"] => {
                self.login = true;
                self.leave_all();
                done(String::new())
            }
            ["sim-logout"] => {
                self.leave_all();
                done(String::new())
            }
            ["sim-unknown-keys", label] => match self.services.get(*label) {
                Some(service) => done(
                    service
                        .job
                        .unknown
                        .iter()
                        .map(|key| format!("{key}\n"))
                        .collect(),
                ),
                None => failed(113, "no such service"),
            },
            _ => failed(
                64,
                "Unrecognized subcommand or usage; see the documentation of sim-launchd",
            ),
        };
        let _ = wire::send(&stream, &reply);
    }

    /// The label in `gui/<uid>/<label>`.
    fn label<'a>(&self, target: &'a str) -> Result<&'a str, Reply> {
        target
            .strip_prefix(self.domain.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .filter(|label| !label.is_empty())
            .ok_or_else(|| failed(125, "Domain does not support specified action"))
    }

    fn not_found(&self, label: &str) -> Reply {
        let uid = self.domain.trim_start_matches("gui/");
        failed(
            113,
            &format!("Could not find service \"{label}\" in domain for user gui: {uid}"),
        )
    }

    fn bootstrap(&mut self, domain: &str, paths: &[&str], folder: &Path) -> Reply {
        if domain != self.domain {
            return failed(
                125,
                "Bootstrap failed: 125: Domain does not support specified action",
            );
        }
        for path in paths {
            let job = match Job::read(&folder.join(path)) {
                Ok(job) => job,
                Err(_) => return failed(5, "Bootstrap failed: 5: Input/output error"),
            };
            if self.services.contains_key(&job.label) {
                return failed(5, "Bootstrap failed: 5: Input/output error");
            }
            if self.disabled.get(&job.label) == Some(&true) {
                return failed(119, "Bootstrap failed: 119: Service is disabled");
            }
            self.load(job);
        }
        done(String::new())
    }

    fn load(&mut self, job: Job) {
        let (label, at_once) = (job.label.clone(), job.starts_at_once());
        self.services.insert(label.clone(), LoadedJob::new(job));
        if at_once {
            self.start(&label);
        }
    }

    /// None if the response follows when the process has exited.
    fn bootout(&mut self, target: &str, stream: &UnixStream) -> Option<Reply> {
        let label = match self.label(target) {
            Ok(label) => label,
            Err(reply) => return Some(reply),
        };
        if !self.services.contains_key(label) {
            return Some(failed(3, "Boot-out failed: 3: No such process"));
        }
        if self.leave(label) {
            return Some(done(String::new()));
        }
        if !self.blocking {
            return Some(failed(36, "Boot-out failed: 36: Operation now in progress"));
        }
        match stream.try_clone() {
            Ok(stream) => self.stopping.push((label.to_owned(), stream)),
            Err(error) => return Some(failed(5, &error.to_string())),
        }
        None
    }

    /// Starts removing a service; whether it is gone already.
    fn leave(&mut self, label: &str) -> bool {
        let scale = self.scale;
        let Some(service) = self.services.get_mut(label) else {
            return true;
        };
        if service.pid.is_none() {
            self.services.remove(label);
            return true;
        }
        service.leaving = true;
        service.restarting = false;
        service.terminate(service.job.exit_timeout.mul_f64(scale));
        false
    }

    fn leave_all(&mut self) {
        let labels: Vec<String> = self.services.keys().cloned().collect();
        for label in labels {
            self.leave(&label);
        }
    }

    /// Loads the services of a user who logs in.
    fn load_agents(&mut self) {
        let home = std::env::var_os("HOME")
            .map(PathBuf::from)
            .unwrap_or_default();
        let folder = std::fs::read_dir(home.join("Library/LaunchAgents"));
        let files: BTreeSet<PathBuf> = folder
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "plist"))
            .collect();
        for job in files.iter().filter_map(|path| Job::read(path).ok()) {
            if self.disabled.get(&job.label) != Some(&true)
                && !self.services.contains_key(&job.label)
            {
                self.load(job);
            }
        }
    }

    fn kickstart(
        &mut self,
        target: &str,
        kill: bool,
        show: bool,
        stream: &UnixStream,
    ) -> Option<Reply> {
        let label = match self.label(target) {
            Ok(label) => label,
            Err(reply) => return Some(reply),
        };
        let patience = self
            .services
            .get(label)
            .map(|service| self.scaled(service.job.exit_timeout));
        let Some(service) = self
            .services
            .get_mut(label)
            .filter(|service| !service.leaving)
        else {
            return Some(self.not_found(label));
        };
        match service.pid {
            Some(pid) if !kill => {
                let out = show.then(|| format!("{}\n", pid.as_raw_nonzero()));
                return Some(done(out.unwrap_or_default()));
            }
            Some(_) => {
                service.restarting = true;
                service.terminate(patience.unwrap_or_default());
                if !self.blocking && !show {
                    return Some(done(String::new()));
                }
            }
            None => service.due = Some(Instant::now()),
        }
        match stream.try_clone() {
            Ok(stream) => self.starting.push((label.to_owned(), stream, show)),
            Err(error) => return Some(failed(5, &error.to_string())),
        }
        None
    }

    fn signal(&self, name: &str, target: &str) -> Reply {
        let label = match self.label(target) {
            Ok(label) => label,
            Err(reply) => return reply,
        };
        let Some(pid) = self.services.get(label).and_then(|service| service.pid) else {
            return self.not_found(label);
        };
        let signal = match name.trim_start_matches("SIG") {
            "TERM" | "15" => Signal::TERM,
            "KILL" | "9" => Signal::KILL,
            "STOP" => Signal::STOP,
            "CONT" => Signal::CONT,
            "HUP" | "1" => Signal::HUP,
            "INT" | "2" => Signal::INT,
            "ABRT" | "6" => Signal::ABORT,
            "USR1" => Signal::USR1,
            _ => return failed(64, &format!("Unknown signal: {name}")),
        };
        match kill_process(pid, signal) {
            Ok(()) => done(String::new()),
            Err(error) => failed(3, &error.to_string()),
        }
    }

    fn switch(&mut self, target: &str, disabled: bool) -> Reply {
        match self.label(target) {
            Ok(label) => {
                self.disabled.insert(label.to_owned(), disabled);
                let json = serde_json::to_vec(&self.disabled).unwrap_or_default();
                match std::fs::write(self.folder.join("disabled.json"), json) {
                    Ok(()) => done(String::new()),
                    Err(error) => failed(5, &error.to_string()),
                }
            }
            Err(reply) => reply,
        }
    }

    fn print(&self, target: &str) -> Reply {
        if target == self.domain {
            return done(text::domain(
                target,
                self.services.values().map(LoadedJob::status),
            ));
        }
        let label = match self.label(target) {
            Ok(label) => label,
            Err(reply) => return reply,
        };
        match self.services.get(label) {
            Some(service) => {
                let status = service.status();
                done(text::service(
                    &self.domain,
                    &service.job,
                    &status,
                    &self.session,
                ))
            }
            None => self.not_found(label),
        }
    }

    /// Sends changes to the watchers.
    fn tell(&mut self) {
        let now: Vec<Status> = self.services.values().map(LoadedJob::status).collect();
        if self.told.as_ref() != Some(&now) {
            self.watchers
                .retain(|watcher| wire::send(watcher, &now).is_ok());
            self.told = Some(now);
        }
    }

    /// Kills all processes.
    fn end(&mut self) {
        self.services.values_mut().for_each(LoadedJob::kill);
    }
}

fn done(out: String) -> Reply {
    Reply {
        out,
        ..Reply::default()
    }
}

fn failed(code: u8, message: &str) -> Reply {
    let err = match message {
        "" => String::new(),
        message => format!("{message}\n"),
    };
    Reply {
        err,
        code,
        ..Reply::default()
    }
}
