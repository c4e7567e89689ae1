//! What is written and read when.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn tier(folder: &TempDir, settle: Duration) -> ColdTier {
    let options = ColdOptions {
        folder: folder.path().to_owned(),
        limit_bytes: 1 << 20,
        settle,
        retry: Duration::ZERO,
        estimate: true,
    };
    ColdTier::open(&options, [5; 32]).unwrap()
}

fn tokens(len: usize) -> Vec<u32> {
    (0..len as u32).collect()
}

/// Writes all that is due; gives each one's parent and length.
fn written(tier: &mut ColdTier) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    while tier
        .due_in()
        .is_some_and(|due| due <= Duration::from_millis(20))
    {
        if let Some(export) = tier.next(|tokens| tokens as u64) {
            all.push((export.from, export.tokens.len()));
            let payload = vec![export.tokens.len() as u8; 10];
            tier.write(export, payload);
        }
        std::thread::yield_now();
    }
    while tier.writer.is_busy() {
        std::thread::yield_now();
    }
    all
}

fn plan(tier: &ColdTier, prompt: usize, hot: &[usize]) -> Vec<usize> {
    let longest = hot.iter().copied().max().unwrap_or(0);
    let (prompt, is_hot) = (tokens(prompt), |len| hot.contains(&len));
    let links = tier.plan_restore(Scope::default(), &prompt, &mut None, longest, is_hot);
    links.iter().map(|link| link.len).collect()
}

/// The files to read for a prompt of so many tokens, of which none are in memory.
fn links(tier: &ColdTier, prompt: usize) -> Vec<ColdLink> {
    let prompt = tokens(prompt);
    tier.plan_restore(Scope::default(), &prompt, &mut None, 0, |_| false)
}

/// The payloads of these files.
fn payloads(tier: &mut ColdTier, links: &[ColdLink]) -> Vec<Vec<u8>> {
    let tokens = tokens(links.last().unwrap().len);
    assert!(tier.begin_read(links, &tokens));
    let mut read = Vec::new();
    loop {
        match tier.next_payload(Duration::from_secs(60)) {
            ReadProgress::Payload(payload) => {
                read.push(payload.clone());
                tier.used(payload);
            }
            ReadProgress::Done => return read,
            ReadProgress::Reading => panic!("nothing in a minute"),
        }
    }
}

#[test]
fn files_of_a_plan_are_read_in_order_until_one_cannot_be() {
    let folder = folder();
    let mut tier = tier(&folder, Duration::ZERO);
    for len in [10, 20, 30] {
        tier.note(1, false, Scope::default(), &tokens(len));
    }
    assert_eq!(written(&mut tier).len(), 3);
    let links = links(&tier, 100);
    let whole = [10, 20, 30].map(|len| vec![len; 10]);
    assert_eq!(payloads(&mut tier, &links), whole);
    // What is no longer wanted ends when its next payload is there, and never before.
    assert!(tier.begin_read(&links, &tokens(30)));
    assert!(!tier.begin_read(&links, &tokens(30)));
    tier.end_read();
    assert_eq!(tier.next_payload(Duration::ZERO), ReadProgress::Done);
    while !tier.begin_read(&links[..1], &tokens(30)) {
        std::thread::yield_now();
    }
    tier.end_read();
    tier.store.forget(links[1].key);
    while !tier.begin_read(&links, &tokens(30)) {
        std::thread::yield_now();
    }
    let ReadProgress::Payload(first) = tier.next_payload(Duration::from_secs(60)) else {
        panic!("the first one is whole")
    };
    assert_eq!(first, [10; 10]);
    tier.used(first);
    let end = tier.next_payload(Duration::from_secs(60));
    assert_eq!(end, ReadProgress::Done);
}

#[test]
fn payload_is_dropped_before_the_next_one_is_read() {
    let folder = folder();
    let mut tier = tier(&folder, Duration::ZERO);
    for len in [10, 20] {
        tier.note(1, false, Scope::default(), &tokens(len));
    }
    assert_eq!(written(&mut tier).len(), 2);
    let links = links(&tier, 100);
    assert!(tier.begin_read(&links, &tokens(20)));
    let next = |tier: &mut ColdTier| match tier.next_payload(Duration::from_secs(60)) {
        ReadProgress::Payload(payload) => payload,
        other => panic!("{other:?}"),
    };
    let first = next(&mut tier);
    let second = tier.next_payload(Duration::from_millis(100));
    assert_eq!(second, ReadProgress::Reading);
    // It was not read before: it is gone now.
    tier.store.forget(links[1].key);
    tier.used(first);
    let end = tier.next_payload(Duration::from_secs(60));
    assert_eq!(end, ReadProgress::Done);
}

