//! The loop: wait until a check is due, check, count, tell, act, remember.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::Label;
use sanctum_host::lease::{self, LeaseStatus};
use tokio::time::Instant;

use crate::age;
use crate::alert::{Alert, Outbox, OutboxError, Severity};
use crate::first_cause::FirstCause;
use crate::policy::Policy;
use crate::schedule::Schedule;
use crate::state::{Open, PULSE, State, StateError};
use crate::verdict::{Check, Kind, Miss, Note, Notice, Report, Round, Verdict};

/// The word under which misses in a row are told of.
const MISSES: &str = "misses";
/// The word under which a target that is busy for hours is told of.
const BUSY: &str = "busy";
/// The word under which it is told that nothing can be remembered.
const MEMORY: &str = "state";
/// The word under which an expired maintenance lease is told of.
const LEASE: &str = "lease";

/// A check, and what turns it into a watchdog.
#[derive(Debug)]
pub struct Watchdog<C> {
    /// What is looked at.
    pub check: C,
    /// The host that this process runs on.
    pub host: Label,
    /// How patient it is.
    pub policy: Policy,
    /// When it looks.
    pub schedule: Schedule,
    /// What it remembers.
    pub state: State,
    /// Where that is kept.
    pub state_file: PathBuf,
    /// The maintenance lease.
    pub lease_file: PathBuf,
    /// Who reports that the watched server gives no answer, where this host has a guardian of it.
    pub first_cause: FirstCause,
    /// Alerts on their way.
    pub outbox: Outbox,
}

