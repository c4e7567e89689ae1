//! Install, upgrade, roll back, flip, uninstall.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::host::{Host, executable, upgrading};

#[test]
fn a_second_install_writes_nothing_and_says_so() {
    let host = Host::new();
    let dry = host
        .run(&[
            "install",
            "--dry-run",
            "--release",
            host.release("1").to_str().unwrap(),
        ])
        .ok();
    assert!(
        dry.contains("would write") && dry.contains("would bootstrap"),
        "{dry}"
    );
    assert!(!host.home().exists(), "a dry run writes nothing");

    host.install("1").ok();
    host.is_whole("1");
    let started = [
        "disable hatch",
        "bootstrap guardian",
        "bootstrap parity",
        "bootstrap server",
    ];
    assert_eq!(host.calls(), started);
    assert_eq!(host.record("active.json")["server"], "server");

    let before = host.snapshot();
    let said = host.install("1").ok();
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(host.json(&["install"])["changed"], false);
    assert!(host.snapshot() == before, "nothing was written");
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn install_with_nothing_to_do_restores_a_spent_restart_budget() {
    let host = Host::new();
    host.install("1").ok();
    let receipt = host.home().join("state/receipt.json");
    let written = || fs::metadata(&receipt).unwrap().modified().unwrap();
    let before = written();
    let mut state = serde_json::json!({
        "agent": "guardian", "heartbeat": "2026-11-30T10:00:00Z", "misses": 3, "hours": [], "memory": null,
        "open": { "budget": {
            "id": "guardian-1", "title": "server on mini needs attention", "times": 1,
            "since": "2026-11-30T10:00:00Z", "told": "2026-11-30T10:00:00Z",
        } },
    });
    let place = host.home().join("state/watch/guardian.json");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, state.to_string()).unwrap();
    let said = host.install("1").ok();
    assert!(
        said.contains("the restart budget of guardian is restored"),
        "{said}"
    );
    let restored = written();
    assert!(restored > before);
    state["open"] = serde_json::json!({});
    fs::write(&place, state.to_string()).unwrap();
    host.install("1").ok();
    assert_eq!(written(), restored);
}

#[test]
fn only_whom_a_change_concerns_is_restarted() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    // The watchdogs read the whole file; the server's own section is as it was.
    host.fleet("[alerts.desk]\nsound = \"Submarine\"\n");
    host.install("1").ok();
    let restarted = [
        "bootout parity",
        "bootout guardian",
        "bootstrap guardian",
        "bootstrap parity",
    ];
    assert_eq!(host.calls(), restarted);
    // A spec is its watchdog's only.
    fs::write(host.at("parity.json"), "{ }").unwrap();
    host.install("1").ok();
    assert_eq!(host.calls(), ["bootout parity", "bootstrap parity"]);
    host.is_whole("1");
}

#[test]
fn what_was_edited_by_hand_is_found_and_put_back() {
    let host = Host::new();
    host.install("1").ok();
    let plist = host.plist("server");
    let text = fs::read_to_string(&plist).unwrap();
    fs::write(&plist, text.replace("--server", "--host")).unwrap();
    let parity = host.home().join("bin/sanctum-parity");
    fs::set_permissions(&parity, fs::Permissions::from_mode(0o775)).unwrap();
    fs::remove_file(host.home().join("parity.json")).unwrap();
    assert_eq!(
        host.findings(),
        ["missing", "changed", "mode", "stale-arguments"]
    );
    host.calls();
    host.install("1").ok();
    assert_eq!(
        host.calls(),
        [
            "bootout server",
            "bootout parity",
            "bootstrap parity",
            "bootstrap server"
        ]
    );
    host.is_whole("1");
    // launchd has other arguments than the property list, which is as it was installed.
    let loaded = host.at("launchd/loaded/com.sanctum.server");
    fs::write(&loaded, text.replace("--server", "--host")).unwrap();
    assert_eq!(host.findings(), ["stale-arguments"]);
    host.install("1").ok();
    host.is_whole("1");
}

