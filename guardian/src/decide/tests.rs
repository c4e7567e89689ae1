//! The incidents of a fleet's first year, a minute a round.

use std::time::Duration;

use proptest::prelude::*;
use sanctum_client::{PREPARATION, ServerPhase};

use super::*;

fn patience() -> Patience {
    Patience {
        misses: 3,
        stall_after: TimeDelta::seconds(120),
        startup_grace: TimeDelta::seconds(180),
        restarts_per_hour: 4,
    }
}

fn at(minute: i32) -> DateTime<Utc> {
    DateTime::from_timestamp(1_776_000_000, 0).unwrap() + TimeDelta::minutes(1) * minute
}

fn loaded(pid: u32, runs: u64) -> AgentSeen {
    AgentSeen::Loaded {
        pid: Some(pid),
        runs,
    }
}

fn beat(in_flight: u64, progress: u64, age_seconds: u64) -> Answer {
    let age = Duration::from_secs(age_seconds);
    Answer::Health(vec![(
        String::new(),
        HeartbeatReading::new(ServerPhase::Ready, in_flight, 0, progress, age),
    )])
}

fn silence() -> Answer {
    Answer::None("no answer within 10 s".into())
}

/// Decides minute by minute, and restarts where it says so.
fn play(rounds: impl IntoIterator<Item = (Answer, AgentSeen)>) -> Vec<(Condition, Action)> {
    play_every(TimeDelta::minutes(1), rounds)
}

fn play_every(
    every: TimeDelta,
    rounds: impl IntoIterator<Item = (Answer, AgentSeen)>,
) -> Vec<(Condition, Action)> {
    let mut memory = Memory::default();
    let decisions = rounds
        .into_iter()
        .enumerate()
        .map(|(round, (answer, agent))| {
            let now = at(0) + every * round as i32;
            let seen = Seen {
                now,
                answer,
                agent,
                deployment: None,
            };
            let (condition, action) = decide(&seen, &mut memory, &patience());
            if action == Action::Kickstart {
                memory.restarted(now);
            }
            (condition, action)
        });
    decisions.collect()
}

fn actions(decisions: &[(Condition, Action)]) -> Vec<Action> {
    decisions.iter().map(|(_, action)| *action).collect()
}

#[test]
fn a_long_prefill_is_work_however_long_it_takes() {
    let rounds = (0..200).map(|n| (beat(1, 100 + n, 20), loaded(7, 1)));
    let decisions = play(rounds);
    assert!(
        decisions
            .iter()
            .all(|d| *d == (Condition::Busy, Action::Leave))
    );
}

/// What the fleet had at first: three checks without an answer in time, and it kills.
fn naive(answers: impl IntoIterator<Item = bool>) -> bool {
    let mut misses = 0;
    answers.into_iter().any(|answered| {
        misses = if answered { 0 } else { misses + 1 };
        misses == 3
    })
}

#[test]
fn the_naive_policy_kills_the_busy_server_that_this_one_leaves_alone() {
    // Requests queue behind a long prompt: a chat question gets no answer for five minutes, health does.
    assert!(naive([true, false, false, false, false, false, true]));
    let rounds = (0..7).map(|n| (beat(4, 1000 + 50 * n, 1), loaded(7, 1)));
    assert!(
        actions(&play(rounds))
            .iter()
            .all(|action| *action == Action::Leave)
    );
}

#[test]
fn work_that_does_not_move_is_a_hung_engine() {
    let rounds = (0..4u64).map(|n| (beat(2, 500, 60 * n), loaded(7, 1)));
    let decisions = play(rounds);
    assert_eq!(
        actions(&decisions),
        [
            Action::Leave,
            Action::Leave,
            Action::Kickstart,
            Action::Leave
        ]
    );
    assert!(matches!(decisions[2].0, Condition::Hung(_)));
    // Standing still without work is rest.
    let rest = play((0..50u64).map(|n| (beat(0, 500, 60 * n), loaded(7, 1))));
    assert!(
        rest.iter()
            .all(|(condition, _)| *condition == Condition::Answering)
    );
}

#[test]
fn a_hung_model_is_seen_beside_a_lively_one() {
    let both = |n: u64| {
        let lively = HeartbeatReading::new(ServerPhase::Ready, 1, 0, n, Duration::ZERO);
        let hung = HeartbeatReading::new(ServerPhase::Ready, 1, 0, 9, Duration::from_secs(60 * n));
        Answer::Health(vec![("a".into(), lively), ("b".into(), hung)])
    };
    let decisions = play((0..3).map(|n| (both(n), loaded(7, 1))));
    assert_eq!(decisions[2].1, Action::Kickstart);
}