#[test]
fn noted_prefixes_are_written_as_a_chain_and_planned_behind_what_is_hot() {
    let folder = folder();
    let mut tier = tier(&folder, Duration::ZERO);
    for len in [10, 30, 20, 10] {
        tier.note(1, false, Scope::default(), &tokens(len));
    }
    // 20 is written after 30, and so continues 10.
    assert_eq!(written(&mut tier), [(0, 10), (10, 30), (10, 20)]);
    assert!(tier.due_in().is_none());
    assert_eq!(plan(&tier, 100, &[]), [10, 30]);
    assert_eq!(plan(&tier, 31, &[]), [10, 30]);
    assert_eq!(plan(&tier, 30, &[]), [10, 20], "a token is left to compute");
    assert_eq!(plan(&tier, 100, &[10]), [30]);
    assert_eq!(plan(&tier, 100, &[25]), [10, 30]);
    assert_eq!(plan(&tier, 100, &[30]), [0; 0]);
    assert_eq!(plan(&tier, 100, &[50]), [0; 0]);
    let link = links(&tier, 100)[1];
    assert_eq!(payloads(&mut tier, &[link]), [vec![30; 10]]);
    // What is there already is not written again.
    tier.note(2, false, Scope::default(), &tokens(30));
    assert_eq!(written(&mut tier), []);
    tier.refuse(&link, "test");
    assert_eq!(plan(&tier, 100, &[]), [10, 20]);
    tier.clear();
    assert_eq!((plan(&tier, 100, &[]), tier.bytes()), (vec![], 0));
}

#[test]
fn prompt_that_is_planned_again_is_not_hashed_again() {
    let folder = folder();
    let mut tier = tier(&folder, Duration::ZERO);
    tier.note(1, false, Scope::default(), &tokens(10));
    tier.note(1, false, Scope::default(), &tokens(30));
    assert_eq!(written(&mut tier).len(), 2);
    let mut keys = None;
    let mut planned = |prompt: &[u32]| {
        let links = tier.plan_restore(Scope::default(), prompt, &mut keys, 0, |_| false);
        links.iter().map(|link| link.len).collect::<Vec<_>>()
    };
    assert_eq!(planned(&tokens(100)), [10, 30]);
    // Other tokens, which have other keys: those of the prompt are remembered.
    assert_eq!(planned(&[7; 100]), [10, 30]);
}

#[test]
fn later_turn_replaces_earlier_ones_but_not_lasting_ones() {
    let folder = folder();
    let mut tier = tier(&folder, Duration::from_secs(3600));
    let note = |tier: &mut ColdTier, request, lasting, len| {
        tier.note(request, lasting, Scope::default(), &tokens(len));
    };
    note(&mut tier, 1, true, 10);
    note(&mut tier, 1, false, 20);
    note(&mut tier, 1, false, 30);
    note(&mut tier, 2, false, 25);
    tier.note(3, false, Scope::of(&[b"other"]), &tokens(40));
    let lens = |tier: &ColdTier| {
        tier.noted
            .iter()
            .map(|n| n.tokens.len())
            .collect::<Vec<_>>()
    };
    assert_eq!(lens(&tier), [10, 30, 25, 40]);
    assert!(tier.due_in().unwrap() > Duration::from_secs(30));
    assert!(tier.next(|_| 0).is_none());
    // A conversation that never pauses is written after a while.
    // It inherits the time of the first one that was replaced.
    let first = tier.noted[2].since;
    note(&mut tier, 4, false, 50);
    assert_eq!(lens(&tier), [10, 40, 50]);
    assert_eq!(tier.noted[2].since, first);
}

