//! Other servers, asked the same.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sanctum_tests::Http;

/// How long a server may take to load its model.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server that is not started yet.
pub(crate) struct PeerServer {
    name: &'static str,
    command: Command,
    port: u16,
    /// A path that it answers once it is ready.
    ready: &'static str,
}

/// One that is ready; it ends when this is dropped.
pub(crate) struct RunningPeer {
    pub(crate) name: &'static str,
    pub(crate) http: Http,
    child: Child,
}

impl PeerServer {
    /// llama.cpp's server with a slot for each client, each with room for a conversation.
    pub(crate) fn llama(program: &Path, model: &Path, slots: usize, words: usize) -> Self {
        let port = free_port();
        let context = slots * (2 * words + 512);
        let mut command = Command::new(program);
        command.arg("--model").arg(model);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--parallel", &slots.to_string()]);
        command.args(["--ctx-size", &context.to_string(), "--jinja"]);
        Self {
            name: "llama.cpp",
            command,
            port,
            ready: "/health",
        }
    }

    /// mlx_lm's server.
    pub(crate) fn mlx_lm(program: &Path, model: &Path) -> Self {
        let port = free_port();
        let mut command = Command::new(program);
        command.arg("--model").arg(model);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        Self {
            name: "mlx_lm",
            command,
            port,
            ready: "/v1/models",
        }
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start, or not become ready in time.
    pub(crate) async fn started(mut self) -> RunningPeer {
        eprintln!("starting {}", self.name);
        let command = self.command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        let mut started = RunningPeer {
            name: self.name,
            http: Http::new(&format!("http://127.0.0.1:{}", self.port)),
            child: child.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name)),
        };
        let begun = Instant::now();
        while !started.http.succeeds(self.ready).await {
            if let Ok(Some(status)) = started.child.try_wait() {
                panic!("{} ended before it was ready: {status}", self.name);
            }
            assert!(begun.elapsed() < PATIENCE, "{} is not ready", self.name);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        started
    }
}

impl Drop for RunningPeer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
