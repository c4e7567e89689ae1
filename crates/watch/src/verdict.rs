//! A check's verdict.

use std::fmt;
use std::time::Duration;

use sanctum_config::UntrustedText;
use serde::{Deserialize, Serialize};

/// What the watchdog counts and alerts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// The check passed.
    Ok,
    /// The check failed. Enough misses in a row alert.
    Miss,
    /// No answer, but work that moves: counted separately, and alerted about only after hours.
    Busy,
    /// This host cannot reach its reference address either. Never alerted about.
    Offline,
    /// The target was stopped on purpose and gives no answer. Neither counted nor alerted about.
    Stopped,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Verdict {
    /// What the watchdog counts and alerts by.
    pub kind: VerdictKind,
    /// What was observed and where, in a sentence.
    pub message: String,
    /// The next command to run; empty if there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// How long the answer took, if there was one.
    #[serde(default, with = "millis", rename = "latency_ms")]
    pub latency: Option<Duration>,
    /// What a miss says about its subject.
    #[serde(skip)]
    pub miss: MissCause,
}

/// What a miss says about its subject, and so what its alert is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissCause {
    /// The subject fails the check.
    #[default]
    Failed,
    /// The subject gave no answer, and nothing is known about what it would have answered. Its guardian reports that too:
    /// see [`crate::FirstCause`].
    NoAnswer,
    /// Nothing is known about the subject: this watchdog itself cannot check, for a reason on its own host.
    CannotCheck,
}

impl Verdict {
    /// A verdict without latency or next command.
    pub fn new(kind: VerdictKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            next: String::new(),
            latency: None,
            miss: MissCause::default(),
        }
    }

    /// A miss of this cause.
    pub fn miss(cause: MissCause, message: impl Into<String>) -> Self {
        Self {
            miss: cause,
            ..Self::new(VerdictKind::Miss, message)
        }
    }

    /// With the next command to run.
    pub fn next(self, next: impl Into<String>) -> Self {
        Self {
            next: next.into(),
            ..self
        }
    }

    /// With the time that the answer took.
    pub fn after(self, latency: Duration) -> Self {
        Self {
            latency: Some(latency),
            ..self
        }
    }

    /// The same with escaped texts: servers, logs and commands may have written parts of them.
    pub(crate) fn escaped(self) -> Self {
        Self {
            message: UntrustedText::new(&self.message).into(),
            next: UntrustedText::new(&self.next).into(),
            ..self
        }
    }

    /// Writes it to the log.
    pub(crate) fn log(&self) {
        let latency_ms = self.latency.map(|latency| latency.as_millis() as u64);
        let Self {
            kind,
            message,
            next,
            ..
        } = self;
        match kind {
            VerdictKind::Miss => tracing::warn!(%kind, latency_ms, next, "{message}"),
            _ => tracing::info!(%kind, latency_ms, "{message}"),
        }
    }
}

impl fmt::Display for VerdictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Miss => "miss",
            Self::Busy => "busy",
            Self::Offline => "offline",
            Self::Stopped => "stopped",
        })
    }
}

/// A duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        latency: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        latency
            .map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX))
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
