//! What is refused, and what is never shown.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::Desk;

/// Every command that writes, as it would be typed after a set-up.
const WRITING: [&str; 17] = [
    "init --force",
    "server other --san a.example,10.0.0.9",
    "server --force",
    "client visitor",
    "fleet",
    "renew --all",
    "renew canary",
    "revoke canary",
    "revoke --serial 0102",
    "crl",
    "rotate-ca",
    "bundle mini",
    "token",
    "manifest keygen",
    "manifest keygen --force",
    "manifest create model",
    "manifest sign model.sha256",
];

#[test]
fn a_dry_run_says_what_it_would_write_and_writes_nothing() {
    let desk = Desk::set_up();
    fs::create_dir(desk.path("model")).unwrap();
    fs::write(desk.path("model/config.json"), "{}").unwrap();
    desk.done("manifest keygen --force");
    fs::remove_file(desk.path("home/certs/clients/offbox.key")).unwrap();
    desk.done("manifest create model");
    let before = desk.tree();
    for words in WRITING {
        if words == "manifest keygen" {
            continue;
        }
        let said = desk.done(&format!("--dry-run {words}"));
        assert!(
            said.contains("would write") || said.contains("would replace"),
            "{words}: {said}"
        );
        assert!(said.contains("dry run: "), "{words}: {said}");
        assert_eq!(desk.tree(), before, "{words}");
    }
    // In an empty place too.
    let empty = Desk::new();
    let before = empty.tree();
    for words in ["init", "token", "manifest keygen"] {
        empty.done(&format!("{words} --dry-run"));
    }
    assert_eq!(empty.tree(), before);
    assert!(!empty.path("home").exists());
}

#[test]
fn no_command_shows_a_secret() {
    let desk = Desk::set_up();
    fs::create_dir(desk.path("model")).unwrap();
    fs::write(desk.path("model/config.json"), "{}").unwrap();
    desk.done("manifest create model");
    let mut said = String::new();
    let mut secrets: Vec<String> = Vec::new();
    let mut collect = |desk: &Desk| {
        for (path, (_, bytes)) in desk.tree() {
            if path
                .extension()
                .is_some_and(|end| end == "key" || end == "token")
            {
                let text = String::from_utf8(bytes).unwrap();
                secrets.extend(
                    text.lines()
                        .filter(|line| line.len() > 20 && !line.starts_with('-'))
                        .map(String::from),
                );
            }
        }
    };
    for words in
        WRITING
            .iter()
            .skip(1)
            .chain(&["list --json", "show canary --json", "show ca", "list"])
    {
        collect(&desk);
        let one = desk.run(words);
        said += &format!("{}{}", one.out, one.err);
        collect(&desk);
    }
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() > 40, "{} lines of keys", secrets.len());
    for secret in &secrets {
        assert!(!said.contains(secret.as_str()));
    }
}

#[test]
fn nothing_secret_is_overwritten_unless_forced() {
    let desk = Desk::set_up();
    desk.done("token");
    desk.done("manifest keygen");
    for words in [
        "init",
        "server",
        "server shadow",
        "client canary",
        "token",
        "manifest keygen",
    ] {
        let before = desk.tree();
        assert!(desk.refused(words).contains("already exists"), "{words}");
        assert_eq!(desk.tree(), before, "{words}");
        let keys = |desk: &Desk| {
            let mut tree = desk.tree();
            tree.retain(|path, _| {
                path.extension()
                    .is_some_and(|end| end == "key" || end == "token")
            });
            tree
        };
        let before = keys(&desk);
        desk.done(&format!("{words} --force"));
        assert_ne!(keys(&desk), before, "{words} --force");
        if words == "init" {
            // Its certificates have no CA now.
            assert_eq!(
                desk.done("list").matches("not signed by this CA").count(),
                5
            );
            assert!(
                desk.done("fleet")
                    .contains("(the previous one: not signed by this CA)")
            );
        }
    }
    let public = desk.read("home/certs/manifest.pub");
    // The loop above has kept one already, which stands in the way of the next.
    fs::remove_file(desk.path("home/certs/manifest-old.pub")).unwrap();
    desk.done("manifest keygen --force");
    assert_eq!(desk.read("home/certs/manifest-old.pub"), public);
}

