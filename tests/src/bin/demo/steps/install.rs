//! The first steps: both hosts from nothing to a fleet that is well.

use crate::screen::Shown;
use crate::tour::{StepFailure, Tour};

/// The lines of a long output that are shown.
const END: Shown = Shown::End(3);

/// Installs both hosts from the one that watches.
pub(super) fn install(tour: &Tour) -> Result<String, StepFailure> {
    let (mini, studio) = (tour.fleet.mini.name, tour.fleet.studio.name);
    let config = "--config fleet.toml";
    tour.screen.note(&format!(
        "{studio} has fleet.toml and a release. All commands are typed there; {mini} is reached over ssh."
    ));
    tour.command(&format!("sanctum-launchd check {config}"), Shown::All, 0)?
        .says("a fleet of 2 hosts")?;
    tour.screen
        .note("(The note is right for real hosts; here launchd waits less between two starts.)");
    tour.screen
        .note("A certificate for each server and each watchdog:");
    for command in ["init", "fleet", &format!("bundle {mini}")] {
        tour.command(&format!("sanctum-pki {config} {command}"), END, 0)?;
    }
    tour.screen.note(&format!(
        "Programs, fleet.toml and certificates for {mini}; and a model, here the built-in one as a folder:"
    ));
    let push = format!("sanctum-launchd push {mini} {config} --release sanctum-0.1.0");
    let pushed = tour.command(&push, Shown::End(4), 0)?;
    let install = next_command(&pushed.output)?;
    tour.command(&format!("rm -r bundle-{mini}"), Shown::All, 0)?;
    let export =
        format!("ssh {mini} '~/.sanctum/push/0.1.0/sanctum-server export-model ~/models/tiny'");
    tour.command(&export, END, 0)?;
    tour.screen.note("Both hosts, each with one command:");
    tour.command(&install, END, 0)?;
    let line = format!("sanctum-launchd install {config} --host {studio} --release sanctum-0.1.0");
    tour.command(&line, END, 0)?;
    tour.screen.note(&format!(
        "{studio} compares {mini} with its own copy of the receipt, so that a changed {mini} cannot deny it:"
    ));
    let line = format!("sanctum-launchd receipt {config} --host {mini} --release sanctum-0.1.0");
    tour.command(&line, END, 0)?;
    tour.all_well()?;
    Ok("five watchdogs on two hosts have checked everything and found it well".to_owned())
}

/// Shows one screen of both hosts.
pub(super) fn status(tour: &Tour) -> Result<String, StepFailure> {
    tour.command("sanctum-launchd status", Shown::All, 0)?
        .says("all is well: 2 hosts")?;
    Ok("one screen for all hosts; it exits with 0 because there is no problem".to_owned())
}

/// The command that `push` prints for the other host.
pub(super) fn next_command(output: &str) -> Result<String, StepFailure> {
    let line = output.lines().find_map(|line| line.split_once("next: "));
    line.map(|(_, command)| command.to_owned())
        .ok_or_else(|| StepFailure::new("push prints the next command", output))
}
