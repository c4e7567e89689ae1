//! The store against foreign files, limits, kills and a second process.

mod damage;
mod faults;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;
use sanctum_config::cache_dir;
use tempfile::TempDir;

use super::*;

const FINGERPRINT: [u8; 32] = [7; 32];
const SCOPE: ScopeBytes = [3; 16];

/// A conversation in the store: the tokens are 0, 1, 2, … and a payload is made from its length.
fn key(len: usize) -> ColdKey {
    let mut hasher = KeyHasher::new(&FINGERPRINT, &SCOPE);
    hasher.feed(&tokens(len));
    hasher.key()
}

fn tokens(len: usize) -> Vec<u32> {
    (0..len as u32).collect()
}

fn payload(len: usize) -> Vec<u8> {
    (0..len * 10).map(|i| (i * 31 + len) as u8).collect()
}

fn write(store: &ColdStore, from: usize, len: usize) -> bool {
    try_write(store, from, len).unwrap()
}

fn try_write(store: &ColdStore, from: usize, len: usize) -> Result<bool, ColdError> {
    let tokens = tokens(len);
    let new = NewPrefix {
        fingerprint: &FINGERPRINT,
        scope: &SCOPE,
        key: key(len),
        parent: (from > 0).then(|| (key(from), from)),
        tokens: &tokens[from..],
        payload: &payload(len),
    };
    store.write(&new)
}

/// The lengths of the chain for a prompt of so many tokens.
fn chain(store: &ColdStore, len: usize) -> Vec<usize> {
    let chain = store.chain(&FINGERPRINT, &SCOPE, &tokens(len));
    chain.iter().map(|link| link.len).collect()
}

fn read(store: &ColdStore, len: usize) -> Option<Vec<u8>> {
    store.read(key(len), &tokens(len), || true)
}

fn open(folder: &Path) -> Arc<ColdStore> {
    ColdStore::open(folder, 1 << 30).unwrap()
}

/// A folder with the chain 5, 8, 20 and the branch 5, 6 of it.
fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fill(&open(folder.path()));
    folder
}

fn fill(store: &ColdStore) {
    for (from, len) in [(0, 5), (5, 8), (8, 20), (5, 6)] {
        assert!(write(store, from, len));
    }
}

fn file(folder: &Path, len: usize) -> std::path::PathBuf {
    folder.join(format!("{}.prefix", key(len)))
}

/// Names of the files, without lock and owner.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name != cache_dir::LOCK && name != cache_dir::PROCESS
        })
        .count()
}

#[test]
fn prefix_is_found_again_after_reopening() {
    let folder = filled();
    let store = open(folder.path());
    assert_eq!(chain(&store, 100), [5, 8, 20]);
    assert_eq!(chain(&store, 19), [5, 8]);
    assert_eq!(chain(&store, 7), [5, 6]);
    assert_eq!(chain(&store, 4), [0; 0]);
    for len in [5, 6, 8, 20] {
        assert_eq!(read(&store, len), Some(payload(len)), "{len}");
    }
    assert_eq!(store.len(), 4);
    let other = store.chain(&FINGERPRINT, &[0; 16], &tokens(100));
    assert!(other.is_empty(), "another scope");
    let other = store.chain(&[0; 32], &SCOPE, &tokens(100));
    assert!(other.is_empty(), "another fingerprint");
    let different: Vec<u32> = (0..6).chain([999]).chain(7..100).collect();
    let links = store.chain(&FINGERPRINT, &SCOPE, &different);
    assert_eq!(links.last().map(|link| (link.from, link.len)), Some((5, 6)));
}

#[test]
fn files_and_folder_are_for_their_owner_only() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("a/b");
    let store = open(&folder);
    write(&store, 0, 5);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn folder_that_others_can_enter_is_refused_with_the_command() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = ColdStore::open(folder.path(), 100).unwrap_err().to_string();
    let command = format!("chmod 700 {}", folder.path().display());
    assert!(
        error.contains(&command) && error.contains("0755"),
        "{error}"
    );
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = ColdStore::open(&file, 100).unwrap_err().to_string();
    assert!(error.contains("not a folder"), "{error}");
}

#[test]
fn files_of_others_are_never_touched() {
    let folder = filled();
    // No process has so large a number.
    let names = [
        "notes.txt",
        "x.prefix",
        ".hidden.new",
        "ABCD.prefix",
        "lock",
        "owner",
        "probe",
        ".notes.txt.2147483647-0.new",
        &format!(".{}.prefix.backup.new", key(40)),
    ];
    for name in names {
        fs::write(folder.path().join(name), "mine").unwrap();
    }
    drop(open(folder.path()));
    clear(folder.path()).unwrap();
    for name in names {
        let text = fs::read_to_string(folder.path().join(name));
        assert_eq!(text.ok().as_deref(), Some("mine"), "{name}");
    }
}

