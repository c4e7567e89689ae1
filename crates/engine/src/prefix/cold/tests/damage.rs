//! Files that are damaged, of another kind or of another program: each is a miss, and removed.

use super::*;

#[test]
fn file_that_others_can_read_is_a_miss_and_removed() {
    let folder = filled();
    let open_to_all = file(folder.path(), 20);
    fs::set_permissions(&open_to_all, fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(folder.path());
    assert_eq!(chain(&store, 100), [5, 8]);
    assert!(!open_to_all.exists());
}

#[test]
fn what_is_no_regular_file_is_a_miss_and_does_not_block() {
    let folder = filled();
    for (len, kind) in [(20, "fifo"), (6, "folder"), (8, "link")] {
        let path = file(folder.path(), len);
        fs::remove_file(&path).unwrap();
        match kind {
            "fifo" => assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            ),
            "folder" => fs::create_dir(&path).unwrap(),
            _ => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
        }
    }
    assert_eq!(list(folder.path()).unwrap().unusable, 3);
    let store = open(folder.path());
    assert_eq!(chain(&store, 100), [5]);
    // A folder is not removed, and nothing can be written in its place.
    assert!(file(folder.path(), 6).is_dir());
    assert!(!file(folder.path(), 20).exists() && !file(folder.path(), 8).exists());
    assert!(write(&store, 5, 8));
    let new = NewPrefix {
        fingerprint: &FINGERPRINT,
        scope: &SCOPE,
        key: key(6),
        parent: Some((key(5), 5)),
        tokens: &[5],
        payload: b"",
    };
    assert!(matches!(store.write(&new), Err(ColdError::Folder { .. })));
    assert_eq!(chain(&store, 100), [5, 8]);
}

#[test]
fn file_of_another_version_or_another_program_is_removed() {
    let folder = filled();
    let path = file(folder.path(), 20);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] += 1;
    fs::write(&path, &bytes).unwrap();
    fs::write(
        file(folder.path(), 6),
        "another text, longer than any header".repeat(20),
    )
    .unwrap();
    let store = open(folder.path());
    assert_eq!((chain(&store, 100), files(folder.path())), (vec![5, 8], 2));
}

#[test]
fn renamed_file_is_a_miss() {
    let folder = filled();
    fs::rename(file(folder.path(), 6), file(folder.path(), 20)).unwrap();
    let store = open(folder.path());
    assert_eq!(chain(&store, 100), [5, 8]);
}

#[test]
fn prefix_without_its_beginning_is_removed() {
    let folder = filled();
    fs::remove_file(file(folder.path(), 8)).unwrap();
    assert_eq!(list(folder.path()).unwrap().unusable, 1);
    let store = open(folder.path());
    assert_eq!(chain(&store, 100), [5, 6]);
    assert_eq!((store.len(), files(folder.path())), (2, 2));
}

#[test]
fn damage_found_while_reading_removes_what_continues_it() {
    let folder = filled();
    let store = open(folder.path());
    let path = file(folder.path(), 8);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(chain(&store, 100), [5, 8, 20]);
    assert_eq!(read(&store, 8), None);
    assert_eq!(chain(&store, 100), [5, 6]);
    assert_eq!((store.len(), files(folder.path())), (2, 2));
    // It can be written again.
    assert!(write(&store, 5, 8) && chain(&store, 100) == [5, 8]);
}

#[test]
fn wrong_tokens_are_a_miss() {
    let folder = filled();
    let store = open(folder.path());
    assert_eq!(store.read(key(8), &tokens(7), || true), None);
    assert_eq!(store.read(key(5), &[9, 9, 9, 9, 9], || true), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No damage of a file gives bytes that were not written, and what remains is usable.
    #[test]
    fn damaged_file_is_never_read(
        len in prop::sample::select(vec![5usize, 8, 20, 6]),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in any::<bool>(),
        running in any::<bool>(),
    ) {
        let folder = filled();
        let path = file(folder.path(), len);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] ^= flip,
        }
        let before = running.then(|| open(folder.path()));
        fs::write(&path, &bytes).unwrap();
        let store = before.unwrap_or_else(|| open(folder.path()));
        prop_assert_eq!(read(&store, len), None);
        prop_assert!(!store.contains(key(len)));
        prop_assert!(!path.exists());
        for other in [5, 6, 8, 20] {
            let expected = store.contains(key(other)).then(|| payload(other));
            prop_assert_eq!(read(&store, other), expected);
        }
        // Everything that does not continue it is still here.
        let lost = match len { 5 => 4, 8 => 2, _ => 1 };
        prop_assert_eq!((store.len(), files(folder.path())), (4 - lost, 4 - lost));
        // Appended bytes are damage too.
        let grown = file(folder.path(), 5);
        if grown.exists() {
            let mut bytes = fs::read(&grown).unwrap();
            bytes.push(flip);
            fs::write(&grown, bytes).unwrap();
            prop_assert_eq!(read(&store, 5), None);
        }
    }
}
