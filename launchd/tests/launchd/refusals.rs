//! Commands that are refused before anything is changed, and records that are damaged or of another kind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::host::{Host, LaunchdOutput, executable};

/// A fleet.toml of the same fleet whose home is another one.
fn with_home(host: &Host, home: &str) -> PathBuf {
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let path = host.at("other.toml");
    let section = format!("[fleet]\nhome = \"{home}\"\n");
    fs::write(&path, text.replace("[fleet]\n", &section)).unwrap();
    path
}

#[test]
fn second_fleet_of_the_same_name_is_refused_before_any_change() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    let other = with_home(&host, "~/.other");
    let release = host.release("2");
    let install = ["install", "--release", release.to_str().unwrap()];
    for line in [
        &install[..],
        &["install", "--dry-run"],
        &["uninstall"],
        &["rollback"],
    ] {
        let before = host.snapshot();
        let said = LaunchdOutput::of(host.command_for(&other, line)).fails(1);
        let home = host.home();
        assert!(
            said.contains(&format!("installed here from {}", home.display())),
            "{said}"
        );
        assert!(host.snapshot() == before, "{line:?}");
    }
    assert_eq!(host.calls(), [""; 0]);
    host.is_whole("1");

    // A link leads to the same home, and a removed home has no installation.
    std::os::unix::fs::symlink(host.home(), host.at("user/.link")).unwrap();
    let linked = with_home(&host, "~/.link");
    LaunchdOutput::of(host.command_for(&linked, &["install", "--dry-run"])).ok();
    let other = with_home(&host, "~/.other");
    let home = host.home();
    fs::remove_file(home.join("state/receipt.json")).unwrap();
    let left = [home.join("bin"), home.join("fleet.toml")];
    let moved = |path: &Path| path.with_extension("away");
    for kept in &left {
        // An interrupted installation has no receipt yet.
        for path in left.iter().filter(|path| *path != kept) {
            fs::rename(path, moved(path)).unwrap();
        }
        let said = LaunchdOutput::of(host.command_for(&other, &install)).fails(1);
        assert!(said.contains("installed here from"), "{said}");
        for path in left.iter().filter(|path| *path != kept) {
            fs::rename(moved(path), path).unwrap();
        }
    }
    fs::remove_dir_all(home.join("bin")).unwrap();
    fs::remove_file(home.join("fleet.toml")).unwrap();
    fs::write(home.join("state/journal.json"), "{}").unwrap();
    let said = LaunchdOutput::of(host.command_for(&other, &install)).fails(1);
    assert!(said.contains("installed here from"), "{said}");
    fs::remove_file(home.join("state/journal.json")).unwrap();
    LaunchdOutput::of(host.command_for(&other, &install)).ok();
}

#[test]
fn loaded_agent_of_an_unreadable_home_is_refused_until_it_is_booted_out() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    let other = with_home(&host, "~/.other");
    let release = host.release("2");
    let install = ["install", "--release", release.to_str().unwrap()];
    // The volume of the home is not mounted.
    fs::rename(host.home(), host.at("unmounted")).unwrap();
    let said = LaunchdOutput::of(host.command_for(&other, &install)).fails(1);
    let home = host.home();
    assert!(
        said.contains("com.sanctum.guardian") && said.contains("cannot be read"),
        "{said}"
    );
    assert!(said.contains(home.to_str().unwrap()), "{said}");
    assert_eq!(host.calls(), [""; 0]);
    assert!(!host.at("user/.other").exists());
    fs::remove_dir_all(host.at("launchd/loaded")).unwrap();
    LaunchdOutput::of(host.command_for(&other, &install)).ok();
}

#[test]
fn commands_without_launchctl_are_refused() {
    let host = Host::new();
    let release = host.release("1");
    let release = release.to_str().unwrap();
    let none = [("SANCTUM_LAUNCHCTL", "/no/such/launchctl")];
    for line in [
        &["install", "--release", release][..],
        &["install", "--release", release, "--dry-run"],
        &["upgrade", "--release", release],
        &["rollback"],
        &["uninstall"],
        &["verify"],
    ] {
        let said = host.run_with(line, &none).fails(1);
        assert!(
            said.contains("this system has no launchd") && said.contains("macOS only"),
            "{line:?}: {said}"
        );
    }
    assert!(!host.home().exists(), "nothing was written");
    let said = host.run_with(&["status"], &none).fails(1);
    assert!(said.contains("this system has no launchd"), "{said}");
    for line in [&["check"][..], &["render"]] {
        host.run_with(line, &none).ok();
    }
}

