//! The protocol of `launchctl` and its daemon: a request is one line of JSON, the response another; `sim-watch` gets many.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// The environment variable that names the daemon's folder.
pub const FOLDER: &str = "SIM_LAUNCHD_DIR";
/// The environment variable with the factor on the daemon's times.
pub const TIME_SCALE: &str = "SIM_LAUNCHD_TIME_SCALE";

/// The argument with which the daemon ends when its standard input is closed: with the process that has started it.
pub const UNTIL_STDIN_CLOSES: &str = "--until-stdin-closes";

/// A command line, its paths absolute.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommandRequest {
    /// Without the program's own name.
    pub arguments: Vec<String>,
    /// The caller's working directory, to which paths are relative.
    pub folder: PathBuf,
}

/// The command's output and exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The exit code.
    pub code: u8,
}

/// One service, as `sim-watch` reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its label.
    pub label: String,
    /// The process id, if it runs.
    pub pid: Option<i32>,
    /// How often it was started since bootstrap.
    pub runs: u32,
    /// The last exit code, if it was no signal that ended it.
    pub last_code: Option<i32>,
    /// The signal that ended it last.
    pub last_signal: Option<i32>,
    /// Whether it waits for its throttle.
    pub scheduled: bool,
    /// Whether it is being removed.
    pub leaving: bool,
}

/// A file in the daemon's folder: while it exists, no command starts the daemon.
pub const OFF: &str = "off";

/// The daemon's socket.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// Sends a request to the daemon, which is started with `program sim-daemon` if it does not run.
///
/// # Errors
/// If it cannot be started or does not answer.
pub fn ask(folder: &Path, program: &Path, request: &CommandRequest) -> io::Result<Reply> {
    let stream = connect(folder, program)?;
    send(&stream, request)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// A connection to the daemon.
///
/// # Errors
/// If there is none and it cannot be started, or must not be.
pub fn connect(folder: &Path, program: &Path) -> io::Result<UnixStream> {
    if let Ok(stream) = UnixStream::connect(socket(folder)) {
        return Ok(stream);
    }
    if folder.join(OFF).exists() {
        return Err(io::Error::other("this launchd is shut down"));
    }
    // Not the folder's parents: their removal has ended the daemon.
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut daemon = Command::new(program)
        .arg("sim-daemon")
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // It prints a line when it listens, or ends because another daemon does.
    let mut word = String::new();
    if let Some(out) = daemon.stdout.take() {
        BufReader::new(out).read_line(&mut word)?;
    }
    UnixStream::connect(socket(folder))
}

/// Writes one line.
///
/// # Errors
/// If the connection is closed.
pub fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}
