//! `fleet`, `list`, `renew` and `bundle`: what fleet.toml asks for is there, and reaches its host.

use std::collections::BTreeSet;
use std::fs;

use crate::{Desk, FLEET, mode};

#[test]
fn a_second_run_changes_nothing() {
    let desk = Desk::set_up();
    let before = desk.tree();
    let said = desk.done("fleet");
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(said.lines().all(|line| line.contains(": kept")), "{said}");
    assert_eq!(desk.tree(), before);
}

#[test]
fn missing_damaged_or_narrow_certificate_is_issued_again() {
    let desk = Desk::set_up();
    let kept = desk.read("home/certs/clients/offbox.crt");
    fs::remove_file(desk.path("home/certs/clients/canary.key")).unwrap();
    fs::write(desk.path("home/certs/clients/guardian.crt"), "nonsense").unwrap();
    // A crash between the two renames of a renewal leaves the new key beside the old certificate.
    let other = desk.read("home/certs/server.key");
    fs::write(desk.path("home/certs/shadow.key"), other).unwrap();
    let wider = FLEET.replace("100.64.0.26", "100.64.0.99");
    fs::write(desk.path("fleet.toml"), wider).unwrap();
    let said = desk.done("fleet");
    for part in [
        "server server: issued",
        "(the previous one lacked 100.64.0.99)",
        "server shadow: issued",
        "(the previous one: the key is another certificate's)",
        "client canary: issued",
        "(the previous one: the key is missing)",
        "client guardian: issued",
        "(damaged)",
        "client offbox: kept",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(desk.read("home/certs/clients/offbox.crt"), kept);
    assert!(
        desk.done("fleet")
            .lines()
            .all(|line| line.contains(": kept"))
    );
    // Who is in no section is pointed out, not touched.
    desk.done("client visitor");
    assert!(desk.done("fleet").contains("client visitor: extra"));
}

#[test]
fn renew_within_leaves_what_lasts_longer() {
    let desk = Desk::set_up();
    desk.done("client short --days 10");
    let said = desk.done("renew --all --within 30d");
    assert_eq!(said.matches("issued again").count(), 1, "{said}");
    assert!(said.contains("client short: issued again"), "{said}");
    assert_eq!(desk.done("renew --all").matches("issued again").count(), 6);
    assert!(
        desk.done("renew short --days 1 --within 1d")
            .contains("left (")
    );
}

#[test]
fn old_revocation_list_is_signed_again_by_renew_and_fleet() {
    let desk = Desk::set_up();
    desk.done("crl --days 190");
    assert!(
        desk.done("renew --all --within 30d")
            .contains("revocation list was signed again")
    );
    assert!(
        !desk
            .done("renew --all --within 30d")
            .contains("revocation list")
    );
    desk.done("crl --days 190");
    assert!(
        desk.done("fleet")
            .contains("revocation list was signed again")
    );
}

#[test]
fn commands_at_the_same_time_do_not_forget_each_other() {
    let desk = Desk::set_up();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let desk = &desk;
            scope.spawn(move || desk.done(&format!("client visitor{at}")));
        }
    });
    let ledger = String::from_utf8(desk.read("home/certs/ledger.json")).unwrap();
    assert_eq!(ledger.matches("\"visitor").count(), 8, "{ledger}");
}

