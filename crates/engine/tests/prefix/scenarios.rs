//! What is computed and what is not, request by request.

use std::sync::atomic::Ordering::Relaxed;

use sanctum_engine::prefix::{PrefixOptions, PrefixState, Reuse, Scope};
use sanctum_engine::schedule::{Engine, EngineLimits, Request};

use crate::small::{
    END, FAST, GeneratedAnswer, LIMITS, answer, engine, request, reusing, wait_for,
    wait_until_idle, words,
};

fn warm() -> Engine {
    engine(FAST, u64::MAX, reusing(), LIMITS)
}

/// The answer of an engine that computes everything.
fn cold(request: &Request) -> GeneratedAnswer {
    let engine = engine(FAST, u64::MAX, PrefixOptions::off(), LIMITS);
    answer(engine.submit(request.clone()).unwrap()).0
}

/// Submits a request and compares the answer; gives the tokens that were reused.
fn ask(engine: &Engine, request: &Request) -> usize {
    let (found, usage) = answer(engine.submit(request.clone()).unwrap());
    assert_eq!(found, cold(request));
    assert_eq!(usage.prompt_tokens, request.prompt.len());
    usage.cached_tokens
}

/// A message that ends.
fn message(len: usize, seed: u32) -> Vec<u32> {
    let mut tokens = words(len - 1, seed);
    tokens.push(END);
    tokens
}

#[test]
fn second_turn_computes_only_what_is_new() {
    let engine = warm();
    assert_eq!(engine.prefix_state(), PrefixState::On);
    let mut first = request(&[message(100, 1), message(50, 2), vec![7, 8]].concat(), 10);
    assert_eq!(ask(&engine, &first), 0);
    let ids = cold(&first).ids;
    // What the slot held at the end: the last token was chosen, and not computed.
    let held = first.prompt.len() + ids.len() - 1;
    let turn = [ids, vec![END], message(30, 3)].concat();
    first.prompt.extend(turn);
    assert_eq!(ask(&engine, &first), held);
    // Another answer to the first message begins behind the first message.
    let other = request(&[message(100, 1), message(20, 4), vec![7, 8]].concat(), 3);
    assert_eq!(ask(&engine, &other), 100);
    let stats = engine.stats();
    assert_eq!(stats.prefix_hits.load(Relaxed), 2);
    assert_eq!(stats.prefix_hit_tokens.load(Relaxed), held as u64 + 100);
    assert!(stats.prefix_hot_bytes.load(Relaxed) > 0);
    assert!(stats.prefix_snapshots.load(Relaxed) > 2);
}

#[test]
fn branch_within_a_message_is_reused_by_the_third_prompt() {
    let engine = warm();
    let common = words(150, 1);
    let branch = |seed| request(&[common.clone(), words(20, seed)].concat(), 2);
    assert_eq!(ask(&engine, &branch(2)), 0);
    // Nothing was kept where the second one parts from the first; it leaves a snapshot there.
    assert_eq!(ask(&engine, &branch(3)), 0);
    assert_eq!(ask(&engine, &branch(4)), 150);
}

#[test]
fn prefix_of_two_requests_at_once_is_computed_once() {
    let engine = warm();
    // Long enough that all of them are submitted before it is computed.
    let common = message(3000, 1);
    let all = [2, 3, 4, 5].map(|seed| request(&[common.clone(), words(10, seed)].concat(), 4));
    let running = all.each_ref().map(|r| engine.submit(r.clone()).unwrap());
    let mut cached = 0;
    for (request, generation) in all.iter().zip(running) {
        let (found, usage) = answer(generation);
        assert_eq!(found, cold(request));
        cached += usage.cached_tokens;
    }
    assert_eq!(cached, 3 * 3000);
    let stats = engine.stats();
    assert_eq!(stats.prompt_tokens.load(Relaxed), 3000 + 4 * 10);
    assert_eq!(stats.prefix_waits.load(Relaxed), 3);
}

#[test]
fn choices_of_one_prompt_compute_it_once() {
    let engine = warm();
    let mut one = request(&words(3000, 1), 6);
    one.sampling.temperature = 1.0;
    let choices = [1, 2, 3].map(|seed| {
        let mut choice = one.clone();
        choice.sampling.seed = seed;
        choice
    });
    let running = choices
        .each_ref()
        .map(|r| engine.submit(r.clone()).unwrap());
    for (request, generation) in choices.iter().zip(running) {
        assert_eq!(answer(generation).0, cold(request));
    }
    let computed = engine.stats().prompt_tokens.load(Relaxed);
    assert_eq!(computed, 3000 + 2);
}

