//! Every command of docs/pki.md, run as it is written there, from the first to the last.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::Desk;

const PAGE: &str = include_str!("../../../docs/pki.md");

/// Stands in for rsync: `mini:` is a folder under $HOME, as it is one on another host.
const RSYNC: &str = r#"#!/bin/sh
set -e
to="$HOME/hosts/$(echo "$3" | tr : /)"
mkdir -p "$to"
if [ -d "$2" ]; then cp -R "$2/." "$to"; else cp "$2" "$to"; fi
"#;

#[test]
fn the_page_s_commands_work_in_its_order() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("bin")).unwrap();
    fs::create_dir_all(desk.path("models/qwen3.5-27b-4bit")).unwrap();
    fs::write(desk.path("models/qwen3.5-27b-4bit/config.json"), "{}").unwrap();
    fs::write(desk.path("bin/rsync"), RSYNC).unwrap();
    fs::set_permissions(desk.path("bin/rsync"), fs::Permissions::from_mode(0o755)).unwrap();

    let program = Path::new(env!("CARGO_BIN_EXE_sanctum-pki"))
        .parent()
        .unwrap();
    let path = format!(
        "{}:{}:/usr/bin:/bin",
        desk.path("bin").display(),
        program.display()
    );
    // Every second piece between fences is a block of commands.
    let blocks: Vec<&str> = PAGE.split("```").skip(1).step_by(2).collect();
    assert!(blocks.len() >= 7, "{} blocks", blocks.len());
    for block in blocks {
        // curl needs a server, which the end-to-end tests start.
        let commands = block.split("\ncurl ").next().unwrap_or_default();
        let output = Command::new("sh")
            .args(["-ec", commands])
            .current_dir(desk.path(""))
            .env("HOME", desk.path(""))
            .env("PATH", &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}{said}");
    }

    let mini = desk.path("hosts/mini/.sanctum");
    assert!(mini.join("certs/server.key").exists() && mini.join("secrets/server.token").exists());
    for (delivered, _) in desk.tree() {
        let name = delivered.file_name().unwrap().to_str().unwrap();
        let secret = ["ca.key", "ca-old.key", "ledger.json", "manifest.key"].contains(&name);
        assert!(
            !(secret && delivered.starts_with(&mini)),
            "{}",
            delivered.display()
        );
    }
}