#[test]
fn programs_read_the_same_as_json() {
    let desk = Desk::set_up();
    desk.done("revoke canary");
    let json =
        |words: &str| -> serde_json::Value { serde_json::from_str(&desk.done(words)).unwrap() };
    let list = json("list --json");
    let of = |name: &str| {
        let all = list["certificates"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    assert_eq!(of("canary")["revoked"], true);
    assert_eq!(of("server")["state"], "good");
    let left = of("server")["days_left"].as_i64();
    assert!((395..=397).contains(&left.unwrap()), "{left:?}");
    assert_eq!(
        list["revocation_lists"][0]["revoked"][0],
        of("canary")["serial"]
    );
    let show = json("show server --json");
    assert_eq!(show[0]["usages"][0], "serverAuth");
    assert_eq!(show[0]["serial"], of("server")["serial"]);
    assert_eq!(json("show ca --json")[0]["is_ca"], true);
    let fleet = json("fleet --json");
    let done: Vec<_> = fleet["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["done"].clone())
        .collect();
    assert_eq!(done.iter().filter(|done| *done == "kept").count(), 4);
    assert_eq!(done.iter().filter(|done| *done == "left").count(), 1);
}

/// A slip in fleet.toml must not carry a private key to a server.
#[test]
fn a_bundle_takes_no_private_key_for_a_public_one_or_a_token() {
    let desk = Desk::set_up();
    desk.done("token");
    desk.done("manifest keygen");
    let fleet = std::fs::read_to_string(desk.path("fleet.toml")).unwrap();
    let token = "token_file = \"~/.sanctum/secrets/server.token\"";
    assert!(fleet.contains(token));
    for secret in ["secrets/manifest.key", "certs/ca.key"] {
        let named = format!(
            "auth = {{ {token} }}\nmodels = [{{ id = \"m\", path = \"m\", manifest = \"m.sha256\" }}]\n\
                             manifest_keys = [\"~/.sanctum/{secret}\"]"
        );
        let as_key = fleet.replace(&format!("auth = {{ {token} }}"), &named);
        let as_token = fleet.replace(token, &format!("token_file = \"~/.sanctum/{secret}\""));
        for (text, field) in [(as_key, "manifest_keys"), (as_token, "token_file")] {
            assert_ne!(text, fleet);
            std::fs::write(desk.path("fleet.toml"), text).unwrap();
            let told = desk.refused("bundle mini");
            assert!(told.contains(field) && told.contains(secret), "{told}");
            assert!(!desk.path("bundle-mini").exists());
        }
    }
}

#[test]
fn a_bundle_holds_what_its_host_needs_and_nothing_else() {
    let desk = Desk::set_up();
    desk.done("token");
    desk.done("manifest keygen");
    desk.done("rotate-ca");
    desk.done("bundle mini");
    desk.done("bundle laptop --out for/laptop");
    let names = |folder: &str| -> BTreeSet<String> {
        let root = desk.path(folder);
        let tree = desk.tree();
        let within = tree.keys().filter_map(|path| path.strip_prefix(&root).ok());
        within.map(|path| path.display().to_string()).collect()
    };
    let shared = ["certs/ca.crl", "certs/ca.crt", "certs/manifest.pub"];
    let mini = [
        "certs/clients/canary.crt",
        "certs/clients/canary.key",
        "certs/clients/guardian.crt",
        "certs/clients/guardian.key",
        "certs/server.crt",
        "certs/server.key",
        "secrets/server.token",
    ];
    let laptop = [
        "certs/clients/offbox.crt",
        "certs/clients/offbox.key",
        "certs/shadow.crt",
        "certs/shadow.key",
    ];
    let set = |names: &[&str]| {
        names
            .iter()
            .chain(&shared)
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(names("bundle-mini"), set(&mini));
    assert_eq!(names("for/laptop"), set(&laptop));
    let guarded = ["certs/ca.key", "certs/ca-old.key", "secrets/manifest.key"];
    for (path, (mode, bytes)) in desk.tree() {
        let Ok(rest) = path.strip_prefix(desk.path("bundle-mini")) else {
            continue;
        };
        let secret = path
            .extension()
            .is_some_and(|end| end == "key" || end == "token");
        assert_eq!(
            mode,
            if secret { 0o600 } else { 0o644 },
            "{}",
            path.display()
        );
        assert_eq!(bytes, desk.read(&format!("home/{}", rest.display())));
        assert!(
            guarded
                .iter()
                .all(|name| bytes != desk.read(&format!("home/{name}")))
        );
    }
    for folder in [
        "bundle-mini",
        "bundle-mini/certs",
        "bundle-mini/certs/clients",
        "bundle-mini/secrets",
    ] {
        assert_eq!(mode(&desk.path(folder)), 0o700, "{folder}");
    }
    assert!(desk.refused("bundle mini").contains("already exists"));
    assert!(desk.refused("bundle mimi").contains("did you mean `mini`?"));
    desk.done("revoke guardian");
    assert!(
        desk.refused("bundle mini --out again")
            .contains("client guardian cannot be used: revoked")
    );
    assert!(!desk.path("again").exists());
}
