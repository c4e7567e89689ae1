//! Answers over random trees of conversations are those of an engine that computes everything, in every bit.
//!
//! 300 trees by default; `SANCTUM_PREFIX_CASES` sets another number.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sanctum_engine::backend::{Backend, KvMode, Precision};
use sanctum_engine::prefix::{PrefixOptions, Reuse, Scope};
use sanctum_engine::schedule::{Engine, EngineLimits, Request, TokenLogprob};

use crate::small::{
    Answer, Arithmetic, END, LIMITS, VOCAB, answer, config, engine, model, request, wait_until_idle,
};

/// An engine and what it is asked.
#[derive(Clone, Debug)]
struct Tree {
    arithmetic: Arithmetic,
    slots: usize,
    chunk: usize,
    least: usize,
    spacing: usize,
    /// Memory beside the largest sequence, in snapshots; none: without a limit.
    beside: Option<u64>,
    turns: Vec<Turn>,
}

/// One request. Its prompt begins with a part of an earlier prompt and its answer.
#[derive(Clone, Debug)]
struct Turn {
    earlier: prop::sample::Index,
    /// How much of the earlier one.
    part: Part,
    new: Vec<u32>,
    answer: usize,
    is_greedy: bool,
    ends: bool,
    scope: u8,
    client: Client,
}

#[derive(Clone, Debug)]
enum Part {
    Nothing,
    Prompt,
    PromptAndAnswer,
    /// So many of 1000 parts.
    Within(usize),
}

#[derive(Clone, Copy, Debug)]
enum Client {
    /// Reads the answer before the next request is sent.
    Waits,
    /// Reads the answer at the end.
    Later,
    /// Disconnects after so many tokens.
    Leaves(usize),
}

/// The longest prompt of a tree.
const LONGEST: usize = 220;

fn arithmetic() -> impl Strategy<Value = Arithmetic> {
    let modes = prop::sample::select(vec![KvMode::Plain, KvMode::V8, KvMode::V4]);
    let precisions = prop::sample::select(vec![Precision::Exact, Precision::Fast]);
    (precisions, modes, 1..=2_usize).prop_map(|(precision, kv_cache, threads)| Arithmetic {
        precision,
        kv_cache,
        threads,
    })
}

fn turn() -> impl Strategy<Value = Turn> {
    let part = prop_oneof![
        1 => Just(Part::Nothing),
        1 => Just(Part::Prompt),
        3 => Just(Part::PromptAndAnswer),
        3 => (0..1000_usize).prop_map(Part::Within),
    ];
    // Few different tokens, so that messages part late.
    let token = prop_oneof![1 => Just(END), 8 => 2..5_u32, 8 => 2..VOCAB];
    let client = prop_oneof![
        3 => Just(Client::Waits),
        4 => Just(Client::Later),
        1 => (0..4_usize).prop_map(Client::Leaves),
    ];
    let scope = prop_oneof![6 => Just(0_u8), 1 => Just(1)];
    (
        any::<prop::sample::Index>(),
        part,
        vec(token, 1..60),
        1..6_usize,
        any::<bool>(),
        any::<bool>(),
        scope,
        client,
    )
        .prop_map(
            |(earlier, part, new, answer, is_greedy, ends, scope, client)| Turn {
                earlier,
                part,
                new,
                answer,
                is_greedy,
                ends,
                scope,
                client,
            },
        )
}

fn tree() -> impl Strategy<Value = Tree> {
    (
        arithmetic(),
        1..5_usize,
        1..48_usize,
        1..20_usize,
        4..80_usize,
        prop_oneof![Just(None), (0..8_u64).prop_map(Some)],
        vec(turn(), 2..9),
    )
        .prop_map(
            |(arithmetic, slots, chunk, least, spacing, beside, turns)| Tree {
                arithmetic,
                slots,
                chunk,
                least,
                spacing,
                beside,
                turns,
            },
        )
}

/// The answer of an engine that computes everything, in other chunks.
fn cold(arithmetic: Arithmetic, request: &Request) -> Answer {
    static ENGINES: Mutex<Option<HashMap<Arithmetic, Engine>>> = Mutex::new(None);
    let mut engines = ENGINES.lock().unwrap();
    let arithmetic = Arithmetic {
        threads: 1,
        ..arithmetic
    };
    let engine = engines
        .get_or_insert_default()
        .entry(arithmetic)
        .or_insert_with(|| {
            let limits = EngineLimits {
                prefill_chunk: 128,
                ..LIMITS
            };
            engine(arithmetic, u64::MAX, PrefixOptions::off(), limits)
        });
    answer(engine.submit(request.clone()).unwrap()).0
}

