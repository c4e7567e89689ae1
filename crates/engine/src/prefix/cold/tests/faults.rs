//! Errors of the system: what is on disk stays, and is used again.

use std::os::unix::fs::symlink;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

/// The limit holds for a whole process, so another one tries it.
#[test]
fn file_that_cannot_be_opened_stays_and_is_read_later() {
    let Some(folder) = is_second_process() else {
        let folder = filled();
        let test = "faults::file_that_cannot_be_opened_stays_and_is_read_later";
        let mut child = second_process(test, folder.path());
        let output = child.stderr(Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
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