#[test]
fn silence_means_dead_after_three_misses_but_not_in_a_young_process() {
    let alive = (0..4).map(|_| (beat(0, 1, 0), loaded(7, 1)));
    let stopped = (0..3).map(|_| (silence(), loaded(7, 1)));
    let decisions = play(alive.chain(stopped));
    assert_eq!(
        actions(&decisions)[4..],
        [Action::Leave, Action::Leave, Action::Kickstart]
    );
    assert_eq!(decisions[6].0, Condition::Dead(3));
    // A process that is seen for the first time has three minutes.
    let young = play((0..6).map(|_| (silence(), loaded(8, 1))));
    assert_eq!(young[2].0, Condition::Starting);
    assert_eq!(young[3], (Condition::Silent(1), Action::Leave));
    assert_eq!(young[5], (Condition::Dead(3), Action::Kickstart));
}

#[test]
fn a_server_that_ends_at_each_start_is_not_kicked_as_well() {
    let alive = (0..4).map(|_| (beat(0, 1, 0), loaded(7, 1)));
    let crashing = (0..20u32).map(|n| (silence(), loaded(100 + n, 2 + 2 * u64::from(n))));
    let decisions = play(alive.chain(crashing));
    assert!(
        actions(&decisions)
            .iter()
            .all(|action| *action == Action::Leave)
    );
    assert!(matches!(decisions[8].0, Condition::CrashLooping(_)));
}

#[test]
fn a_guardian_that_looks_more_often_than_launchd_starts_does_not_kick_either() {
    let crashing = (0..200u64).map(|n| {
        (
            silence(),
            AgentSeen::Loaded {
                pid: None,
                runs: 1 + n / 6,
            },
        )
    });
    let decisions = play_every(TimeDelta::seconds(5), crashing);
    assert!(
        actions(&decisions)
            .iter()
            .all(|action| *action == Action::Leave)
    );
    assert!(
        decisions[18..]
            .iter()
            .all(|(condition, _)| matches!(condition, Condition::CrashLooping(_)))
    );
}

#[test]
fn what_launchd_does_not_start_again_is_started() {
    let gone = (0..8).map(|_| (silence(), AgentSeen::Loaded { pid: None, runs: 1 }));
    let alive = (0..4).map(|_| (beat(0, 1, 0), loaded(7, 1)));
    let decisions = play(alive.chain(gone));
    assert_eq!(decisions[6], (Condition::Dead(3), Action::Kickstart));
}

#[test]
fn crashing_while_the_model_is_read_is_a_crash_loop_too() {
    let crashing = (0..8u32).map(|n| {
        let beat = HeartbeatReading::new(ServerPhase::Loading, 0, 0, 1, Duration::ZERO);
        let answer = Answer::Health(vec![(String::new(), beat)]);
        (answer, loaded(100 + n, 1 + 2 * u64::from(n)))
    });
    let decisions = play(crashing);
    assert!(matches!(decisions[7].0, Condition::CrashLooping(_)));
    assert!(
        actions(&decisions)
            .iter()
            .all(|action| *action == Action::Leave)
    );
}

/// An idle engine beside one request that is being prepared.
fn preparing(progress: u64, age_seconds: u64) -> Answer {
    let beat = |in_flight, progress, age| {
        HeartbeatReading::new(
            ServerPhase::Ready,
            in_flight,
            0,
            progress,
            Duration::from_secs(age),
        )
    };
    Answer::Health(vec![
        (String::new(), beat(0, 5, 9000)),
        (PREPARATION.to_owned(), beat(1, progress, age_seconds)),
    ])
}

#[test]
fn preparation_that_moves_is_busy() {
    let decisions = play((0..30u64).map(|n| (preparing(n, 3), loaded(7, 1))));
    let busy = (Condition::Busy, Action::Leave);
    assert!(decisions.iter().all(|decision| *decision == busy));
}

#[test]
fn stuck_preparation_is_hung_and_the_server_is_restarted() {
    let decisions = play((0..4u64).map(|n| (preparing(5, 60 * n), loaded(7, 1))));
    assert_eq!(decisions[1].0, Condition::Busy);
    let hung = Condition::Hung(TimeDelta::minutes(2));
    assert_eq!(decisions[2], (hung, Action::Kickstart));
}

