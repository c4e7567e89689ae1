//! What the demo leaves behind when it is interrupted or fails. That its steps succeed is checked by CI with `cargo xtask demo`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use sanctum_tests::program;
use tempfile::TempDir;

use crate::host::{SOON, said};

/// The demo, with temporary folders in this one.
fn demo(temporary: &Path) -> Command {
    let program = program("demo");
    let mut command = Command::new(&program);
    command
        .arg("--once")
        .env("SANCTUM_PROGRAMS", program.parent().unwrap())
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts it, and waits until its hosts run watchdogs.
fn installed(temporary: &Path) -> Child {
    let mut child = demo(temporary).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let second_step = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("2. ")));
    assert!(second_step.is_some(), "it has ended before");
    // Its output must stay open.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// Waits until no process has this folder in its command line.
#[track_caller]
fn nothing_runs_in(folder: &Path) {
    let folder = folder.display().to_string();
    let begun = Instant::now();
    loop {
        let all = Command::new("ps")
            .args(["-A", "-o", "args="])
            .output()
            .unwrap();
        let all = String::from_utf8_lossy(&all.stdout).into_owned();
        let left: Vec<&str> = all.lines().filter(|line| line.contains(&folder)).collect();
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < SOON, "{left:#?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn interrupted_demo_leaves_no_process_and_no_file() {
    let temporary = TempDir::new().unwrap();
    let mut demo = installed(temporary.path());
    kill_process(Pid::from_child(&demo), Signal::TERM).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(143));
    nothing_runs_in(temporary.path());
    assert!(
        names(temporary.path()).is_empty(),
        "{:?}",
        names(temporary.path())
    );
}

#[test]
fn killed_demo_leaves_no_process() {
    let temporary = TempDir::new().unwrap();
    let mut demo = installed(temporary.path());
    demo.kill().unwrap();
    demo.wait().unwrap();
    nothing_runs_in(temporary.path());
}

#[test]
fn failed_demo_names_the_step_and_keeps_only_its_logs() {
    let temporary = TempDir::new().unwrap();
    let (code, out) = said(
        demo(temporary.path())
            .args(["--limit", "0"])
            .output()
            .unwrap(),
    );
    assert_eq!(code, Some(1), "{out}");
    for part in [
        "FAILED in step 1, \"Install two hosts",
        "  expected: `sanctum-launchd check --config fleet.toml` exits with 0",
        "  seen:     no end within 0 s",
        "demo: 0 passed, 1 failed",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let logs = out
        .lines()
        .find_map(|line| line.strip_prefix("  logs:     "))
        .unwrap();
    assert!(Path::new(logs).join("fleet.toml").is_file(), "{logs}");
    assert_eq!(
        names(temporary.path()).len(),
        1,
        "{:?}",
        names(temporary.path())
    );
    nothing_runs_in(temporary.path());
}
