//! A host of a fleet under the simulated launchd, the fixture of the tests of deployments and watchdogs: the real
//! programs, installed by the real `sanctum-launchd`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sanctum_sim_launchd::Launchd;
use sanctum_sim_launchd::wire::Status;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program;

/// Far longer than anything here takes.
pub const SOON: Duration = Duration::from_secs(90);

/// The factor on launchd's times: half a minute from start to start becomes 0.6 s.
const TIME_SCALE: f64 = 0.02;

/// The programs of a release.
const PROGRAMS: [&str; 6] = [
    "sanctum-server",
    "sanctum-guardian",
    "sanctum-canary",
    "sanctum-drift",
    "sanctum-parity",
    "sanctum-launchd",
];

/// A host with its launchd, its home and its releases.
pub struct Host {
    /// Its launchd, whose state is in the folder `launchd` of its home.
    pub launchd: Launchd,
    home: PathBuf,
    port: u16,
    /// Environment variables of the user's session.
    session: Mutex<Vec<(String, String)>>,
    /// Its home, if that is its own.
    _folder: Option<TempDir>,
}

impl Host {
    /// A host whose launchd runs, without fleet.toml, releases or anything installed. Its home is a temporary folder.
    #[allow(clippy::new_without_default, reason = "it starts a process")]
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut host = Self::at(folder.path());
        host._folder = Some(folder);
        host
    }

    /// The same with a home that exists and that the caller removes.
    pub fn at(home: &Path) -> Self {
        Self::with_launchctl(home, &program("launchctl"))
    }

    /// The same with a program that executes `launchctl`, in another network for example.
    pub fn with_launchctl(home: &Path, launchctl: &Path) -> Self {
        let launchd = Launchd::start(&home.join("launchd"), launchctl, home, TIME_SCALE).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let host = Self {
            launchd,
            home: home.to_owned(),
            port,
            session: Mutex::default(),
            _folder: None,
        };
        // Agents find the simulated launchctl in the session's environment.
        for (name, value) in host.launchd.environment() {
            host.set_variable(name, &value.display().to_string());
        }
        host
    }

    /// Sets an environment variable of all agents that are started from now on.
    pub fn set_variable(&self, name: &str, value: &str) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.push((name.to_owned(), value.to_owned()));
        self.launchd.run(&["setenv", name, value]).unwrap();
    }

    /// Kills everything that runs here, launchd included.
    pub fn power_off(&self) {
        self.launchd.shut_down();
    }

    /// Starts launchd again and logs the user in.
    pub fn power_on(&self) {
        self.launchd.boot().unwrap();
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in session.iter() {
            self.launchd.run(&["setenv", name, value]).unwrap();
        }
        self.launchd.login().unwrap();
    }

    /// The address of its server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user's home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A path in the user's home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Writes fleet.toml: the host `here` with these agents, additional lines of the server's section, and more sections.
    pub fn fleet(&self, agents: &[&str], server: &str, more: &str) {
        let text = format!(
            "[hosts.here]\naddress = \"127.0.0.1\"\nagents = {agents:?}\n\
             [servers.server]\nhost = \"here\"\nlisten = [\"127.0.0.1:{}\"]\nthreads = 1\n{server}\n{more}\n",
            self.port
        );
        fs::write(self.path("fleet.toml"), text).unwrap();
    }

    /// A release of the real programs themselves, in the folder of its version.
    pub fn release(&self, version: &str) {
        let folder = self.path(version);
        fs::create_dir(&folder).unwrap();
        for name in PROGRAMS {
            let (real, place) = (program(name), folder.join(name));
            // The programs of a debug build are large: link them.
            fs::hard_link(&real, &place)
                .or_else(|_| fs::copy(&real, &place).map(drop))
                .unwrap();
        }
        self.must(&["pack", version, "--release", version]);
    }

    /// A release of scripts that execute the real programs, which are fast to copy and to hash. This is the server's
    /// script, in which `$SERVER` is the real program.
    pub fn release_of_scripts(&self, version: &str, server: &str) {
        let folder = self.path(version);
        fs::create_dir(&folder).unwrap();
        for name in PROGRAMS {
            let real = program(name);
            let real = real.display();
            let script = match name {
                "sanctum-server" => format!("SERVER='{real}'\n{server}"),
                _ => format!("exec '{real}' \"$@\""),
            };
            let text = format!("#!/bin/sh\n# release {version}\n{script}\n");
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.must(&["pack", version, "--release", version]);
    }

    /// Installs a release with the current fleet.toml.
    pub fn install(&self, version: &str) {
        self.must(&Self::installation(version));
    }

    /// The command that installs a release.
    pub fn installation(version: &str) -> [&str; 7] {
        let line = ["install", "--config", "fleet.toml", "--host", "here"];
        let [a, b, c, d, e] = line;
        [a, b, c, d, e, "--release", version]
    }

    /// A command of `sanctum-launchd`, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("sanctum-launchd"));
        command
            .args(arguments)
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .envs(self.launchd.environment())
            .env_remove("RUST_LOG");
        command
    }

    /// Runs a command; its exit code and its output.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        said(self.command(arguments).output().unwrap())
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        let (code, said) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    }

    /// A watchdog's state file.
    pub fn memory(&self, agent: &str) -> Value {
        let state = fs::read(self.path(&format!(".sanctum/state/watch/{agent}.json")));
        serde_json::from_slice(&state.unwrap_or_default()).unwrap_or_default()
    }

    /// A watchdog's last finding: its kind and its sentence, as one text.
    pub fn verdict(&self, agent: &str) -> String {
        let last = &self.memory(agent)["last"];
        let part = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", part("kind"), part("message"))
    }

    /// An agent's log.
    pub fn log(&self, agent: &str) -> String {
        fs::read_to_string(self.path(&format!(".sanctum/logs/{agent}.log"))).unwrap_or_default()
    }

    /// The number of a watchdog's checks.
    pub fn rounds(&self, agent: &str) -> usize {
        let log = self.log(agent);
        let looks = log.lines().filter(|line| line.contains("\"kind\":"));
        looks.count()
    }

    /// The number of restarts that the guardian has requested.
    pub fn restarts(&self) -> usize {
        let log = self.log("guardian");
        let asked = log
            .lines()
            .filter(|line| line.contains("\"restart: launchctl "));
        asked.count()
    }

    /// Waits until a condition on files and pages is true.
    #[track_caller]
    pub fn wait(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !wanted(self) {
            let logs = || ["server", "guardian", "canary"].map(|name| end(&self.log(name)));
            assert!(
                begun.elapsed() < SOON,
                "waited for {what}\n{}",
                logs().join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until these watchdogs report no problem.
    #[track_caller]
    pub fn all_well(&self, watchdogs: &[&str]) {
        self.wait("answers", |host| {
            let well = |agent: &&str| host.verdict(agent).starts_with("ok:");
            watchdogs.iter().all(well)
        });
    }

    /// Waits until a watchdog has completed this many more checks.
    #[track_caller]
    pub fn look_on(&self, agent: &str, rounds: usize) {
        let seen = self.rounds(agent);
        self.wait("a watchdog's rounds", |host| {
            host.rounds(agent) >= seen + rounds
        });
    }

    /// The service target of an agent: `gui/<uid>/com.sanctum.<agent>`.
    pub fn target(&self, agent: &str) -> String {
        format!("{}/{}", self.launchd.domain(), label(agent))
    }

    /// An agent that has a process.
    #[track_caller]
    pub fn running(&self, agent: &str) -> Status {
        self.launchd
            .wait_for(&label(agent), SOON, |status| status.pid.is_some())
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log(agent)))
    }

    /// Sends an agent's process a signal.
    pub fn signal(&self, agent: &str, signal: &str) {
        let reply = self.launchd.run(&["kill", signal, &self.target(agent)]);
        assert_eq!(reply.unwrap().code, 0, "{signal} to {agent}");
    }

    /// `GET /health` of its server; null if it does not answer.
    pub fn health(&self) -> Value {
        let answer = request(self.port, "GET /health", "", SOON);
        serde_json::from_str(&answer.unwrap_or_default().1).unwrap_or_default()
    }

    /// Its server's answer to a question at temperature 0.
    pub fn ask(&self, question: &str) -> String {
        let message = json!({ "role": "user", "content": question });
        let body = json!({ "messages": [message], "temperature": 0, "max_tokens": 16 });
        let answer = request(
            self.port,
            "POST /v1/chat/completions",
            &body.to_string(),
            SOON,
        );
        let (status, text) = answer.expect("it answers");
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let content = &answer["choices"][0]["message"]["content"];
        content.as_str().unwrap_or_default().to_owned()
    }
}

