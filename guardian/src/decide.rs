//! What a server is, and what is to be done about it: a function of what was seen and what is remembered, without a clock
//! or a network of its own.
//!
//! A policy that counts timeouts and kills after the third kills busy servers, and a busy server is one that people
//! wait for. What tells busy from hung is the engine's progress counter: while it moves, nothing is restarted, however
//! long an answer takes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_client::{HeartbeatReading, PREPARATION, ServerPhase};
use serde::{Deserialize, Serialize};

/// Restarts by launchd within [`LOOP_WINDOW`], beside the guardian's own, that make a crash loop.
const LOOP_RUNS: u64 = 3;
/// The time in which they count: launchd waits half a minute from start to start.
const LOOP_WINDOW: TimeDelta = TimeDelta::minutes(10);
/// A server that was healthy for so long has earned its whole restart budget again.
const BUDGET_RESTORED_AFTER: TimeDelta = TimeDelta::hours(24);
/// Between two rounds further apart than this the server may have been anything.
const UNOBSERVED: TimeDelta = TimeDelta::minutes(15);

/// How patient the guardian is.
#[derive(Clone, Debug, PartialEq)]
pub struct Patience {
    /// Rounds without an answer in a row that mean "dead".
    pub misses: u32,
    /// Work without progress for so long means "hung".
    pub stall_after: TimeDelta,
    /// A process younger than this is starting.
    pub startup_grace: TimeDelta,
    /// The restart budget. When so many restarts within an hour, or within one outage, were not enough, there are no more
    /// until the budget is restored: see [`Memory::spent`].
    pub restarts_per_hour: usize,
}

/// What one round saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// When.
    pub now: DateTime<Utc>,
    /// What the server said.
    pub answer: Answer,
    /// What launchd says of the active agent.
    pub agent: AgentSeen,
    /// Which deployment and which agent serve: another text after every install, upgrade and rollback. None if that
    /// cannot be read.
    pub deployment: Option<String>,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Its heartbeats, with the model's id where there are several.
    Health(Vec<(String, HeartbeatReading)>),
    /// It answers, and has no heartbeat to show.
    Alive,
    /// Nothing; why.
    None(String),
}

/// What launchd says of the active agent.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentSeen {
    /// It is loaded.
    Loaded {
        /// Its process, if it runs.
        pid: Option<u32>,
        /// How often it was started since it was loaded.
        runs: u64,
    },
    /// It is not.
    NotLoaded {
        /// Somebody wants it to stay away.
        disabled: bool,
    },
    /// launchd could not be asked; why.
    Unknown(String),
}

/// What is remembered from round to round.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Memory {
    /// Rounds without an answer in a row.
    pub misses: u32,
    /// The process that was seen last.
    pub process: Option<u32>,
    /// When a start was seen last: of a process that lives, or of one that had ended before anybody looked.
    pub started: Option<DateTime<Utc>>,
    /// The progress of each model, and when it was first seen at that.
    pub progress: BTreeMap<String, (u64, DateTime<Utc>)>,
    /// What the guardian did to the server within the last hour.
    pub restarts: Vec<DateTime<Utc>>,
    /// launchd's own count, as it was seen lately.
    pub runs: Vec<(DateTime<Utc>, u64)>,
    /// Since when the restart budget is spent. It is restored by an install, upgrade or rollback, and by a day of health.
    pub spent: Option<DateTime<Utc>>,
    /// Since when every round has found the server answering, with its work moving.
    pub healthy_since: Option<DateTime<Utc>>,
    /// Since when the server has been out of order; until it has been healthy for a while.
    pub outage: Option<DateTime<Utc>>,
    /// How often the guardian has restarted the server in that outage.
    pub outage_restarts: usize,
    /// Whether that outage began with the restart budget spent.
    pub unattended: bool,
    /// Whether such an outage has ended in this round.
    #[serde(skip)]
    pub answers_again: bool,
    /// The last round.
    pub looked: Option<DateTime<Utc>>,
    /// The deployment that was seen last.
    pub deployment: Option<String>,
    /// What the machine was short of, in a sentence.
    pub shortage: Option<String>,
}

