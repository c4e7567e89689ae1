//! Commands for another host: what its sanctum-launchd, its shell or ssh may answer.

use std::fs;

use crate::host::{Host, LaunchdOutput, executable};

/// A script that prints the result of `stop shadow` on `far`.
const STOPPED: &str = r#"echo '{"host":"far","agent":"shadow","stopped":true,"changed":true,
    "steps":[{"step":"stop","what":"stop shadow"},{"note":"drained"}],"summary":"stopped"}'"#;

/// A host `mini` whose watchdog `eye` watches the server `shadow` of the host `far`.
fn host_that_watches_another() -> Host {
    let host = Host::new();
    host.install("1").ok();
    host.fleet(
        "[hosts.far]\naddress = \"b\"\nssh = \"far\"\nagents = [\"shadow\"]\n\
         [servers.shadow]\nhost = \"far\"\nlisten = [\"0.0.0.0:9\"]\n\
         [watch.eye]\ncheck = \"canary\"\ntarget = \"shadow\"\nevery = \"5m\"\n",
    );
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let text = text.replace("\"parity\"]\n", "\"parity\", \"eye\"]\n");
    fs::write(host.at("fleet.toml"), text).unwrap();
    host
}

/// Runs a command for the host `far`, on which every line but `true` is answered by this script.
fn run(host: &Host, line: &[&str], script: &str) -> LaunchdOutput {
    let script =
        format!("#!/bin/sh\nfor line; do :; done\n[ \"$line\" = true ] && exit 0\n{script}\n");
    executable(&host.at("ssh"), &script);
    let ssh = host.at("ssh").display().to_string();
    host.run_with(line, &[("SANCTUM_SSH", &ssh)])
}

#[test]
fn stop_on_another_host_is_recorded_only_if_that_host_confirms_it() {
    let host = host_that_watches_another();
    let record = host.home().join("state/stopped.json");
    let stop = ["stop", "shadow", "--host", "far"];
    let said = run(&host, &stop, "exit 0").fails(1);
    assert!(said.contains("without the result"), "{said}");
    let other = r#"echo '{"host":"far","agent":"other","stopped":true,"changed":true}'"#;
    let said = run(&host, &stop, other).fails(1);
    assert!(
        said.contains("did not confirm that shadow is stopped"),
        "{said}"
    );
    assert!(said.contains("sanctum-launchd status --host far"), "{said}");
    assert!(!record.exists());
    let said = run(&host, &stop, STOPPED).ok();
    assert_eq!(
        said,
        "stop shadow\ndrained\neye on this host does not alert about it until it is started\n\
         shadow is stopped until: sanctum-launchd start shadow --host far\n"
    );
    assert!(host.record("stopped.json")["shadow"].is_object());
}

#[test]
fn start_that_fails_on_another_host_ends_the_record_if_it_was_tried() {
    let host = host_that_watches_another();
    run(&host, &["stop", "shadow", "--host", "far"], STOPPED).ok();
    let start = ["start", "shadow", "--host", "far"];
    let is_recorded = || host.record("stopped.json")["shadow"].is_object();
    for nothing in ["exit 255", "exit 127"] {
        run(&host, &start, nothing).fails(1);
        assert!(is_recorded(), "{nothing}");
    }
    // It has panicked, or was killed: the server may run.
    let said = run(&host, &start, "exit 101").fails(1);
    assert!(said.contains("the command failed on far"), "{said}");
    assert!(!is_recorded());
}

#[test]
fn exit_code_of_another_hosts_shell_is_not_passed_on() {
    let host = host_that_watches_another();
    for verb in ["restart", "start", "stop", "logs"] {
        let line = [verb, "shadow", "--host", "far"];
        let said = run(&host, &line, "echo 'sh: not found' >&2; exit 127").fails(1);
        assert!(said.contains("far: sh: not found"), "{said}");
        assert!(
            said.contains("sanctum-launchd push HOST --release FOLDER"),
            "{said}"
        );
        let said = run(&host, &line, "echo 'shadow crashes' >&2; exit 3").fails(3);
        assert!(said.contains("the command failed on far"), "{said}");
    }
}

#[test]
fn doctor_names_a_shell_that_fails_behind_an_ssh_that_connects() {
    let host = host_that_watches_another();
    let line = ["doctor", "--host", "far"];
    let said = run(&host, &line, "echo 'date: not found' >&2; exit 127").fails(1);
    assert!(
        said.contains("FAILED  ssh: it connects, and the shell there fails: date: not found"),
        "{said}"
    );
    assert!(said.contains("ssh far 'date -u +%s'"), "{said}");
    assert!(!said.contains("does its sshd run"), "{said}");
}
