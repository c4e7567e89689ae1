//! Alerts, and the channels that deliver them.

mod channel;
mod desktop;
mod history;
mod mutes;
mod outbox;
mod resolve;
mod spool;

use std::fmt;

use chrono::{DateTime, Utc};
use sanctum_config::UntrustedText;
use serde::{Deserialize, Serialize};

pub(crate) use channel::Endpoint;
pub use channel::{BadChannel, Channel, DeliveryError, Email, Ntfy, Webhook};
pub use history::{History, PastAlert};
pub use mutes::{Mute, Mutes, MutesError};
pub use outbox::Outbox;
pub use resolve::ResolveRequest;
pub use spool::{OutboxError, Undelivered, undelivered};

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    Info,
    /// Needs attention today.
    Warning,
    /// Needs attention now.
    Critical,
}

impl Severity {
    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
impl Alert {
    /// One with short texts.
    pub(crate) fn example(id: &str) -> Self {
        Self {
            id: id.into(),
            condition: "canary/misses".into(),
            severity: Severity::Info,
            source: "canary".into(),
            host: "mini".into(),
            title: "title".into(),
            body: "body".into(),
            time: chrono::DateTime::UNIX_EPOCH,
        }
    }
}

/// What an alert says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AlertText {
    /// How urgent it is.
    pub severity: Severity,
    /// One line: what, where.
    pub title: String,
    /// What happened.
    pub body: String,
    /// The next command to run; empty if there is nothing to do.
    pub next: String,
}

/// An alert. This is also the JSON that an HTTP channel receives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Alert {
    /// The same for every delivery: delivery is at least once, and the receiver drops duplicates.
    pub id: String,
    /// What it is about, across recoveries: the watchdog and its condition, such as `canary/misses`.
    #[serde(default)]
    pub condition: String,
    /// How urgent it is.
    pub severity: Severity,
    /// The watchdog that raised it.
    pub source: String,
    /// The host that the watchdog runs on.
    pub host: String,
    /// One line.
    pub title: String,
    /// What happened and where; the last line is the next command to run.
    pub body: String,
    /// When it was raised, in UTC.
    pub time: DateTime<Utc>,
}

impl AlertText {
    /// The same with escaped texts: servers, logs and commands may have written parts of them.
    pub(crate) fn escaped(self) -> Self {
        Self {
            title: UntrustedText::new(&self.title).into(),
            body: UntrustedText::multiline(&self.body).into(),
            next: UntrustedText::new(&self.next).into(),
            ..self
        }
    }
}

impl Alert {
    /// Writes it to the log, which is a channel of every watchdog.
    pub(crate) fn log(&self) {
        let Self {
            id, title, body, ..
        } = self;
        match self.severity {
            Severity::Info => tracing::info!(alert = id, body, "{title}"),
            Severity::Warning => tracing::warn!(alert = id, body, "{title}"),
            Severity::Critical => tracing::error!(alert = id, body, "{title}"),
        }
    }
}
