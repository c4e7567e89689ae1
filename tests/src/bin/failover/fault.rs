//! The faults, with real processes.

use std::net::SocketAddr;
use std::time::Duration;

use sanctum_tests::{BlackHole, Http, Process, Server, Signal};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// What happens to the first upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamFault {
    /// Nothing, for comparison.
    None,
    /// SIGKILL.
    Killed,
    /// SIGSTOP.
    Frozen,
    /// It is killed and started again, and is loading its model: 503.
    Loading,
    /// All slots and the whole queue are taken: 429.
    Full,
    /// From the start, packets to its address are lost.
    BlackHoled,
}

/// The first upstream.
pub(crate) enum FirstUpstream {
    /// A server, which may be killed or frozen.
    Running(Server),
    /// A server that is loading, and the folder of the file that keeps it from ending that.
    Loading { _server: Process, _ice: TempDir },
    /// A server, and the clients that take its slots and its queue.
    Full {
        /// The server.
        server: Server,
        _clients: JoinSet<()>,
    },
    /// An address without a server.
    BlackHoled(BlackHole),
}

/// Slots and places in the queue of the first upstream.
const SLOTS: usize = 4;

impl UpstreamFault {
    /// Those that this build can make.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let all = [
            Self::None,
            Self::Killed,
            Self::Frozen,
            Self::Loading,
            Self::Full,
            Self::BlackHoled,
        ];
        // A release build cannot be kept from loading.
        all.into_iter()
            .filter(|fault| cfg!(debug_assertions) || *fault != Self::Loading)
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Killed => "kill -9",
            Self::Frozen => "SIGSTOP",
            Self::Loading => "503, loading",
            Self::Full => "429, queue full",
            Self::BlackHoled => "address black-holed",
        }
    }

    /// Starts the first upstream.
    pub(crate) async fn first_upstream(self) -> FirstUpstream {
        match self {
            Self::BlackHoled => FirstUpstream::BlackHoled(
                BlackHole::open().expect("a port of loopback can be occupied"),
            ),
            _ => {
                let places = SLOTS.to_string();
                let limits = ["--max-slots", &places, "--queue", &places, "--threads", "1"];
                FirstUpstream::Running(Server::start(limits).await)
            }
        }
    }

    /// Makes it fail.
    pub(crate) async fn strike(self, first: FirstUpstream) -> FirstUpstream {
        let FirstUpstream::Running(server) = first else {
            return first;
        };
        match self {
            Self::None | Self::BlackHoled => FirstUpstream::Running(server),
            Self::Killed => {
                server.signal(Signal::KILL);
                FirstUpstream::Running(server)
            }
            Self::Frozen => {
                server.signal(Signal::STOP);
                FirstUpstream::Running(server)
            }
            Self::Full => {
                let clients = (0..2 * SLOTS).map(|_| occupy(server.http().afresh()));
                let clients: JoinSet<()> = clients.collect();
                let full = |health: &serde_json::Value| health["queued"] == SLOTS;
                server.health_shows("a full queue", full).await;
                FirstUpstream::Full {
                    server,
                    _clients: clients,
                }
            }
            Self::Loading => {
                let port = address(&server).port().to_string();
                server.signal(Signal::KILL);
                server.ended().await;
                let folder = TempDir::new().expect("a temporary folder");
                let file = folder.path().join("ice");
                std::fs::write(&file, "").expect("it is ours");
                let env = [("SANCTUM_FREEZE_LOAD", file.to_str().unwrap_or_default())];
                let process = Process::launch_with(["--port", &port, "--threads", "1"], &env);
                FirstUpstream::Loading {
                    _server: process,
                    _ice: folder,
                }
            }
        }
    }
}

impl FirstUpstream {
    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Running(server) | Self::Full { server, .. } => address(server),
            Self::BlackHoled(hole) => hole.address(),
            Self::Loading { .. } => unreachable!("it is asked for its address before it fails"),
        }
    }
}

fn address(server: &Server) -> SocketAddr {
    let (_, address) = server.http().base().split_once("://").expect("it is a URL");
    address.parse().expect("it ends with an address")
}

/// Takes a slot, or a place in the queue, whenever there is one.
async fn occupy(http: Http) {
    let endless =
        json!({ "prompt": "Tell me.", "max_tokens": 1900, "ignore_eos": true, "stream": true });
    loop {
        match http.try_stream("/v1/completions", &endless).await {
            Some(mut stream) => while stream.next().await.is_some() {},
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
