//! Conditions: an alert when one opens, another after each cooldown, and "recovered" when it closes.

use chrono::{DateTime, TimeDelta, Utc};

use super::{BUSY, MISSES, Watchdog};
use crate::age;
use crate::alert::{Alert, AlertText, ResolveRequest, Severity};
use crate::check::Notice;
use crate::error::WatchError;
use crate::state::{InterruptedAction, OpenCondition};

impl<C> Watchdog<C> {
    /// Raises what a check or an action reports.
    pub(super) fn notice(&mut self, notice: Notice, now: DateTime<Utc>) -> Result<(), WatchError> {
        match notice {
            Notice::Event { key, text } => {
                let id = format!("{}-{key}-{}", self.state.agent, in_id(now));
                self.raise(key, id, text, now)
            }
            Notice::Open { key, stage, text } => self.open(key, text, now, now, &[stage]),
            Notice::Closed { key, message } => self.close(key, &message, now),
        }
    }

    /// Prepares for the end of this process during an action.
    pub(super) fn expect_interruption(&mut self, notice: Notice) {
        if let Notice::Open { key, stage, text } = notice {
            let key = key.to_owned();
            let interrupted = InterruptedAction { key, stage, text };
            self.state.interrupted.push(interrupted);
        }
    }

    /// Opens the conditions of actions whose outcome was not reported.
    pub(super) fn raise_interrupted(&mut self, now: DateTime<Utc>) -> Result<(), WatchError> {
        for interrupted in std::mem::take(&mut self.state.interrupted) {
            let InterruptedAction { key, stage, text } = interrupted;
            self.open(&key, text, now, now, &[stage])?;
        }
        Ok(())
    }

    /// Opens a condition, or keeps it open: alerts at once, after each cooldown, and for a problem that is new.
    pub(super) fn open(
        &mut self,
        key: &str,
        text: AlertText,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        problems: &[String],
    ) -> Result<(), WatchError> {
        if self.is_quiet(now) {
            tracing::info!("not alerted about in a maintenance window: {}", text.title);
            return Ok(());
        }
        let text = text.escaped();
        let cooldown = TimeDelta::from_std(self.policy.cooldown).unwrap_or(TimeDelta::MAX);
        // The id follows from what is known before the alert is raised, so that a repetition after a crash is a duplicate.
        let first = format!("{}-{key}-{}", self.state.agent, in_id(since));
        let id = match self.state.open.get_mut(key) {
            Some(open) => {
                // An alert in the future was raised before the clock was set back.
                let is_over = now - open.alerted >= cooldown || open.alerted > now;
                if !is_over && problems.iter().all(|one| open.problems.contains(one)) {
                    return Ok(());
                }
                if is_over {
                    open.problems.clear();
                }
                open.problems.extend(problems.iter().cloned());
                open.alerted = now;
                open.alerts += 1;
                open.severity = Some(text.severity);
                format!("{}-{}", open.id, open.alerts)
            }
            None => {
                let open = OpenCondition {
                    id: first.clone(),
                    title: text.title.clone(),
                    severity: Some(text.severity),
                    is_wrong_answer: false,
                    since,
                    alerted: now,
                    alerts: 1,
                    notified: None,
                    problems: problems.iter().cloned().collect(),
                };
                self.state.open.insert(key.to_owned(), open);
                first
            }
        };
        self.raise(key, id, text, now)
    }

    /// Closes a condition and reports that; nothing if it was not open.
    pub(super) fn close(
        &mut self,
        key: &str,
        message: &str,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        if self.is_quiet(now) {
            return Ok(());
        }
        let Some(open) = self.state.open.remove(key) else {
            return Ok(());
        };
        let text = AlertText {
            severity: Severity::Info,
            title: format!("recovered: {}", open.title),
            body: format!("{message}; it had lasted {}", age(now - open.since)),
            next: String::new(),
        };
        self.raise(key, format!("{}-recovered", open.id), text, now)
    }

    /// Closes a condition because an operator asks for it. If it recurs, it opens and alerts again.
    pub(super) fn resolve(
        &mut self,
        request: &ResolveRequest,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        let ResolveRequest { id, by, why, .. } = request;
        let is_it = |(_, open): &(&String, &OpenCondition)| open.id == *id;
        let Some(key) = self
            .state
            .open
            .iter()
            .find(is_it)
            .map(|(key, _)| key.clone())
        else {
            tracing::info!(
                alert = id,
                "{by} asked to close this alert, and it is not open"
            );
            return Ok(());
        };
        let Some(open) = self.state.open.remove(&key) else {
            return Ok(());
        };
        // Counted from here: the condition recurs when its limit is reached again.
        match key.as_str() {
            MISSES => {
                self.state.misses = 0;
                self.state.missing_since = None;
            }
            BUSY => self.state.busy_since = None,
            _ => {}
        }
        let why = match why.is_empty() {
            true => "no reason was given".to_owned(),
            false => why.to_string(),
        };
        let lasted = age(now - open.since);
        let text = AlertText {
            severity: Severity::Info,
            title: format!("closed by hand: {}", open.title),
            body: format!(
                "{by} closed it ({why}); it had lasted {lasted}. If it recurs, it alerts again"
            ),
            next: String::new(),
        };
        self.raise(&key, format!("{}-resolved", open.id), text, now)
    }

    /// Whether a maintenance window is open: conditions stay as they are until it ends.
    fn is_quiet(&self, now: DateTime<Utc>) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }

    fn raise(
        &mut self,
        key: &str,
        id: String,
        text: AlertText,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        let AlertText {
            severity,
            title,
            body,
            next,
        } = text;
        let body = match next.is_empty() {
            true => body,
            false => format!("{body}\n{next}"),
        };
        self.outbox.put(Alert {
            id,
            condition: format!("{}/{key}", self.state.agent),
            severity,
            source: self.state.agent.to_string(),
            host: self.host.to_string(),
            title,
            body,
            time: now,
        })?;
        Ok(())
    }
}

/// A time in an alert's id.
fn in_id(time: DateTime<Utc>) -> impl std::fmt::Display {
    time.format("%Y%m%dT%H%M%S%.3fZ")
}
