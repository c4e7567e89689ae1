//! What a human is told, and by which ways.

mod channel;
mod desktop;
mod outbox;
mod spool;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use channel::{BadChannel, Channel, DeliveryError};
pub use outbox::{Outbox, OutboxError};
pub use spool::{Undelivered, undelivered};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good news.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// One message to a human. This is also what Force Flow is sent, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Alert {
    /// The same however often it is delivered: delivery is at least once, and the receiver drops what it has.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// The watchdog that tells.
    pub source: String,
    /// The host that it tells from.
    pub host: String,
    /// One line.
    pub title: String,
    /// What happened and where; the last line is the next command to type.
    pub body: String,
    /// When it was found out, in UTC.
    pub time: DateTime<Utc>,
}

impl Alert {
    /// Writes it to the log: the channel that is always there.
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
