//! Hosts whose ssh connects and then hangs: what is known elsewhere is shown meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::host::{Host, executable};

/// A host `far` that watches `mini`, and whose first ssh session hangs until a line is written to the pipe `release`.
fn host_with_a_slow_one() -> Host {
    let host = Host::new();
    host.install("1").ok();
    host.fleet(
        "[hosts.far]\naddress = \"b\"\nssh = \"far\"\nagents = [\"eye\"]\n\
         [watch.eye]\ncheck = \"canary\"\ntarget = \"server\"\nevery = \"5m\"\n",
    );
    let made = Command::new("mkfifo").arg(host.at("release")).status();
    assert!(made.unwrap().success());
    let outside =
        r#"{"sections":[{"lines":[{"check":"ssh","outcome":"passed","detail":"late"}]}]}"#;
    let script = format!(
        "#!/bin/sh\ncd '{}' || exit 1\n[ -e released ] || {{ read -r go < release; touch released; }}\necho '{outside}'\n",
        host.at("").display()
    );
    executable(&host.at("ssh"), &script);
    host
}

#[test]
fn doctor_shows_this_host_before_another_one_has_answered() {
    let host = host_with_a_slow_one();
    let mut doctor = host.command(&["doctor"]);
    doctor.env("SANCTUM_SSH", host.at("ssh"));
    let mut doctor = doctor.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(doctor.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    assert_eq!(first, "mini, from inside:\n");
    // For reading too: opened for writing only, a pipe without a reader blocks.
    let pipe = File::options()
        .read(true)
        .write(true)
        .open(host.at("release"));
    let mut pipe = pipe.unwrap();
    pipe.write_all(b"go\n").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    doctor.wait().unwrap();
    assert!(
        rest.contains("mini, from far:\n  passed  ssh: late\n"),
        "{rest}"
    );
}

#[test]
fn host_that_hangs_is_given_up_by_verify_and_receipt_as_early_as_by_status() {
    let host = host_with_a_slow_one();
    let begun = ["verify", "receipt"].map(|name| {
        let mut command = host.command(&[name, "--host", "far"]);
        command.env("SANCTUM_SSH", host.at("ssh"));
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        (name, pipes.spawn().unwrap())
    });
    for (name, command) in begun {
        let output = command.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("far cannot be "), "{said}");
        assert!(said.contains("it did not answer within 15 s"), "{said}");
        assert!(said.contains("try it by hand: ssh far "), "{said}");
    }
}

#[test]
fn hosts_are_asked_at_once() {
    let host = Host::new();
    host.install("1").ok();
    host.fleet(
        "[hosts.far]\naddress = \"b\"\nssh = \"far\"\nagents = [\"eye\"]\n\
         [hosts.near]\naddress = \"c\"\nssh = \"near\"\nagents = [\"ear\"]\n\
         [watch.eye]\ncheck = \"canary\"\ntarget = \"server\"\nevery = \"5m\"\n\
         [watch.ear]\ncheck = \"canary\"\ntarget = \"server\"\nevery = \"5m\"\n",
    );
    let made = Command::new("mkfifo").arg(host.at("meeting")).status();
    assert!(made.unwrap().success());
    // Each of the two sessions waits for the other one.
    let answer = r#"{"hosts":[{"host":"far","problem":null,"release":null,"installed":null,"maintenance":null,
        "agents":[],"servers":[],"until":null}]}"#;
    let script = format!(
        "#!/bin/sh\nshift 5\ncd '{}' || exit 1\ncase $1 in\nfar) echo go > meeting ;;\nnear) read -r go < meeting ;;\nesac\n\
         echo '{answer}'\n",
        host.at("").display()
    );
    executable(&host.at("ssh"), &script);
    let ssh = host.at("ssh").display().to_string();
    let run = |line: &[&str]| host.run_with(line, &[("SANCTUM_SSH", &ssh)]);
    let said = run(&["pause", "--for", "10m"]).ok();
    for name in ["mini", "far", "near"] {
        assert!(
            said.contains(&format!("{name}: watchdogs neither")),
            "{said}"
        );
    }
    run(&["resume"]).ok();
    let said = run(&["status"]);
    let said = said.out + &said.err;
    assert!(!said.contains("`ssh "), "{said}");
}
