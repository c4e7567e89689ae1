//! What `launchctl` and its daemon say to each other: one line of JSON there, one back; `sim-watch` gets many.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// The environment variable that names the daemon's folder.
pub const FOLDER: &str = "SIM_LAUNCHD_DIR";
/// The environment variable with the factor on the daemon's times.
pub const TIME_SCALE: &str = "SIM_LAUNCHD_TIME_SCALE";

/// A command line, its paths absolute.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Without the program's own name.
    pub arguments: Vec<String>,
    /// Where the caller stands: paths are relative to it.
    pub folder: PathBuf,
}

/// What the command printed and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The exit code.
    pub code: u8,
}

/// One service, as `sim-watch` tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its label.
    pub label: String,
    /// Of the process that runs.
    pub pid: Option<i32>,
    /// How often it was started since bootstrap.
    pub runs: u32,
    /// The last exit code, if it was no signal that ended it.
    pub last_code: Option<i32>,
    /// The signal that ended it last.
    pub last_signal: Option<i32>,
    /// Whether it waits for its throttle.
    pub scheduled: bool,
    /// Whether it is on its way out.
    pub leaving: bool,
}

/// The daemon's socket.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// Asks the daemon, which is started if need be with `program sim-daemon`.
///
/// # Errors
/// If it cannot be started or does not answer.
pub fn ask(folder: &Path, program: &Path, request: &Request) -> io::Result<Reply> {
    let stream = connect(folder, program)?;
    send(&stream, request)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// A connection to the daemon.
///
/// # Errors
/// If there is none and it cannot be started.
pub fn connect(folder: &Path, program: &Path) -> io::Result<UnixStream> {
    if let Ok(stream) = UnixStream::connect(socket(folder)) {
        return Ok(stream);
    }
    std::fs::create_dir_all(folder)?;
    let mut daemon = Command::new(program)
        .arg("sim-daemon")
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // It says a word when it listens, or ends because another one does.
    let mut word = String::new();
    if let Some(out) = daemon.stdout.take() {
        BufReader::new(out).read_line(&mut word)?;
    }
    UnixStream::connect(socket(folder))
}

/// Writes one line.
///
/// # Errors
/// If the other side has gone.
pub fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}
