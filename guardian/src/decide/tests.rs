//! The incidents of a fleet's first year, one round a minute.

use std::time::Duration;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use sanctum_client::{HeartbeatReading, PREPARATION, ServerPhase};

use super::*;

fn policy() -> RestartPolicy {
    RestartPolicy {
        misses: 3,
        stall_after: TimeDelta::seconds(120),
        startup_grace: TimeDelta::seconds(180),
        restarts_per_hour: 4,
    }
}

fn at(minute: i32) -> DateTime<Utc> {
    DateTime::from_timestamp(1_776_000_000, 0).unwrap() + TimeDelta::minutes(1) * minute
}

fn loaded(pid: u32, runs: u64) -> ActiveAgent {
    ActiveAgent::Loaded {
        pid: Some(pid),
        runs,
    }
}

fn beat(in_flight: u64, progress: u64, age_seconds: u64) -> ServerAnswer {
    let age = Duration::from_secs(age_seconds);
    ServerAnswer::Health(vec![(
        String::new(),
        HeartbeatReading::new(ServerPhase::Ready, in_flight, 0, progress, age),
    )])
}

fn silence() -> ServerAnswer {
    ServerAnswer::None("no answer within 10 s".into())
}

/// Decides minute by minute.
fn play(rounds: impl IntoIterator<Item = (ServerAnswer, ActiveAgent)>) -> Vec<(Condition, Remedy)> {
    play_every(TimeDelta::minutes(1), rounds)
}

fn play_every(
    every: TimeDelta,
    rounds: impl IntoIterator<Item = (ServerAnswer, ActiveAgent)>,
) -> Vec<(Condition, Remedy)> {
    let mut history = ServerHistory::default();
    let mut misses = 0;
    let decisions = rounds
        .into_iter()
        .enumerate()
        .map(|(round, (answer, agent))| {
            let seen = Observation {
                failed_prefix_checks: Vec::new(),
                models_without_server: Vec::new(),
                now: at(0) + every * round as i32,
                answer,
                agent,
                deployment: None,
                misses,
            };
            let decision = decide(&seen, &mut history, &policy());
            misses = decision.misses;
            (decision.condition, decision.remedy)
        });
    decisions.collect()
}

fn remedies(decisions: &[(Condition, Remedy)]) -> Vec<Remedy> {
    decisions.iter().map(|(_, remedy)| *remedy).collect()
}

#[test]
fn long_prefill_is_busy_however_long_it_takes() {
    let rounds = (0..200).map(|n| (beat(1, 100 + n, 20), loaded(7, 1)));
    let decisions = play(rounds);
    assert!(
        decisions
            .iter()
            .all(|d| *d == (Condition::Busy, Remedy::Nothing))
    );
}

/// The fleet's first policy: restart after three checks without an answer in time.
fn naive(answers: impl IntoIterator<Item = bool>) -> bool {
    let mut misses = 0;
    answers.into_iter().any(|answered| {
        misses = if answered { 0 } else { misses + 1 };
        misses == 3
    })
}

#[test]
fn naive_policy_restarts_the_busy_server_that_the_guardian_leaves_alone() {
    // Requests queue behind a long prompt: a chat gets no answer for five minutes, `/health` does.
    assert!(naive([true, false, false, false, false, false, true]));
    let rounds = (0..7).map(|n| (beat(4, 1000 + 50 * n, 1), loaded(7, 1)));
    assert!(
        remedies(&play(rounds))
            .iter()
            .all(|remedy| *remedy == Remedy::Nothing)
    );
}

#[test]
fn work_that_does_not_move_is_hung() {
    let rounds = (0..4u64).map(|n| (beat(2, 500, 60 * n), loaded(7, 1)));
    let decisions = play(rounds);
    assert_eq!(
        remedies(&decisions),
        [
            Remedy::Nothing,
            Remedy::Nothing,
            Remedy::Kickstart,
            Remedy::Nothing
        ]
    );
    assert!(matches!(decisions[2].0, Condition::Hung { .. }));
    // An engine without work need not move.
    let idle = play((0..50u64).map(|n| (beat(0, 500, 60 * n), loaded(7, 1))));
    assert!(
        idle.iter()
            .all(|(condition, _)| *condition == Condition::Answering)
    );
}

#[test]
fn hung_model_is_noticed_beside_a_busy_one() {
    let both = |n: u64| {
        let busy = HeartbeatReading::new(ServerPhase::Ready, 1, 0, n, Duration::ZERO);
        let hung = HeartbeatReading::new(ServerPhase::Ready, 1, 0, 9, Duration::from_secs(60 * n));
        ServerAnswer::Health(vec![("a".into(), busy), ("b".into(), hung)])
    };
    let decisions = play((0..3).map(|n| (both(n), loaded(7, 1))));
    assert_eq!(decisions[2].1, Remedy::Kickstart);
}

