//! `sanctum-launchd upgrade`: change to another release, and roll back if it fails its checks.

use std::time::Duration;

use sanctum_host::{Active, Release};
use serde_json::json;

use super::{installed, must_be_installed, open_installed};
use crate::Error;
use crate::args::{GlobalArgs, UpgradeArgs};
use crate::console::Console;
use crate::deployment::{self, DeployChange, DeployOutcome, DeployRequest, Recovery};
use crate::desired::desired;
use crate::execute::AfterStart;
use crate::plist::check_watchdogs;
use crate::preflight::Preflight;

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    upgrade: &UpgradeArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let patience = Duration::from_secs(upgrade.patience);
    let request = DeployRequest {
        command: "upgrade",
        recovery: Recovery::Continue,
        patience,
    };
    let (mut before, mut version) = (String::new(), String::new());
    check_watchdogs(&installation.fleet, &installation.file, &installation.host)?;
    let outcome = deployment::run(&installation, console, request, |_, _| {
        before = must_be_installed(&installation)?.release;
        let release = Release::read(&upgrade.release)?;
        version = release.version.to_string();
        if version == before {
            return Ok(None);
        }
        let active = Active::read(&installation.home.active())?;
        let to = desired(&installation, &release, Some(before.clone()), &active)?;
        Ok(Some(DeployChange {
            from: installed(&installation)?,
            to,
            import: Some((release, upgrade.release.clone())),
            preflight: Some(Preflight {
                trial: upgrade.trial,
                patience,
            }),
            after: AfterStart::Check(patience),
        }))
    })?;
    let host = &installation.host;
    let line = match &outcome {
        DeployOutcome::Undecided => format!(
            "release {version} is installed already; to repair it, run: {}",
            installation.typed_to_deploy("install")
        ),
        DeployOutcome::Planned => format!(
            "{host} would change from release {before} to {version}; nothing has been changed"
        ),
        DeployOutcome::Unchanged | DeployOutcome::Changed(_) => format!(
            "{host} has changed from release {before} to {version}; to undo it, run: {}",
            installation.typed("rollback")
        ),
    };
    let result = match outcome {
        DeployOutcome::Undecided => json!({ "host": host, "release": version, "changed": false }),
        _ => json!({ "host": host, "release": version, "previous": before, "changed": true }),
    };
    Ok(console.end(&line, result)?)
}
