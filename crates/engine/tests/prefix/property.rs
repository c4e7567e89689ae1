//! Answers over random trees of conversations are those of an engine that computes everything, in every bit: with engines that
//! are started again and continue from disk, and with checks of reused prefixes between requests.
//!
//! 300 trees by default; `SANCTUM_PREFIX_CASES` sets another number.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sanctum_engine::backend::{KvMode, Precision};
use sanctum_engine::prefix::{ColdOptions, PrefixOptions, Reuse, Scope};
use sanctum_engine::schedule::{Engine, EngineLimits, Request, TokenLogprob};

use crate::small::{
    Arithmetic, END, GeneratedAnswer, LIMITS, TestDevice, VOCAB, answer, cost, engine, request,
    wait_for, wait_until_idle,
};

/// An engine and what it is asked.
#[derive(Clone, Debug)]
struct ConversationTree {
    arithmetic: Arithmetic,
    slots: usize,
    chunk: usize,
    least: usize,
    spacing: usize,
    /// Memory beside the largest sequence, in snapshots; none: without a limit.
    beside: Option<u64>,
    /// Whether prefixes are kept on disk, and before which turn the engine is started again.
    disk: Option<prop::sample::Index>,
    /// The share of reused prefixes that are checked.
    check_share: f64,
    turns: Vec<PlannedTurn>,
}

/// One request. Its prompt begins with a part of an earlier prompt and its answer.
#[derive(Clone, Debug)]
struct PlannedTurn {
    earlier: prop::sample::Index,
    /// How much of the earlier one.
    part: ReusedPart,
    new: Vec<u32>,
    answer: usize,
    is_greedy: bool,
    ends: bool,
    scope: u8,
    client: ClientPattern,
}

#[derive(Clone, Debug)]
enum ReusedPart {
    Nothing,
    Prompt,
    PromptAndAnswer,
    /// So many of 1000 parts.
    Within(usize),
}

#[derive(Clone, Copy, Debug)]
enum ClientPattern {
    /// Reads the answer before the next request is sent.
    Waits,
    /// Reads the answer at the end.
    Later,
    /// Disconnects after so many tokens.
    Leaves(usize),
}

/// The longest prompt of a tree.
const LONGEST: usize = 220;

fn on_cpu() -> impl Strategy<Value = Arithmetic> {
    let modes = prop::sample::select(vec![KvMode::Plain, KvMode::V8, KvMode::V4]);
    let precisions = prop::sample::select(vec![Precision::Exact, Precision::Fast]);
    let all = (precisions, modes, 1..=2_usize, any::<bool>());
    all.prop_map(|(precision, kv_cache, threads, experts)| Arithmetic {
        device: TestDevice::Cpu,
        precision,
        kv_cache,
        threads,
        experts,
    })
}

#[cfg(feature = "mlx")]
fn on_mlx() -> impl Strategy<Value = Arithmetic> {
    let modes = prop::sample::select(vec![KvMode::Plain, KvMode::V8, KvMode::V4]);
    (modes, any::<bool>()).prop_map(|(kv_cache, experts)| Arithmetic {
        device: TestDevice::Mlx,
        precision: Precision::Exact,
        kv_cache,
        threads: 1,
        experts,
    })
}

