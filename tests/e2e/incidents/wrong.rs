//! Answers in time that are wrong: `/health` is fine, and only a question finds the fault.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sanctum_tests::{SCALES, flip_a_bit, program};

use crate::host::{Host, SOON, label};
use crate::receiver::{Receiver, field};

/// The canary's default question.
const QUESTION: &str = "What is 2+2? Respond with only the number.";

const GUARDIAN: &str = "[watch.guardian]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"2s\"\nmisses = 3\n\
     stall_after = \"5s\"\nstartup_grace = \"30s\"\nalert = [\"log\"]\n[alerts.log]\n";

/// The built-in model, as a folder.
pub(crate) fn exported(host: &Host) -> PathBuf {
    let model = host.path("model");
    let done = Command::new(program("sanctum-server"))
        .arg("export-model")
        .arg(&model)
        .env("HOME", host.path(""))
        .output();
    assert!(done.unwrap().status.success());
    model
}

#[test]
fn flipped_bit_alerts_the_canary_and_not_the_guardian() {
    let phone = Receiver::new();
    let host = Host::new();
    exported(&host);
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    let canary = format!(
        "{GUARDIAN}[watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"30s\"\nmisses = 2\n\
         alert = [\"phone\"]\n{}",
        phone.section()
    );
    let server = "models = [{ id = \"council\", path = \"~/model\" }]";
    host.fleet(&["server", "guardian", "canary"], server, &canary);
    host.install("1");
    host.all_well(&["guardian", "canary"]);
    let right = host.ask(QUESTION);
    assert_eq!(right.trim(), "4");

    // One bit flips; the next start reads it.
    flip_a_bit(&host.path("model"), SCALES);
    host.launchd
        .run(&["kickstart", "-k", &host.target("server")])
        .unwrap();
    host.wait("a model that is ready", |host| {
        host.health()["phase"] == "ready"
    });
    let wrong = host.ask(QUESTION);
    assert_ne!(wrong, right);
    let alert = &phone.wait("server on here fails its check", 1)[0];
    let body = field(alert, "body");
    assert!(
        body.contains(QUESTION) && body.contains("instead of `4`"),
        "{body}"
    );
    assert!(body.contains("sanctum-launchd verify"), "{body}");

    // The server is alive, which is all that the guardian checks.
    host.look_on("guardian", 6);
    host.all_well(&["guardian"]);
    let runs = host.running("server").runs;
    assert_eq!((host.restarts(), runs), (0, 2));
    assert_eq!(phone.titled("fails its check").len(), 1);
}

#[test]
fn release_that_answers_wrong_is_rolled_back() {
    let host = Host::new();
    let broken = exported(&host);
    flip_a_bit(&broken, SCALES);
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    // Its programs have the right digests, the model passes its checks, and it serves another one.
    let serve = format!(
        "case $1 in check-model) exec \"$SERVER\" \"$@\";; esac\nexec \"$SERVER\" \"$@\" --model 'council={}'",
        broken.display()
    );
    host.release_of_scripts("2", &serve);
    host.fleet(&["server", "guardian"], "", GUARDIAN);
    host.install("1");
    host.all_well(&["guardian"]);

    let (code, said) = host.run(&["upgrade", "--release", "2", "--trial", "never"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("\"4\" was expected") && said.contains("release 1 is in place again"),
        "{said}"
    );
    // The previous release serves again, completely.
    host.launchd
        .wait_for(&label("server"), SOON, |s| s.pid.is_some())
        .unwrap();
    host.wait("a model that is ready", |host| {
        host.health()["phase"] == "ready"
    });
    assert_eq!(host.ask(QUESTION).trim(), "4");
    host.must(&["verify"]);
    for name in ["sanctum-server", "sanctum-guardian", "sanctum-canary"] {
        let text = fs::read_to_string(host.path(".sanctum/bin").join(name)).unwrap();
        assert!(text.contains("# release 1\n"), "{name}: {text}");
    }
    host.all_well(&["guardian"]);
    assert_eq!(host.restarts(), 0);
}
