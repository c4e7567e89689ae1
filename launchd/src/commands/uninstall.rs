//! `sanctum-launchd uninstall`: remove all agents and programs, and keep what cannot be created again.

use std::time::Duration;

use serde_json::json;

use super::{installed, open_installed};
use crate::Error;
use crate::args::{GlobalArgs, UninstallArgs};
use crate::console::Console;
use crate::deployment::{self, DeployChange, DeployOutcome, DeployRequest, Recovery};
use crate::execute::AfterStart;
use crate::host_state::HostState;

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    uninstall: &UninstallArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let request = DeployRequest {
        command: "uninstall",
        recovery: Recovery::Continue,
        patience: Duration::from_secs(uninstall.patience),
    };
    let outcome = deployment::run(&installation, console, request, |_, _| {
        let from = installed(&installation)?;
        Ok(from.map(|from| DeployChange {
            from: Some(from),
            to: HostState::nothing(&installation.host),
            import: None,
            preflight: None,
            after: AfterStart::Leave,
        }))
    })?;
    let home = installation.home.path().display();
    let line = match outcome {
        DeployOutcome::Undecided | DeployOutcome::Unchanged => {
            "nothing to do: nothing is installed here".to_owned()
        }
        DeployOutcome::Planned => "nothing has been changed".to_owned(),
        DeployOutcome::Changed(_) => format!(
            "uninstalled; certificates, secrets, logs, state and stored releases are still in {home}"
        ),
    };
    let changed = !matches!(outcome, DeployOutcome::Undecided | DeployOutcome::Unchanged);
    let result = json!({ "host": installation.host, "changed": changed });
    Ok(console.end(&line, result)?)
}
