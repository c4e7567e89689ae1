//! `doctor`: what has to be in order around an installation, from inside and from another host; and the upgrade that asks it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use sanctum_tests::program;
use serde_json::Value;

use crate::host::{Host, said};
use crate::laptop::Laptop;
use crate::push::first_fleet;

/// A script in the folder of a host's user.
fn script(host: &Host, name: &str, text: &str) -> String {
    let path = host.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn doctor_says_what_passes_what_fails_and_what_it_cannot_check() {
    let host = Host::new();
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    let watchdog = "[watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\nalert = [\"desktop\"]\n[alerts.desktop]\n";
    host.fleet(&["server", "canary"], "", watchdog);
    host.install("1");
    host.all_well(&["canary"]);
    let (_, out) = host.run(&["doctor"]);
    for line in [
        "passed  installation: release 1 since",
        "passed  model of server: it is built into the program",
        "passed  firewall: no server here listens for other hosts",
        "notifications: not checkable here: canary alerts on this screen",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    if cfg!(not(target_os = "macos")) {
        assert!(
            out.contains("sleep: not checkable here: this is not macOS"),
            "{out}"
        );
    }
    // As on a Mac mini that was not prepared.
    let mut doctor = host.command(&["doctor", "--json"]);
    let power = "echo 'AC Power:'; echo ' autorestart          1'; echo ' sleep                10'";
    doctor
        .env("SANCTUM_PMSET", script(&host, "pmset", power))
        .env(
            "SANCTUM_FDESETUP",
            script(&host, "fdesetup", "echo 'FileVault is On.'"),
        )
        .env("SANCTUM_DEFAULTS", script(&host, "defaults", "echo ada"));
    let output = doctor.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = page["sections"][0]["lines"].as_array().unwrap();
    let outcome = |check: &str| {
        let line = lines.iter().find(|line| line["check"] == check);
        line.unwrap_or_else(|| panic!("{check}: {page}"))["outcome"].clone()
    };
    assert_eq!(outcome("sleep"), "failed");
    assert_eq!(outcome("power failure"), "passed");
    assert_eq!(outcome("FileVault"), "failed");
    assert_eq!(outcome("automatic login"), "passed");
}

#[test]
fn upgrade_after_which_another_host_cannot_reach_the_server_is_rolled_back() {
    let host = Host::new();
    let Some(laptop) = Laptop::of(&host, &[]) else {
        return;
    };
    let port = first_fleet(&host, &laptop);
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    // It serves, and other hosts find nothing at its port.
    let elsewhere = format!(
        "sed 's/0.0.0.0:{port}/127.0.0.1:0/' \"$HOME/.sanctum/fleet.toml\" > \"$HOME/.sanctum/elsewhere.toml\"\n\
         for word; do shift; set -- \"$@\" \"$(echo \"$word\" | sed 's#fleet.toml$#elsewhere.toml#')\"; done\n\
         exec \"$SERVER\" \"$@\""
    );
    host.release_of_scripts("2", &elsewhere);
    host.release_of_scripts("3", "exec \"$SERVER\" \"$@\"");
    laptop.must(&["push", "here"]);
    host.install("1");
    host.all_well(&["guardian", "canary"]);
    laptop.has_receipt();
    let out = laptop.must(&["doctor", "--host", "here"]);
    for line in [
        "here, from laptop:",
        "passed  ssh: localhost answers without a prompt",
        "passed  clock: it agrees with this host's",
        "passed  certificate for server: it is accepted, and the answer is right",
        "passed  versions: laptop and here have release 1",
        "here, from inside:",
        "passed  model of server: it is built into the program",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }

    // The host that serves reaches the laptop through this program.
    let home = host.path("laptop");
    fs::create_dir_all(home.join(".sanctum/bin")).unwrap();
    symlink(
        program("sanctum-launchd"),
        home.join(".sanctum/bin/sanctum-launchd"),
    )
    .unwrap();
    fs::copy(host.path("fleet.toml"), home.join(".sanctum/fleet.toml")).unwrap();
    let to_laptop = format!(
        "for line; do :; done\nexport HOME='{}' SANCTUM_SSH='{}'\nexec sh -c \"$line\"",
        home.display(),
        laptop.ssh().display()
    );
    let to_laptop = script(&host, "to-laptop", &to_laptop);
    let upgrade = |release: &str| {
        let mut upgrade = host.command(&["upgrade", "--release", release, "--trial", "never"]);
        said(upgrade.env("SANCTUM_SSH", &to_laptop).output().unwrap())
    };
    let (code, out) = upgrade("2");
    assert_eq!(code, Some(3), "{out}");
    assert!(
        out.contains("laptop does not reach this host as before: port of server"),
        "{out}"
    );
    host.all_well(&["guardian", "canary"]);
    assert!(host.must(&["status", "--local"]).contains("release 1"));
    let (code, out) = upgrade("3");
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("laptop reaches the servers of this host"),
        "{out}"
    );
    // A laptop that is asleep prevents no upgrade.
    let mut asleep = host.command(&["rollback", "--to", "1"]);
    assert_eq!(asleep.output().unwrap().status.code(), Some(0));
    let mut asleep = host.command(&["upgrade", "--release", "3", "--trial", "never"]);
    asleep.env(
        "SANCTUM_SSH",
        script(&host, "asleep", "echo 'No route to host' >&2; exit 255"),
    );
    let (code, out) = said(asleep.output().unwrap());
    assert!(
        code == Some(0) && out.contains("laptop cannot be asked"),
        "{out}"
    );
}