#[test]
fn a_load_that_pauses_has_its_grace() {
    let load = |n: u64| {
        let beat =
            HeartbeatReading::new(ServerPhase::Loading, 0, 0, 1, Duration::from_secs(60 * n));
        (Answer::Health(vec![(String::new(), beat)]), loaded(7, 1))
    };
    let decisions = play((0..4).map(load));
    assert_eq!(decisions[2], (Condition::Starting, Action::Leave));
    assert_eq!(decisions[3].1, Action::Kickstart);
}

/// Rounds of one server whose memory is kept; see [`play`].
#[derive(Default)]
struct Watch {
    memory: Memory,
    deployment: Option<String>,
}

impl Watch {
    fn round(&mut self, now: DateTime<Utc>, answer: Answer) -> Action {
        let seen = Seen {
            now,
            answer,
            agent: loaded(7, 1),
            deployment: self.deployment.clone(),
        };
        let (_, action) = decide(&seen, &mut self.memory, &patience());
        if action == Action::Kickstart {
            self.memory.restarted(now);
        }
        action
    }

    /// Rounds of a hung engine, a minute apart; how many restarts there were.
    fn hang(&mut self, minutes: std::ops::Range<i32>) -> usize {
        let begin = minutes.start;
        let mut hang = |minute| self.round(at(minute), beat(1, 5, 60 * (minute - begin) as u64));
        minutes
            .filter(|minute| hang(*minute) == Action::Kickstart)
            .count()
    }

    /// Rounds of an idle engine, five minutes apart.
    fn idle(&mut self, minutes: std::ops::Range<i32>) {
        for minute in minutes.step_by(5) {
            assert_eq!(self.round(at(minute), beat(0, 5, 0)), Action::Leave);
        }
    }
}

#[test]
fn restart_budget_that_is_spent_stays_spent() {
    let mut watch = Watch::default();
    assert_eq!(watch.hang(0..600), 4);
    let since = watch.memory.spent.unwrap();
    assert!(since < at(60));
    // Neither an hour without restarts nor hours of health give it back.
    watch.idle(600..1200);
    assert_eq!(
        (watch.hang(1200..1300), watch.memory.spent),
        (0, Some(since))
    );
}

#[test]
fn restart_budget_is_restored_by_a_deployment() {
    let mut watch = Watch {
        deployment: Some("server of 1".to_owned()),
        ..Watch::default()
    };
    assert_eq!(watch.hang(0..60), 4);
    // What cannot be read is no deployment.
    watch.deployment = None;
    assert_eq!(watch.hang(60..65), 0);
    watch.deployment = Some("server of 1".to_owned());
    assert_eq!(watch.hang(65..70), 0);
    watch.deployment = Some("server of 2".to_owned());
    assert_eq!(watch.hang(70..100), 4);
}

#[test]
fn restart_budget_is_restored_by_a_day_of_health_that_was_observed() {
    let spent = || {
        let mut watch = Watch::default();
        watch.hang(0..60);
        watch
    };
    let day = 60 + 24 * 60;
    let mut watch = spent();
    watch.idle(60..day);
    assert!(watch.memory.spent.is_some());
    watch.idle(day..day + 10);
    assert_eq!((watch.memory.spent, watch.memory.restarts.len()), (None, 0));
    // A round without an answer, or a night in which the guardian did not look, begins the day anew.
    let mut watch = spent();
    watch.idle(60..800);
    watch.round(at(800), silence());
    watch.idle(805..day + 10);
    assert!(watch.memory.spent.is_some());
    let mut watch = spent();
    watch.idle(60..65);
    watch.idle(day..day + 10);
    assert!(watch.memory.spent.is_some());
}

#[test]
fn outage_lasts_until_the_server_has_stayed_well() {
    let mut watch = Watch::default();
    assert_eq!(watch.hang(0..3), 1);
    let outage = watch.memory.outage;
    assert_eq!(outage, Some(at(2)));
    // It takes a request and hangs again: work that has not moved is the same outage.
    watch.round(at(3), beat(0, 1, 0));
    assert_eq!(watch.hang(4..9), 1);
    assert_eq!(watch.memory.outage, outage);
    watch.round(at(9), beat(0, 1, 0));
    assert_eq!(watch.memory.outage, outage);
    watch.round(at(11), beat(1, 2, 0));
    assert_eq!(
        (watch.memory.outage, watch.memory.answers_again),
        (None, false)
    );
}

