//! A server that is ready, and what a test waits for while it works.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::Deref;

use serde_json::{Value, json};

use crate::{Chunks, Ended, Http, Metrics, Process, within};

/// What requests call the built-in model.
pub const BUILT_IN: &str = "sanctum-tiny";

/// A server that has said that it is ready. Everything that a [`Process`] can do, it can.
pub struct Server {
    process: Process,
    http: Http,
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Server {
    /// The id of the model that is served unless another is named.
    pub const BUILT_IN: &str = BUILT_IN;

    /// Starts one on a free port, with further arguments, and waits until it serves.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn start<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        let port = ["--port".into(), "0".into()];
        let args = port.into_iter().chain(args.into_iter().map(Into::into));
        Self::ready(Process::launch(args)).await
    }

    /// Waits until a process that was started serves.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn ready(process: Process) -> Self {
        let ready = process.logged("ready").await;
        let address = ready["address"].as_str().expect("it says where it is");
        Self {
            http: Http::new(address),
            process,
        }
    }

    /// Where it listens for TLS.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn tls_address(&self) -> SocketAddr {
        let address = |fields: &Value| {
            let (_, address) = fields["address"].as_str()?.split_once("https://")?;
            address.parse().ok()
        };
        self.logs("the TLS listener", address).await
    }

    /// A client that sends and shows everything.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// `GET /metrics`, parsed.
    pub async fn metrics(&self) -> Metrics {
        let page = self.http.get("/metrics").await;
        Metrics::parse(&page.text).unwrap_or_else(|line| panic!("/metrics has the line `{line}`"))
    }

    /// Asks for `/health` until it says what is waited for.
    pub async fn health_shows(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        within(what, async {
            loop {
                let health = self.http.get("/health").await.json();
                if wanted(&health) {
                    return health;
                }
            }
        })
        .await
    }

    /// Asks for `/metrics` until it says what is waited for.
    pub async fn metrics_show(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        within(what, async {
            loop {
                let metrics = self.metrics().await;
                if wanted(&metrics) {
                    return metrics;
                }
            }
        })
        .await
    }

    /// Begins to stream `tokens` tokens, whatever the model thinks of it: work that keeps a slot busy.
    pub async fn stream_of(&self, tokens: usize) -> Chunks {
        let body = json!({
            "prompt": "Count from 1 to 99.",
            "temperature": 0,
            "max_tokens": tokens,
            "ignore_eos": true,
            "stream": true,
        });
        self.http.stream("/v1/completions", &body).await
    }

    /// Waits for the process's end.
    pub async fn ended(self) -> Ended {
        self.process.ended().await
    }
}