fn turn() -> impl Strategy<Value = PlannedTurn> {
    let part = prop_oneof![
        1 => Just(ReusedPart::Nothing),
        1 => Just(ReusedPart::Prompt),
        3 => Just(ReusedPart::PromptAndAnswer),
        3 => (0..1000_usize).prop_map(ReusedPart::Within),
    ];
    // Few different tokens, so that messages part late.
    let token = prop_oneof![1 => Just(END), 8 => 2..5_u32, 8 => 2..VOCAB];
    let client = prop_oneof![
        3 => Just(ClientPattern::Waits),
        4 => Just(ClientPattern::Later),
        1 => (0..4_usize).prop_map(ClientPattern::Leaves),
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
            |(earlier, part, new, answer, is_greedy, ends, scope, client)| PlannedTurn {
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

fn tree(arithmetic: impl Strategy<Value = Arithmetic>) -> impl Strategy<Value = ConversationTree> {
    (
        arithmetic,
        1..5_usize,
        1..48_usize,
        1..20_usize,
        4..80_usize,
        prop_oneof![Just(None), (0..8_u64).prop_map(Some)],
        prop::option::of(any::<prop::sample::Index>()),
        prop_oneof![Just(0.0), Just(0.5), Just(1.0)],
        vec(turn(), 2..9),
    )
        .prop_map(
            |(arithmetic, slots, chunk, least, spacing, beside, disk, check_share, turns)| {
                ConversationTree {
                    arithmetic,
                    slots,
                    chunk,
                    least,
                    spacing,
                    beside,
                    disk,
                    check_share,
                    turns,
                }
            },
        )
}

/// The answer of an engine that computes everything, in other chunks.
fn cold(arithmetic: Arithmetic, request: &Request) -> GeneratedAnswer {
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
fn asked(tree: &ConversationTree) -> Vec<(Request, GeneratedAnswer, ClientPattern)> {
    let mut asked: Vec<(Request, GeneratedAnswer, ClientPattern)> = Vec::new();
    for (number, turn) in tree.turns.iter().enumerate() {
        let mut prompt = Vec::new();
        if !asked.is_empty() {
            let (earlier, answer, _) = turn.earlier.get(&asked);
            let whole = [&earlier.prompt[..], &answer.ids].concat();
            let len = match turn.part {
                ReusedPart::Nothing => 0,
                ReusedPart::Prompt => earlier.prompt.len(),
                ReusedPart::PromptAndAnswer => whole.len(),
                ReusedPart::Within(part) => whole.len() * part / 1000,
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
struct TreeTotals {
    reused: AtomicU64,
    evicted: AtomicU64,
    waited: AtomicU64,
    cancelled: AtomicU64,
    restored: AtomicU64,
    checked: AtomicU64,
}

impl TreeTotals {
    fn all(&self) -> [u64; 6] {
        let Self {
            reused,
            evicted,
            waited,
            cancelled,
            restored,
            checked,
        } = self;
        [reused, evicted, waited, cancelled, restored, checked].map(|total| total.load(Relaxed))
    }
}

fn check(tree: &ConversationTree, totals: &TreeTotals) -> Result<(), TestCaseError> {
    let asked = asked(tree);
    let folder = tempfile::tempdir().unwrap();
    let cost = cost(tree.arithmetic);
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
        check_share: tree.check_share,
        cold: tree.disk.map(|_| ColdOptions {
            settle: Duration::ZERO,
            estimate: false,
            ..ColdOptions::new(folder.path().join("cache"), 1 << 30)
        }),
        ..PrefixOptions::default()
    };
    let limits = EngineLimits {
        slots: tree.slots,
        prefill_chunk: tree.chunk,
        ..LIMITS
    };
    let restart = tree.disk.map_or(0, |before| before.index(asked.len()));
    let parts = [&asked[..restart], &asked[restart..]];
    for asked in parts.into_iter().filter(|part| !part.is_empty()) {
        let engine = engine(tree.arithmetic, memory, prefix.clone(), limits);
        ask(&engine, asked)?;
        wait_until_idle(&engine);
        let stats = engine.stats();
        let is_checked = tree.check_share == 1.0 && tree.beside.is_none();
        if is_checked && stats.prefix_hits.load(Relaxed) > 0 {
            wait_for(&stats.prefix_checks, 1);
        }
        prop_assert_eq!(stats.prefix_differences.load(Relaxed), 0);
        prop_assert!(stats.prefix_hot_bytes.load(Relaxed) <= memory);
        // A check reserves the memory of one sequence.
        let of_check = match tree.check_share == 0.0 {
            true => 0,
            false => cost.of(LONGEST + 9),
        };
        prop_assert!(engine.admission().reserved() <= of_check);
        let counted = [
            (&totals.reused, &stats.prefix_hit_tokens),
            (&totals.evicted, &stats.prefix_evictions),
            (&totals.waited, &stats.prefix_waits),
            (&totals.cancelled, &stats.cancelled),
            (&totals.restored, &stats.prefix_restores),
            (&totals.checked, &stats.prefix_checks),
        ];
        for (total, counter) in counted {
            total.fetch_add(counter.load(Relaxed), Relaxed);
        }
    }
    Ok(())
}

/// Asks an engine, and compares its answers with the expected ones.
fn ask(
    engine: &Engine,
    asked: &[(Request, GeneratedAnswer, ClientPattern)],
) -> Result<(), TestCaseError> {
    let mut later = Vec::new();
    let compare = |generation, expected: &GeneratedAnswer, prompt: usize| {
        let (found, usage) = answer(generation);
        prop_assert_eq!(&found, expected);
        prop_assert!(usage.cached_tokens < prompt);
        prop_assert_eq!(usage.prompt_tokens, prompt);
        Ok(())
    };
    for (request, expected, client) in asked {
        let prompt = request.prompt.len();
        let mut generation = engine.submit(request.clone()).unwrap();
        match client {
            ClientPattern::Waits => compare(generation, expected, prompt)?,
            ClientPattern::Later => later.push((generation, expected, prompt)),
            ClientPattern::Leaves(after) => {
                for _ in 0..*after {
                    generation.blocking_next();
                }
            }
        }
    }
    for (generation, expected, prompt) in later {
        compare(generation, expected, prompt)?;
    }
    Ok(())
}

/// Checks so many trees, or as many as `SANCTUM_PREFIX_CASES` says.
fn run(cases: u32, arithmetic: impl Strategy<Value = Arithmetic>) {
    let cases = std::env::var("SANCTUM_PREFIX_CASES").map_or(cases, |cases| {
        cases.parse().expect("SANCTUM_PREFIX_CASES is a number")
    });
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let totals = TreeTotals::default();
    runner
        .run(&tree(arithmetic), |tree| check(&tree, &totals))
        .unwrap();
    let all = totals.all();
    println!("{cases} trees: reused, evicted, waited, cancelled, restored, checked: {all:?}");
    assert!(all.iter().all(|&total| total > 0), "{all:?}");
}

#[test]
fn reused_prefixes_give_the_bits_of_computed_ones() {
    run(300, on_cpu());
}

/// On MLX's CPU device every product adds in one order, so that nothing changes a bit. A GPU chooses its products by the number of
/// rows.
#[cfg(feature = "mlx")]
#[test]
fn reused_prefixes_on_mlx_give_the_bits_of_computed_ones() {
    use sanctum_engine::backend::MlxDevice;

    if MlxDevice::best() == MlxDevice::Gpu {
        println!("not on a GPU: results there depend on the number of rows");
        return;
    }
    run(40, on_mlx());
}
