//! What the guardian remembers of a server from round to round.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::observation::{ActiveAgent, Observation, ServerAnswer};
use crate::policy::RestartPolicy;

/// The time in which starts by launchd count: it waits half a minute from start to start.
const LOOP_WINDOW: TimeDelta = TimeDelta::minutes(10);
/// The restart budget is restored after the server was healthy for this long.
const BUDGET_RESTORED_AFTER: TimeDelta = TimeDelta::hours(24);
/// Between two rounds further apart than this, the server was not observed.
const UNOBSERVED: TimeDelta = TimeDelta::minutes(15);

/// What the guardian remembers of a server from round to round.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct ServerHistory {
    /// The process that was observed last.
    pub process: Option<u32>,
    /// When a start was observed last: of a process that runs, or of one that had exited before the round.
    pub started: Option<DateTime<Utc>>,
    /// The progress of each model, and when it was first observed.
    pub progress: BTreeMap<String, (u64, DateTime<Utc>)>,
    /// The guardian's restarts within the last hour.
    pub restarts: Vec<DateTime<Utc>>,
    /// launchd's own count of starts, as it was observed lately.
    pub runs: Vec<(DateTime<Utc>, u64)>,
    /// Since when the restart budget is spent. An install, upgrade or rollback restores it, and a day of health.
    pub spent: Option<DateTime<Utc>>,
    /// Since when every round has found the server answering, with its work moving.
    pub healthy_since: Option<DateTime<Utc>>,
    /// Since when the server has been out of order; until it has been healthy for `stall_after`.
    pub outage: Option<DateTime<Utc>>,
    /// The guardian's restarts in that outage.
    pub outage_restarts: usize,
    /// Whether that outage began with the restart budget spent.
    pub unattended: bool,
    /// The last round.
    pub observed: Option<DateTime<Utc>>,
    /// The deployment that was observed last.
    pub deployment: Option<String>,
    /// The shortage of memory of the host, in a sentence.
    pub shortage: Option<String>,
}

impl ServerHistory {
    /// Records what a round observed.
    pub(crate) fn record(&mut self, seen: &Observation) {
        let now = seen.now;
        if seen.deployment.is_some() && seen.deployment != self.deployment {
            self.deployment.clone_from(&seen.deployment);
            self.restore_budget();
        }
        self.restarts
            .retain(|at| now - *at < TimeDelta::hours(1) && *at <= now);
        self.runs
            .retain(|(at, _)| now - *at < LOOP_WINDOW && *at <= now);
        match &seen.agent {
            ActiveAgent::Loaded { pid, runs } => self.record_process(*pid, *runs, now),
            ActiveAgent::NotLoaded { .. } | ActiveAgent::Stopped(_) => {
                self.process = None;
                self.started = None;
                self.runs.clear();
            }
            ActiveAgent::Unknown(_) => {}
        }
        if let ServerAnswer::Health(heartbeats) = &seen.answer {
            for (model, heartbeat) in heartbeats {
                let known = self.progress.get(model);
                let same = known.is_some_and(|(progress, since)| {
                    *progress == heartbeat.progress && *since <= now
                });
                if !same || !heartbeat.has_work() {
                    let progress = (heartbeat.progress, now);
                    self.progress.insert(model.clone(), progress);
                }
            }
        }
    }

    fn record_process(&mut self, pid: Option<u32>, runs: u64, now: DateTime<Utc>) {
        // A count that went down belongs to another loading of the agent.
        if self.runs.last().is_some_and(|(_, before)| *before > runs) {
            self.runs.clear();
        }
        let known = self.runs.last().map(|(_, before)| *before);
        self.runs.push((now, runs));
        let is_new = pid.is_some() && pid != self.process;
        // A program that exits at once has no process most of the time, and launchd is about to start it again. A
        // kickstart would be one more start of what cannot start.
        let has_started = known.is_some_and(|before| before < runs);
        if is_new || has_started || self.started.is_none_or(|at| at > now) {
            self.started = Some(now);
        }
        if is_new {
            self.progress.clear();
        }
        self.process = pid;
    }

    /// Records a restart by the guardian.
    pub(crate) fn record_restart(&mut self, now: DateTime<Utc>) {
        self.restarts.push(now);
        self.outage_restarts += 1;
        self.process = None;
        self.started = Some(now);
        self.progress.clear();
        // The guardian's restart does not count as one by launchd.
        self.runs.clear();
    }

    /// Records whether the server is healthy in this round. Work that has not moved since the last round is not healthy: a
    /// hang begins that way. Returns whether an outage that began with the restart budget spent has ended.
    pub(crate) fn record_health(
        &mut self,
        healthy: bool,
        now: DateTime<Utc>,
        policy: &RestartPolicy,
    ) -> bool {
        let observed = self
            .observed
            .is_some_and(|at| (TimeDelta::zero()..=UNOBSERVED).contains(&(now - at)));
        self.observed = Some(now);
        match (healthy, self.healthy_since) {
            (false, _) => self.healthy_since = None,
            (true, Some(since)) if observed && since <= now => {}
            (true, _) => self.healthy_since = Some(now),
        }
        let is_over = self.has_recovered(now, policy) && self.outage.take().is_some();
        if (self.healthy_since).is_some_and(|since| now - since >= BUDGET_RESTORED_AFTER) {
            self.restore_budget();
        }
        is_over && self.unattended
    }

    /// Whether all work in these heartbeats has moved in this round.
    pub(crate) fn all_move(&self, seen: &Observation) -> bool {
        let ServerAnswer::Health(heartbeats) = &seen.answer else {
            return false;
        };
        heartbeats.iter().all(|(model, heartbeat)| {
            let since = self.progress.get(model).map(|(_, since)| *since);
            !heartbeat.has_work() || since == Some(seen.now)
        })
    }

    /// Records that a restart is necessary. Spends the restart budget if none is left.
    pub(crate) fn record_outage(&mut self, now: DateTime<Utc>, policy: &RestartPolicy) {
        let is_new = self.outage.is_none();
        if is_new {
            self.outage = Some(now);
            self.outage_restarts = 0;
        }
        // A server that takes long to start can be restarted for days at less than its budget an hour.
        let restarts = self.restarts.len().max(self.outage_restarts);
        if restarts >= policy.restarts_per_hour {
            self.spent.get_or_insert(now);
        }
        if is_new {
            self.unattended = self.spent.is_some();
        }
    }

    fn restore_budget(&mut self) {
        self.restarts.clear();
        self.outage_restarts = 0;
        self.spent = None;
    }

    /// Whether an outage is over: the server has been healthy for longer than it takes to notice a hung engine.
    pub fn has_recovered(&self, now: DateTime<Utc>, policy: &RestartPolicy) -> bool {
        self.healthy_since
            .is_some_and(|since| now - since >= policy.stall_after)
    }

    /// Whether the process was started less than the grace ago.
    pub(crate) fn is_young(&self, now: DateTime<Utc>, policy: &RestartPolicy) -> bool {
        self.started
            .is_some_and(|at| now - at < policy.startup_grace)
    }

    /// How often launchd started the process of its own accord lately.
    pub(crate) fn starts_by_launchd(&self) -> u64 {
        match (self.runs.first(), self.runs.last()) {
            (Some((_, first)), Some((_, last))) => last.saturating_sub(*first),
            _ => 0,
        }
    }
}
