//! Files that were damaged lead to errors, never to a panic, and nothing is lost by them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
fn damaged_files_are_named_with_the_mend() {
    for (file, says) in [
        ("ca.crt", "restore it from a copy"),
        ("ca.key", "restore it from a copy"),
        ("ca.crl", "restore it from a copy"),
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