#[test]
fn what_is_computed_faster_than_read_is_neither_written_nor_read() {
    let folder = folder();
    let mut tier = tier(&folder, Duration::ZERO);
    tier.note(1, false, Scope::default(), &tokens(10));
    tier.note(1, false, Scope::default(), &tokens(1000));
    assert_eq!(written(&mut tier), [(0, 10), (10, 1000)]);
    // Opening a file takes as long as 100,000 of these tokens.
    tier.measured(100, Duration::from_micros(1));
    assert_eq!(plan(&tier, 2000, &[]), [0; 0]);
    tier.note(1, false, Scope::default(), &tokens(1500));
    assert_eq!(written(&mut tier), []);
    for _ in 0..40 {
        tier.measured(100, Duration::from_millis(100));
    }
    assert_eq!(plan(&tier, 2000, &[]), [10, 1000]);
    tier.note(1, false, Scope::default(), &tokens(1500));
    assert_eq!(written(&mut tier), [(1000, 1500)]);
    // Few rows are no measurement.
    tier.measured(1, Duration::from_nanos(1));
    assert_eq!(plan(&tier, 2000, &[]), [10, 1000, 1500]);
}

#[test]
fn folder_that_cannot_be_used_is_no_cold_tier() {
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = ColdOptions {
        folder: folder.path().to_owned(),
        limit_bytes: 1 << 20,
        settle: Duration::ZERO,
        retry: Duration::ZERO,
        estimate: true,
    };
    assert!(ColdTier::open(&options, [5; 32]).is_err());
}

#[test]
fn tier_whose_writer_panicked_while_paused_fails_once_and_has_nothing_due() {
    let above = folder();
    let path = above.path().join("cache");
    let options = ColdOptions {
        settle: Duration::ZERO,
        retry: Duration::ZERO,
        ..ColdOptions::new(path.clone(), 1 << 20)
    };
    let mut tier = ColdTier::open(&options, [5; 32]).unwrap();
    tier.note(1, false, Scope::default(), &tokens(10));
    assert_eq!(written(&mut tier), [(0, 10)]);
    assert!(tier.failure().is_none());
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "").unwrap();
    tier.note(1, false, Scope::default(), &tokens(20));
    let export = tier.next(|tokens| tokens as u64).unwrap();
    tier.write(export, vec![0; 10]);
    // Its tokens end before those that it continues: the writer panics.
    let wrong = Export {
        scope: Scope::default(),
        tokens: tokens(10),
        from: 11,
        parent: None,
    };
    tier.write(wrong, Vec::new());
    while !tier.writer.has_ended() {
        std::thread::yield_now();
    }
    assert!(tier.status().problem().is_some());
    assert_eq!(tier.due_in(), Some(Duration::ZERO));
    let error = tier.failure().unwrap().to_string();
    let names = error.contains(&path.display().to_string());
    assert!(names && error.contains("restart the server"), "{error}");
    assert!(tier.failure().is_none(), "it is reported once");
    tier.note(1, false, Scope::default(), &tokens(30));
    assert_eq!(tier.due_in(), None);
    assert!(tier.next(|tokens| tokens as u64).is_none());
    assert_eq!(plan(&tier, 100, &[]), [0; 0]);
    tier.clear();
}

#[test]
fn nothing_is_written_while_the_folder_cannot_be_used() {
    let above = folder();
    let path = above.path().join("cache");
    let options = ColdOptions {
        settle: Duration::ZERO,
        retry: Duration::from_secs(3600),
        ..ColdOptions::new(path.clone(), 1 << 20)
    };
    let mut tier = ColdTier::open(&options, [5; 32]).unwrap();
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "").unwrap();
    tier.note(1, false, Scope::default(), &tokens(10));
    tier.note(1, false, Scope::default(), &tokens(20));
    let export = tier.next(|tokens| tokens as u64).unwrap();
    tier.write(export, vec![0; 10]);
    while tier.writer.is_busy() {
        std::thread::yield_now();
    }
    assert!(tier.status().problem().is_some());
    // The other one waits until files can be written again, which is not tried in this hour.
    assert!(tier.next(|tokens| tokens as u64).is_none() && !tier.writer.is_busy());
    assert!(tier.due_in().unwrap() > Duration::from_secs(1800));
    fs::remove_file(&path).unwrap();
    tier.retry = Duration::ZERO;
    assert!(tier.next(|tokens| tokens as u64).is_none());
    while tier.writer.is_busy() {
        std::thread::yield_now();
    }
    assert_eq!(tier.status().problem(), None);
    assert_eq!(written(&mut tier), [(0, 20)]);
    assert_eq!(plan(&tier, 100, &[]), [20]);
}