/// The requests of a tree with their answers.
fn asked(tree: &Tree) -> Vec<(Request, Answer, Client)> {
    let mut asked: Vec<(Request, Answer, Client)> = Vec::new();
    for (number, turn) in tree.turns.iter().enumerate() {
        let mut prompt = Vec::new();
        if !asked.is_empty() {
            let (earlier, answer, _) = turn.earlier.get(&asked);
            let whole = [&earlier.prompt[..], &answer.ids].concat();
            let len = match turn.part {
                Part::Nothing => 0,
                Part::Prompt => earlier.prompt.len(),
                Part::PromptAndAnswer => whole.len(),
                Part::Within(part) => whole.len() * part / 1000,
            };
            prompt.extend(&whole[..len]);
        }
        prompt.extend(&turn.new);
        prompt.truncate(LONGEST);
        let mut request = request(&prompt, turn.answer);
        request.ignore_eos = !turn.ends;
        request.sampling.seed = number as u64;
        if !turn.is_greedy {
            request.sampling.temperature = 1.0;
        }
        request.reuse = Reuse::Scope(Scope::from_bytes([turn.scope; 16]));
        let answer = cold(tree.arithmetic, &request);
        asked.push((request, answer, turn.client));
    }
    asked
}

/// What all trees together did: a test of reuse that reuses nothing is none.
#[derive(Default)]
struct Totals {
    reused: AtomicU64,
    evicted: AtomicU64,
    waited: AtomicU64,
    cancelled: AtomicU64,
}

fn check(tree: &Tree, totals: &Totals) -> Result<(), TestCaseError> {
    let asked = asked(tree);
    let cost = model(tree.arithmetic).backend().cost(&config());
    let memory = tree.beside.map_or(u64::MAX, |snapshots| {
        // Answers that are read at the end keep their log probabilities until then.
        let kept = 6 * TokenLogprob::bytes(VOCAB as usize) * tree.turns.len() as u64;
        let page = cost.per_token * cost.page as u64;
        cost.of(LONGEST + 6) + kept + snapshots * (cost.fixed + page)
    });
    let prefix = PrefixOptions {
        limit: Some(u64::MAX),
        least: tree.least,
        spacing: Some(tree.spacing),
        ..PrefixOptions::default()
    };
    let limits = EngineLimits {
        slots: tree.slots,
        prefill_chunk: tree.chunk,
        ..LIMITS
    };
    let engine = engine(tree.arithmetic, memory, prefix, limits);
    let mut later = Vec::new();
    let compare = |generation, expected: &Answer, prompt: usize| {
        let (found, usage) = answer(generation);
        prop_assert_eq!(&found, expected);
        prop_assert!(usage.cached_tokens < prompt);
        prop_assert_eq!(usage.prompt_tokens, prompt);
        Ok(())
    };
    for (request, expected, client) in &asked {
        let prompt = request.prompt.len();
        let mut generation = engine.submit(request.clone()).unwrap();
        match client {
            Client::Waits => compare(generation, expected, prompt)?,
            Client::Later => later.push((generation, expected, prompt)),
            Client::Leaves(after) => {
                for _ in 0..*after {
                    generation.blocking_next();
                }
            }
        }
    }
    for (generation, expected, prompt) in later {
        compare(generation, expected, prompt)?;
    }
    wait_until_idle(&engine);
    let stats = engine.stats();
    prop_assert_eq!(engine.admission().reserved(), 0);
    prop_assert!(stats.prefix_hot_bytes.load(Relaxed) <= memory);
    totals
        .reused
        .fetch_add(stats.prefix_hit_tokens.load(Relaxed), Relaxed);
    totals
        .evicted
        .fetch_add(stats.prefix_evictions.load(Relaxed), Relaxed);
    totals
        .waited
        .fetch_add(stats.prefix_waits.load(Relaxed), Relaxed);
    totals
        .cancelled
        .fetch_add(stats.cancelled.load(Relaxed), Relaxed);
    Ok(())
}

#[test]
fn reused_prefixes_give_the_bits_of_computed_ones() {
    let cases = std::env::var("SANCTUM_PREFIX_CASES").map_or(300, |cases| {
        cases.parse().expect("SANCTUM_PREFIX_CASES is a number")
    });
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let totals = Totals::default();
    runner.run(&tree(), |tree| check(&tree, &totals)).unwrap();
    let all = [
        &totals.reused,
        &totals.evicted,
        &totals.waited,
        &totals.cancelled,
    ];
    let all = all.map(|total| total.load(Relaxed));
    println!("{cases} trees: reused, evicted, waited, cancelled: {all:?}");
    assert!(all.iter().all(|&total| total > 0), "{all:?}");
}
