//! Prefixes on disk, and the check of reused prefixes. An engine that is started again, or after one that was killed, continues
//! what is on disk, and its answers are those of an engine that computes everything. A damaged state is found, and nothing is
//! reused any more.

mod asking;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use asking::answer;
use sanctum_engine::backend::{CpuBackend, KvMode, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};
use sanctum_engine::prefix::{
    ColdOptions, PrefixDisk, PrefixOptions, PrefixState, Reuse, Scope, cold,
};
use sanctum_engine::schedule::{Engine, EngineLimits, Heartbeat, Request};
use sanctum_engine::text::Text;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const LIMITS: EngineLimits = EngineLimits {
    slots: 2,
    queue: 8,
    prefill_chunk: 64,
    context: 1024,
};

/// An engine that keeps prefixes in `folder`, if one is given.
fn engine(folder: Option<&Path>, fingerprint: u8, kv_cache: KvMode) -> Engine {
    checking_engine(folder, fingerprint, kv_cache, 0.0)
}

/// The same, which checks a share of the prefixes that are reused.
fn checking_engine(
    folder: Option<&Path>,
    fingerprint: u8,
    kv_cache: KvMode,
    check_share: f64,
) -> Engine {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let backend = CpuBackend::new(&host.config, 2, Precision::Fast).with_kv_cache(kv_cache);
    let model = Model::new(backend, host.config, host.weights);
    let text = Text::open(&ModelSource::Embedded, &model.config).unwrap();
    let prefix = PrefixOptions {
        enabled: folder.is_some(),
        cold: folder.map(|folder| ColdOptions {
            settle: Duration::ZERO,
            retry: Duration::from_millis(10),
            estimate: false,
            ..ColdOptions::new(folder.to_owned(), 1 << 30)
        }),
        check_share,
        fingerprint: [fingerprint; 32],
        ..PrefixOptions::default()
    };
    let heartbeat = Arc::new(Heartbeat::new());
    Engine::start_with(1 << 30, prefix, model, text, LIMITS, heartbeat).unwrap()
}

fn private_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// A conversation of so many turns, the last one being asked.
fn request(engine: &Engine, turns: usize) -> Request {
    let mut prompt = "<|im_start|>system\nYou count the words of each line, and name the longest one.<|im_end|>\n".to_owned();
    for turn in 1..=turns {
        let line = "one two three four five six seven ".repeat(turn);
        prompt += &format!("<|im_start|>user\n{line}<|im_end|>\n<|im_start|>assistant\n");
        if turn < turns {
            prompt += &format!("<think>\n\n</think>\n\nseven, {turn} times<|im_end|>\n");
        }
    }
    Request {
        prompt: engine.text().tokenizer.encode(&prompt).unwrap(),
        reuse: Reuse::Scope(Scope::default()),
        ..asking::request(engine, "", 12)
    }
}

/// Tokens of the longest prefix in the folder, and the number of prefixes.
fn longest(folder: &Path) -> (usize, usize) {
    let prefixes = cold::list(folder).unwrap().prefixes;
    let longest = prefixes.iter().map(|prefix| prefix.tokens).max();
    (longest.unwrap_or(0), prefixes.len())
}

/// Waits until a prefix of at least so many tokens is on disk.
fn wait_until_written(folder: &Path, tokens: usize) {
    wait_until(|| longest(folder).0 >= tokens);
}

fn wait_until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not happen"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn engine_started_again_continues_prefixes_from_disk() {
    for kv_cache in [KvMode::Plain, KvMode::V8, KvMode::V4] {
        let folder = private_folder();
        let cold = engine(None, 1, kv_cache);
        let asked = |engine: &Engine, turns| answer(engine.submit(request(engine, turns)).unwrap());
        let expected: Vec<_> = (1..=4).map(|turns| asked(&cold, turns)).collect();
        let mut written = 0;
        for (index, expected) in expected.iter().enumerate() {
            let turns = index + 1;
            // Each turn has an engine of its own.
            let engine = engine(Some(folder.path()), 1, kv_cache);
            let (ids, text, reason, usage) = asked(&engine, turns);
            assert_eq!(
                (ids, text, reason),
                (expected.0.clone(), expected.1.clone(), expected.2)
            );
            let stats = engine.stats();
            if turns == 1 {
                assert_eq!(
                    (usage.cached_tokens, stats.prefix_restores.load(Relaxed)),
                    (0, 0)
                );
            } else {
                assert!(usage.cached_tokens + 16 >= written, "{turns}: {usage:?}");
                assert!(stats.prefix_restores.load(Relaxed) >= 1);
            }
            written = request(&engine, turns).prompt.len();
            wait_until_written(folder.path(), written - 16);
        }
        // Another model reads nothing of it.
        let other = engine(Some(folder.path()), 2, kv_cache);
        let (.., usage) = asked(&other, 4);
        assert_eq!(
            (
                usage.cached_tokens,
                other.stats().prefix_restores.load(Relaxed)
            ),
            (0, 0)
        );
    }
}