#[test]
fn least_recently_used_prefix_is_evicted_and_a_chain_from_its_end() {
    let folder = filled();
    let store = open(folder.path());
    let bytes = store.bytes();
    drop(store);
    // One byte too few for all of them: 6 was written last, 20 before it.
    let store = ColdStore::open(folder.path(), bytes - 1).unwrap();
    assert_eq!(
        (chain(&store, 100), chain(&store, 7)),
        (vec![5, 8], vec![5, 6])
    );
    // 6 was used last now, so that 8 makes room.
    assert!(write(&store, 6, 7));
    let room = file_size(&store, 7);
    drop(store);
    let store = ColdStore::open(folder.path(), room).unwrap();
    assert_eq!(chain(&store, 100), [5, 6, 7]);
    assert!(!file(folder.path(), 8).exists());
}

/// Bytes of the chain to a prefix.
fn file_size(store: &ColdStore, len: usize) -> u64 {
    let chain = store.chain(&FINGERPRINT, &SCOPE, &tokens(len));
    chain.iter().map(|link| link.bytes).sum()
}

#[test]
fn order_of_use_survives_a_restart() {
    let folder = filled();
    let store = open(folder.path());
    let minute = std::time::Duration::from_secs(60);
    for len in [5, 6, 8, 20] {
        let old = fs::File::open(file(folder.path(), len)).unwrap();
        old.set_modified(std::time::SystemTime::now() - minute)
            .unwrap();
    }
    read(&store, 20).unwrap();
    let bytes = store.bytes();
    drop(store);
    let store = ColdStore::open(folder.path(), bytes - 1).unwrap();
    assert_eq!(chain(&store, 100), [5, 8, 20]);
    assert!(!file(folder.path(), 6).exists());
}

#[test]
fn prefix_beyond_the_limit_is_not_written_and_evicts_nothing() {
    let folder = filled();
    let bytes = open(folder.path()).bytes();
    let store = ColdStore::open(folder.path(), bytes + 100).unwrap();
    let new = NewPrefix {
        fingerprint: &FINGERPRINT,
        scope: &SCOPE,
        key: key(1),
        parent: None,
        tokens: &[0],
        payload: &vec![0; bytes as usize + 100],
    };
    assert!(!store.write(&new).unwrap());
    assert_eq!((store.len(), store.bytes()), (4, bytes));
    // One that fits evicts others, but never what it continues.
    for (from, len) in [(20, 30), (30, 40), (40, 50), (50, 90)] {
        let written = write(&store, from, len);
        assert!(store.bytes() <= bytes + 100);
        assert_eq!(chain(&store, 100).contains(&len), written);
    }
    assert_eq!(store.bytes(), listed_bytes(folder.path()));
}

fn listed_bytes(folder: &Path) -> u64 {
    let listing = list(folder).unwrap();
    listing.prefixes.iter().map(|prefix| prefix.bytes).sum()
}

#[test]
fn cleared_fingerprint_leaves_the_others() {
    let folder = filled();
    let store = open(folder.path());
    let mut hasher = KeyHasher::new(&[1; 32], &SCOPE);
    hasher.feed(&[4]);
    let other = NewPrefix {
        fingerprint: &[1; 32],
        scope: &SCOPE,
        key: hasher.key(),
        parent: None,
        tokens: &[4],
        payload: b"kept",
    };
    assert!(store.write(&other).unwrap());
    store.clear(&FINGERPRINT);
    assert_eq!((store.len(), files(folder.path())), (1, 1));
    let kept = store.read(other.key, &[4], || true);
    assert_eq!(kept.as_deref(), Some(&b"kept"[..]));
}

#[test]
fn listing_changes_nothing_and_clear_is_refused_while_served() {
    let folder = filled();
    let listing = list(folder.path()).unwrap();
    let lens: std::collections::BTreeSet<_> = listing
        .prefixes
        .iter()
        .map(|prefix| (prefix.parent_tokens, prefix.tokens))
        .collect();
    assert_eq!(lens, [(0, 5), (5, 6), (5, 8), (8, 20)].into());
    assert_eq!((listing.unusable, listing.process), (0, None));
    let store = open(folder.path());
    let us = std::process::id();
    assert_eq!(list(folder.path()).unwrap().process, Some(us));
    let error = clear(folder.path()).unwrap_err();
    assert!(matches!(error, ColdError::InUse { process: Some(process), .. } if process == us));
    assert!(error.to_string().contains(&format!("process {us}")));
    let bytes = store.bytes();
    drop(store);
    assert_eq!(clear(folder.path()).unwrap(), (4, bytes));
    assert_eq!(files(folder.path()), 0);
    let missing = folder.path().join("missing");
    assert_eq!(list(&missing).unwrap(), ColdListing::default());
    assert_eq!(clear(&missing).unwrap(), (0, 0));
    assert!(!missing.exists());
}

