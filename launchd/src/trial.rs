//! A trial of an upgrade: the new server program, started beside the one that serves, on loopback and a free port, and
//! asked.
//!
//! It holds a second copy of the model, so it must not outlive the command that started it. It ends in three ways: the
//! command ends it; it ends itself when its standard input, a pipe from the command, is closed because the command was
//! killed; and the next command ends the process that the record names, should it still run.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use sanctum_config::fleet::Server;
use sanctum_config::{Home, Label, atomic, files};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::ask::{Door, Health};
use crate::log_excerpt::excerpt_of;
use crate::process::Process;
use crate::question::question;
use crate::report::Report;
use crate::site::Site;
use crate::wait::Wait;

/// Tells a server to end when its standard input is closed. Older programs ignore it.
const EXIT_WITH_STDIN: (&str, &str) = ("SANCTUM_EXIT_WITH_STDIN", "1");
/// Larger than the record can be.
const LARGEST: u64 = 64 << 10;

/// `state/trial.json`: the trial that runs.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// The server that it is a trial of.
    pub server: Label,
    /// Its process.
    pub process: Process,
}

impl Record {
    fn path(home: &Home) -> PathBuf {
        home.state().join("trial.json")
    }

    /// The trial that a command left running; none if there is none.
    ///
    /// # Errors
    /// If the record cannot be read, or it cannot be told whether the trial still runs; the record stays.
    pub fn read(home: &Home) -> Result<Option<Self>, Failure> {
        let path = Self::path(home);
        let bytes = match files::read(&path, LARGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| Failure::read(&path, error))?,
        };
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::Refused(format!(
                "{} is damaged ({error}); end the trial that it names, if one runs, then remove it",
                path.display()
            ))
        })?;
        let Self { server, process } = &record;
        let running = process.is_running().map_err(|failure| {
            let pid = process.pid;
            Failure::Refused(format!(
                "cannot tell whether the trial of `{server}` that an interrupted upgrade left still runs (process {pid}): \
                 {failure}; see `ps -p {pid}`, end the trial with `kill -9 {pid}` if it runs, then remove {}",
                path.display()
            ))
        })?;
        Ok(running.then_some(record))
    }

    fn write(&self, home: &Home) -> Result<(), Failure> {
        let path = Self::path(home);
        let bytes = serde_json::to_vec(self).expect("a record is plain data");
        atomic::write(&path, &bytes, 0o600).map_err(|error| Failure::write(&path, error))
    }

    fn remove(home: &Home) -> Result<(), Failure> {
        let path = Self::path(home);
        atomic::remove(&path).map_err(|error| Failure::write(&path, error))
    }
}

/// Ends the trial that a command left running when it was killed.
///
/// # Errors
/// If it cannot be ended: it holds memory that the server needs.
pub fn end_left_over(home: &Home, report: &mut Report) -> Result<(), Failure> {
    if let Some(Record { server, process }) = Record::read(home)? {
        let pid = process.pid;
        if !process.kill()? {
            return Err(Failure::Refused(format!(
                "an interrupted upgrade left a trial of `{server}` running (process {pid}), and it cannot be ended; type: \
                 kill -9 {pid}"
            )));
        }
        report.note(&format!(
            "ended the trial of `{server}` that an interrupted upgrade left running (process {pid})"
        ))?;
    }
    Record::remove(home)
}

/// Starts the new program beside the old one and asks it; it has ended when this returns.
///
/// # Errors
/// If it does not become ready within `patience`, ends, or answers wrong: the reason.
pub fn run(
    site: &Site,
    name: &Label,
    server: &Server,
    program: &Path,
    patience: Duration,
    report: &mut Report,
) -> Result<(), String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map_err(|error| format!("there is no free port: {error}"))?
        .port();
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    for model in &server.models {
        let folder = model
            .path
            .beside(&site.file)
            .map_err(|error| error.to_string())?;
        command
            .arg("--model")
            .arg(format!("{}={}", model.id, folder.display()));
    }
    let log = site.home.logs().join("trial.log");
    command
        .env(EXIT_WITH_STDIN.0, EXIT_WITH_STDIN.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log_file(&log).map_err(|error| Failure::write(&log, error).to_string())?);
    let mut trial = Running::start(command, program, &site.home, name)?;
    let door = Door::at(
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        name,
        &site.host,
    );
    let wait = Wait::new(patience);
    loop {
        let health = door.health(wait.left());
        if health == Health::Ready {
            break;
        }
        wait.show(&format!("trial of `{name}`: {health}"));
        match trial.child.try_wait() {
            Ok(None) if !wait.is_over() => sleep(Duration::from_millis(250)),
            Ok(None) => {
                return Err(format!(
                    "a second instance was not ready after {} s (--patience): {health}{}",
                    patience.as_secs(),
                    excerpt_of(&log)
                ));
            }
            Ok(Some(status)) => {
                return Err(format!(
                    "a second instance ended at its start ({status}){}",
                    excerpt_of(&log)
                ));
            }
            Err(error) => return Err(format!("a second instance cannot be waited for: {error}")),
        }
    }
    let asked = question(&site.fleet, name).ask_patiently(&door, &wait);
    let took = asked.map_err(|wrong| format!("a second instance: {wrong}"))?;
    drop(wait);
    report
        .note(&format!(
            "a second instance of `{name}` answered correctly in {:.1} s",
            took.as_secs_f64()
        ))
        .map_err(|error| error.to_string())
}

/// An empty file for its owner. What lies there is replaced whatever it is: opening a FIFO would block.
fn log_file(path: &Path) -> io::Result<File> {
    atomic::remove(path)?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// A trial that runs, with its record; both end with this.
struct Running<'a> {
    child: Child,
    home: &'a Home,
}

impl<'a> Running<'a> {
    fn start(
        mut command: Command,
        program: &Path,
        home: &'a Home,
        server: &Label,
    ) -> Result<Self, String> {
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let running = Self { child, home };
        // One that has ended already is found while it is waited for.
        let process = Process::of(running.child.id()).map_err(|failure| failure.to_string())?;
        if let Some(process) = process {
            let server = server.clone();
            let record = Record { server, process };
            record.write(home).map_err(|failure| failure.to_string())?;
        }
        Ok(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The next command removes a record that stays.
        let _ = Record::remove(self.home);
    }
}
