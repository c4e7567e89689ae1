//! Errors of the system, reads that are cut short, and folders that are removed or replaced under a running store.

use std::os::unix::fs::symlink;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sanctum_config::FileLock;

use super::*;

/// The limit holds for a whole process, so another one tries it.
#[test]
fn file_that_cannot_be_opened_stays_and_is_read_later() {
    let Some(folder) = is_second_process() else {
        let folder = filled();
        let test = "faults::file_that_cannot_be_opened_stays_and_is_read_later";
        let mut child = second_process(test, folder.path());
        let output = child.stderr(Stdio::piped()).output().unwrap();
        let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        // A process that finds no test of this name succeeds.
        let has_passed = output.status.success() && texts[0].contains("1 passed");
        assert!(has_passed, "{}", texts.concat());
        return;
    };
    let store = open(&folder);
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let refused = read(&store, 8);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!((refused, store.status().errors()), (None, 1));
    assert_eq!(chain(&store, 100), [5, 8, 20]);
    assert_eq!(read(&store, 8), Some(payload(8)));
}

#[test]
fn read_that_is_not_wanted_ends_at_the_next_block_and_loses_nothing() {
    let folder = filled();
    let store = open(folder.path());
    let new = NewPrefix {
        fingerprint: &FINGERPRINT,
        scope: &SCOPE,
        key: key(1),
        parent: None,
        tokens: &[0],
        payload: &vec![7; 3 << 18],
    };
    assert!(store.write(&new).unwrap());
    let asked = std::cell::Cell::new(0);
    let is_wanted = || {
        asked.set(asked.get() + 1);
        asked.get() < 2
    };
    assert_eq!(store.read(key(1), &[0], is_wanted), None);
    assert_eq!((asked.get(), store.status().errors()), (2, 0));
    assert_eq!(store.read(key(1), &[0], || true), Some(vec![7; 3 << 18]));
}

#[test]
fn link_to_a_prefix_is_not_followed() {
    let (folder, elsewhere) = (filled(), tempfile::tempdir().unwrap());
    let (link, whole) = (file(folder.path(), 6), elsewhere.path().join("whole"));
    fs::copy(&link, &whole).unwrap();
    let begun = open(folder.path());
    fs::remove_file(&link).unwrap();
    symlink(&whole, &link).unwrap();
    assert_eq!(read(&begun, 6), None);
    assert!(fs::symlink_metadata(&link).is_err(), "the link is removed");
    assert!(whole.exists());
    drop(begun);
    symlink(&whole, &link).unwrap();
    assert_eq!(chain(&open(folder.path()), 7), [5]);
    assert!(whole.exists());
}

/// A folder below another one, and its store.
fn nested() -> (TempDir, std::path::PathBuf, Arc<ColdStore>) {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("volume/cache");
    let store = open(&folder);
    fill(&store);
    (above, folder, store)
}

fn problem(store: &ColdStore) -> String {
    store.status().problem().unwrap_or_default()
}

#[test]
fn folder_that_is_moved_away_and_back_loses_nothing() {
    let (above, folder, store) = nested();
    let moved = above.path().join("moved");
    fs::rename(&folder, &moved).unwrap();
    assert_eq!(read(&store, 8), None);
    assert_eq!((store.len(), store.status().errors()), (4, 1));
    fs::rename(&moved, &folder).unwrap();
    assert_eq!(read(&store, 8), Some(payload(8)));
    assert_eq!((files(&folder), problem(&store)), (4, String::new()));
}

#[test]
fn file_forgotten_while_the_folder_is_away_is_removed_when_it_is_back() {
    let (above, folder, store) = nested();
    let moved = above.path().join("moved");
    fs::rename(&folder, &moved).unwrap();
    store.forget(key(8));
    assert_eq!((store.len(), files(&moved)), (2, 4));
    fs::rename(&moved, &folder).unwrap();
    assert!(write(&store, 5, 9));
    assert_eq!((store.len(), files(&folder)), (3, 3));
    assert_eq!(store.bytes(), listed_bytes(&folder));
}

#[test]
fn folder_that_is_taken_again_is_counted() {
    let (above, folder, store) = nested();
    let moved = above.path().join("moved");
    fs::rename(&folder, &moved).unwrap();
    let lock = folder.join(cache_dir::LOCK);
    let other = FileLock::take(&lock, Duration::ZERO).unwrap().unwrap();
    assert!(try_write(&store, 0, 7).is_err());
    // What is in the other server's folder is not this one's.
    assert_eq!((store.len(), store.bytes()), (0, 0));
    drop(other);
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&moved, &folder).unwrap();
    store.try_again();
    assert_eq!((problem(&store), store.len()), (String::new(), 4));
    assert_eq!(store.bytes(), listed_bytes(&folder));
}

#[test]
fn removed_folder_is_created_and_locked_again() {
    let (_above, folder, store) = nested();
    fs::remove_dir_all(&folder).unwrap();
    // What it continues is gone.
    assert!(!write(&store, 8, 30));
    assert_eq!((store.len(), store.bytes()), (0, 0));
    assert!(write(&store, 0, 5) && write(&store, 5, 8));
    let listing = list(&folder).unwrap();
    assert_eq!((listing.prefixes.len(), listing.unusable), (2, 0));
    assert_eq!(listing.process, Some(std::process::id()));
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // The engine that replaces this one uses the same store, by any name of its folder.
    let name = folder.join("../cache");
    assert!(Arc::ptr_eq(&open(&name), &store));
    fs::remove_dir_all(&folder).unwrap();
    assert!(Arc::ptr_eq(&open(&folder), &store));
}

#[test]
fn replaced_folder_pauses_writing_until_it_can_be_used() {
    let (_above, folder, store) = nested();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    assert!(try_write(&store, 0, 5).is_err());
    assert!(problem(&store).contains("not a folder"));
    store.try_again();
    assert!(problem(&store).contains("not a folder"));
    fs::remove_file(&folder).unwrap();
    store.try_again();
    assert_eq!(problem(&store), "");
    assert!(write(&store, 0, 5));
    assert_eq!(files(&folder), 1);
}

#[test]
fn folder_is_not_created_where_its_volume_is_missing() {
    let (above, folder, store) = nested();
    let volume = above.path().join("volume");
    fs::remove_dir_all(&volume).unwrap();
    assert!(try_write(&store, 0, 5).is_err());
    assert!(problem(&store).contains("mount its volume"));
    assert!(!volume.exists());
    fs::create_dir(&volume).unwrap();
    store.try_again();
    assert_eq!(problem(&store), "");
    assert!(write(&store, 0, 5) && folder.exists());
}

#[test]
fn folder_of_another_server_is_left_to_it() {
    let (above, folder, store) = nested();
    fs::rename(&folder, above.path().join("moved")).unwrap();
    let lock = folder.join(cache_dir::LOCK);
    let other = FileLock::take(&lock, Duration::ZERO).unwrap().unwrap();
    let theirs = file(&folder, 8);
    fs::write(&theirs, "another server's").unwrap();
    assert_eq!(read(&store, 8), None);
    store.forget(key(5));
    assert!(theirs.exists());
    let refused = try_write(&store, 0, 5);
    assert!(matches!(refused, Err(ColdError::InUse { .. })));
    assert!(theirs.exists() && problem(&store).contains("in use by"));
    drop(other);
    store.try_again();
    assert_eq!(problem(&store), "");
}
