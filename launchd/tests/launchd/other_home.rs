//! The commands that are printed name a fleet.toml that they would not find: that of another home than the default one, and
//! one that is not deployed yet.

use std::fs;

use crate::host::{Host, LaunchdOutput};

#[test]
fn printed_commands_name_the_fleet_that_they_would_not_find() {
    let host = Host::new();
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    let other = text.replace("[fleet]\n", "[fleet]\nhome = \"~/other\"\n");
    fs::write(host.at("fleet.toml"), other).unwrap();
    let said = host.run(&["verify"]).fails(1);
    let source = host.at("fleet.toml").display().to_string();
    let fix = format!("sanctum-launchd install --release FOLDER --config {source}");
    assert!(said.contains(&fix), "{said}");
    let said = host.install("1").ok();
    let deployed = host.at("user/other/fleet.toml").display().to_string();
    let next = format!("sanctum-launchd status --config {deployed}");
    assert!(said.contains(&next), "{said}");
    let said = host.run(&["start", "guardian"]).ok();
    let next = format!("sanctum-launchd restart guardian --config {deployed}");
    assert!(said.contains(&next), "{said}");
}

#[test]
fn printed_commands_of_the_default_home_are_short() {
    let host = Host::new();
    let said = host.install("1").ok();
    assert!(
        said.ends_with("check with: sanctum-launchd status\n"),
        "{said}"
    );
}

#[test]
fn printed_upgrade_deploys_the_fleet_that_was_named() {
    let host = Host::new();
    host.install("1").ok();
    let edited = host.at("edited.toml");
    fs::copy(host.at("fleet.toml"), &edited).unwrap();
    let release = host.release("2").display().to_string();
    let install = host.command_for(&edited, &["install", "--release", &release]);
    let said = LaunchdOutput::of(install).fails(1);
    let next = format!(
        "sanctum-launchd upgrade --release {release} --config {}",
        edited.display()
    );
    assert!(said.contains(&next), "{said}");
}
