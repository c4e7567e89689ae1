//! Upgrades: success, failure and rollback, patience.

use std::fs;

use crate::host::{Host, upgrading};

#[test]
fn upgrade_and_rollback_change_the_release() {
    let host = Host::new();
    host.install("1").ok();
    let said = host.upgrade("2", "").ok();
    assert!(said.contains("answered correctly"), "{said}");
    host.is_whole("2");
    assert!(host.upgrade("2", "").ok().contains("installed already"));
    let said = host.run(&["rollback"]).ok();
    assert!(said.contains("release 1 is in place"), "{said}");
    host.is_whole("1");
    let said = host.run(&["rollback"]).fails(1);
    assert!(said.contains("was installed first"), "{said}");
    let said = host.install("2").fails(1);
    assert!(said.contains("sanctum-launchd upgrade --release"), "{said}");
    // Two releases stay: the installed one and the previous one.
    host.upgrade("2", "").ok();
    host.upgrade("3", "").ok();
    let kept = fs::read_dir(host.home().join("releases")).unwrap().count();
    assert_eq!(kept, 2);
    host.run(&["rollback", "--to", "2"]).ok();
    host.is_whole("2");
    let said = host.run(&["rollback", "--to", "1"]).fails(1);
    assert!(said.contains("is not stored here"), "{said}");
}

/// Starts an upgrade to release 2, and returns when it is about to stop agents.
fn half_way(host: &Host) -> std::process::Child {
    let release = host.release("2");
    let line = upgrading(release.to_str().unwrap());
    let mut command = host.command(&line);
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let journal = host.home().join("state/journal.json");
    let stopped = || fs::read_to_string(&journal).is_ok_and(|text| text.contains("bootout:server"));
    while !stopped() {
        std::thread::yield_now();
    }
    child
}

#[test]
fn upgrade_continues_when_its_output_is_closed() {
    let host = Host::new();
    host.install("1").ok();
    let mut child = half_way(&host);
    // As `head` does.
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    host.is_whole("2");
}

#[test]
fn upgrade_continues_when_its_terminal_is_closed() {
    let host = Host::new();
    host.install("1").ok();
    let mut child = half_way(&host);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    host.is_whole("2");
}

#[test]
fn upgrade_with_wrong_answer_is_rolled_back() {
    let host = Host::new();
    host.install("1").ok();
    let said = host.upgrade("wrong", "").fails(3);
    assert!(
        said.contains("it answered \"5\"") && said.contains("release 1 is in place again"),
        "{said}"
    );
    host.is_whole("1");
}

#[test]
fn upgrade_whose_server_exits_is_rolled_back() {
    let host = Host::new();
    host.install("1").ok();
    // It never becomes ready, and launchd shows why.
    host.fleet("");
    let silent = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let line = silent
        .lines()
        .find(|line| line.starts_with("listen"))
        .unwrap();
    fs::write(
        host.at("fleet.toml"),
        silent.replace(line, &format!("listen = [\"{port}\"]")),
    )
    .unwrap();
    fs::write(host.at("launchd/exits"), "").unwrap();
    let said = host.upgrade("2", "").fails(3);
    assert!(said.contains("exited when it started"), "{said}");
    fs::remove_file(host.at("launchd/exits")).unwrap();
    host.fleet("");
    host.is_whole("1");
}

#[test]
fn upgrade_waits_for_a_long_load_and_not_beyond_its_patience() {
    let host = Host::new();
    host.install("1").ok();
    fs::write(host.home().join("bin/loading"), "5").unwrap();
    let said = host.upgrade("2", "");
    assert_eq!(said.err, "", "progress is for terminals");
    let said = said.ok();
    assert!(
        said.contains("was ready after") && !said.contains("ready after 0."),
        "{said}"
    );
    host.is_whole("2");
    // The wait ends at --patience.
    fs::write(host.home().join("bin/loading"), "100").unwrap();
    let release = host.release("3");
    let line = [
        "upgrade",
        "--patience",
        "1",
        "--trial",
        "never",
        "--release",
        release.to_str().unwrap(),
    ];
    let said = host.run(&line).fails(3);
    assert!(
        said.contains("was not ready after 1 s (--patience): loading"),
        "{said}"
    );
    host.is_whole("2");
}

#[test]
#[cfg(debug_assertions)]
fn install_that_finishes_an_upgrade_waits_for_its_patience() {
    let host = Host::new();
    host.install("1").ok();
    let said = host.upgrade("2", "switch");
    assert!(said.err.contains("SANCTUM_FAULT"), "{}", said.err);
    fs::write(host.home().join("bin/loading"), "1000").unwrap();
    let said = host.run(&["install", "--patience", "1"]).fails(3);
    assert!(
        said.contains("was not ready after 1 s (--patience): loading"),
        "{said}"
    );
    host.is_whole("1");
}

#[test]
#[cfg(debug_assertions)]
fn lease_is_renewed_for_each_server_that_is_waited_for() {
    let host = Host::new();
    let second = format!(
        "[servers.second]\nhost = \"mini\"\nlisten = [\"{}\"]\n",
        host.another_server()
    );
    host.fleet(&second);
    let path = host.at("fleet.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("agents = [\"server\",", "agents = [\"server\", \"second\",");
    fs::write(&path, text).unwrap();
    host.install("1").ok();
    let loading = host.home().join("bin/loading");
    fs::write(&loading, "3").unwrap();
    let release = host.release("2");
    let line = [
        &upgrading(release.to_str().unwrap())[..],
        &["--patience", "1000"],
    ]
    .concat();
    let said = host.run_with(&line, &[("SANCTUM_FAULT", "checked")]);
    assert!(
        said.err.contains("SANCTUM_FAULT"),
        "{}{}",
        said.out,
        said.err
    );
    // The first of the two servers was loading for three probes; the lease was renewed for the second one after that.
    let loaded: chrono::DateTime<chrono::Utc> =
        fs::metadata(&loading).unwrap().modified().unwrap().into();
    let expires = host.record("lease.json")["expires"].clone();
    let expires: chrono::DateTime<chrono::Utc> = serde_json::from_value(expires).unwrap();
    let renewed = expires - chrono::TimeDelta::seconds(1000 + 5 * 60);
    assert!(renewed >= loaded, "{renewed} {loaded}");
}

#[test]
fn upgrade_to_damaged_release_is_refused_before_any_change() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    fs::write(host.release("2").join("sanctum-parity"), "damaged").unwrap();
    let said = host.upgrade("2", "").fails(1);
    assert!(
        said.contains("sanctum-parity does not match release.json"),
        "{said}"
    );
    assert_eq!(host.calls(), [""; 0]);
    host.is_whole("1");
}
