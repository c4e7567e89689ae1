//! The log of the server that a watchdog on the same host asks: its last error says why an answer is wrong or missing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_config::{Home, Label};
use sanctum_host::{Active, LogStart, last_error_line};

use crate::blocking::BlockingTask;
use crate::config::WatchdogConfig;

/// The time limit of reading the log.
const LIMIT: Duration = Duration::from_secs(10);

/// The log of a server. That of a standby is not read: its lines may have no times.
#[derive(Clone, Debug)]
pub struct ServerLog {
    home: Home,
    server: Label,
    reading: BlockingTask,
}

impl ServerLog {
    /// The log of the watched server; none for a watchdog on another host, and for one that does not ask a server.
    pub(crate) fn of(config: &WatchdogConfig) -> Option<Self> {
        let WatchdogConfig {
            fleet,
            home,
            name,
            watch,
            host,
            ..
        } = config;
        // The guardian has its own excerpt, and drift's findings are not in a server's log.
        let asks = matches!(watch.check(name).as_str(), "canary" | "parity");
        let server = fleet.watched_server(watch).filter(|_| asks)?;
        (fleet.host_of(server) == Some(host)).then(|| Self {
            home: home.clone(),
            server: server.clone(),
            reading: BlockingTask::new("reading the server's log"),
        })
    }

    /// The last error since `since`, as a sentence; empty if there is none.
    pub(crate) async fn last_error(&self, since: DateTime<Utc>) -> String {
        let Self { home, server, .. } = self.clone();
        let read = move || {
            let active = Active::read(&home.active()).unwrap_or_default();
            let start = LogStart {
                time: Some(since),
                offset: 0,
            };
            let serves = active.agent_for(&server) == &server;
            serves.then(|| last_error_line(&home.log(&server), start))?
        };
        match self.reading.run(LIMIT, read).await {
            Ok(Some(error)) => format!(". The last error in its log: {error}"),
            _ => String::new(),
        }
    }
}