#[test]
fn follower_of_a_cancelled_leader_takes_what_it_left() {
    let engine = warm();
    let common = words(3000, 1);
    let leader = request(&[common.clone(), words(50, 2)].concat(), 4);
    let follower = request(&[common, words(50, 3)].concat(), 4);
    let leads = engine.submit(leader).unwrap();
    let follows = engine.submit(follower.clone()).unwrap();
    let stats = engine.stats();
    wait_for(&stats.prefix_waits, 1);
    let begun = stats.passes.load(Relaxed);
    wait_for(&stats.passes, begun + 3);
    drop(leads);
    let (found, usage) = answer(follows);
    assert_eq!(found, cold(&follower));
    assert_eq!(stats.cancelled.load(Relaxed), 1);
    let cached = usage.cached_tokens as u64;
    assert!((1..3000).contains(&cached), "{cached}");
    assert_eq!(stats.prompt_tokens.load(Relaxed), 3050);
}

#[test]
fn requests_behind_one_that_waits_are_served_meanwhile() {
    let engine = warm();
    let common = words(2000, 1);
    let leader = request(&common, 2);
    let follower = request(&[common, words(5, 2)].concat(), 2);
    let short = request(&words(20, 3), 2);
    let leads = engine.submit(leader.clone()).unwrap();
    let follows = engine.submit(follower.clone()).unwrap();
    let (found, _) = answer(engine.submit(short.clone()).unwrap());
    assert_eq!(found, cold(&short));
    // It ended before the prompt that the follower waits for: that one takes 125 passes.
    assert!(engine.stats().prompt_tokens.load(Relaxed) < 2000);
    assert_eq!(answer(leads).0, cold(&leader));
    assert_eq!(answer(follows).0, cold(&follower));
}

#[test]
fn prefixes_are_shared_within_one_scope_only() {
    let engine = warm();
    let mut one = request(&message(80, 1), 3);
    let scope = |salt: &[u8]| Reuse::Scope(Scope::of(&[salt]));
    for (reuse, cached) in [
        (scope(b"a"), 0),
        (scope(b"b"), 0),
        (Reuse::Off, 0),
        (Reuse::default(), 0),
        (scope(b"a"), 79),
    ] {
        one.reuse = reuse;
        // The second of a scope takes a snapshot before the last token.
        let first = ask(&engine, &one);
        let second = ask(&engine, &one);
        assert_eq!(first, cached, "{reuse:?}");
        assert!(second <= 79);
    }
}

#[test]
fn engine_without_reuse_reports_so_and_keeps_nothing() {
    let engine = engine(FAST, u64::MAX, PrefixOptions::off(), LIMITS);
    assert_eq!(engine.prefix_state(), PrefixState::Off);
    let one = request(&message(80, 1), 3);
    assert_eq!((ask(&engine, &one), ask(&engine, &one)), (0, 0));
    assert_eq!(engine.stats().prefix_hot_bytes.load(Relaxed), 0);
}

#[test]
fn snapshots_make_room_for_sequences_and_stay_within_their_limit() {
    let probe = warm();
    let cost = probe.admission().cost;
    // Room for one sequence and a snapshot or two beside it.
    let budget = cost.of(256) + 2 * cost.fixed + 4096;
    let limits = EngineLimits { slots: 2, ..LIMITS };
    let prefix = PrefixOptions {
        limit: Some(u64::MAX),
        ..reusing()
    };
    let engine = engine(FAST, budget, prefix, limits);
    let stats = engine.stats();
    for seed in 0..12 {
        let prompt = [message(60, seed % 3), message(100, seed), vec![5]].concat();
        ask(&engine, &request(&prompt, 20));
        wait_until_idle(&engine);
        assert_eq!(engine.admission().reserved(), 0);
        assert!(stats.prefix_hot_bytes.load(Relaxed) <= budget);
    }
    assert!(stats.prefix_evictions.load(Relaxed) > 0);
    // The largest sequence still has all of the memory.
    ask(&engine, &request(&words(200, 99), 56));
    assert_eq!(stats.cancelled.load(Relaxed), 0);
}

#[test]
fn lower_budget_frees_snapshots_of_an_idle_engine() {
    let engine = engine(FAST, 1 << 30, reusing(), LIMITS);
    ask(&engine, &request(&message(100, 1), 5));
    wait_until_idle(&engine);
    let bytes = &engine.stats().prefix_hot_bytes;
    assert!(bytes.load(Relaxed) > 0);
    let lowered = engine.lower_budget(|held| Ok::<_, ()>((held.running, ())));
    assert_eq!(lowered, Ok(()));
    while bytes.load(Relaxed) > 0 {
        std::thread::yield_now();
    }
    engine.admission().restore();
    assert_eq!(ask(&engine, &request(&message(100, 1), 5)), 0);
}
