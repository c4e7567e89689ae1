//! Files that were damaged lead to errors, never to a panic, and nothing is lost by them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use proptest::prelude::*;
use sanctum_pki::args::Args;

use crate::Desk;

/// Files that a command reads.
const FILES: [&str; 6] = [
    "ca.crt",
    "ca.key",
    "ca.crl",
    "ledger.json",
    "server.crt",
    "clients/canary.key",
];
const COMMANDS: [&str; 6] = [
    "list",
    "fleet",
    "renew --all",
    "revoke canary",
    "rotate-ca",
    "bundle mini",
];

/// Runs a command in this process. Whether it panicked.
fn panics(desk: &Desk, words: &str) -> bool {
    let text = |name: &str| desk.path(name).display().to_string();
    let site = [
        "sanctum-pki",
        "--dry-run",
        "--config",
        &text("fleet.toml"),
        "--home",
        &text("home"),
    ]
    .map(String::from);
    let args = Args::parse_from(
        site.into_iter()
            .chain(words.split_whitespace().map(String::from)),
    );
    let run = || drop(sanctum_pki::run(&args, &mut Vec::new()));
    catch_unwind(AssertUnwindSafe(run)).is_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_damage_makes_a_command_panic(
        file in prop::sample::select(&FILES[..]),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<bool>(),
    ) {
        thread_local! {
            static DESK: Desk = Desk::set_up();
        }
        DESK.with(|desk| {
            let path = desk.path("home/certs").join(file);
            let whole = fs::read(&path).unwrap();
            let mut damaged = whole.clone();
            let at = at.index(damaged.len());
            match cut {
                true => damaged.truncate(at),
                false => drop(damaged.splice(at..(at + with.len()).min(whole.len()), with.iter().copied())),
            }
            fs::write(&path, damaged).unwrap();
            for words in COMMANDS {
                assert!(!panics(desk, words), "{file}: {words}");
            }
            fs::write(&path, whole).unwrap();
        });
    }
}

#[test]
fn damaged_file_is_named_with_the_fix() {
    for (file, says) in [
        ("ca.crt", "restore it from a backup"),
        ("ca.key", "restore it from a backup"),
        ("ca.crl", "restore it from a backup"),
        ("ledger.json", "move it away"),
    ] {
        let desk = Desk::set_up();
        let path = desk.path("home/certs").join(file);
        let half = fs::read(&path).unwrap();
        fs::write(&path, &half[..half.len() / 2]).unwrap();
        let before = desk.tree();
        let said = desk.refused("revoke canary");
        assert!(
            said.contains(&format!("home/certs/{file}")) && said.contains(says),
            "{said}"
        );
        assert_eq!(desk.tree(), before);
    }
}

#[test]
fn file_that_is_empty_or_that_everyone_may_write_is_named_with_the_fix() {
    let desk = Desk::set_up();
    for file in ["ca.crt", "ca.crl"] {
        let path = desk.path("home/certs").join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, "").unwrap();
        let said = desk.refused("list");
        assert!(
            said.contains(file) && said.contains("restore it from a backup"),
            "{said}"
        );
        fs::write(&path, whole).unwrap();
    }
    let ledger = desk.path("home/certs/ledger.json");
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o666)).unwrap();
    let said = desk.refused("list");
    assert!(said.contains("chmod go-w"), "{said}");
}

/// A file that a command reads, under the home, and the command.
const READ: [(&str, &str); 8] = [
    ("certs/.lock", "client visitor"),
    ("certs/ledger.json", "revoke canary"),
    ("certs/ca.crt", "list"),
    ("certs/ca.crl", "list"),
    ("certs/ca.key", "client visitor"),
    ("certs/clients/canary.key", "bundle mini"),
    ("secrets/server.token", "bundle mini"),
    ("secrets/manifest.key", "manifest sign model.sha256"),
];

fn desk_with_secrets() -> Desk {
    let desk = Desk::set_up();
    desk.done("token");
    desk.done("manifest keygen");
    let manifest = format!("{}  a\n", "a".repeat(64));
    fs::write(desk.path("model.sha256"), manifest).unwrap();
    desk
}

/// Runs a command that must be refused in less than five seconds; it would wait for ever on a FIFO that it opens.
fn refused_at_once(desk: &Desk, words: &str) -> String {
    let (said, answer) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut child = desk.start(words);
        let mut err = child.stderr.take().unwrap();
        scope.spawn(move || {
            let mut text = String::new();
            let read = err.read_to_string(&mut text);
            let _ = said.send(read.map(|_| text));
        });
        let text = answer.recv_timeout(Duration::from_secs(5));
        // It has ended, or it never will.
        let _ = child.kill();
        let code = child.wait().unwrap().code();
        let text = text
            .unwrap_or_else(|_| panic!("{words} does not end"))
            .unwrap();
        assert_eq!(code, Some(1), "{words}: {text}");
        text
    })
}

#[test]
fn file_that_is_a_fifo_or_a_folder_is_named_at_once() {
    let desk = desk_with_secrets();
    for (file, words) in READ {
        let path = desk.path("home").join(file);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let said = refused_at_once(&desk, words);
        assert!(said.contains(file) && said.contains("a FIFO"), "{said}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let said = refused_at_once(&desk, words);
        assert!(said.contains(file) && said.contains("a folder"), "{said}");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, whole).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn file_of_another_user_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away; the check itself is tested in sanctum-config.
        return;
    }
    let desk = desk_with_secrets();
    for (file, words) in &READ[1..] {
        let path = desk.path("home").join(file);
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let said = refused_at_once(&desk, words);
        assert!(said.contains(file) && said.contains("12345"), "{said}");
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["000", "077", "277"] {
        let desk = Desk::new();
        for words in ["init", "fleet", "token", "manifest keygen"] {
            let said = desk.run_with_umask(umask, words);
            assert!(said.ok, "{umask} {words}: {}", said.err);
        }
        let mode = |path: &str| {
            let about = fs::metadata(desk.path("home").join(path)).unwrap();
            about.permissions().mode() & 0o777
        };
        for folder in ["", "certs", "certs/clients", "secrets"] {
            assert_eq!(mode(folder), 0o700, "{umask}: {folder}");
        }
        for secret in [
            "certs/.lock",
            "certs/ca.key",
            "certs/server.key",
            "certs/clients/canary.key",
            "secrets/server.token",
            "secrets/manifest.key",
        ] {
            assert_eq!(mode(secret), 0o600, "{umask}: {secret}");
        }
        assert_eq!(mode("certs/ca.crt"), 0o644, "{umask}");
    }
}

#[test]
fn command_sweeps_what_a_killed_one_had_begun_to_write() {
    let desk = Desk::set_up();
    let mut gone = Command::new("true").spawn().unwrap();
    let (dead, ours) = (gone.id(), std::process::id());
    gone.wait().unwrap();
    let home = desk.path("home");
    fs::create_dir(home.join("secrets")).unwrap();
    let begun = [
        format!("certs/.ca.crl.{dead}-0.new"),
        format!("certs/clients/.canary.key.{dead}-3.new"),
        format!("secrets/.server.token.{dead}-1.new"),
    ];
    let running = home.join(format!("certs/.ca.crl.{ours}-0.new"));
    for path in begun
        .iter()
        .map(|name| home.join(name))
        .chain([running.clone()])
    {
        fs::write(path, "half").unwrap();
    }
    // A command that only looks changes nothing.
    desk.done("list");
    assert!(home.join(&begun[0]).exists());
    desk.done("client visitor");
    assert!(begun.iter().all(|name| !home.join(name).exists()));
    assert!(running.exists(), "its process still writes it");
}