#[test]
fn server_without_answer_is_dead_after_three_misses_but_not_while_it_is_young() {
    let alive = (0..4).map(|_| (beat(0, 1, 0), loaded(7, 1)));
    let stopped = (0..3).map(|_| (silence(), loaded(7, 1)));
    let decisions = play(alive.chain(stopped));
    assert_eq!(
        remedies(&decisions)[4..],
        [Remedy::Nothing, Remedy::Nothing, Remedy::Kickstart]
    );
    assert_eq!(decisions[6].0, Condition::Dead(3));
    // A process that is observed for the first time has three minutes.
    let young = play((0..6).map(|_| (silence(), loaded(8, 1))));
    assert_eq!(young[2].0, Condition::Starting);
    assert_eq!(young[3], (Condition::Silent(1), Remedy::Nothing));
    assert_eq!(young[5], (Condition::Dead(3), Remedy::Kickstart));
}

#[test]
fn server_that_exits_at_each_start_is_not_restarted() {
    let alive = (0..4).map(|_| (beat(0, 1, 0), loaded(7, 1)));
    let crashing = (0..20u32).map(|n| (silence(), loaded(100 + n, 2 + 2 * u64::from(n))));
    let decisions = play(alive.chain(crashing));
    assert!(
        remedies(&decisions)
            .iter()
            .all(|remedy| *remedy == Remedy::Nothing)
    );
    assert!(matches!(decisions[8].0, Condition::CrashLooping(_)));
}

#[test]
fn crash_loop_is_noticed_by_checks_more_frequent_than_starts() {
    let crashing = (0..200u64).map(|n| {
        (
            silence(),
            ActiveAgent::Loaded {
                pid: None,
                runs: 1 + n / 6,
            },
        )
    });
    let decisions = play_every(TimeDelta::seconds(5), crashing);
    assert!(
        remedies(&decisions)
            .iter()
            .all(|remedy| *remedy == Remedy::Nothing)
    );
    assert!(
        decisions[18..]
            .iter()
            .all(|(condition, _)| matches!(condition, Condition::CrashLooping(_)))
    );
}

#[test]
fn server_that_launchd_does_not_start_again_is_restarted() {
    let gone = (0..8).map(|_| (silence(), ActiveAgent::Loaded { pid: None, runs: 1 }));
    let alive = (0..4).map(|_| (beat(0, 1, 0), loaded(7, 1)));
    let decisions = play(alive.chain(gone));
    assert_eq!(decisions[6], (Condition::Dead(3), Remedy::Kickstart));
}

#[test]
fn crashes_while_the_model_is_loading_are_a_crash_loop() {
    let crashing = (0..8u32).map(|n| {
        let beat = HeartbeatReading::new(ServerPhase::Loading, 0, 0, 1, Duration::ZERO);
        let answer = ServerAnswer::Health(vec![(String::new(), beat)]);
        (answer, loaded(100 + n, 1 + 2 * u64::from(n)))
    });
    let decisions = play(crashing);
    assert!(matches!(decisions[7].0, Condition::CrashLooping(_)));
    assert!(
        remedies(&decisions)
            .iter()
            .all(|remedy| *remedy == Remedy::Nothing)
    );
}

/// An idle engine beside one request that is being prepared.
fn preparing(progress: u64, age_seconds: u64) -> ServerAnswer {
    let beat = |in_flight, progress, age| {
        HeartbeatReading::new(
            ServerPhase::Ready,
            in_flight,
            0,
            progress,
            Duration::from_secs(age),
        )
    };
    ServerAnswer::Health(vec![
        (String::new(), beat(0, 5, 9000)),
        (PREPARATION.to_owned(), beat(1, progress, age_seconds)),
    ])
}

#[test]
fn preparation_that_moves_is_busy() {
    let decisions = play((0..30u64).map(|n| (preparing(n, 3), loaded(7, 1))));
    let busy = (Condition::Busy, Remedy::Nothing);
    assert!(decisions.iter().all(|decision| *decision == busy));
}

#[test]
fn stuck_preparation_is_hung_and_the_server_is_restarted() {
    let decisions = play((0..4u64).map(|n| (preparing(5, 60 * n), loaded(7, 1))));
    assert_eq!(decisions[1].0, Condition::Busy);
    let hung = Condition::Hung {
        stalled: TimeDelta::minutes(2),
        preparation: true,
    };
    assert_eq!(decisions[2], (hung, Remedy::Kickstart));
}