/// Runs a command that must not block.
fn within(mut command: std::process::Command, limit: Duration) -> LaunchdOutput {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > limit {
            child.kill().unwrap();
            panic!("no end after {limit:?}: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    LaunchdOutput {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[test]
fn fifo_or_folder_in_place_of_a_file_is_an_error_at_once() {
    let host = Host::new();
    host.install("1").ok();
    let plist = host.plist("server");
    let place = |name: &str| host.home().join(name);
    for (path, line) in [
        (place("state/receipt.json"), "install"),
        (place("state/receipt.json"), "verify"),
        (place("state/journal.json"), "install"),
        (place("state/trial.json"), "install"),
        (place("state/launchd.lock"), "install"),
        (place("state/lease.json"), "install"),
        (place("bin/sanctum-parity"), "verify"),
        (place("parity.json"), "verify"),
        (plist, "verify"),
        (place("releases/1/release.json"), "verify"),
        (host.at("fleet.toml"), "verify"),
    ] {
        for folder in [false, true] {
            let before = fs::read(&path).ok();
            match folder {
                true => {
                    let _ = fs::remove_file(&path);
                    fs::create_dir(&path).unwrap();
                }
                false => fifo(&path),
            }
            let said = within(host.command(&[line]), Duration::from_secs(10)).fails(1);
            let kind = if folder { "a folder" } else { "a FIFO" };
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(
                said.contains(kind) && said.contains(name),
                "{line} {}: {said}",
                path.display()
            );
            match folder {
                true => fs::remove_dir(&path).unwrap(),
                false => fs::remove_file(&path).unwrap(),
            }
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
        }
    }
}

#[test]
fn record_of_another_user_is_refused() {
    let host = Host::new();
    host.install("1").ok();
    let receipt = host.home().join("state/receipt.json");
    if std::os::unix::fs::chown(&receipt, Some(12345), None).is_err() {
        // Only root can give a file away; config's own tests try a file of root's.
        return;
    }
    let said = host.run(&["install"]).fails(1);
    assert!(said.contains("it belongs to user 12345"), "{said}");
}

#[test]
fn written_files_are_private_under_any_umask() {
    for umask in ["000", "077"] {
        let host = Host::new();
        let install = host.command(&["install", "--release", host.release("1").to_str().unwrap()]);
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", umask])
            .arg(install.get_program())
            .args(install.get_args())
            .current_dir(host.at("user"));
        for (name, value) in install.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        LaunchdOutput::of(shell).ok();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for folder in ["", "state", "secrets", "certs", "logs", "releases"] {
            assert_eq!(mode(host.home().join(folder)), 0o700, "{umask} {folder}");
        }
        for file in ["state/launchd.lock", "state/receipt.json", "fleet.toml"] {
            assert_eq!(mode(host.home().join(file)), 0o600, "{umask} {file}");
        }
    }
}

#[test]
fn half_written_files_of_dead_processes_are_removed_by_the_next_command() {
    let host = Host::new();
    host.install("1").ok();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let dead = gone.id();
    gone.wait().unwrap();
    let litter = |folder: PathBuf, pid: u32| {
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!(".canary.json.{pid}-0.new"));
        fs::write(&path, "half").unwrap();
        path
    };
    let swept: Vec<PathBuf> = ["state/watch", "state", "bin", "certs/clients", "releases/1"]
        .iter()
        .map(|folder| litter(host.home().join(folder), dead))
        .chain([litter(host.at("user/Library/LaunchAgents"), dead)])
        .collect();
    let kept = litter(host.home().join("state/watch"), std::process::id());
    host.install("1").ok();
    for path in swept {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(kept.exists(), "its process is still writing it");
}

#[test]
fn verify_warns_if_launchd_caps_the_exit_timeout() {
    let host = Host::new();
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let text = text.replace("[servers.server]\n", "[servers.server]\ndrain = \"90s\"\n");
    fs::write(host.at("fleet.toml"), text).unwrap();
    host.install("1").ok();
    assert!(!host.run(&["verify"]).ok().contains("warning"));
    // The cap of macOS 26.
    fs::write(host.at("launchd/exit-timeout"), "60").unwrap();
    let said = host.run(&["verify"]).ok();
    assert!(
        said.contains(
            "launchd sends SIGKILL 60 s after SIGTERM, and its property list asks for 105 s"
        ),
        "{said}"
    );
}

#[test]
fn verify_warns_if_a_server_for_other_hosts_is_signed_ad_hoc() {
    let host = Host::new();
    let codesign = host.at("codesign");
    let says = |words: &str| executable(&codesign, &format!("#!/bin/sh\necho '{words}' >&2\n"));
    says("Signature=adhoc");
    let tools = [("SANCTUM_CODESIGN", codesign.to_str().unwrap())];
    host.install("1").ok();
    let said = host.run_with(&["verify"], &tools).ok();
    assert!(
        !said.contains("ad hoc"),
        "only this host connects to it: {said}"
    );
    let fleet = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let wide = fleet.replace("listen = [", "listen = [\"0.0.0.0:9\", ");
    fs::write(host.at("fleet.toml"), wide).unwrap();
    host.install("1").ok();
    let said = host.run_with(&["verify"], &tools).ok();
    assert!(
        said.contains("warning: ") && said.contains("signed ad hoc") && said.contains("1 warning"),
        "{said}"
    );
    says("Authority=Developer ID Application: Ada");
    let said = host.run_with(&["verify"], &tools).ok();
    assert!(!said.contains("ad hoc"), "{said}");
}

#[test]
fn section_with_which_a_watchdog_does_not_start_is_refused_before_any_change() {
    let host = Host::new();
    host.install("1").ok();
    let before = host.snapshot();
    let release = host.release("2");
    let upgrade = ["upgrade", "--release", release.to_str().unwrap()];
    for (keys, words) in [
        ("heartbeat_url = \"hc-ping.com/x\"", "`heartbeat_url`"),
        (
            "heartbeat_url = \"https://a:b@hc-ping.com/x\"",
            "`heartbeat_url_file`",
        ),
        ("reference = \"100.64.0.1\"", "`reference = "),
        ("question = \"what?\"", "`question` needs `expect`"),
        ("misses = 0", "`misses` is 0"),
    ] {
        host.fleet(keys);
        for line in [&["check"][..], &["install"], &upgrade] {
            let said = host.run(line).fails(1);
            assert!(
                said.contains(words) && said.contains("watch.parity"),
                "{line:?}: {said}"
            );
        }
    }
    assert!(host.snapshot() == before);
}

#[test]
fn home_that_is_the_users_own_is_refused_before_any_change() {
    let host = Host::new();
    let text = "mine";
    fs::create_dir_all(host.at("user")).unwrap();
    fs::write(host.at("user/notes"), text).unwrap();
    let release = host.release("1");
    for home in ["~", "/"] {
        let fleet = with_home(&host, home);
        let line = ["install", "--release", release.to_str().unwrap()];
        let said = LaunchdOutput::of(host.command_for(&fleet, &line)).fails(1);
        assert!(said.contains("a folder of its own"), "{said}");
    }
    assert_eq!(fs::read_dir(host.at("user")).unwrap().count(), 1);
}

#[test]
fn uninstall_keeps_the_fleet_toml_that_the_command_line_names() {
    let host = Host::new();
    host.install("1").ok();
    let deployed = host.home().join("fleet.toml");
    let said = LaunchdOutput::of(host.command_for(&deployed, &["uninstall"])).ok();
    assert!(said.contains("is kept"), "{said}");
    assert!(deployed.exists());
    assert!(!host.home().join("bin/sanctum-server").exists());
}

/// Puts garbage, a FIFO or a folder in place of a record.
fn spoil(path: &Path, how: &str) {
    let _ = fs::remove_file(path);
    match how {
        "garbage" => fs::write(path, "{").unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        _ => {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        }
    }
}

#[test]
fn verify_and_status_report_a_lease_that_cannot_be_read() {
    for how in ["garbage", "fifo", "folder"] {
        let host = Host::new();
        host.install("1").ok();
        let lease = host.home().join("state/lease.json");
        spoil(&lease, how);
        assert_eq!(host.findings(), ["lease"], "{how}");
        let found = host.json(&["verify"]);
        let fix = found["findings"][0]["fix"].as_str().unwrap().to_owned();
        assert!(
            fix.starts_with("mv ") && fix.contains("lease.json.damaged"),
            "{fix}"
        );
        // The first half of the fix is what its text says.
        let moved = fix.split(" && ").next().unwrap();
        let done = std::process::Command::new("sh")
            .args(["-c", moved])
            .status();
        assert!(done.unwrap().success(), "{moved}");
        assert_eq!(host.findings(), [""; 0], "{how}");
    }
}

#[test]
fn verify_reports_the_lease_of_a_command_that_was_killed() {
    let host = Host::new();
    host.install("1").ok();
    let said = host.upgrade("2", "lease");
    assert_eq!(said.code, None, "{}{}", said.out, said.err);
    assert_eq!(host.findings(), ["lease"]);
}

#[test]
fn damaged_record_is_a_finding_and_hides_no_other() {
    for record in ["stopped", "active"] {
        let host = Host::new();
        host.install("1").ok();
        let path = host.home().join(format!("state/{record}.json"));
        fs::write(&path, "{").unwrap();
        fs::remove_file(host.at("launchd/loaded/com.sanctum.guardian")).unwrap();
        let mut kinds = host.findings();
        kinds.sort();
        assert_eq!(kinds, ["not-loaded", "record"], "{record}");
        let said = host.run(&["verify"]).fails(1);
        assert!(said.contains(&format!("{record}.json.damaged")), "{said}");
    }
}

#[test]
fn damaged_record_hides_nothing_else_in_status() {
    let host = Host::new();
    host.install("1").ok();
    for record in ["window", "stopped", "active", "lease", "journal"] {
        let path = host.home().join(format!("state/{record}.json"));
        let before = fs::read(&path).ok();
        fs::write(&path, "{").unwrap();
        let page = host.json(&["status", "--local"]);
        let status = &page["hosts"][0];
        assert_eq!(status["problem"], serde_json::Value::Null, "{record}");
        assert_eq!(status["agents"].as_array().unwrap().len(), 4, "{record}");
        let unreadable = status["unreadable"].as_array().unwrap();
        assert_eq!(unreadable.len(), 1, "{record}: {unreadable:?}");
        assert!(
            unreadable[0]
                .as_str()
                .unwrap()
                .contains(&format!("{record}.json"))
        );
        match before {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
}
