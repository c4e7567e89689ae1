//! `sanctum-launchd rollback`: return to an earlier release, or switch to a standby agent and back.

use std::path::Path;
use std::time::Duration;

use sanctum_config::Label;
use sanctum_host::journal::timestamp;
use sanctum_host::{Installation, PropertyList, StoppedAgents};
use serde_json::json;

use super::{installed, must_be_installed, open_installed};
use crate::Error;
use crate::args::{GlobalArgs, RollbackArgs};
use crate::console::Console;
use crate::deployment::{self, DeployChange, DeployOutcome, DeployRequest, Recovery};
use crate::execute::AfterStart;
use crate::host_state::HostState;
use crate::log_excerpt::LogEnds;
use crate::post_deploy_checks;
use crate::store::DeploymentStore;

/// Runs it. If a command was interrupted, rolling that back is all that it does by default.
pub(crate) fn run(
    args: &GlobalArgs,
    rollback: &RollbackArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let request = DeployRequest {
        command: "rollback",
        recovery: Recovery::RollBack,
        patience: Duration::from_secs(rollback.patience),
    };
    let is_default = rollback.agent.is_none() && rollback.to.is_none();
    let mut target = None;
    let outcome = deployment::run(&installation, console, request, |recovered, _| {
        if recovered && is_default {
            return Ok(None);
        }
        let change = change(&installation, rollback)?;
        target = Some(change.to.clone());
        Ok(Some(change))
    })?;
    let Some(to) = target else {
        let verb = if console.dry_run { "would be" } else { "was" };
        let line = format!("the interrupted command {verb} rolled back");
        let release = installation.receipt()?.map(|receipt| receipt.release);
        let result = json!({ "host": installation.host, "release": release, "changed": true });
        return Ok(console.end(&line, result)?);
    };
    if !console.dry_run && rollback.agent.is_some() {
        forget_stops(&installation, &to)?;
    }
    if let DeployOutcome::Changed(logs) = &outcome
        && !rollback.no_wait
    {
        check(&installation, rollback, &to, logs, console)?;
    }
    let what = match &rollback.agent {
        Some(agent) => format!("`{agent}` serves"),
        None => format!("release {} is in place", to.receipt.release),
    };
    let line = match outcome {
        DeployOutcome::Unchanged | DeployOutcome::Undecided => {
            format!("nothing to do: {what} already")
        }
        DeployOutcome::Planned => format!("afterwards, {what}; nothing has been changed"),
        DeployOutcome::Changed(_) => format!("{what} now"),
    };
    let result = json!({
        "host": installation.host,
        "release": to.receipt.release,
        "active": to.active,
        "changed": !matches!(outcome, DeployOutcome::Unchanged | DeployOutcome::Undecided),
    });
    Ok(console.end(&line, result)?)
}

fn change(installation: &Installation, rollback: &RollbackArgs) -> Result<DeployChange, Error> {
    must_be_installed(installation)?;
    let from = installed(installation)?;
    let to = match (&from, &rollback.agent) {
        (Some(from), Some(agent)) => {
            let to = from.clone().with_active(agent)?;
            check_not_stopped(installation, agent)?;
            check_program_exists(&to, agent)?;
            to
        }
        _ => earlier_release(installation, rollback)?,
    };
    Ok(DeployChange {
        from,
        to,
        import: None,
        preflight: None,
        after: AfterStart::Leave,
    })
}

/// Waits until the servers are ready and asks them. Whatever they answer, the rollback stays: the operator decides. The
/// watchdogs check again already, so there is no lease to renew.
fn check(
    installation: &Installation,
    rollback: &RollbackArgs,
    to: &HostState,
    logs: &LogEnds,
    console: &mut Console,
) -> Result<(), Error> {
    let patience = Duration::from_secs(rollback.patience);
    let checked = post_deploy_checks::run(installation, to, patience, logs, console, || Ok(()));
    checked.map_err(|error| {
        let fix = match &rollback.agent {
            Some(agent) => format!(
                "; see {}, or switch to another agent: {}",
                installation.home.log(agent).display(),
                installation.typed("rollback --agent NAME")
            ),
            None => String::new(),
        };
        Error::refused(format!("rolled back, but {error}{fix}"))
    })
}

/// A deployment would leave it stopped, and nothing would serve.
fn check_not_stopped(installation: &Installation, agent: &Label) -> Result<(), Error> {
    match StoppedAgents::read(&installation.home.stopped())?.get(agent) {
        None => Ok(()),
        Some(stopped) => Err(Error::refused(format!(
            "`{agent}` is {}, so it cannot serve; first run: {}",
            stopped.describe(),
            installation.typed(&format!("start {agent}"))
        ))),
    }
}

/// An agent that is on standby now does not run anyway. If its record stayed, its standby's answers would seem to be its own.
fn forget_stops(installation: &Installation, to: &HostState) -> Result<(), Error> {
    let path = installation.home.stopped();
    for agent in to.receipt.agents.iter().filter(|agent| !agent.enabled) {
        StoppedAgents::remove(&path, &agent.name)?;
    }
    Ok(())
}

/// A server that works must not be stopped for a program that does not exist.
fn check_program_exists(to: &HostState, agent: &Label) -> Result<(), Error> {
    let plist = to.receipt.agent(agent).map(|agent| agent.plist.clone());
    let arguments = plist.and_then(|plist| PropertyList::read(&plist)?.arguments);
    let arguments = arguments.unwrap_or_default();
    let program = arguments.first().map(Path::new);
    match program.filter(|program| program.is_absolute() && !program.exists()) {
        Some(program) => Err(Error::refused(format!(
            "`{agent}` runs {}, which does not exist; nothing was changed. Install that program, or change `program` in \
             [agents.{agent}] and run: sanctum-launchd install",
            program.display()
        ))),
        None => Ok(()),
    }
}

/// What an earlier release was deployed as: programs, property lists, fleet.toml, and which agents served.
fn earlier_release(
    installation: &Installation,
    rollback: &RollbackArgs,
) -> Result<HostState, Error> {
    let store = DeploymentStore::new(&installation.home);
    let now_installed = must_be_installed(installation)?;
    let version = match (&rollback.to, now_installed.previous) {
        (Some(version), _) => version.to_string(),
        (None, Some(previous)) => previous,
        (None, None) => {
            let stored = store.releases()?.into_iter().map(|stored| stored.release);
            let others: Vec<String> = stored
                .filter(|other| *other != now_installed.release)
                .collect();
            let hint = match others.first() {
                None => "and no other release is stored".to_owned(),
                Some(latest) => format!(
                    "and these releases are stored: {}; to change to one of them, run: {}",
                    others.join(", "),
                    installation.typed(&format!("rollback --to {latest}"))
                ),
            };
            return Err(Error::refused(format!(
                "release {} was installed first, {hint}",
                now_installed.release
            )));
        }
    };
    let Some(mut receipt) = store.receipt_of(&version)? else {
        let stored = store.releases()?.into_iter().map(|stored| stored.release);
        let stored: Vec<String> = stored.collect();
        return Err(Error::refused(format!(
            "release {version} is not stored here; stored are: {}",
            stored.join(", ")
        )));
    };
    receipt.installed = timestamp();
    HostState::recall(&store, receipt)
}