#[test]
fn outage_that_is_not_attended_is_reported_when_it_ends() {
    let mut watch = Watch::default();
    watch.hang(0..60);
    watch.idle(60..70);
    assert!(
        !watch.memory.answers_again,
        "the restarts reported that one"
    );
    watch.hang(70..80);
    assert!(watch.memory.unattended);
    let mut told = 0;
    for minute in 80..90 {
        watch.round(at(minute), beat(0, 5, 0));
        told += usize::from(watch.memory.answers_again);
    }
    assert_eq!(told, 1);
}

#[test]
fn outage_that_spends_the_budget_is_reported_when_it_ends() {
    let mut watch = Watch::default();
    for hang in 0..4 {
        let begin = 10 * hang;
        assert_eq!(watch.hang(begin..begin + 3), 1);
        watch.idle(begin + 3..begin + 9);
        assert_eq!(watch.memory.outage, None);
    }
    assert_eq!(watch.hang(40..43), 0, "the fifth within an hour");
    assert_eq!(watch.memory.spent, Some(at(42)));
    watch.round(at(43), beat(0, 5, 0));
    watch.round(at(45), beat(0, 5, 0));
    assert!(watch.memory.answers_again);
}

#[test]
fn outage_without_any_restart_budget_is_reported_when_it_ends() {
    let mut memory = Memory::default();
    let patience = Patience {
        restarts_per_hour: 0,
        ..patience()
    };
    let mut round = |minute: i32, answer| {
        let seen = Seen {
            now: at(minute),
            answer,
            agent: loaded(7, 1),
            deployment: None,
        };
        let (_, action) = decide(&seen, &mut memory, &patience);
        (action, memory.answers_again)
    };
    for minute in 0..2 {
        round(minute, beat(1, 5, 60 * minute as u64));
    }
    assert_eq!(round(2, beat(1, 5, 120)), (Action::CallHuman, false));
    round(3, beat(0, 5, 0));
    assert_eq!(round(5, beat(0, 5, 0)), (Action::Leave, true));
}

#[test]
fn restart_budget_is_spent_by_one_outage_however_long_the_server_takes_to_start() {
    let patience = Patience {
        startup_grace: TimeDelta::minutes(14),
        ..patience()
    };
    let mut memory = Memory::default();
    let mut restarts = 0;
    for minute in 0..180 {
        let seen = Seen {
            now: at(minute),
            answer: silence(),
            agent: loaded(7 + restarts, 1),
            deployment: None,
        };
        if decide(&seen, &mut memory, &patience).1 == Action::Kickstart {
            memory.restarted(at(minute));
            restarts += 1;
        }
    }
    assert_eq!(restarts, 4);
    assert!(memory.spent.is_some());
}

#[test]
fn what_is_not_loaded_is_loaded_unless_it_is_disabled() {
    let missing = |disabled| play([(silence(), AgentSeen::NotLoaded { disabled })])[0].1;
    assert_eq!(
        (missing(false), missing(true)),
        (Action::Bootstrap, Action::Leave)
    );
    // Somebody runs it by hand.
    let by_hand = play([(Answer::Alive, AgentSeen::NotLoaded { disabled: false })]);
    assert_eq!(by_hand[0], (Condition::Answering, Action::Leave));
}

#[test]
fn a_load_of_many_minutes_moves_too() {
    let loading = |n: u64| {
        let beat =
            HeartbeatReading::new(ServerPhase::Loading, 0, 0, 10 * n, Duration::from_secs(2));
        (Answer::Health(vec![(String::new(), beat)]), loaded(7, 1))
    };
    let decisions = play((0..30).map(loading));
    assert!(decisions.iter().all(|(_, action)| *action == Action::Leave));
    assert_eq!(
        (&decisions[0].0, &decisions[29].0),
        (&Condition::Starting, &Condition::Busy)
    );
}

proptest! {
    #[test]
    fn an_engine_that_moves_is_never_restarted(
        rounds in prop::collection::vec((0u64..5, 1u64..50, 0u64..10_000, 0u32..3), 1..60)
    ) {
        let mut progress = 0;
        let rounds = rounds.into_iter().map(|(in_flight, step, age, pid)| {
            progress += step;
            (beat(in_flight, progress, age), loaded(pid, 1))
        });
        for (condition, action) in play(rounds.collect::<Vec<_>>()) {
            prop_assert_eq!(action, Action::Leave, "{:?}", condition);
        }
    }
}
