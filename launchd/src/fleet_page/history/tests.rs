//! The history across restarts, cuts and damage.

use std::fs;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::super::availability::Availability;
use super::*;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_776_500_000, 0).unwrap()
}

fn server(name: &str) -> Label {
    name.parse().unwrap()
}

fn sample(availability: Availability) -> ServerSample {
    ServerSample {
        availability,
        tokens_per_second: Some(41.25),
        queued: Some(3),
    }
}

fn record(history: &mut FleetHistory, minutes: i64, availability: Availability) {
    let samples = BTreeMap::from([(server("server"), sample(availability))]);
    history.record(now() + TimeDelta::minutes(minutes), &samples, |_| {});
}

fn states(history: &FleetHistory, at: DateTime<Utc>) -> String {
    let strip = history.strip(&server("server"), Span::Day, at);
    strip.states.trim_start_matches('-').to_owned()
}

#[test]
fn history_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page/history.jsonl");
    let end = now() + TimeDelta::minutes(60);
    let mut history = FleetHistory::open(&path, now());
    for minutes in (0..30).step_by(5) {
        record(&mut history, minutes, Availability::Up);
    }
    record(&mut history, 40, Availability::Down);
    let before = history.strip(&server("server"), Span::Week, end);
    drop(history);
    let history = FleetHistory::open(&path, end);
    assert_eq!(history.problem(), None);
    assert_eq!(history.strip(&server("server"), Span::Week, end), before);
    assert_eq!(before.availability, Some(6.0 / 7.0));
    let rates: Vec<f64> = before.tokens_per_second.iter().flatten().copied().collect();
    assert!(rates.iter().all(|rate| *rate == 41.3), "{rates:?}");
}

#[test]
fn samples_of_one_bucket_are_one_line_after_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let mut history = FleetHistory::open(&path, now());
    for _ in 0..5_000 {
        record(&mut history, 0, Availability::Up);
    }
    let size = fs::metadata(&path).unwrap().len();
    assert!(size < 300 << 10, "{size}");
    drop(history);
    FleetHistory::open(&path, now());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("\"u\":5000"), "{text}");
}

#[test]
fn what_is_older_than_seven_days_or_in_the_future_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let mut history = FleetHistory::open(&path, now());
    record(&mut history, 0, Availability::Up);
    record(&mut history, 10, Availability::Down);
    let later = now() + TimeDelta::days(7) + TimeDelta::minutes(65);
    drop(history);
    let history = FleetHistory::open(&path, later);
    let kept = history.buckets[&server("server")].len();
    assert_eq!(kept, 1);
    drop(history);
    let history = FleetHistory::open(&path, now() - TimeDelta::days(1));
    assert!(history.buckets.is_empty(), "the clock was set back");
}

#[test]
fn damaged_history_is_moved_aside_and_begins_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let mut history = FleetHistory::open(&path, now());
    record(&mut history, 0, Availability::Up);
    drop(history);
    let text = fs::read_to_string(&path).unwrap();
    let damaged = text.replace("\"b\"", "\"B\"");
    fs::write(&path, &damaged).unwrap();
    let mut history = FleetHistory::open(&path, now());
    assert!(history.buckets.is_empty() && history.problem().is_none());
    let aside = folder.path().join("history.jsonl.damaged");
    assert_eq!(fs::read_to_string(aside).unwrap(), damaged);
    record(&mut history, 0, Availability::Down);
    assert_eq!(states(&history, now()), "d");
}

#[test]
fn history_of_another_process_is_read_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let mut first = FleetHistory::open(&path, now());
    record(&mut first, 0, Availability::Up);
    let before = fs::read(&path).unwrap();
    let mut second = FleetHistory::open(&path, now());
    assert!(second.problem().unwrap().contains("another process writes"));
    assert_eq!(states(&second, now()), "u");
    record(&mut second, 0, Availability::Down);
    assert_eq!(states(&second, now()), "d");
    assert_eq!(fs::read(&path).unwrap(), before);
    record(&mut first, 0, Availability::Up);
    assert_ne!(fs::read(&path).unwrap(), before);
}

#[test]
fn history_that_cannot_be_written_is_written_whole_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let mut history = FleetHistory::open(&path, now());
    // A folder in its place: neither root nor another user can replace it by a file.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    history.compact();
    assert!(history.problem().unwrap().contains("cannot write"));
    record(&mut history, 0, Availability::Up);
    assert!(history.problem().is_some());
    fs::remove_dir(&path).unwrap();
    record(&mut history, 10, Availability::Down);
    assert_eq!(history.problem(), None);
    drop(history);
    let end = now() + TimeDelta::minutes(10);
    assert_eq!(states(&FleetHistory::open(&path, end), end), "ud");
}

proptest! {
    // Each case writes and syncs dozens of times.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn history_that_was_cut_anywhere_is_read_up_to_the_cut(kinds in proptest::collection::vec(0..3_u8, 1..30), cut in 0.0..=1.0) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let mut history = FleetHistory::open(&path, now());
        for (minutes, kind) in kinds.iter().enumerate() {
            let availability = [Availability::Up, Availability::Degraded, Availability::Down][usize::from(*kind)];
            record(&mut history, 10 * minutes as i64, availability);
        }
        let end = now() + TimeDelta::minutes(10 * kinds.len() as i64 - 10);
        let whole = states(&history, end);
        drop(history);
        let bytes = fs::read(&path).unwrap();
        let kept = (cut * bytes.len() as f64) as usize;
        fs::write(&path, &bytes[..kept]).unwrap();
        let mut history = FleetHistory::open(&path, end);
        prop_assert_eq!(history.problem(), None);
        prop_assert!(!folder.path().join("history.jsonl.damaged").exists());
        let lines = bytes[..kept].iter().filter(|byte| **byte == b'\n').count();
        let shown = history.buckets.values().map(BTreeMap::len).sum::<usize>();
        prop_assert_eq!(shown, lines.saturating_sub(1));
        let states = states(&history, end);
        prop_assert!(whole.starts_with(states.trim_end_matches('-')), "{} {}", whole, states);
        // It continues behind the cut.
        record(&mut history, 10 * kinds.len() as i64, Availability::Up);
        drop(history);
        let end = end + TimeDelta::minutes(10);
        prop_assert!(super::tests::states(&FleetHistory::open(&path, end), end).ends_with('u'));
    }
}
