//! Install, repair, uninstall.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::host::{AGENTS, Host, executable};

#[test]
fn second_install_writes_nothing() {
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
            "id": "guardian-1", "title": "server on mini needs attention", "alerts": 1,
            "since": "2026-11-30T10:00:00Z", "alerted": "2026-11-30T10:00:00Z",
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
fn change_restarts_only_the_agents_that_use_it() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    // The watchdogs read the whole file; the server's own section is unchanged.
    host.fleet("[alerts.desk]\nkind = \"desktop\"\nsound = \"Submarine\"\n");
    host.install("1").ok();
    let restarted = [
        "bootout parity",
        "bootout guardian",
        "bootstrap guardian",
        "bootstrap parity",
    ];
    assert_eq!(host.calls(), restarted);
    // Only one watchdog reads the spec.
    fs::write(host.at("parity.json"), "{ }").unwrap();
    host.install("1").ok();
    assert_eq!(host.calls(), ["bootout parity", "bootstrap parity"]);
    host.is_whole("1");
}

#[test]
fn install_puts_back_files_that_were_edited() {
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
    // launchd has other arguments than the unchanged property list.
    let loaded = host.at("launchd/loaded/com.sanctum.server");
    fs::write(&loaded, text.replace("--server", "--host")).unwrap();
    assert_eq!(host.findings(), ["stale-arguments"]);
    host.install("1").ok();
    host.is_whole("1");
}

#[test]
fn metallib_is_installed_and_rolled_back_with_its_release() {
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

    // A changed metallib is a finding, and an install puts the right one back and restarts the server.
    fs::write(&installed, "other").unwrap();
    assert_eq!(host.findings(), ["changed"]);
    host.calls();
    host.install("1").ok();
    assert_eq!(kernels().as_deref(), Some("one"));
    assert_eq!(host.calls(), ["bootout server", "bootstrap server"]);
    host.is_whole("1");

    host.upgrade("2", "").ok();
    assert_eq!(kernels().as_deref(), Some("two"));
    // A release without a metallib removes the installed one: a later MLX would load it.
    host.upgrade("3", "").ok();
    assert_eq!(kernels(), None);
    host.run(&["rollback"]).ok();
    assert_eq!(kernels().as_deref(), Some("two"));
    host.is_whole("2");
}

#[test]
fn install_repairs_a_damaged_store() {
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
fn uninstall_keeps_certificates() {
    let host = Host::new();
    host.install("1").ok();
    fs::write(host.home().join("certs/server.key"), "key").unwrap();
    host.run(&["uninstall"]).ok();
    for agent in AGENTS {
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
fn uninstall_names_the_folder_of_prefixes_and_removes_it_on_request() {
    let host = Host::new();
    let cache = host.at("cache");
    let key = format!("{}.prefix", "a".repeat(64));
    let fill = || {
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join(&key), "a conversation").unwrap();
    };
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let folder = cache.to_str().unwrap();
    let server = format!("[servers.server]\ncache_dir = \"{folder}\"\n");
    let text = text.replace("[servers.server]\n", &server);
    fs::write(host.at("fleet.toml"), text).unwrap();

    host.install("1").ok();
    fill();
    let said = host.run(&["uninstall"]).ok();
    assert!(said.contains("conversations are still in"), "{said}");
    assert!(said.contains(folder) && cache.join(&key).exists(), "{said}");

    host.install("1").ok();
    let line = ["uninstall", "--remove-prefix-cache"];
    let said = host.run(&[line[0], line[1], "--dry-run"]).ok();
    let words = format!("would remove 1 computed prefix in {folder}");
    assert!(said.contains(&words) && cache.join(&key).exists(), "{said}");
    let lock = cache.join(sanctum_config::cache_dir::LOCK);
    let lock = sanctum_config::FileLock::take(&lock, std::time::Duration::ZERO);
    let said = host.run(&line).fails(1);
    assert!(said.contains("stop it first"), "{said}");
    assert!(cache.join(&key).exists());
    drop(lock.unwrap());
    // Everything else has been uninstalled.
    host.run(&line).ok();
    assert!(!cache.exists());
    let said = host.run(&line).ok();
    assert!(said.contains("nothing to do"), "{said}");
}

#[test]
fn commands_after_an_uninstallation_report_that_nothing_is_installed() {
    let host = Host::new();
    // No host of this fleet has this machine's name.
    host.fleet("[hosts.other]\naddress = \"192.0.2.7\"\n");
    let release = host.release("1");
    let release = release.to_str().unwrap();
    host.run(&["install", "--host", "mini", "--release", release])
        .ok();
    host.run(&["uninstall"]).ok();
    for line in [
        &["verify"][..],
        &["status"],
        &["uninstall"],
        &["rollback"],
        &["upgrade", "--release", release],
    ] {
        let said = host.run(line).fails(1);
        assert!(
            said.contains("nothing is installed here") && said.contains("--host"),
            "{line:?}: {said}"
        );
        assert!(!said.contains("cannot tell which host"), "{said}");
    }
    let said = host.run(&["verify", "--host", "mini"]).fails(1);
    assert!(said.contains("nothing is installed here"), "{said}");
    // The first installation needs the host's name.
    let said = host.run(&["install", "--release", release]).fails(1);
    assert!(said.contains("add --host with one of"), "{said}");
}

#[test]
fn dry_run_prints_the_plan_and_changes_nothing() {
    let host = Host::new();
    host.install("1").ok();
    host.upgrade("2", "").ok();
    host.fleet("[alerts.desk]\nkind = \"desktop\"\nsound = \"Submarine\"\n");
    host.calls();
    let before = host.snapshot();
    let release = host.release("3");
    for (line, step) in [
        (&["install"][..], "would boot out com.sanctum.parity"),
        (
            &["upgrade", "--release", release.to_str().unwrap()],
            "sanctum-server (mode 0755",
        ),
        (&["rollback"], "would bootstrap"),
        (
            &["rollback", "--agent", "hatch"],
            "would disable com.sanctum.server",
        ),
        (&["uninstall"], "would remove "),
    ] {
        let line = [line, &["--dry-run"]].concat();
        let said = host.run(&line).ok();
        assert!(said.contains(step), "{line:?}: {said}");
        assert!(
            said.contains("nothing has been changed"),
            "{line:?}: {said}"
        );
    }
    assert!(host.snapshot() == before, "nothing was written");
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn install_restricts_secrets_and_verify_finds_forbidden_keys() {
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
    // A token outside of the home that fleet.toml names.
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
    assert_eq!(host.findings(), ["unknown-plist"]);
}

#[test]
fn blocking_firewall_is_reported_with_its_commands() {
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
