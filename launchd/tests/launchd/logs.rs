//! `logs`: the files of a rotated log, and the exit code.

use std::fs;

use crate::host::Host;

#[test]
fn log_that_was_rotated_and_not_written_since_is_printed_with_success() {
    let host = Host::new();
    host.install("1").ok();
    let log = host.home().join("logs/guardian.log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    let said = host.run(&["logs", "guardian"]).fails(1);
    assert!(said.contains("has logged nothing yet"), "{said}");
    fs::write(log.with_extension("log.1"), "old line\n").unwrap();
    assert_eq!(host.run(&["logs", "guardian"]).ok(), "old line\n");
    fs::write(&log, "").unwrap();
    assert_eq!(host.run(&["logs", "guardian"]).ok(), "old line\n");
    fs::write(&log, "new line\n").unwrap();
    assert_eq!(host.run(&["logs", "guardian"]).ok(), "old line\nnew line\n");
    assert_eq!(
        host.run(&["logs", "guardian", "-n", "1"]).ok(),
        "new line\n"
    );
}

#[test]
fn log_that_cannot_be_read_is_a_failure_and_hides_no_other() {
    let host = Host::new();
    host.install("1").ok();
    let logs = host.home().join("logs");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join("guardian.log"), "a line\n").unwrap();
    for name in ["guardian.launchd.log", "guardian.log.1"] {
        // A mode would not keep root from reading it.
        let folder = logs.join(name);
        let _ = fs::remove_file(&folder);
        fs::create_dir(&folder).unwrap();
        let said = host.run(&["logs", "guardian"]);
        assert_eq!(said.out, "a line\n", "{name}");
        let said = said.fails(1);
        let problem = format!("{}: it is a folder", folder.display());
        assert!(said.contains(&problem), "{name}: {said}");
        fs::remove_dir(&folder).unwrap();
    }
    // The rotated file is not needed.
    fs::create_dir(logs.join("guardian.log.1")).unwrap();
    assert_eq!(host.run(&["logs", "guardian", "-n", "1"]).ok(), "a line\n");
}
