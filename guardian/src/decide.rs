//! The condition of a server, and what to do about it: a function of what was observed and what is remembered, without a
//! clock or a network.
//!
//! A policy that counts timeouts and restarts after the third one restarts busy servers, which people are waiting for. The
//! engine's progress counter distinguishes busy from hung: while it moves, the guardian restarts nothing, however long an
//! answer takes.

use chrono::TimeDelta;
use sanctum_client::{PREPARATION, ServerPhase};

use crate::history::ServerHistory;
use crate::observation::{ActiveAgent, Observation, ServerAnswer};
use crate::policy::RestartPolicy;

/// Starts by launchd within ten minutes, besides the guardian's own, that make a crash loop.
const LOOP_STARTS: u64 = 3;

/// What follows from one observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The server's condition.
    pub condition: Condition,
    /// What to do about it.
    pub remedy: Remedy,
    /// Misses in a row, this round included.
    pub misses: u32,
    /// Whether an outage has ended that began with the restart budget spent.
    pub answers_again: bool,
}

/// The condition of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers, and has no work.
    Answering,
    /// It answers, and its work moves: it is never restarted.
    Busy,
    /// It answers, has work, and nothing has moved for this long.
    Hung {
        /// For how long.
        stalled: TimeDelta,
        /// Whether the preparation of requests is stuck, and not an engine.
        preparation: bool,
    },
    /// It gave no answer for this many rounds.
    Dead(u32),
    /// It gave no answer, and not yet often enough to act.
    Silent(u32),
    /// Its process is young, or it is loading its model.
    Starting,
    /// launchd starts it again and again; this often lately.
    CrashLooping(u64),
    /// It is not loaded in launchd.
    NotLoaded {
        /// Whether it is disabled.
        disabled: bool,
    },
    /// It was stopped on purpose, and gives no answer.
    Stopped,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    Nothing,
    /// `launchctl kickstart -k`.
    Kickstart,
    /// `launchctl bootstrap`.
    Bootstrap,
    /// A restart is necessary and the restart budget is spent: alert.
    Escalate,
}

/// Decides, and records in `history` what was observed and whether a restart follows.
pub fn decide(seen: &Observation, history: &mut ServerHistory, policy: &RestartPolicy) -> Decision {
    history.record(seen);
    let misses = match &seen.answer {
        ServerAnswer::None(_) if matches!(seen.agent, ActiveAgent::Stopped(_)) => 0,
        ServerAnswer::None(_) if history.is_young(seen.now, policy) => 0,
        ServerAnswer::None(_) => seen.misses + 1,
        ServerAnswer::Alive | ServerAnswer::Health(_) => 0,
    };
    let condition = condition(seen, misses, history, policy);
    let healthy = match condition {
        Condition::Answering => true,
        Condition::Busy => history.all_move(seen),
        _ => false,
    };
    let answers_again = history.record_health(healthy, seen.now, policy);
    let restart = match condition {
        Condition::Hung { .. } | Condition::Dead(_) => Remedy::Kickstart,
        Condition::NotLoaded { disabled: false } => Remedy::Bootstrap,
        _ => {
            return Decision {
                condition,
                remedy: Remedy::Nothing,
                misses,
                answers_again,
            };
        }
    };
    history.record_outage(seen.now, policy);
    let (remedy, misses) = match history.spent {
        Some(_) => (Remedy::Escalate, misses),
        None => {
            history.record_restart(seen.now);
            (restart, 0)
        }
    };
    Decision {
        condition,
        remedy,
        misses,
        answers_again,
    }
}

fn condition(
    seen: &Observation,
    misses: u32,
    history: &ServerHistory,
    policy: &RestartPolicy,
) -> Condition {
    if matches!(
        (&seen.agent, &seen.answer),
        (ActiveAgent::Stopped(_), ServerAnswer::None(_))
    ) {
        return Condition::Stopped;
    }
    if let ActiveAgent::NotLoaded { disabled } = seen.agent
        && matches!(seen.answer, ServerAnswer::None(_))
    {
        return Condition::NotLoaded { disabled };
    }
    let starts = history.starts_by_launchd();
    let never_serves = match &seen.answer {
        ServerAnswer::None(_) => true,
        ServerAnswer::Alive => false,
        // It answers as soon as it is started, and has never come to serve.
        ServerAnswer::Health(heartbeats) => heartbeats
            .iter()
            .all(|(_, heartbeat)| heartbeat.phase == ServerPhase::Loading),
    };
    if starts >= LOOP_STARTS && never_serves {
        return Condition::CrashLooping(starts);
    }
    let is_young = history.is_young(seen.now, policy);
    match &seen.answer {
        ServerAnswer::Alive => Condition::Answering,
        ServerAnswer::Health(_) => of_heartbeats(seen, is_young, history, policy),
        ServerAnswer::None(_) if is_young => Condition::Starting,
        ServerAnswer::None(_) if misses >= policy.misses => Condition::Dead(misses),
        ServerAnswer::None(_) => Condition::Silent(misses),
    }
}

/// The condition of a server that shows its heartbeats.
fn of_heartbeats(
    seen: &Observation,
    is_young: bool,
    history: &ServerHistory,
    policy: &RestartPolicy,
) -> Condition {
    let ServerAnswer::Health(heartbeats) = &seen.answer else {
        return Condition::Answering;
    };
    let mut stalls = Vec::new();
    for (model, heartbeat) in heartbeats {
        // The grace is for loading the model, pauses included; an engine that has accepted requests has none.
        let is_starting = is_young && heartbeat.phase == ServerPhase::Loading;
        if !heartbeat.has_work() || is_starting {
            continue;
        }
        let moved = history.progress.get(model).map(|(_, since)| *since);
        // The server's own clock, and what was observed: after sleep the longer of the two may be wrong.
        let observed = moved.map_or(TimeDelta::zero(), |since| seen.now - since);
        let reported = TimeDelta::from_std(heartbeat.age()).unwrap_or(TimeDelta::MAX);
        stalls.push((reported.min(observed), model == PREPARATION));
    }
    match stalls.iter().max() {
        None if heartbeats.iter().any(|(_, one)| one.has_work()) => Condition::Starting,
        None => Condition::Answering,
        Some((stalled, preparation)) if *stalled >= policy.stall_after => Condition::Hung {
            stalled: *stalled,
            preparation: *preparation,
        },
        Some(_) => Condition::Busy,
    }
}

#[cfg(test)]
mod tests;
