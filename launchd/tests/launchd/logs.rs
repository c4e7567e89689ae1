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