/// Why a watchdog cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It would forget.
    #[error(transparent)]
    State(#[from] StateError),
    /// It would lose alerts.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl<C: Check> Watchdog<C> {
    /// Watches until `stop` is done.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), WatchError> {
        self.watch(stop).await?;
        // A delivery that was interrupted may have succeeded on one of its channels.
        match self.note_accepted(Utc::now()) {
            true => Ok(self.state.write(&self.state_file)?),
            false => Ok(()),
        }
    }

    async fn watch(&mut self, stop: impl Future<Output = ()>) -> Result<(), WatchError> {
        let mut stop = std::pin::pin!(stop);
        let mut since = Utc::now();
        loop {
            let now = Utc::now();
            // The clock may have been set back meanwhile.
            since = since.min(now);
            let before = self.state.checked;
            let mut held_off = false;
            if self.schedule.due(before, since, now) <= now {
                tokio::select! {
                    done = self.round(now) => done?,
                    () = &mut stop => return Ok(()),
                }
                held_off = self.state.checked == before;
            }
            let retry = tokio::select! {
                retry = self.outbox.deliver() => retry?,
                () = &mut stop => return Ok(()),
            };
            let now = Utc::now();
            self.note_accepted(now);
            let due = match held_off {
                true => now + self.schedule.soon(),
                false => self.schedule.due(self.state.checked, since, now),
            };
            self.state.heartbeat = now;
            self.state.due = Some(due);
            self.remember(now)?;
            let pause = (due - now).clamp(TimeDelta::zero(), PULSE);
            let wake = Instant::now() + pause.to_std().unwrap_or_default();
            let wake = retry.map_or(wake, |retry| wake.min(retry));
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                () = &mut stop => return Ok(()),
            }
        }
    }

    /// Checks once and does what follows from it. Under a maintenance lease it does not, and the check stays due: what a
    /// deployment has left behind is looked at when it ends, not an hour later.
    ///
    /// # Errors
    /// As [`Watchdog::run`].
    pub async fn round(&mut self, now: DateTime<Utc>) -> Result<(), WatchError> {
        if self.is_held_off(now)? {
            return Ok(());
        }
        let mut round = Round {
            now,
            // A copy: a stop during the check drops it.
            memory: self.state.memory.clone(),
        };
        let report = look(&mut self.check, &mut round).await;
        // A deployment that has begun meanwhile explains whatever was seen: nothing of it is remembered, and the check
        // stays due.
        if self.is_held_off(now)? {
            return Ok(());
        }
        self.state.memory.clone_from(&round.memory);
        self.settle(report, now)?;
        self.remember(now)?;
        // A deployment may have begun meanwhile.
        if self.is_held_off(now)? {
            return Ok(());
        }
        let notices = self.check.act(&mut round).await;
        self.state.memory = round.memory;
        for notice in notices {
            self.notice(notice, now)?;
        }
        self.remember(now)
    }

    /// Notes which conditions a human was notified of; whether there was any.
    fn note_accepted(&mut self, now: DateTime<Utc>) -> bool {
        let accepted = self.outbox.take_accepted();
        for id in &accepted {
            self.state.accepted(id, now);
        }
        !accepted.is_empty()
    }

    /// Writes down what is known. Where that cannot be done (a full disk), it is told, and watching goes on: what is
    /// lost is what a restart would have remembered.
    fn remember(&mut self, now: DateTime<Utc>) -> Result<(), WatchError> {
        match self.state.write(&self.state_file) {
            Ok(()) => {
                let fine = Verdict::new(Kind::Ok, "it can be written again");
                self.over(MEMORY, &fine, now)
            }
            Err(error) => {
                let agent = &self.state.agent;
                let note = Note {
                    severity: Severity::Warning,
                    title: format!("{agent} on {} cannot remember", self.host),
                    body: format!("{error}; it watches on, and would begin anew after a restart"),
                    next: "df -h ~".into(),
                };
                self.holds(MEMORY, note, now, now)
            }
        }
    }

    /// Counts a verdict, and tells what is to be told.
    fn settle(&mut self, report: Report, now: DateTime<Utc>) -> Result<(), WatchError> {
        let Report {
            verdict,
            notices,
            wrongs,
            miss,
            ..
        } = report;
        log(&verdict);
        // A host that slept has not seen that its target was busy all the while.
        if self.state.overdue(&self.schedule, now).is_some() {
            self.state.busy_since = None;
        }
        self.state.checked = Some(now);
        self.state.heartbeat = now;
        self.state.count(&verdict, now);
        match verdict.kind {
            Kind::Ok => {
                self.state.misses = 0;
                self.state.missing_since = None;
                self.state.busy_since = None;
                self.over(MISSES, &verdict, now)?;
                self.over(BUSY, &verdict, now)?;
            }
            Kind::Miss => {
                self.state.misses += 1;
                let since = *self.state.missing_since.get_or_insert(now);
                let due = self.state.misses >= self.policy.misses && self.check.alerts_on_misses();
                if due && miss == Miss::NoAnswer && self.is_reported(now) {
                    tracing::info!(
                        "the guardian of this server reports that it gives no answer; one cause is one alert"
                    );
                } else if due {
                    let subject = self.check.subject();
                    let (severity, title) = match miss {
                        Miss::Failed => (Severity::Critical, format!("{subject} fails its check")),
                        Miss::NoAnswer => self.check.unanswered(),
                        Miss::CannotCheck => {
                            let Self { state, host, .. } = self;
                            let title = format!("{} on {host} cannot check {subject}", state.agent);
                            (Severity::Critical, title)
                        }
                    };
                    let note = Note {
                        severity,
                        title,
                        body: format!(
                            "{} ({} in a row since {})",
                            verdict.said,
                            match self.state.misses {
                                1 => "one miss".to_owned(),
                                misses => format!("{misses} misses"),
                            },
                            since.format("%Y-%m-%d %H:%M:%S UTC")
                        ),
                        next: verdict.next.clone(),
                    };
                    self.holds_with(MISSES, note, since, now, &wrongs)?;
                }
            }
            Kind::Busy => {
                let since = *self.state.busy_since.get_or_insert(now);
                let long = (now - since).to_std().unwrap_or_default() >= self.policy.busy_for;
                if long {
                    let note = Note {
                        severity: Severity::Warning,
                        title: format!("{} {} for hours", self.check.subject(), self.check.busy()),
                        body: format!(
                            "no check was answered since {}: {}",
                            since.format("%H:%M UTC"),
                            verdict.said
                        ),
                        next: verdict.next.clone(),
                    };
                    self.holds(BUSY, note, since, now)?;
                }
            }
            // Nobody knows what it was meanwhile.
            Kind::Offline => self.state.busy_since = None,
        }
        self.state.last = Some(verdict);
        for notice in notices {
            self.notice(notice, now)?;
        }
        Ok(())
    }

    /// Whether somebody works on this host. A lease that its holder never gave back is told of once.
    fn is_held_off(&mut self, now: DateTime<Utc>) -> Result<bool, WatchError> {
        let standing = match LeaseStatus::read(&self.lease_file, now) {
            Ok(standing) => standing,
            // Who cannot tell whether somebody works here had better watch than be silent for ever.
            Err(error) => {
                let note = Note {
                    severity: Severity::Warning,
                    title: format!("the maintenance lease on {} cannot be read", self.host),
                    body: format!("{error}; watching goes on as if nobody held it"),
                    next: "sanctum-launchd verify".into(),
                };
                self.holds(LEASE, note, now, now)?;
                return Ok(false);
            }
        };
        match standing {
            LeaseStatus::Free => {
                let fine = Verdict::new(Kind::Ok, "the lease was given back");
                self.over(LEASE, &fine, now)?;
                Ok(false)
            }
            LeaseStatus::Held(lease) => {
                let until = lease.expires.format("%H:%M:%S UTC");
                tracing::info!(
                    "holding off: `{}` works on this host until {until} at the latest: {}",
                    lease.owner,
                    lease.reason
                );
                Ok(true)
            }
            LeaseStatus::Expired(lease) => {
                let known = self.state.open.contains_key(LEASE);
                // Twice is better than not at all.
                let tells = || lease::claim_alert(&self.lease_file, &lease, &self.state.agent);
                if known || tells().unwrap_or(true) {
                    let note = Note {
                        severity: Severity::Warning,
                        title: format!("a deployment on {} has not come to its end", self.host),
                        body: format!(
                            "`{}` (process {}) took the maintenance lease at {} for \"{}\" and never gave it back; \
                             watching goes on",
                            lease.owner,
                            lease.pid,
                            lease.taken.format("%Y-%m-%d %H:%M:%S UTC"),
                            lease.reason
                        ),
                        next: "sanctum-launchd verify".into(),
                    };
                    self.holds(LEASE, note, lease.expires, now)?;
                }
                Ok(false)
            }
        }
    }

    fn notice(&mut self, notice: Notice, now: DateTime<Utc>) -> Result<(), WatchError> {
        match notice {
            Notice::Event { key, note } => {
                let at = now.format("%Y%m%dT%H%M%S%.3fZ");
                let id = format!("{}-{key}-{at}", self.state.agent);
                self.tell(id, note, now)
            }
            Notice::Holds { key, stage, note } => self.holds_with(key, note, now, now, &[stage]),
            Notice::Over { key, said } => self.over(key, &Verdict::new(Kind::Ok, said), now),
        }
    }

    /// Whether the guardian of the same server reports this outage. What this watchdog has alerted about stays its own.
    fn is_reported(&self, now: DateTime<Utc>) -> bool {
        !self.state.open.contains_key(MISSES) && self.first_cause.is_reported(now)
    }

    /// Tells of something that holds since then: at once, and again after each cooldown.
    fn holds(
        &mut self,
        key: &str,
        note: Note,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        self.holds_with(key, note, since, now, &[])
    }

    /// The same for something made of several things: one that is new among them does not wait for the cooldown.
    fn holds_with(
        &mut self,
        key: &str,
        note: Note,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        wrongs: &[String],
    ) -> Result<(), WatchError> {
        let note = note.safe();
        let cooldown = TimeDelta::from_std(self.policy.cooldown).unwrap_or(TimeDelta::MAX);
        // The id follows from what is known before it is told, so that telling twice is telling once.
        let first = format!(
            "{}-{key}-{}",
            self.state.agent,
            since.format("%Y%m%dT%H%M%S%.3fZ")
        );
        let id = match self.state.open.get_mut(key) {
            Some(open) => {
                // What was told in the future was told before the clock was set back.
                let over = now - open.told >= cooldown || open.told > now;
                if !over && wrongs.iter().all(|wrong| open.wrongs.contains(wrong)) {
                    return Ok(());
                }
                if over {
                    open.wrongs.clear();
                }
                open.wrongs.extend(wrongs.iter().cloned());
                open.told = now;
                open.times += 1;
                format!("{}-{}", open.id, open.times)
            }
            None => {
                let open = Open {
                    id: first.clone(),
                    title: note.title.clone(),
                    since,
                    told: now,
                    times: 1,
                    notified: None,
                    wrongs: wrongs.iter().cloned().collect(),
                };
                self.state.open.insert(key.to_owned(), open);
                first
            }
        };
        self.tell(id, note, now)
    }

    /// Tells that something which was told of is over; nothing if it was not.
    fn over(&mut self, key: &str, seen: &Verdict, now: DateTime<Utc>) -> Result<(), WatchError> {
        let Some(open) = self.state.open.remove(key) else {
            return Ok(());
        };
        let lasted = age(now - open.since);
        let note = Note {
            severity: Severity::Info,
            title: format!("recovered: {}", open.title),
            body: format!("{}; it had lasted {lasted}", seen.said),
            next: String::new(),
        };
        self.tell(format!("{}-recovered", open.id), note, now)
    }

    fn tell(&mut self, id: String, note: Note, now: DateTime<Utc>) -> Result<(), WatchError> {
        let Note {
            severity,
            title,
            body,
            next,
        } = note;
        let body = match next.is_empty() {
            true => body,
            false => format!("{body}\n{next}"),
        };
        self.outbox.put(Alert {
            id,
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

/// Looks once. A check that does not come to its end is a miss, and leaves the memory as it was.
pub(crate) async fn look<C: Check>(check: &mut C, round: &mut Round) -> Report {
    let limit: Duration = check.limit();
    let before = round.memory.clone();
    let done = tokio::time::timeout(limit, check.check(round)).await;
    let report = done.unwrap_or_else(|_| {
        round.memory = before;
        check.timed_out(format!(
            "the check did not come to its end in {} s",
            limit.as_secs()
        ))
    });
    report.safe()
}

fn log(verdict: &Verdict) {
    let latency_ms = verdict.latency.map(|latency| latency.as_millis() as u64);
    let Verdict {
        kind, said, next, ..
    } = verdict;
    match kind {
        Kind::Miss => tracing::warn!(%kind, latency_ms, next, "{said}"),
        _ => tracing::info!(%kind, latency_ms, "{said}"),
    }
}

#[cfg(test)]
mod tests;