#[test]
fn load_that_pauses_is_starting_during_its_grace() {
    let load = |n: u64| {
        let beat =
            HeartbeatReading::new(ServerPhase::Loading, 0, 0, 1, Duration::from_secs(60 * n));
        (
            ServerAnswer::Health(vec![(String::new(), beat)]),
            loaded(7, 1),
        )
    };
    let decisions = play((0..4).map(load));
    assert_eq!(decisions[2], (Condition::Starting, Remedy::Nothing));
    assert_eq!(decisions[3].1, Remedy::Kickstart);
}

/// Rounds of one server with one history; see [`play`].
#[derive(Default)]
struct WatchedRounds {
    history: ServerHistory,
    deployment: Option<String>,
    misses: u32,
    answers_again: bool,
}

impl WatchedRounds {
    fn round(&mut self, now: DateTime<Utc>, answer: ServerAnswer) -> Remedy {
        let seen = Observation {
            failed_prefix_checks: Vec::new(),
            models_without_server: Vec::new(),
            now,
            answer,
            agent: loaded(7, 1),
            deployment: self.deployment.clone(),
            misses: self.misses,
        };
        let decision = decide(&seen, &mut self.history, &policy());
        self.misses = decision.misses;
        self.answers_again = decision.answers_again;
        decision.remedy
    }

    /// Rounds of a hung engine, a minute apart; returns the number of restarts.
    fn hang(&mut self, minutes: std::ops::Range<i32>) -> usize {
        let begin = minutes.start;
        let mut hang = |minute| self.round(at(minute), beat(1, 5, 60 * (minute - begin) as u64));
        minutes
            .filter(|minute| hang(*minute) == Remedy::Kickstart)
            .count()
    }

    /// Rounds of an idle engine, five minutes apart.
    fn idle(&mut self, minutes: std::ops::Range<i32>) {
        for minute in minutes.step_by(5) {
            assert_eq!(self.round(at(minute), beat(0, 5, 0)), Remedy::Nothing);
        }
    }
}

#[test]
fn restart_budget_that_is_spent_stays_spent() {
    let mut watch = WatchedRounds::default();
    assert_eq!(watch.hang(0..600), 4);
    let since = watch.history.spent.unwrap();
    assert!(since < at(60));
    // Neither an hour without restarts nor hours of health restore it.
    watch.idle(600..1200);
    assert_eq!(
        (watch.hang(1200..1300), watch.history.spent),
        (0, Some(since))
    );
}

#[test]
fn restart_budget_is_restored_by_a_deployment() {
    let mut watch = WatchedRounds {
        deployment: Some("server of 1".to_owned()),
        ..WatchedRounds::default()
    };
    assert_eq!(watch.hang(0..60), 4);
    // A receipt that cannot be read is not a deployment.
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
        let mut watch = WatchedRounds::default();
        watch.hang(0..60);
        watch
    };
    let day = 60 + 24 * 60;
    let mut watch = spent();
    watch.idle(60..day);
    assert!(watch.history.spent.is_some());
    watch.idle(day..day + 10);
    assert_eq!(
        (watch.history.spent, watch.history.restarts.len()),
        (None, 0)
    );
    // A round without an answer, or a night without rounds, restarts the day.
    let mut watch = spent();
    watch.idle(60..800);
    watch.round(at(800), silence());
    watch.idle(805..day + 10);
    assert!(watch.history.spent.is_some());
    let mut watch = spent();
    watch.idle(60..65);
    watch.idle(day..day + 10);
    assert!(watch.history.spent.is_some());
}

#[test]
fn outage_lasts_until_the_server_has_stayed_healthy() {
    let mut watch = WatchedRounds::default();
    assert_eq!(watch.hang(0..3), 1);
    let outage = watch.history.outage;
    assert_eq!(outage, Some(at(2)));
    // It accepts a request and hangs again: that is the same outage.
    watch.round(at(3), beat(0, 1, 0));
    assert_eq!(watch.hang(4..9), 1);
    assert_eq!(watch.history.outage, outage);
    watch.round(at(9), beat(0, 1, 0));
    assert_eq!(watch.history.outage, outage);
    watch.round(at(11), beat(1, 2, 0));
    assert_eq!((watch.history.outage, watch.answers_again), (None, false));
}

#[test]
fn outage_that_is_not_attended_is_reported_when_it_ends() {
    let mut watch = WatchedRounds::default();
    watch.hang(0..60);
    watch.idle(60..70);
    assert!(!watch.answers_again, "the restarts reported that one");
    watch.hang(70..80);
    assert!(watch.history.unattended);
    let mut reported = 0;
    for minute in 80..90 {
        watch.round(at(minute), beat(0, 5, 0));
        reported += usize::from(watch.answers_again);
    }
    assert_eq!(reported, 1);
}