/// What the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers, and nothing waits for it.
    Answering,
    /// It answers and works: never touch it.
    Busy,
    /// It answers, has work, and nothing has moved for so long.
    Hung(TimeDelta),
    /// It gave no answer for so many rounds.
    Dead(u32),
    /// It gave no answer, and not yet often enough to act.
    Silent(u32),
    /// Its process is young, or it reads its model: wait.
    Starting,
    /// launchd starts it again and again; so often lately.
    CrashLooping(u64),
    /// launchd does not know it.
    NotLoaded {
        /// And is not to.
        disabled: bool,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Action {
    /// Nothing.
    Leave,
    /// `launchctl kickstart -k`.
    Kickstart,
    /// `launchctl bootstrap`.
    Bootstrap,
    /// A restart would be due and the restart budget is spent: it needs attention.
    CallHuman,
}

/// Decides, and remembers. The caller reports restarts with [`Memory::restarted`].
pub fn decide(seen: &Seen, memory: &mut Memory, patience: &Patience) -> (Condition, Action) {
    memory.take_in(seen);
    if memory.is_young(seen.now, patience) {
        // Silence counts from the end of the grace.
        memory.misses = 0;
    }
    let condition = condition(seen, memory, patience);
    memory.note_health(seen, &condition, patience);
    let restart = match condition {
        Condition::Hung(_) | Condition::Dead(_) => Action::Kickstart,
        Condition::NotLoaded { disabled: false } => Action::Bootstrap,
        _ => return (condition, Action::Leave),
    };
    let is_new = memory.outage.is_none();
    if is_new {
        memory.outage = Some(seen.now);
        memory.outage_restarts = 0;
    }
    // A server that takes long to start can be restarted for days at less than its budget an hour.
    let restarts = memory.restarts.len().max(memory.outage_restarts);
    if restarts >= patience.restarts_per_hour {
        memory.spent.get_or_insert(seen.now);
    }
    if is_new {
        memory.unattended = memory.spent.is_some();
    }
    let action = match memory.spent {
        Some(_) => Action::CallHuman,
        None => restart,
    };
    (condition, action)
}

fn condition(seen: &Seen, memory: &Memory, patience: &Patience) -> Condition {
    if let AgentSeen::NotLoaded { disabled } = seen.agent
        && matches!(seen.answer, Answer::None(_))
    {
        return Condition::NotLoaded { disabled };
    }
    let loops = memory.starts_by_launchd();
    let comes_to_nothing = match &seen.answer {
        Answer::None(_) => true,
        Answer::Alive => false,
        // It answers from its start on, and has never got as far as serving.
        Answer::Health(beats) => beats
            .iter()
            .all(|(_, beat)| beat.phase == ServerPhase::Loading),
    };
    if loops >= LOOP_RUNS && comes_to_nothing {
        return Condition::CrashLooping(loops);
    }
    let young = memory.is_young(seen.now, patience);
    match &seen.answer {
        Answer::Alive => Condition::Answering,
        Answer::Health(beats) => {
            let still = |(model, beat): &(String, HeartbeatReading)| {
                let moved = memory.progress.get(model).map(|(_, since)| *since);
                // Its own word, and what was seen of it: the longer of the two clocks could be wrong after sleep.
                let since_seen = moved.map_or(TimeDelta::zero(), |since| seen.now - since);
                let said = TimeDelta::from_std(beat.age()).unwrap_or(TimeDelta::MAX);
                // The grace is for reading the model, pauses included; an engine that took requests has none.
                let starts = young && beat.phase == ServerPhase::Loading;
                (beat.has_work() && !starts).then(|| said.min(since_seen))
            };
            let stalls: Vec<TimeDelta> = beats.iter().filter_map(still).collect();
            match stalls.iter().max() {
                None if beats.iter().any(|(_, beat)| beat.has_work()) => Condition::Starting,
                None => Condition::Answering,
                Some(longest) if *longest >= patience.stall_after => Condition::Hung(*longest),
                Some(_) => Condition::Busy,
            }
        }
        Answer::None(_) => {
            if young {
                Condition::Starting
            } else if memory.misses >= patience.misses {
                Condition::Dead(memory.misses)
            } else {
                Condition::Silent(memory.misses)
            }
        }
    }
}

impl Memory {
    /// The guardian has restarted the server.
    pub fn restarted(&mut self, now: DateTime<Utc>) {
        self.restarts.push(now);
        self.outage_restarts += 1;
        self.misses = 0;
        self.process = None;
        self.started = Some(now);
        self.progress.clear();
        // Its own restart is none of launchd's.
        self.runs.clear();
    }

    /// Whether what stands still for so long is the preparation of requests, and not an engine.
    pub fn stuck_preparation(&self, seen: &Seen, still: TimeDelta) -> bool {
        let Answer::Health(beats) = &seen.answer else {
            return false;
        };
        beats.iter().any(|(name, beat)| {
            let since = self.progress.get(name).map(|(_, since)| seen.now - *since);
            name == PREPARATION && beat.has_work() && since.is_some_and(|since| since >= still)
        })
    }

    /// Whether an outage is over: the server has been healthy for longer than a hung engine would take to be noticed.
    pub fn has_recovered(&self, now: DateTime<Utc>, patience: &Patience) -> bool {
        self.healthy_since
            .is_some_and(|since| now - since >= patience.stall_after)
    }

    fn restore_budget(&mut self) {
        self.restarts.clear();
        self.outage_restarts = 0;
        self.spent = None;
    }

    /// Counts the time in which nothing was wrong. Work that has not moved since the last round is not wrong yet, and not
    /// healthy either: so begins a hang.
    fn note_health(&mut self, seen: &Seen, condition: &Condition, patience: &Patience) {
        let now = seen.now;
        let observed = self
            .looked
            .is_some_and(|at| (TimeDelta::zero()..=UNOBSERVED).contains(&(now - at)));
        self.looked = Some(now);
        let moves = |(model, beat): &(String, HeartbeatReading)| {
            let since = self.progress.get(model).map(|(_, since)| *since);
            !beat.has_work() || since == Some(now)
        };
        let healthy = match (condition, &seen.answer) {
            (Condition::Answering, _) => true,
            (Condition::Busy, Answer::Health(beats)) => beats.iter().all(moves),
            _ => false,
        };
        match (healthy, self.healthy_since) {
            (false, _) => self.healthy_since = None,
            (true, Some(since)) if observed && since <= now => {}
            (true, _) => self.healthy_since = Some(now),
        }
        self.answers_again = false;
        if self.has_recovered(now, patience) && self.outage.take().is_some() {
            self.answers_again = self.unattended;
        }
        if (self.healthy_since).is_some_and(|since| now - since >= BUDGET_RESTORED_AFTER) {
            self.restore_budget();
        }
    }

    fn take_in(&mut self, seen: &Seen) {
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
            AgentSeen::Loaded { pid, runs } => {
                // A count that went down is that of another loading.
                if self.runs.last().is_some_and(|(_, before)| before > runs) {
                    self.runs.clear();
                }
                let known = self.runs.last().map(|(_, before)| *before);
                self.runs.push((now, *runs));
                let is_new = pid.is_some() && *pid != self.process;
                // What ends at once has no process most of the time, and launchd is about to start it again: a
                // kickstart would be one more start of what cannot start.
                let has_started = known.is_some_and(|before| before < *runs);
                if is_new || has_started || self.started.is_none_or(|at| at > now) {
                    self.started = Some(now);
                }
                if is_new {
                    self.progress.clear();
                }
                self.process = *pid;
            }
            AgentSeen::NotLoaded { .. } => {
                self.process = None;
                self.started = None;
                self.runs.clear();
            }
            AgentSeen::Unknown(_) => {}
        }
        match &seen.answer {
            Answer::None(_) => self.misses += 1,
            Answer::Alive => self.misses = 0,
            Answer::Health(beats) => {
                self.misses = 0;
                for (model, beat) in beats {
                    let known = self.progress.get(model);
                    let same = known.is_some_and(|(progress, since)| {
                        *progress == beat.progress && *since <= now
                    });
                    if !same || !beat.has_work() {
                        self.progress.insert(model.clone(), (beat.progress, now));
                    }
                }
            }
        }
    }

    /// Whether it was started less than the grace ago.
    fn is_young(&self, now: DateTime<Utc>, patience: &Patience) -> bool {
        self.started
            .is_some_and(|at| now - at < patience.startup_grace)
    }

    /// How often launchd started the process of its own accord lately.
    fn starts_by_launchd(&self) -> u64 {
        match (self.runs.first(), self.runs.last()) {
            (Some((_, first)), Some((_, last))) => last.saturating_sub(*first),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