/// launchd's name of an agent.
pub fn label(agent: &str) -> String {
    format!("com.sanctum.{agent}")
}

/// Whether an agent is loaded and has a process.
pub fn runs(loaded: &[Status], agent: &str) -> bool {
    let is_it = |status: &&Status| status.label == label(agent);
    loaded
        .iter()
        .find(is_it)
        .is_some_and(|status| status.pid.is_some())
}

/// A command's exit code and its output.
pub fn said(output: Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

/// Sends a request over a new connection; the response's status and body, or none after the time limit.
pub fn request(port: u16, request: &str, body: &str, limit: Duration) -> Option<(u16, String)> {
    let mut stream = ask(port, request, body).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let mut lines = BufReader::new(&mut stream).lines();
    let status = lines.next()?.ok()?.split(' ').nth(1)?.parse().ok()?;
    let mut head = lines.by_ref().map_while(Result::ok);
    head.find(String::is_empty)?;
    let body: Vec<String> = lines.map_while(Result::ok).collect();
    Some((status, body.join("\n")))
}

/// Sends a request; the caller reads the response or drops it.
pub fn ask(port: u16, request: &str, body: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let text = format!(
        "{request} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes())?;
    Ok(stream)
}

/// The last lines of a log.
fn end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// When a folder's files were written.
pub fn modified(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let written = |path: PathBuf| {
        let at = fs::metadata(&path).unwrap().modified().unwrap();
        (path, at)
    };
    let entries = fs::read_dir(folder).unwrap();
    let mut all: Vec<_> = entries
        .map(|entry| written(entry.unwrap().path()))
        .collect();
    all.sort();
    all
}

/// Whether a connection has received anything.
pub fn has_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let came = stream.peek(&mut [0; 1]).is_ok();
    stream.set_nonblocking(false).unwrap();
    came
}

/// Reads the status of a response, and nothing after it.
pub fn status(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    String::from_utf8_lossy(&first[9..]).into_owned()
}
