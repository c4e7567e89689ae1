//! What one check found out, and what a check is.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_config::UntrustedText;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::alert::Severity;

/// The one word that the loop decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// As it should be.
    Ok,
    /// Not as it should be. Enough of them in a row alert.
    Miss,
    /// No answer, but work that moves: counted apart, and told of only after hours.
    Busy,
    /// This host cannot reach its reference address either. Never told of.
    Offline,
}

/// What one check found out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Verdict {
    /// The word.
    pub kind: Kind,
    /// What was seen and where, in a sentence.
    pub said: String,
    /// The next command to type; empty where there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// How long the answer took, where there was one.
    #[serde(default, with = "millis", rename = "latency_ms")]
    pub latency: Option<Duration>,
}

/// Something to tell a human about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// What happened and where.
    pub body: String,
    /// The next command to type.
    pub next: String,
}

/// What a check reports besides its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It happened: one alert.
    Event {
        /// What happened, in one of the check's own words: two events of one round are two alerts.
        key: &'static str,
        /// The alert.
        note: Note,
    },
    /// A condition that is open: one alert, and another one after each cooldown until it is over.
    Holds {
        /// The condition, in one of the check's own words.
        key: &'static str,
        /// How far it has come, always in the same words. A stage that is new alerts at once, under the same id.
        stage: String,
        /// The alert.
        note: Note,
    },
    /// The condition is over: "recovered" is sent if it was open.
    Over {
        /// The condition.
        key: &'static str,
        /// What ended it, in a sentence.
        said: String,
    },
}

/// A check's whole result.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What the loop counts.
    pub verdict: Verdict,
    /// What else is to be told.
    pub notices: Vec<Notice>,
    /// What is wrong, thing by thing, where a miss has several: each always in the same words. A new one among them is
    /// told of at once, though the cooldown of the others lasts.
    pub wrongs: Vec<String>,
    /// What a miss says about its subject.
    pub miss: Miss,
    /// More for `--once`: a JSON object whose fields join the verdict's, and lines for people.
    pub details: Details,
}

/// What a miss says about its subject, and so what its alert is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Miss {
    /// It fails the check.
    #[default]
    Failed,
    /// It gave no answer, and nothing is known about what it would have answered. Its guardian sees that too: see
    /// [`crate::FirstCause`].
    NoAnswer,
    /// Nothing: this watchdog itself cannot check, for a reason that lies on its own host.
    CannotCheck,
}

/// What a check shows to whoever ran it by hand, besides its verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// For machines: an object, or null.
    pub fields: Value,
    /// For people.
    pub lines: Vec<String>,
}

/// The circumstances of one check.
#[derive(Debug)]
pub struct Round {
    /// The wall clock.
    pub now: DateTime<Utc>,
    /// What the check itself remembers from round to round, across restarts; null at first.
    pub memory: Value,
}

/// What a watchdog looks at. Its crate holds this and nothing else; the rest is [`crate::Watchdog`]'s.
pub trait Check {
    /// Looks once, and bounds its own waiting. It changes nothing but `round.memory`.
    fn check(&mut self, round: &mut Round) -> impl Future<Output = Report>;

    /// Does what the last [`Check::check`] found necessary. Called after its memory has been written to disk, and not
    /// at all while a maintenance lease holds or for `--once`.
    fn act(&mut self, _round: &mut Round) -> impl Future<Output = Vec<Notice>> {
        std::future::ready(Vec::new())
    }

    /// What is watched, for titles: `server on mini`.
    fn subject(&self) -> String;

    /// The alert's severity and title where misses in a row say that there was no answer.
    fn unanswered(&self) -> (Severity, String) {
        (
            Severity::Critical,
            format!("{} fails its check", self.subject()),
        )
    }

    /// What its subject has been, where the verdict is busy for hours.
    fn busy(&self) -> &'static str {
        "has been busy"
    }

    /// Whether misses in a row alert by themselves. A check that acts tells of what it did instead.
    fn alerts_on_misses(&self) -> bool {
        true
    }

    /// The report of a check that took longer than [`Check::limit`].
    fn timed_out(&mut self, said: String) -> Report {
        Verdict::new(Kind::Miss, said).into()
    }

    /// After this time a check counts as hung and its round as a miss.
    fn limit(&self) -> Duration {
        Duration::from_secs(15 * 60)
    }
}

impl Verdict {
    /// A verdict without latency or advice.
    pub fn new(kind: Kind, said: impl Into<String>) -> Self {
        Self {
            kind,
            said: said.into(),
            next: String::new(),
            latency: None,
        }
    }

    /// With the next command to type.
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
}

impl Note {
    /// The same with texts that are safe to show: servers, logs and commands may have had a say in them.
    pub(crate) fn safe(self) -> Self {
        Self {
            title: UntrustedText::new(&self.title).into(),
            body: UntrustedText::multiline(&self.body).into(),
            next: UntrustedText::new(&self.next).into(),
            ..self
        }
    }
}

impl Report {
    /// The same with texts that are safe to show. `details.fields` are for machines and stay; see
    /// [`sanctum_config::terminal_json`]. Notices become alerts, which are made safe where they are raised.
    pub(crate) fn safe(mut self) -> Self {
        let line = |text: &String| UntrustedText::new(text).into();
        self.verdict.said = line(&self.verdict.said);
        self.verdict.next = line(&self.verdict.next);
        self.wrongs = self.wrongs.iter().map(line).collect();
        let lines = self.details.lines.iter();
        self.details.lines = lines
            .map(|text| UntrustedText::multiline(text).into())
            .collect();
        self
    }
}

impl From<Verdict> for Report {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            notices: Vec::new(),
            wrongs: Vec::new(),
            miss: Miss::default(),
            details: Details::default(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Miss => "miss",
            Self::Busy => "busy",
            Self::Offline => "offline",
        })
    }
}

/// A duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(latency: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        latency
            .map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX))
            .serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
