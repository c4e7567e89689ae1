//! What a check is: it returns its verdict and its actions together, and the watchdog executes exactly those.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_config::UntrustedText;
use serde_json::Value;

use crate::alert::{AlertText, Severity};
use crate::verdict::{Verdict, VerdictKind};

/// What a watchdog checks. Its crate has this and nothing else; the rest is [`crate::Watchdog`]'s.
pub trait Check {
    /// What this check can do about its findings; [`std::convert::Infallible`] if it only alerts.
    type Action;

    /// Runs one check, within [`Check::limit`]. It changes nothing outside this process: it may be dropped at any await, and
    /// its report be discarded.
    fn check(&mut self, round: &Round<'_>) -> impl Future<Output = CheckReport<Self::Action>>;

    /// Executes one action of a report; returns its outcome. The action says everything: nothing is observed again. Not
    /// called while a maintenance lease is held or for `--once`.
    fn execute(&mut self, action: Self::Action) -> impl Future<Output = Vec<Notice>>;

    /// The subject in alert titles: `server on mini`.
    fn subject(&self) -> String;

    /// The alert's severity and title if misses in a row mean that there was no answer.
    fn unanswered(&self) -> (Severity, String) {
        (
            Severity::Critical,
            format!("{} fails its check", self.subject()),
        )
    }

    /// The predicate of the subject in the alert about hours of busy verdicts.
    fn busy(&self) -> &'static str {
        "has been busy"
    }

    /// Whether misses in a row alert by themselves. A check that acts alerts about its actions instead.
    fn alerts_on_misses(&self) -> bool {
        true
    }

    /// The report of a check that took longer than [`Check::limit`].
    fn timed_out(&self, message: String) -> CheckReport<Self::Action> {
        Verdict::new(VerdictKind::Miss, message).into()
    }

    /// The time limit of a check: beyond it the check is dropped and its round is a miss.
    fn limit(&self) -> Duration {
        Duration::from_secs(15 * 60)
    }
}

/// The circumstances of one check.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// The wall clock.
    pub now: DateTime<Utc>,
    /// What the check remembered in its last report, across restarts; null at first.
    pub memory: &'a Value,
    /// Misses in a row before this round.
    pub misses: u32,
}

/// Everything that follows from one check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckReport<A> {
    /// What the watchdog counts.
    pub verdict: Verdict,
    /// Misses in a row, this round included, if the check counts them in its own way. By default ok is 0, a miss is one
    /// more, and busy and offline change nothing.
    pub misses: Option<u32>,
    /// What else to alert about.
    pub notices: Vec<Notice>,
    /// The problems of a miss, if it has several: each always in the same words. A new one among them alerts at once,
    /// even during the cooldown of the others.
    pub problems: Vec<String>,
    /// What to do, in this order.
    pub actions: Vec<PlannedAction<A>>,
    /// What to remember until the next round; none to keep what was remembered.
    pub memory: Option<Value>,
    /// More output for `--once`.
    pub details: Details,
}

/// An action, and what to report if this process ends before the action's outcome is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAction<A> {
    /// The action.
    pub action: A,
    /// Written to disk before the action begins, and raised by the next process if the outcome was not reported.
    pub if_interrupted: Option<Notice>,
}

/// An alert besides those about misses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something happened: one alert.
    Event {
        /// The event's name: two events of one round are two alerts.
        key: &'static str,
        /// The alert.
        text: AlertText,
    },
    /// A condition is open: one alert, and another one after each cooldown until it is closed.
    Open {
        /// The condition's name.
        key: &'static str,
        /// How far the condition has progressed, always in the same words. A new stage alerts at once, under the same id.
        stage: String,
        /// The alert.
        text: AlertText,
    },
    /// A condition is closed: "recovered" is sent if it was open.
    Closed {
        /// The condition's name.
        key: &'static str,
        /// What closed it, in a sentence.
        message: String,
    },
}

/// The output of `--once` besides the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// An object whose fields join the verdict's JSON, or null.
    pub fields: Value,
    /// Lines of text.
    pub lines: Vec<String>,
}

impl<A> CheckReport<A> {
    /// The same with escaped texts. `details.fields` are escaped when they are printed, see
    /// [`sanctum_config::terminal_json`], and notices when they are raised.
    pub(crate) fn escaped(mut self) -> Self {
        self.verdict = self.verdict.escaped();
        for problem in &mut self.problems {
            *problem = UntrustedText::new(problem).into();
        }
        for line in &mut self.details.lines {
            *line = UntrustedText::multiline(line).into();
        }
        self
    }
}

impl<A> From<Verdict> for CheckReport<A> {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            misses: None,
            notices: Vec::new(),
            problems: Vec::new(),
            actions: Vec::new(),
            memory: None,
            details: Details::default(),
        }
    }
}
