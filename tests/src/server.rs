//! A server that is ready, and the conditions that tests wait for.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::Deref;

use serde_json::{Value, json};

use crate::{Chunks, Ended, Http, Metrics, Process, within};

/// The id of the built-in model.
pub(crate) const BUILT_IN: &str = "sanctum-tiny";

/// A server that has logged that it is ready. Dereferences to its [`Process`].
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
    /// The id of the model that is served by default.
    pub const BUILT_IN: &str = BUILT_IN;

    /// Starts one on a free port, with additional arguments, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        let port = ["--port".into(), "0".into()];
        let args = port.into_iter().chain(args.into_iter().map(Into::into));
        Self::ready(Process::launch(args)).await
    }

    /// Waits until a started process is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn ready(process: Process) -> Self {
        let ready = process.logged("ready").await;
        let address = ready["address"].as_str().expect("it has an address");
        Self {
            http: Http::new(address),
            process,
        }
    }

    /// The address of its TLS listener.
    ///
    /// # Panics
    /// If it does not log one.
    pub async fn tls_address(&self) -> SocketAddr {
        let address = |fields: &Value| {
            let (_, address) = fields["address"].as_str()?.split_once("https://")?;
            address.parse().ok()
        };
        self.logs("the TLS listener", address).await
    }

    /// A client that sends any request.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// `GET /metrics`, parsed.
    pub async fn metrics(&self) -> Metrics {
        let page = self.http.get("/metrics").await;
        Metrics::parse(&page.text).unwrap_or_else(|line| panic!("/metrics has the line `{line}`"))
    }

    /// Requests `/health` until it satisfies `wanted`.
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

    /// Requests `/metrics` until it satisfies `wanted`.
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

    /// Starts a stream of exactly `tokens` tokens, which keeps a slot busy.
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

    /// Waits until the process has ended.
    pub async fn ended(self) -> Ended {
        self.process.ended().await
    }
}
