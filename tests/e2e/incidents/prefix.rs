//! A kept state with a flipped bit: answers that begin with it would be wrong, and no other check notices that.

use std::fs;

use crate::host::Host;
use crate::receiver::{Receiver, field};

#[test]
fn flipped_bit_turns_reuse_off_and_alerts_until_a_restart() {
    let phone = Receiver::new();
    let host = Host::new();
    let damage = host.path("damage");
    let path = damage.display().to_string();
    let hook = ["setenv", "SANCTUM_DAMAGE_PREFIX", &path];
    host.launchd.run(&hook).unwrap();
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    let guardian = format!(
        "[watch.guardian]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"2s\"\nmisses = 3\nalert = [\"phone\"]\n{}",
        phone.section()
    );
    host.fleet(&["server", "guardian"], "cache_check = 1.0", &guardian);
    host.install("1");
    host.all_well(&["guardian"]);
    let status = |host: &Host| host.health()["prefix_cache"]["status"].clone();
    assert_eq!(status(&host), "on");

    // The first leaves its prefix, the others reuse it, and these reuses are checked.
    let question = format!("{}What is 2+2?", "A lamp is not a candle. ".repeat(8));
    let answer = host.ask(&question);
    host.ask(&question);
    host.look_on("guardian", 2);
    assert_eq!(status(&host), "on");

    fs::write(&damage, "").unwrap();
    let damaged = format!("Another lamp. {question}");
    host.wait("a failed check", |host| {
        host.ask(&damaged);
        status(host) == "disabled-by-check"
    });
    let title = "a check of reused prefixes failed in server on here";
    let alert = &phone.wait(title, 1)[0];
    let reason = host.health()["prefix_cache"]["reason"].clone();
    let reason = reason.as_str().unwrap();
    assert_eq!(field(alert, "severity"), "critical");
    assert!(field(alert, "body").starts_with(reason), "{alert}");
    assert!(
        field(alert, "body").contains("prefix_cache = \"off\""),
        "{alert}"
    );
    assert!(
        !host.log("server").contains("candle"),
        "no text of a prompt"
    );
    let (code, said) = host.run(&["verify"]);
    assert!(code == Some(1) && said.contains(reason), "{said}");
    let (code, said) = host.run(&["status"]);
    assert!(code == Some(1) && said.contains(reason), "{said}");
    // Nothing is reused any more, the server serves, and the guardian does not restart it.
    assert_eq!(host.ask(&question), answer);
    host.look_on("guardian", 3);
    assert_eq!(host.restarts(), 0);

    fs::remove_file(&damage).unwrap();
    let target = host.target("server");
    host.launchd.run(&["kickstart", "-k", &target]).unwrap();
    phone.wait(&format!("recovered: {title}"), 1);
    assert_eq!(status(&host), "on");
    assert_eq!(host.ask(&question), answer);
}
