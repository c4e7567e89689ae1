//! Bad releases that do not stay, and the standby.

use std::fs;

use sanctum_sim_launchd::wire::Status;
use sanctum_tests::host::runs;
use sha2::{Digest, Sha256};

use super::faults::ask;
use super::install::next_command;
use crate::files::StandbyServer;
use crate::screen::Shown;
use crate::tour::{StepFailure, Tour};

/// The right answer to the canary's question.
const RIGHT: &str = "4";

/// The trial finds that the new server exits: nothing was stopped.
pub(super) fn server_that_does_not_start(tour: &Tour) -> Result<String, StepFailure> {
    let (before, pid) = (installed(tour)?, tour.server()?);
    let upgrade = push(tour, "0.2.0")?;
    tour.command(&upgrade, Shown::End(4), 1)?
        .says("a second instance exited when it started")?
        .says("nothing has been changed")?;
    same(tour, &before)?;
    match tour.server()? {
        same if same == pid => {}
        other => {
            let seen = format!("process {other}");
            return Err(StepFailure::new(
                format!("process {pid} still serves"),
                seen,
            ));
        }
    }
    tour.all_well()?;
    Ok(format!(
        "a second instance was tried beside the first, and failed. Process {pid} has served all the time"
    ))
}

/// The trial finds nothing; the checks after the installation do.
pub(super) fn server_that_answers_wrong(tour: &Tour) -> Result<String, StepFailure> {
    let (before, pid) = (installed(tour)?, tour.server()?);
    let upgrade = push(tour, "0.3.0")?;
    tour.command(&upgrade, Shown::End(6), 3)?
        .says("release 0.1.0 is in place again")?;
    same(tour, &before)?;
    let new = tour.server_after(pid)?;
    right(tour)?;
    tour.all_well()?;
    Ok(format!(
        "rolled back by itself: sanctum-server has SHA-256 {} as before, process {new} answers {RIGHT:?}",
        &before[..12]
    ))
}

/// Another program serves in the server's place, and the guardian follows.
pub(super) fn standby(tour: &Tour) -> Result<String, StepFailure> {
    let mini = tour.fleet.mini.name;
    let standby = StandbyServer::find(tour.fleet.mini.port());
    let program = &standby.words[0];
    tour.screen.note(&format!(
        "The standby is {program}. It listens on {mini}'s loopback address only."
    ));
    let to = |agent: &str| {
        format!("ssh {mini} '~/.sanctum/bin/sanctum-launchd rollback --agent {agent}'")
    };
    tour.command(&to("standby"), Shown::End(4), 0)?
        .says("`standby` serves now")?;
    serves(tour, "standby", "server")?;
    right(tour)?;
    tour.command(&to("server"), Shown::End(4), 0)?
        .says("`server` serves now")?;
    serves(tour, "server", "standby")?;
    right(tour)?;
    tour.all_well()?;
    Ok(
        "the guardian has watched whichever program served, and clients had an answer from both"
            .to_owned(),
    )
}

/// Brings a release to the host that serves; returns the command that upgrades to it.
fn push(tour: &Tour, version: &str) -> Result<String, StepFailure> {
    let mini = tour.fleet.mini.name;
    let line =
        format!("sanctum-launchd push {mini} --config fleet.toml --release sanctum-{version}");
    next_command(&tour.command(&line, Shown::End(2), 0)?.output)
}

/// The SHA-256 of the installed server.
fn installed(tour: &Tour) -> Result<String, StepFailure> {
    let path = tour.fleet.mini.path(".sanctum/bin/sanctum-server");
    let bytes = fs::read(&path)
        .map_err(|error| StepFailure::new("the installed server can be read", error.to_string()))?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn same(tour: &Tour, before: &str) -> Result<(), StepFailure> {
    match installed(tour)? {
        now if now == before => Ok(()),
        now => Err(StepFailure::new(
            format!("sanctum-server has SHA-256 {before} as before"),
            now,
        )),
    }
}

fn right(tour: &Tour) -> Result<(), StepFailure> {
    match ask(tour)? {
        answer if answer == RIGHT => Ok(()),
        answer => Err(StepFailure::new(format!("the answer {RIGHT:?}"), answer)),
    }
}

/// Waits until one agent runs, the other does not, and the guardian has noticed.
fn serves(tour: &Tour, agent: &str, other: &str) -> Result<(), StepFailure> {
    let what = format!("{agent} runs and {other} does not");
    tour.process(agent, &what, |_| true)?;
    tour.wait(&what, || {
        let launchd = &tour.fleet.mini.launchd;
        let is_alone = |all: &[Status]| runs(all, agent) && !runs(all, other);
        let limit = std::time::Duration::from_secs(1);
        launchd
            .wait(limit, is_alone)
            .map_err(|error| error.to_string())
    })?;
    let verdict = format!("ok: {agent} answers");
    tour.wait(&format!("the guardian watches {agent}"), || {
        match tour.fleet.mini.verdict("guardian") {
            seen if seen.starts_with(&verdict) => Ok(()),
            seen => Err(seen),
        }
    })
}
