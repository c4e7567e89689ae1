//! `sanctum-launchd install`: change this host to what fleet.toml describes.

use std::path::PathBuf;
use std::time::Duration;

use sanctum_host::firewall::{self, FirewallRule};
use sanctum_host::{Active, Installation, Release, ssh};
use serde_json::json;

use super::{installed, open};
use crate::Error;
use crate::args::{GlobalArgs, InstallArgs};
use crate::console::Console;
use crate::deployment::{self, DeployChange, DeployOutcome, DeployRequest, Recovery};
use crate::desired::desired;
use crate::execute::AfterStart;
use crate::host_state::HostState;
use crate::plist::check_watchdogs;

/// Runs it.
pub(crate) fn run(
    args: &GlobalArgs,
    install: &InstallArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open(args)?;
    let request = DeployRequest {
        command: "install",
        recovery: Recovery::Continue,
        patience: Duration::from_secs(install.patience),
    };
    let mut version = String::new();
    check_watchdogs(&installation.fleet, &installation.file, &installation.host)?;
    let outcome = deployment::run(&installation, console, request, |_, _| {
        let from = installed(&installation)?;
        let (release, import) = release(&installation, install, from.as_ref())?;
        version = release.version.to_string();
        let previous = from.as_ref().and_then(|from| from.receipt.previous.clone());
        let active = Active::read(&installation.home.active())?;
        let to = desired(&installation, &release, previous, &active)?;
        Ok(Some(DeployChange {
            from,
            to,
            import: import.map(|folder| (release, folder)),
            preflight: None,
            after: AfterStart::Leave,
        }))
    })?;
    print_firewall_commands(&installation, console)?;
    let host = &installation.host;
    let line = match outcome {
        DeployOutcome::Unchanged | DeployOutcome::Undecided => {
            format!("nothing to do: {host} matches fleet.toml and release {version}")
        }
        DeployOutcome::Planned => {
            format!("{host} would be changed as listed; nothing has been changed")
        }
        DeployOutcome::Changed(_) => format!(
            "{host} matches fleet.toml and release {version}; a server may still be loading, check with: {}",
            installation.typed("status")
        ),
    };
    let changed = !matches!(outcome, DeployOutcome::Unchanged | DeployOutcome::Undecided);
    let result = json!({ "host": host, "release": version, "changed": changed });
    Ok(console.end(&line, result)?)
}

/// The release to install, and its folder if it has to be imported: the one on the command line, else the installed one.
fn release(
    installation: &Installation,
    install: &InstallArgs,
    from: Option<&HostState>,
) -> Result<(Release, Option<PathBuf>), Error> {
    let installed = from.map(|from| from.receipt.release.as_str());
    let Some(folder) = &install.release else {
        let installed = installed
            .ok_or_else(|| Error::refused("nothing is installed here yet; add --release FOLDER"))?;
        let stored = Release::read(&installation.home.release(installed))?;
        return Ok((stored, None));
    };
    let release = Release::read(folder)?;
    match installed {
        Some(installed) if installed != release.version.as_str() => Err(Error::refused(format!(
            "release {installed} is installed; to change to {}, run: {}",
            release.version,
            installation
                .typed_to_deploy(&format!("upgrade --release {}", ssh::quoted_file(folder)))
        ))),
        _ => Ok((release, Some(folder.clone()))),
    }
}

/// The commands that permit other hosts' connections to the server, if they are still needed.
fn print_firewall_commands(
    installation: &Installation,
    console: &mut Console,
) -> Result<(), Error> {
    let program = installation.home.bin().join("sanctum-server");
    if !firewall::is_needed(&installation.fleet, &installation.host) {
        return Ok(());
    }
    let lines = match firewall::rule_for(&program) {
        Some(FirewallRule::Blocked | FirewallRule::Unknown) => firewall::allow(&program),
        Some(FirewallRule::AllBlocked) => vec![firewall::unblock_all()],
        _ => return Ok(()),
    };
    console.note(&format!(
        "the firewall blocks other hosts; run these commands, then: {}",
        installation.typed("verify")
    ))?;
    for line in lines {
        console.note(&format!("    {line}"))?;
    }
    Ok(())
}
