//! A trial of an upgrade: the new server program is started beside the one that serves, on a free loopback port, and asked.
//!
//! It loads a second copy of the model, so it must not outlive the command. It ends in three ways: the command ends it; it
//! exits when its standard input, a pipe from the command, is closed because the command was killed; or the next command
//! ends the process in the trial record.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sanctum_config::fleet::Server;
use sanctum_config::{Home, Label, atomic};
use sanctum_host::{Installation, ProcessIdentity, TrialRecord};

use crate::Error;
use crate::console::Console;
use crate::log_excerpt::last_lines;
use crate::server_probe::ServerProbe;
use crate::test_question::test_question;
use crate::wait::Wait;

/// Makes a server exit when its standard input is closed. Older programs ignore it.
const EXIT_WITH_STDIN: (&str, &str) = ("SANCTUM_EXIT_WITH_STDIN", "1");

/// Starts the new program and asks it. The trial has ended when this returns.
///
/// # Errors
/// If it does not become ready within `patience`, exits, or gives a wrong answer.
pub(crate) fn run(
    installation: &Installation,
    name: &Label,
    server: &Server,
    program: &Path,
    patience: Duration,
    console: &mut Console,
) -> Result<(), Error> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map_err(|error| Error::refused(format!("there is no free port: {error}")))?
        .port();
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    for (model, path) in server.local_models() {
        let folder = path.beside(&installation.file)?;
        command
            .arg("--model")
            .arg(format!("{}={}", model.id, folder.display()));
    }
    let log = installation.home.logs().join("trial.log");
    command
        .env(EXIT_WITH_STDIN.0, EXIT_WITH_STDIN.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log_file(&log).map_err(|error| Error::write(&log, error))?);
    let mut trial = Trial::start(command, program, &installation.home, name)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let probe = ServerProbe::loopback(address, name, &installation.host);
    let wait = Wait::new(patience);
    let is_running = || match trial.child.try_wait() {
        Ok(None) => Ok(true),
        Ok(Some(status)) => Err(Error::refused(format!(
            "a second instance exited when it started ({status}){}",
            last_lines(&log)
        ))),
        Err(error) => Err(Error::refused(format!(
            "the state of the second instance is unknown: {error}"
        ))),
    };
    wait.until_ready("a second instance", &probe, is_running, || last_lines(&log))?;
    let asked = test_question(&installation.fleet, name).ask_with_retries(&probe, &wait);
    let took = asked.map_err(|error| Error::refused(format!("a second instance: {error}")))?;
    drop(wait);
    Ok(console.note(&format!(
        "a second instance of `{name}` answered correctly in {:.1} s",
        took.as_secs_f64()
    ))?)
}

/// An empty file for its owner. Whatever is at `path` is replaced: opening a FIFO would block.
fn log_file(path: &Path) -> io::Result<File> {
    atomic::remove(path)?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// A trial server and its record. Dropping this ends both.
struct Trial<'a> {
    child: Child,
    home: &'a Home,
}

impl<'a> Trial<'a> {
    fn start(
        mut command: Command,
        program: &Path,
        home: &'a Home,
        server: &Label,
    ) -> Result<Self, Error> {
        let child = command.spawn().map_err(|error| {
            Error::refused(format!("cannot start {}: {error}", program.display()))
        })?;
        let trial = Self { child, home };
        // If it has exited already, the wait for it reports that.
        if let Some(process) = ProcessIdentity::of(trial.child.id())? {
            let server = server.clone();
            TrialRecord { server, process }.write(home)?;
        }
        Ok(trial)
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The next command removes a record that stays.
        let _ = TrialRecord::remove(self.home);
    }
}
