//! A server's process: started with an empty home, its log read as it is written, killed on drop.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{binary, within};

/// A started `sanctum-server`, which may have ended.
pub struct Process {
    child: Child,
    log: watch::Receiver<Log>,
    stdout: JoinHandle<String>,
    home: TempDir,
}

/// The exit code and output of a process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, by lines.
    pub log: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Log {
    lines: Vec<String>,
    /// Whether it is complete.
    closed: bool,
}

impl Process {
    /// Starts `sanctum-server` with these arguments; its home and working directory are empty.
    pub fn launch<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::launch_with(args, &[])
    }

    /// The same with additional environment variables.
    pub fn launch_with<A: AsRef<OsStr>>(
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &str)],
    ) -> Self {
        // In a build of the whole workspace every HTTP client needs a default crypto provider, even for plain HTTP; all
        // tests pass here before they make a client.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let home = TempDir::new().expect("a temporary home");
        let mut child = Command::new(binary::server())
            .args(args)
            .current_dir(&home)
            .env("HOME", home.path())
            .env_remove("RUST_LOG")
            .env_remove("SANCTUM_DISABLE_AUTH")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server's executable runs");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        Self {
            child,
            log: follow(stderr),
            stdout: tokio::spawn(read(stdout)),
            home,
        }
    }

    /// Its home folder, removed on drop.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its standard error so far.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().lines.clone()
    }

    /// Waits for a log line with this message and returns its fields; an earlier line counts.
    ///
    /// # Panics
    /// If it does not appear in time, or the process ends first.
    pub async fn logged(&self, message: &str) -> Value {
        let wanted = |fields: &Value| (fields["message"] == message).then(|| fields.clone());
        self.logs(&format!("the log line `{message}`"), wanted)
            .await
    }

    /// Waits for a log line for whose fields `wanted` returns a value; an earlier line counts.
    ///
    /// # Panics
    /// If it does not appear in time, or the process ends first.
    pub async fn logs<T>(&self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let mut log = self.log.clone();
        let wanted = |line: &String| wanted(&serde_json::from_str(line).ok()?);
        let found = |log: &Log| log.lines.iter().find_map(wanted);
        let seen = log.wait_for(|log| log.closed || found(log).is_some());
        let seen = within(what, seen).await;
        let log = seen.map(|log| log.clone()).unwrap_or_default();
        found(&log).unwrap_or_else(|| panic!("{what} is not in {:#?}", log.lines))
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it has ended.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.id();
        let pid = Pid::from_raw(pid as i32).expect("process ids begin with 1");
        kill_process(pid, signal).expect("it is our own child");
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn ended(mut self) -> Ended {
        let status = match tokio::time::timeout(crate::patience(), self.child.wait()).await {
            Ok(status) => status.expect("it is our own child"),
            Err(_) => panic!("the server does not end; its log: {:#?}", self.log()),
        };
        let _ = within("the end of its log", self.log.wait_for(|log| log.closed)).await;
        let log = self.log();
        Ended {
            code: status.code(),
            stdout: self.stdout.await.expect("reading does not panic"),
            log,
        }
    }
}

impl Ended {
    /// The message of the last log line, or the line itself if it is not JSON.
    pub fn last_message(&self) -> String {
        let last = self.log.last().cloned().unwrap_or_default();
        match serde_json::from_str::<Value>(&last) {
            Ok(fields) => fields["message"].as_str().unwrap_or_default().to_owned(),
            Err(_) => last,
        }
    }
}

/// Collects lines as they are written.
fn follow(pipe: impl AsyncRead + Send + Unpin + 'static) -> watch::Receiver<Log> {
    let (sender, receiver) = watch::channel(Log::default());
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|log| log.lines.push(line));
        }
        sender.send_modify(|log| log.closed = true);
    });
    receiver
}

async fn read(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    let _ = pipe.read_to_string(&mut text).await;
    text
}