#[test]
fn outage_that_spends_the_budget_is_reported_when_it_ends() {
    let mut watch = WatchedRounds::default();
    for hang in 0..4 {
        let begin = 10 * hang;
        assert_eq!(watch.hang(begin..begin + 3), 1);
        watch.idle(begin + 3..begin + 9);
        assert_eq!(watch.history.outage, None);
    }
    assert_eq!(watch.hang(40..43), 0, "the fifth within an hour");
    assert_eq!(watch.history.spent, Some(at(42)));
    watch.round(at(43), beat(0, 5, 0));
    watch.round(at(45), beat(0, 5, 0));
    assert!(watch.answers_again);
}

#[test]
fn outage_without_any_restart_budget_is_reported_when_it_ends() {
    let mut history = ServerHistory::default();
    let policy = RestartPolicy {
        restarts_per_hour: 0,
        ..policy()
    };
    let mut round = |minute: i32, answer| {
        let seen = Observation {
            failed_prefix_checks: Vec::new(),
            models_without_server: Vec::new(),
            now: at(minute),
            answer,
            agent: loaded(7, 1),
            deployment: None,
            misses: 0,
        };
        let decision = decide(&seen, &mut history, &policy);
        (decision.remedy, decision.answers_again)
    };
    for minute in 0..2 {
        round(minute, beat(1, 5, 60 * minute as u64));
    }
    assert_eq!(round(2, beat(1, 5, 120)), (Remedy::Escalate, false));
    round(3, beat(0, 5, 0));
    assert_eq!(round(5, beat(0, 5, 0)), (Remedy::Nothing, true));
}

#[test]
fn restart_budget_is_spent_by_one_outage_however_long_the_server_takes_to_start() {
    let policy = RestartPolicy {
        startup_grace: TimeDelta::minutes(14),
        ..policy()
    };
    let mut history = ServerHistory::default();
    let (mut restarts, mut misses) = (0, 0);
    for minute in 0..180 {
        let seen = Observation {
            failed_prefix_checks: Vec::new(),
            models_without_server: Vec::new(),
            now: at(minute),
            answer: silence(),
            agent: loaded(7 + restarts, 1),
            deployment: None,
            misses,
        };
        let decision = decide(&seen, &mut history, &policy);
        misses = decision.misses;
        restarts += u32::from(decision.remedy == Remedy::Kickstart);
    }
    assert_eq!(restarts, 4);
    assert!(history.spent.is_some());
}

#[test]
fn agent_that_is_not_loaded_is_bootstrapped_unless_it_is_disabled() {
    let missing = |disabled| play([(silence(), ActiveAgent::NotLoaded { disabled })])[0].1;
    assert_eq!(
        (missing(false), missing(true)),
        (Remedy::Bootstrap, Remedy::Nothing)
    );
    // An operator runs the server in a terminal.
    let by_hand = play([(
        ServerAnswer::Alive,
        ActiveAgent::NotLoaded { disabled: false },
    )]);
    assert_eq!(by_hand[0], (Condition::Answering, Remedy::Nothing));
}

#[test]
fn load_of_many_minutes_is_busy() {
    let loading = |n: u64| {
        let beat =
            HeartbeatReading::new(ServerPhase::Loading, 0, 0, 10 * n, Duration::from_secs(2));
        (
            ServerAnswer::Health(vec![(String::new(), beat)]),
            loaded(7, 1),
        )
    };
    let decisions = play((0..30).map(loading));
    assert!(
        decisions
            .iter()
            .all(|(_, remedy)| *remedy == Remedy::Nothing)
    );
    assert_eq!(
        (&decisions[0].0, &decisions[29].0),
        (&Condition::Starting, &Condition::Busy)
    );
}

proptest! {
    #[test]
    fn engine_that_moves_is_never_restarted(
        rounds in prop::collection::vec((0u64..5, 1u64..50, 0u64..10_000, 0u32..3), 1..60)
    ) {
        let mut progress = 0;
        let rounds = rounds.into_iter().map(|(in_flight, step, age, pid)| {
            progress += step;
            (beat(in_flight, progress, age), loaded(pid, 1))
        });
        for (condition, remedy) in play(rounds.collect::<Vec<_>>()) {
            prop_assert_eq!(remedy, Remedy::Nothing, "{:?}", condition);
        }
    }
}

#[test]
fn stopped_server_is_neither_missed_nor_restarted() {
    let stopped = || ActiveAgent::Stopped("stopped on purpose".into());
    let decisions = play((0..100).map(|_| (silence(), stopped())));
    assert!(
        decisions
            .iter()
            .all(|one| *one == (Condition::Stopped, Remedy::Nothing)),
        "{decisions:?}"
    );
    // A program that answers all the same is guarded.
    let answers = play([(beat(0, 1, 0), stopped())]);
    assert_eq!(answers[0].0, Condition::Answering);
}