#[test]
fn of_commands_at_the_same_time_one_makes_the_key_and_the_others_leave_it() {
    let desk = Desk::new();
    for (words, key) in [
        ("init", "certs/ca.key"),
        ("client visitor", "certs/clients/visitor.key"),
        ("token", "secrets/server.token"),
        ("manifest keygen", "secrets/manifest.key"),
    ] {
        let done = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| desk.run(words).ok)).collect();
            all.into_iter()
                .map(|one| one.join().unwrap())
                .filter(|ok| *ok)
                .count()
        });
        assert_eq!(done, 1, "{words}");
        assert!(desk.path("home").join(key).exists(), "{words}");
    }
    // What was left alone fits together.
    assert!(desk.done("list").contains("client  "));
    assert!(!desk.done("list").contains("another certificate's"));
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    for (file, words) in [
        ("certs/ca.key", "client visitor"),
        ("certs/ca.key", "revoke canary"),
        ("certs/server.key", "fleet"),
        ("certs/clients/canary.key", "bundle mini"),
        ("certs/clients/canary.key", "list"),
        ("secrets/server.token", "bundle mini"),
        ("secrets/manifest.key", "manifest sign model.sha256"),
    ] {
        let desk = Desk::set_up();
        desk.done("token");
        desk.done("manifest keygen");
        fs::write(
            desk.path("model.sha256"),
            format!("{}  a\n", "a".repeat(64)),
        )
        .unwrap();
        let path = desk.path("home").join(file);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let before = desk.tree();
        let said = desk.refused(words);
        assert!(
            said.contains(&format!("chmod 600 home/{file}")),
            "{words}: {said}"
        );
        assert_eq!(desk.tree(), before, "{words}");
    }
}

#[test]
fn mistake_is_answered_with_the_fix() {
    let desk = Desk::new();
    assert!(desk.refused("fleet").contains("sanctum-pki init"));
    assert!(desk.refused("list").contains("there is no CA"));
    desk.done("init");
    desk.done("fleet");
    for (words, says) in [
        ("server canary", "client canary exists; choose another name"),
        ("client server", "server server exists; choose another name"),
        ("client ca", "choose another name"),
        ("revoke cannary", "did you mean `canary`?"),
        ("renew cannary", "did you mean `canary`?"),
        ("show cannary", "did you mean `canary`?"),
        ("client x --not-before 2040-01-01", "rotate-ca"),
        ("manifest sign nowhere.sha256", "nowhere.sha256"),
        ("manifest verify model", "--unsigned"),
    ] {
        let said = desk.refused(words);
        assert!(said.contains(says), "{words}: {said}");
    }
    for words in [
        "client a.b",
        "client ../x",
        "server --san 0.0.0.0",
        "server --san *.example",
        "server --days 0",
        "renew",
        "renew canary --all",
        "renew --all --within 30",
        "revoke",
        "client x --not-before soon",
        "rotate-ca --force",
    ] {
        assert_eq!(desk.run(words).code, Some(2), "{words}");
    }
    fs::write(
        desk.path("fleet.toml"),
        crate::FLEET.replace("laptop.example", "not a host"),
    )
    .unwrap();
    assert!(desk.refused("fleet").contains("[hosts.laptop]"));
}

#[test]
fn a_ca_whose_key_is_elsewhere_lists_and_bundles_but_does_not_sign() {
    let desk = Desk::set_up();
    fs::remove_file(desk.path("home/certs/ca.key")).unwrap();
    fs::remove_file(desk.path("home/certs/ledger.json")).unwrap();
    assert_eq!(desk.done("list").matches("good").count(), 5);
    desk.done("bundle mini");
    for words in [
        "client visitor",
        "fleet",
        "renew --all",
        "revoke canary",
        "crl",
        "rotate-ca",
    ] {
        assert!(desk.refused(words).contains("ca.key is missing"), "{words}");
    }
}

#[test]
fn an_interrupted_rotation_names_the_file_to_move() {
    let desk = Desk::set_up();
    let (key, crt) = (
        desk.read("home/certs/ca.key"),
        desk.read("home/certs/ca.crt"),
    );
    desk.done("rotate-ca");
    // As if it had stopped after the key and before the certificate.
    fs::write(desk.path("home/certs/ca.crt"), &crt).unwrap();
    assert!(desk.refused("fleet").contains("ca-old.key"));
    fs::rename(
        desk.path("home/certs/ca-old.key"),
        desk.path("home/certs/ca.key"),
    )
    .unwrap();
    assert_eq!(desk.read("home/certs/ca.key"), key);
    desk.done("fleet");
    desk.done("rotate-ca");
    desk.done("renew --all");
    desk.done("rotate-ca --finish");
}