#[test]
fn engines_of_one_process_share_a_store() {
    let folder = filled();
    let [first, second] = [(); 2].map(|()| open(folder.path()));
    assert!(Arc::ptr_eq(&first, &second));
    drop(first);
    write(&second, 20, 30);
    assert_eq!(chain(&open(folder.path()), 100), [5, 8, 20, 30]);
}

/// What a second process of this test does, if it is one.
fn second_process(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("prefix::cold::tests::{test}");
    command
        .args(["--exact", &name, "--nocapture"])
        .env("SANCTUM_COLD_TEST", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn is_second_process() -> Option<std::path::PathBuf> {
    std::env::var_os("SANCTUM_COLD_TEST").map(Into::into)
}

#[test]
fn second_process_is_refused_and_told_which_one_serves() {
    if let Some(folder) = is_second_process() {
        println!("{}", ColdStore::open(&folder, 100).unwrap_err());
        return;
    }
    let folder = filled();
    let store = open(folder.path());
    let output = second_process(
        "second_process_is_refused_and_told_which_one_serves",
        folder.path(),
    )
    .output()
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let holder = format!("in use by process {}", std::process::id());
    assert!(output.status.success() && text.contains(&holder), "{text}");
    assert_eq!(store.len(), 4);
}

#[test]
fn process_killed_while_writing_leaves_a_usable_folder() {
    if let Some(folder) = is_second_process() {
        // Evicts too: one in six of its files has room.
        let store = ColdStore::open(&folder, 60_000).unwrap();
        for round in 0.. {
            for (from, len) in [
                (0, 100),
                (100, 200),
                (200, 400),
                (0, 150),
                (100, 300),
                (0, 500),
            ] {
                let new_from = if store.contains(key(from)) { from } else { 0 };
                write(&store, new_from, len);
            }
            println!("round {round}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    for round in 0..12 {
        let test = "process_killed_while_writing_leaves_a_usable_folder";
        let mut child = second_process(test, folder.path()).spawn().unwrap();
        // Killed somewhere in its work: after so many of its lines.
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        while seen.matches("round").count() <= round % 5 {
            assert!(
                std::io::BufRead::read_line(&mut lines, &mut seen).unwrap() > 0,
                "{seen}"
            );
        }
        for _ in 0..round * 1000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let store = ColdStore::open(folder.path(), 60_000).unwrap();
        let listing = list(folder.path()).unwrap();
        assert_eq!((listing.unusable, listing.prefixes.len()), (0, store.len()));
        assert_eq!(
            files(folder.path()),
            store.len(),
            "nothing half-written is left"
        );
        assert!(store.bytes() <= 60_000);
        for len in [100, 150, 200, 300, 400, 500] {
            let expected = store.contains(key(len)).then(|| payload(len));
            assert_eq!(read(&store, len), expected, "{len}");
        }
    }
}

#[test]
fn half_written_file_of_any_process_is_removed() {
    let folder = filled();
    let name = format!(".{}.prefix.{}-3.new", key(40), std::process::id());
    for name in [&name[..], ".sanctum.pid.17-0.new"] {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    let store = open(folder.path());
    assert_eq!(store.len(), 4);
    assert_eq!(files(folder.path()), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written in whatever order, the folder stays within its limit and every prefix that is found is whole.
    #[test]
    fn random_writes_keep_the_limit(
        writes in prop::collection::vec((1usize..60, any::<prop::sample::Index>()), 1..40),
        limit in 300u64..6000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let store = ColdStore::open(folder.path(), limit).unwrap();
        for (len, parent) in writes {
            let parents = chain(&store, len - 1);
            let from = if parents.is_empty() { 0 } else { *parent.get(&parents) };
            write(&store, from, len);
            prop_assert!(store.bytes() <= limit);
            prop_assert_eq!(store.bytes(), listed_bytes(folder.path()));
        }
        let found = chain(&store, 60);
        for len in &found {
            prop_assert_eq!(read(&store, *len), Some(payload(*len)));
        }
        drop(store);
        let store = ColdStore::open(folder.path(), limit).unwrap();
        prop_assert_eq!(chain(&store, 60), found);
    }
}