fn prefix_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_prefix = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "prefix");
    paths.filter(is_prefix).collect()
}

/// Puts something that is no number into the first recurrent state of a prefix, with right checksums: as if it had been computed
/// so.
fn spoil(path: &Path) {
    /// The header: the parent's length, the length, the payload's checksum, its own checksum.
    const HEADER: usize = 216;
    let mut bytes = fs::read(path).unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let tokens = (number(136) - number(128)) as usize;
    let state = HEADER + 4 * tokens + 256;
    bytes[state..state + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let digest = Sha256::digest(&bytes[HEADER..]);
    bytes[152..184].copy_from_slice(&digest);
    let checksum = Sha256::digest(&bytes[..184]);
    bytes[184..HEADER].copy_from_slice(&checksum);
    fs::write(path, bytes).unwrap();
}

#[test]
fn prefix_whose_logits_are_not_finite_is_removed_and_computed() {
    let folder = private_folder();
    let first = engine(Some(folder.path()), 1, KvMode::Plain);
    let request = request(&first, 4);
    let expected = answer(first.submit(request.clone()).unwrap());
    wait_until_written(folder.path(), request.prompt.len() - 16);
    drop(first);
    for path in prefix_files(folder.path()) {
        spoil(&path);
    }
    let second = engine(Some(folder.path()), 1, KvMode::Plain);
    let stats = second.stats();
    let counts = || {
        let counters = [&stats.prefix_restores, &stats.prefix_restarts];
        counters.map(|counter| counter.load(Relaxed))
    };
    let (ids, text, reason, usage) = answer(second.submit(request.clone()).unwrap());
    assert_eq!((ids, text, reason), (expected.0, expected.1, expected.2));
    assert_eq!(usage.prompt_tokens, request.prompt.len());
    assert_eq!((usage.cached_tokens, counts()), (0, [1, 1]));
    // What it leaves is whole.
    let (.., reason, usage) = answer(second.submit(request).unwrap());
    assert!(reason == expected.2 && usage.cached_tokens > 0);
    assert_eq!(counts(), [1, 1]);
}

#[test]
fn damaged_prefix_is_computed_again() {
    let folder = private_folder();
    let first = engine(Some(folder.path()), 1, KvMode::Plain);
    let prompt = request(&first, 4);
    let expected = answer(first.submit(prompt.clone()).unwrap());
    wait_until_written(folder.path(), prompt.prompt.len() - 16);
    drop(first);
    let files = prefix_files(folder.path());
    assert!(files.len() >= 2);
    for path in files {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }
    let second = engine(Some(folder.path()), 1, KvMode::Plain);
    let (ids, text, reason, usage) = answer(second.submit(prompt).unwrap());
    assert_eq!((ids, text, reason), (expected.0, expected.1, expected.2));
    assert_eq!(usage.cached_tokens, 0);
}

#[test]
fn folder_that_is_removed_is_created_again_and_one_that_is_missing_is_reported() {
    let above = private_folder();
    let volume = above.path().join("volume");
    let folder = volume.join("cache");
    let engine = engine(Some(&folder), 1, KvMode::Plain);
    let asked = |turns| answer(engine.submit(request(&engine, turns)).unwrap());
    let tokens = |turns| request(&engine, turns).prompt.len() - 16;
    asked(1);
    wait_until_written(&folder, tokens(1));
    assert_eq!(engine.prefix_disk(), PrefixDisk::default());

    fs::rename(&folder, above.path().join("removed")).unwrap();
    asked(2);
    wait_until(|| cold::list(&folder).unwrap().process == Some(std::process::id()));
    asked(3);
    wait_until_written(&folder, tokens(3));
    assert_eq!(cold::list(&folder).unwrap().unusable, 0);
    assert_eq!(engine.prefix_disk().problem, None);

    // As if it was not mounted.
    let elsewhere = above.path().join("elsewhere");
    fs::rename(&volume, &elsewhere).unwrap();
    asked(4);
    wait_until(|| engine.prefix_disk().problem.is_some());
    let PrefixDisk {
        problem, errors, ..
    } = engine.prefix_disk();
    assert!(problem.unwrap().contains("mount its volume") && errors > 0);
    assert!(!volume.exists());
    fs::rename(&elsewhere, &volume).unwrap();
    // The engine is idle, and notices it all the same.
    wait_until(|| engine.prefix_disk().problem.is_none());
    asked(5);
    wait_until_written(&folder, tokens(5));
    // Nothing is asked any more: the last file is counted all the same.
    let counted = || engine.stats().prefix_cold_bytes.load(Relaxed);
    let listed = || cold::list(&folder).unwrap().prefixes;
    wait_until(|| counted() == listed().iter().map(|prefix| prefix.bytes).sum::<u64>());
}

const KILLED: &str = "SANCTUM_COLD_TEST_FOLDER";

#[test]
fn engine_after_a_killed_one_uses_the_same_folder() {
    if let Some(folder) = std::env::var_os(KILLED).map(PathBuf::from) {
        let engine = engine(Some(&folder), 1, KvMode::Plain);
        for turns in (1..=5).cycle() {
            answer(engine.submit(request(&engine, turns)).unwrap());
            println!("turn {turns}");
        }
    }
    let folder = private_folder();
    let reference = engine(None, 1, KvMode::Plain);
    let expected = answer(reference.submit(request(&reference, 5)).unwrap());
    for lines in [1, 3, 6] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "engine_after_a_killed_one_uses_the_same_folder",
                "--nocapture",
            ])
            .env(KILLED, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        while seen.matches("turn").count() < lines {
            let read = std::io::BufRead::read_line(&mut output, &mut seen).unwrap();
            assert!(read > 0, "{seen}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let listing = cold::list(folder.path()).unwrap();
        assert_eq!((listing.unusable, listing.process), (0, None));
        let engine = engine(Some(folder.path()), 1, KvMode::Plain);
        let (ids, text, reason, _) = answer(engine.submit(request(&engine, 5)).unwrap());
        assert_eq!(
            (ids, text, reason),
            (expected.0.clone(), expected.1.clone(), expected.2)
        );
    }
    assert!(longest(folder.path()).1 > 0);
}

#[test]
fn check_of_equal_prefixes_is_silent_and_yields_to_requests() {
    for kv_cache in [KvMode::Plain, KvMode::V4] {
        let folder = private_folder();
        let reference = engine(None, 1, kv_cache);
        let checking = checking_engine(Some(folder.path()), 1, kv_cache, 1.0);
        let stats = checking.stats();
        // Each request arrives while the check of the one before it runs, or before it has begun.
        for turns in [1, 2, 3, 4, 4, 3, 4, 2] {
            let asked = |engine: &Engine| answer(engine.submit(request(engine, turns)).unwrap());
            let ((ids, text, reason, _), expected) = (asked(&checking), asked(&reference));
            assert_eq!((ids, text, reason), (expected.0, expected.1, expected.2));
        }
        wait_until(|| stats.prefix_checks.load(Relaxed) >= 2);
        assert!(stats.prefix_hits.load(Relaxed) >= 7);
        assert_eq!(stats.prefix_differences.load(Relaxed), 0);
        assert_eq!(checking.prefix_state(), PrefixState::On);
        assert_eq!(checking.heartbeat().read().in_flight, 0);
        wait_until(|| checking.admission().reserved() == 0);
    }
}

/// Runs a test of this file in a process with these variables.
#[cfg(debug_assertions)]
fn run_in_second_process(test: &str, variables: [(&str, &Path); 2]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(variables)
        .output()
        .unwrap();
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    // A process that finds no test of this name succeeds.
    let has_passed = output.status.success() && texts[0].contains("1 passed");
    assert!(has_passed, "{}", texts.concat());
}

#[cfg(debug_assertions)]
const SLOW: &str = "SANCTUM_READ_TEST_FOLDER";

/// The variable that freezes the thread that reads is read once in a process, so another one tries it.
#[cfg(debug_assertions)]
#[test]
fn request_that_waits_for_the_disk_lets_others_go_first() {
    let test = "request_that_waits_for_the_disk_lets_others_go_first";
    let Some(folder) = std::env::var_os(SLOW).map(PathBuf::from) else {
        let folder = private_folder();
        let ice = folder.path().join("ice");
        fs::write(&ice, "").unwrap();
        let variables = [
            (SLOW, folder.path()),
            ("SANCTUM_FREEZE_READ", ice.as_path()),
        ];
        return run_in_second_process(test, variables);
    };
    let cache = folder.join("cache");
    let first = engine(Some(&cache), 1, KvMode::Plain);
    let long = request(&first, 4);
    let expected = answer(first.submit(long.clone()).unwrap());
    wait_until_written(&cache, long.prompt.len() - 16);
    drop(first);

    let second = engine(Some(&cache), 1, KvMode::Plain);
    let stats = second.stats();
    let restores = || stats.prefix_restores.load(Relaxed);
    // Another one that begins alike waits with it.
    let waiting = [&long; 2].map(|request| second.submit(request.clone()).unwrap());
    let short = asking::request(&second, "What is 2+2?", 4);
    answer(second.submit(short.clone()).unwrap());
    answer(second.submit(short).unwrap());
    assert_eq!((restores(), second.heartbeat().read().queued), (0, 2));
    fs::remove_file(folder.join("ice")).unwrap();
    for generation in waiting {
        let (ids, text, reason, usage) = answer(generation);
        assert_eq!(
            (ids, text, reason),
            (expected.0.clone(), expected.1.clone(), expected.2)
        );
        assert!(usage.cached_tokens > 0);
    }
    assert_eq!(restores(), 1);
    wait_until(|| second.admission().reserved() == 0);
}

#[cfg(debug_assertions)]
const CANCELLED: &str = "SANCTUM_CANCEL_TEST_FOLDER";

/// The variable that freezes the thread that reads is read once in a process, so another one tries it.
#[cfg(debug_assertions)]
#[test]
fn cancelled_request_ends_its_restore_while_others_run() {
    let test = "cancelled_request_ends_its_restore_while_others_run";
    let Some(folder) = std::env::var_os(CANCELLED).map(PathBuf::from) else {
        let folder = private_folder();
        let ice = folder.path().join("ice");
        fs::write(&ice, "").unwrap();
        let variables = [
            (CANCELLED, folder.path()),
            ("SANCTUM_FREEZE_READ", ice.as_path()),
        ];
        return run_in_second_process(test, variables);
    };
    let cache = folder.join("cache");
    let first = engine(Some(&cache), 1, KvMode::Plain);
    let long = request(&first, 4);
    let expected = answer(first.submit(long.clone()).unwrap());
    wait_until_written(&cache, long.prompt.len() - 16);
    drop(first);

    let second = engine(Some(&cache), 1, KvMode::Plain);
    let stats = second.stats();
    let restores = || stats.prefix_restores.load(Relaxed);
    let waiting = second.submit(long.clone()).unwrap();
    let mut busy = asking::request(&second, "Count.", 900);
    busy.ignore_eos = true;
    let running = second.submit(busy).unwrap();
    wait_until(|| second.heartbeat().read().in_flight == 1);
    drop(waiting);
    wait_until(|| stats.cancelled.load(Relaxed) == 1);
    fs::remove_file(folder.join("ice")).unwrap();
    answer(running);
    assert_eq!(restores(), 0);
    // What is on disk is restored for the next one.
    let (ids, text, reason, usage) = answer(second.submit(long).unwrap());
    assert_eq!((ids, text, reason), (expected.0, expected.1, expected.2));
    assert!(usage.cached_tokens > 0);
    assert_eq!(restores(), 1);
}

#[cfg(debug_assertions)]
const DAMAGED: &str = "SANCTUM_CHECK_TEST_FOLDER";

/// The variable that damages snapshots is read once in a process, so another one tries it.
#[cfg(debug_assertions)]
#[test]
fn damaged_state_empties_both_tiers_and_ends_reuse() {
    let test = "damaged_state_empties_both_tiers_and_ends_reuse";
    let Some(folder) = std::env::var_os(DAMAGED).map(PathBuf::from) else {
        let folder = private_folder();
        let file = folder.path().join("damage");
        let cache = folder.path().join("cache");
        fs::write(&file, "").unwrap();
        let variables = [
            (DAMAGED, cache.as_path()),
            ("SANCTUM_DAMAGE_PREFIX", file.as_path()),
        ];
        return run_in_second_process(test, variables);
    };
    let engine = checking_engine(Some(&folder), 1, KvMode::Plain, 1.0);
    let asked = |turns| answer(engine.submit(request(&engine, turns)).unwrap());
    asked(2);
    wait_until_written(&folder, request(&engine, 2).prompt.len() - 16);
    let (.., usage) = asked(3);
    assert!(usage.cached_tokens > 0);
    wait_until(|| engine.prefix_state() != PrefixState::On);
    let PrefixState::DisabledByCheck { reason } = engine.prefix_state() else {
        panic!("{:?}", engine.prefix_state());
    };
    let scope = Scope::default().to_string();
    let position = format!("position {}", usage.cached_tokens);
    assert!(
        reason.contains(&scope) && reason.contains(&position),
        "{reason}"
    );
    let stats = engine.stats();
    assert_eq!(stats.prefix_differences.load(Relaxed), 1);
    assert_eq!(
        (
            stats.prefix_hot_bytes.load(Relaxed),
            stats.prefix_snapshots.load(Relaxed)
        ),
        (0, 0)
    );
    assert_eq!(longest(&folder), (0, 0));
    let reused = stats.prefix_hits.load(Relaxed);
    let (ids, text, _, usage) = asked(3);
    assert_eq!(
        (usage.cached_tokens, stats.prefix_hits.load(Relaxed)),
        (0, reused)
    );
    let reference = self::engine(None, 1, KvMode::Plain);
    let expected = answer(reference.submit(request(&reference, 3)).unwrap());
    assert_eq!((ids, text), (expected.0, expected.1));
    assert_eq!(longest(&folder), (0, 0), "nothing is written any more");
}