#[test]
fn an_upgrade_and_back() {
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
    assert!(said.contains("the first here"), "{said}");
    let said = host.install("2").fails(1);
    assert!(said.contains("sanctum-launchd upgrade --release"), "{said}");
    // Two are kept: the one that runs and the one before it.
    host.upgrade("2", "").ok();
    host.upgrade("3", "").ok();
    let kept = fs::read_dir(host.home().join("releases")).unwrap().count();
    assert_eq!(kept, 2);
    host.run(&["rollback", "--to", "2"]).ok();
    host.is_whole("2");
    let said = host.run(&["rollback", "--to", "1"]).fails(1);
    assert!(said.contains("not kept here"), "{said}");
}

/// Starts an upgrade to release 2, and gives it once agents are being stopped.
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
fn who_stops_reading_stops_no_deployment() {
    let host = Host::new();
    host.install("1").ok();
    let mut child = half_way(&host);
    // As `head` does.
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    host.is_whole("2");
}

#[test]
fn a_terminal_that_is_closed_stops_no_deployment() {
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
fn mlx_s_kernels_go_the_release_s_way() {
    let host = Host::new();
    for (version, kernels) in [("1", "one"), ("2", "two")] {
        let release = host.release(version);
        fs::write(release.join("mlx.metallib"), kernels).unwrap();
        host.run(&["pack", release.to_str().unwrap(), "--release", version])
            .ok();
    }
    let installed = host.home().join("bin/mlx.metallib");
    let kernels = || fs::read_to_string(&installed).ok();
    host.install("1").ok();
    assert_eq!(kernels().as_deref(), Some("one"));

    // Somebody else's kernels are drift, and an install puts the right ones back under a server started anew.
    fs::write(&installed, "other").unwrap();
    assert_eq!(host.findings(), ["changed"]);
    host.calls();
    host.install("1").ok();
    assert_eq!(kernels().as_deref(), Some("one"));
    assert_eq!(host.calls(), ["bootout server", "bootstrap server"]);
    host.is_whole("1");

    host.upgrade("2", "").ok();
    assert_eq!(kernels().as_deref(), Some("two"));
    // A release without any leaves none behind that a later MLX would load.
    host.upgrade("3", "").ok();
    assert_eq!(kernels(), None);
    host.run(&["rollback"]).ok();
    assert_eq!(kernels().as_deref(), Some("two"));
    host.is_whole("2");
}

#[test]
fn a_release_that_answers_wrong_is_taken_back() {
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
fn a_release_whose_server_ends_at_its_start_is_taken_back() {
    let host = Host::new();
    host.install("1").ok();
    // It never becomes ready, and launchd says why.
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
    assert!(said.contains("ended at its start"), "{said}");
    fs::remove_file(host.at("launchd/exits")).unwrap();
    host.fleet("");
    host.is_whole("1");
}

#[test]
fn what_is_kept_of_a_release_can_be_lost_and_mended() {
    let host = Host::new();
    host.install("1").ok();
    fs::remove_dir_all(host.home().join("releases/1")).unwrap();
    host.calls();
    assert!(host.install("1").ok().contains("nothing to do"));
    assert_eq!(host.calls(), [""; 0]);
    fs::write(host.home().join("releases/1/sanctum-server"), "damaged").unwrap();
    fs::write(host.home().join("bin/sanctum-server"), "damaged").unwrap();
    let said = host.run(&["install"]).fails(1);
    assert!(said.contains("sanctum-launchd install --release"), "{said}");
    assert_eq!(host.calls(), [""; 0]);
    host.install("1").ok();
    host.is_whole("1");
    host.upgrade("2", "").ok();
    host.run(&["rollback"]).ok();
    host.is_whole("1");
}

#[test]
fn a_long_load_is_waited_for() {
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
    // Nobody waits for ever.
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
    assert!(said.contains("was not ready after 1 s: loading"), "{said}");
    host.is_whole("2");
}

#[test]
fn a_second_instance_is_tried_before_anything_is_stopped() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    // A shell script that says its version and ends: a server that ends at its start.
    let release = host.release("2");
    let line = [
        "upgrade",
        "--trial",
        "always",
        "--release",
        release.to_str().unwrap(),
    ];
    let said = host.run(&line).fails(1);
    assert!(
        said.contains("nothing has been changed: a second instance ended"),
        "{said}"
    );
    assert_eq!(host.calls(), [""; 0]);
    host.is_whole("1");
}

/// A server that is tried out for as long as it is let.
const ENDLESS: &str = "[ \"$1\" = --host ] && exec sleep 1000";

#[test]
fn patience_bounds_the_trial_of_an_upgrade() {
    let host = Host::new();
    host.install("1").ok();
    host.release_with_server("endless", ENDLESS);
    let release = host.release("endless");
    let line = [
        "upgrade",
        "--patience",
        "1",
        "--trial",
        "always",
        "--release",
        release.to_str().unwrap(),
    ];
    let said = host.run(&line).fails(1);
    assert!(
        said.contains("a second instance was not ready after 1 s"),
        "{said}"
    );
    assert!(!host.home().join("state/trial.json").exists());
    host.is_whole("1");
}

#[test]
fn patience_bounds_the_version_of_the_new_program() {
    let host = Host::new();
    host.install("1").ok();
    host.release_with_server("mute", "[ \"$1\" = --version ] && exec sleep 1000");
    let release = host.release("mute");
    let line = [
        &upgrading(release.to_str().unwrap())[..],
        &["--patience", "1"],
    ]
    .concat();
    let said = host.run(&line).fails(1);
    assert!(
        said.contains("gave no answer for") && said.contains("(--patience)"),
        "{said}"
    );
    host.is_whole("1");
}

#[test]
#[cfg(debug_assertions)]
fn install_that_finishes_an_upgrade_waits_as_long_as_its_patience_says() {
    let host = Host::new();
    host.install("1").ok();
    let said = host.upgrade("2", "switch");
    assert!(said.err.contains("SANCTUM_FAULT"), "{}", said.err);
    fs::write(host.home().join("bin/loading"), "1000").unwrap();
    let said = host.run(&["install", "--patience", "1"]).fails(3);
    assert!(said.contains("was not ready after 1 s: loading"), "{said}");
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
    let said = host.run_with(&line, &[("SANCTUM_FAULT", "asked")]);
    assert!(
        said.err.contains("SANCTUM_FAULT"),
        "{}{}",
        said.out,
        said.err
    );
    // The first server of the two said three times that it loads; for the second one the lease was renewed after that.
    let loaded: chrono::DateTime<chrono::Utc> =
        fs::metadata(&loading).unwrap().modified().unwrap().into();
    let expires = host.record("lease.json")["expires"].clone();
    let expires: chrono::DateTime<chrono::Utc> = serde_json::from_value(expires).unwrap();
    let renewed = expires - chrono::TimeDelta::seconds(1000 + 5 * 60);
    assert!(renewed >= loaded, "{renewed} {loaded}");
}

#[test]
fn upgrade_killed_during_its_trial_has_its_trial_ended_by_the_next_command() {
    let host = Host::new();
    host.install("1").ok();
    host.release_with_server("endless", ENDLESS);
    let release = host.release("endless");
    let line = [
        "upgrade",
        "--trial",
        "always",
        "--release",
        release.to_str().unwrap(),
    ];
    let mut upgrade = host.command(&line).spawn().unwrap();
    let record = host.home().join("state/trial.json");
    while !record.exists() {
        assert_eq!(upgrade.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    upgrade.kill().unwrap();
    upgrade.wait().unwrap();
    // `sleep` does not read its standard input, as an older server does not.
    let trial = host.record("trial.json")["process"].clone();
    let trial: sanctum_launchd::process::Process = serde_json::from_value(trial).unwrap();
    assert!(trial.is_running().unwrap());
    assert_eq!(host.findings(), ["interrupted"]);
    // "Cannot tell" is not "has ended": the record and the trial stay.
    let ps = host.at("ps");
    executable(&ps, "#!/bin/sh\necho 'not permitted' >&2\nexit 1\n");
    let broken = [("SANCTUM_PS", ps.to_str().unwrap())];
    let said = host.run_with(&["install"], &broken).fails(1);
    assert!(
        said.contains("cannot tell whether the trial of `server`")
            && said.contains("not permitted"),
        "{said}"
    );
    assert!(trial.is_running().unwrap() && record.exists());
    let said = host.run_with(&["verify"], &broken).fails(1);
    assert!(said.contains("cannot tell whether the trial"), "{said}");
    let said = host.run(&["install"]).ok();
    assert!(said.contains("ended the trial of `server`"), "{said}");
    assert!(!trial.is_running().unwrap() && !record.exists());
    host.is_whole("1");
}

#[test]
fn trial_record_of_a_process_number_that_is_used_again_ends_nothing() {
    let host = Host::new();
    host.install("1").ok();
    let mut other = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let record = serde_json::json!({
        "server": "server",
        "process": { "pid": other.id(), "started": "at another time" },
    });
    fs::write(host.home().join("state/trial.json"), record.to_string()).unwrap();
    host.install("1").ok();
    assert_eq!(other.try_wait().unwrap(), None);
    other.kill().unwrap();
    other.wait().unwrap();
    host.is_whole("1");
}

#[test]
fn rollback_to_a_standby_without_heartbeat_is_done_when_it_lists_its_models() {
    for health in [
        "200 {\"status\":\"ok\"}",
        "200 <!doctype html>",
        "200",
        "404",
        "close",
    ] {
        let host = Host::new();
        host.install("1").ok();
        fs::write(host.home().join("bin/other-health"), health).unwrap();
        let said = host
            .run(&["rollback", "--agent", "hatch", "--patience", "20"])
            .ok();
        assert!(said.contains("`hatch` serves now"), "{health}: {said}");
        let said = host.run(&["status"]).ok();
        assert!(said.contains("served by hatch: ready"), "{health}: {said}");
    }
}

#[test]
fn a_damaged_release_is_refused_before_anything_happens() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    fs::write(host.release("2").join("sanctum-parity"), "damaged").unwrap();
    let said = host.upgrade("2", "").fails(1);
    assert!(
        said.contains("sanctum-parity is not what release.json says"),
        "{said}"
    );
    assert_eq!(host.calls(), [""; 0]);
    host.is_whole("1");
}

#[test]
fn a_flip_hands_the_place_over_and_back() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    host.run(&["rollback", "--agent", "hatch"]).ok();
    assert_eq!(
        host.calls(),
        [
            "disable server",
            "bootout server",
            "enable hatch",
            "bootstrap hatch"
        ]
    );
    assert_eq!(host.record("active.json")["server"], "hatch");
    assert!(host.is_loaded("hatch") && !host.is_loaded("server"));
    assert!(host.is_disabled("server") && !host.is_disabled("hatch"));
    assert_eq!(host.findings(), [""; 0]);
    // An install keeps the flip.
    assert!(host.install("1").ok().contains("nothing to do"));
    host.run(&["rollback", "--agent", "server"]).ok();
    host.is_whole("1");
    assert!(host.is_disabled("hatch") && !host.is_disabled("server"));
    let said = host.run(&["rollback", "--agent", "guardian"]).fails(1);
    assert!(said.contains("can be done with server, hatch"), "{said}");
}

#[test]
fn a_server_is_not_stopped_for_a_standby_that_is_not_there() {
    let host = Host::new();
    host.fleet("");
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    fs::write(
        host.at("fleet.toml"),
        text.replace("/bin/sleep", "/no/such/hatch"),
    )
    .unwrap();
    host.install("1").ok();
    host.calls();
    let said = host.run(&["rollback", "--agent", "hatch"]).fails(1);
    assert!(
        said.contains("`hatch` runs /no/such/hatch, which is not there; nothing was changed"),
        "{said}"
    );
    assert_eq!(host.calls(), [""; 0]);
    host.is_whole("1");
}

#[test]
fn uninstall_leaves_what_cannot_be_made_again() {
    let host = Host::new();
    host.install("1").ok();
    fs::write(host.home().join("certs/server.key"), "key").unwrap();
    host.run(&["uninstall"]).ok();
    for agent in crate::host::AGENTS {
        assert!(!host.is_loaded(agent) && !host.plist(agent).exists());
    }
    assert!(host.home().join("certs/server.key").exists());
    assert!(!host.home().join("bin/sanctum-server").exists());
    assert!(host.run(&["uninstall"]).ok().contains("nothing to do"));
    assert_eq!(host.findings(), ["not-installed"]);
    host.install("1").ok();
    host.is_whole("1");
}

#[test]
fn secrets_are_closed_and_forbidden_keys_found() {
    let host = Host::new();
    host.install("1").ok();
    let mode = |path: &str, mode| {
        let path = host.home().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::write(host.home().join("secrets/server.token"), "t").unwrap();
    mode("secrets/server.token", 0o644);
    mode("secrets", 0o755);
    assert_eq!(host.findings(), ["mode", "mode"]);
    host.install("1").ok();
    host.is_whole("1");
    // One that fleet.toml names elsewhere.
    fs::write(host.at("elsewhere.token"), "t").unwrap();
    fs::set_permissions(
        host.at("elsewhere.token"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let fleet = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let auth = format!(
        "auth = {{ token_file = \"{}\" }}\nlisten = [",
        host.at("elsewhere.token").display()
    );
    fs::write(host.at("fleet.toml"), fleet.replace("listen = [", &auth)).unwrap();
    assert_eq!(host.findings(), ["mode", "undeployed"]);
    fs::write(host.at("fleet.toml"), fleet).unwrap();
    fs::write(host.home().join("certs/ca.key"), "k").unwrap();
    mode("certs/ca.key", 0o600);
    assert_eq!(host.findings(), ["forbidden-key"]);
    fs::remove_file(host.home().join("certs/ca.key")).unwrap();
    fs::write(host.plist("old"), "").unwrap();
    assert_eq!(host.findings(), ["stranger"]);
}

#[test]
fn a_firewall_in_the_way_is_named_with_the_commands_to_type() {
    let host = Host::new();
    let fleet = fs::read_to_string(host.at("fleet.toml")).unwrap();
    fs::write(
        host.at("fleet.toml"),
        fleet.replace("listen = [", "listen = [\"0.0.0.0:9\", "),
    )
    .unwrap();
    let firewall = host.at("socketfilterfw");
    let firewall = firewall.to_str().unwrap();
    let says = |ruling: &str| {
        let script = format!(
            "#!/bin/sh\ncase $1 in --getglobalstate) echo 'Firewall is enabled. (State = 1)' ;; *) echo '{ruling}' ;; esac\n"
        );
        executable(firewall.as_ref(), &script);
        [("SANCTUM_SOCKETFILTERFW", firewall)]
    };
    let release = host.release("1");
    let line = ["install", "--release", release.to_str().unwrap()];
    let said = host
        .run_with(&line, &says("The application is not part of the firewall"))
        .ok();
    assert!(
        said.contains("sudo ") && said.contains("--unblockapp"),
        "{said}"
    );
    let said = host.run_with(
        &["verify"],
        &says("Incoming connections to the application are blocked"),
    );
    assert!(said.fails(1).contains("the firewall blocks it"));
    host.run_with(
        &["verify"],
        &says("Incoming connection to the application is permitted"),
    )
    .ok();
}
