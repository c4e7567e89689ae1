//! `init`: the file that it writes passes `check`, and a secret is not in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::host::{Host, LaunchdOutput};

const SLACK: &str = "https://hooks.slack.com/services/T/SECRET";

fn init(host: &Host, more: &[&str]) -> LaunchdOutput {
    let line = [&["init", "--serve", "mini=127.0.0.1"][..], more].concat();
    LaunchdOutput::of(host.command_for(&host.at("new.toml"), &line))
}

#[test]
fn secret_address_is_written_into_a_private_file_that_the_fleet_names() {
    let host = Host::new();
    let secret = host.home().join("secrets/receiver.url");
    let said = init(&host, &["--alert", SLACK, "--dry-run"]).ok();
    assert!(
        said.contains("url_file") && !said.contains("SECRET"),
        "{said}"
    );
    assert!(!secret.exists() && !host.at("new.toml").exists());

    let said = init(&host, &["--alert", SLACK]).ok();
    assert!(
        said.contains("(mode 600)") && !said.contains("SECRET"),
        "{said}"
    );
    assert!(!said.contains("note:"), "{said}");
    assert_eq!(fs::read_to_string(&secret).unwrap(), format!("{SLACK}\n"));
    let mode = fs::metadata(&secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(host.at("new.toml")).unwrap();
    assert!(
        text.contains("url_file = \"~/.sanctum/secrets/receiver.url\""),
        "{text}"
    );
    assert!(!text.contains("SECRET"), "{text}");
    let check = host.command_for(&host.at("new.toml"), &["check"]);
    let said = LaunchdOutput::of(check).ok();
    assert!(!said.contains("note:"), "{said}");

    // Neither file is replaced.
    fs::remove_file(host.at("new.toml")).unwrap();
    let said = init(&host, &["--alert", "https://ntfy.sh/topic"]).fails(1);
    assert!(said.contains("overwrites nothing"), "{said}");
    assert_eq!(fs::read_to_string(&secret).unwrap(), format!("{SLACK}\n"));
}

#[test]
fn notes_of_check_about_the_new_file_are_printed() {
    let host = Host::new();
    let said = init(&host, &["--model", "/no/such/model"]).ok();
    let (notes, next) = said.split_once("next, in this order:").unwrap();
    assert!(
        notes.contains("note: [servers.server]: the model") && notes.contains("/no/such/model"),
        "{said}"
    );
    assert!(next.contains("sanctum-launchd check --config"), "{said}");
}

#[test]
fn printed_commands_quote_a_file_with_a_space() {
    let host = Host::new();
    let file = host.at("my fleet.toml");
    let init = host.command_for(&file, &["init", "--serve", "mini=127.0.0.1"]);
    let said = LaunchdOutput::of(init).ok();
    let next = format!("sanctum-launchd check --config '{}'\n", file.display());
    assert!(said.contains(&next), "{said}");
}

#[test]
fn answer_that_check_refuses_writes_nothing() {
    let host = Host::new();
    let said = init(&host, &["--alert", "https://ntfy.sh/SECRET/a.b"]).fails(1);
    assert!(said.contains("does not end with a topic"), "{said}");
    let said = init(&host, &["--alert", "hooks.slack.com/SECRET"]).fails(1);
    assert!(said.contains("begins with https://"), "{said}");
    assert!(!said.contains("SECRET"), "{said}");
    assert!(!host.at("new.toml").exists());
}

#[test]
fn command_without_a_fleet_names_the_one_that_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut status = Command::new(env!("CARGO_BIN_EXE_sanctum-launchd"));
    status
        .arg("status")
        .current_dir(folder.path())
        .env("HOME", folder.path());
    let said = LaunchdOutput::of(status).fails(1);
    assert!(said.contains("sanctum-launchd init"), "{said}");
}
