//! `sanctum-launchd uninstall`: remove all agents and programs, and keep what cannot be created again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::Role;
use sanctum_host::{Installation, prefix_folder, ssh};
use serde_json::json;

use super::{installed, open_installed};
use crate::Error;
use crate::args::{GlobalArgs, UninstallArgs};
use crate::console::Console;
use crate::deployment::{self, DeployChange, DeployOutcome, DeployRequest, Recovery};
use crate::execute::AfterStart;
use crate::host_state::HostState;
use crate::status::count;

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
    let kept = named_by_operator(args, &installation);
    let outcome = deployment::run(&installation, console, request, |_, _| {
        let mut from = installed(&installation)?;
        if let (Some(from), true) = (&mut from, kept) {
            let deployed = installation.home.fleet_toml();
            let files = &mut from.receipt.artefacts;
            files.retain(|file| file.path != deployed);
        }
        Ok(from.map(|from| DeployChange {
            from: Some(from),
            to: HostState::nothing(&installation.host),
            import: None,
            preflight: None,
            after: AfterStart::Leave,
        }))
    })?;
    let home = installation.home.path().display();
    let mut line = match outcome {
        DeployOutcome::Undecided | DeployOutcome::Unchanged => {
            "nothing to do: nothing is installed here".to_owned()
        }
        DeployOutcome::Planned => "nothing has been changed".to_owned(),
        DeployOutcome::Changed(_) => format!(
            "uninstalled; certificates, secrets, logs, state and stored releases are still in {home}"
        ),
    };
    if kept {
        let file = installation.file.display();
        line.push_str(&format!("; {file} is kept, because this command read it"));
    }
    let changed = !matches!(outcome, DeployOutcome::Undecided | DeployOutcome::Unchanged);
    let mut removed = 0;
    for folder in prefix_folders(&installation)? {
        let (_, prefixes) = prefix_folder::size(&folder);
        if prefixes == 0 && !(uninstall.remove_prefix_cache && folder.exists()) {
            continue;
        }
        let shown = folder.display();
        if !uninstall.remove_prefix_cache {
            line.push_str(&format!(
                "; conversations are still in {shown} (--remove-prefix-cache removes them)"
            ));
            continue;
        }
        let what = format!("remove {} in {shown}", count(prefixes, "computed prefix"));
        console.step("remove-prefix-cache", &what)?;
        if !console.dry_run {
            // Whatever happened before, this can be repeated: the folder is a cache.
            removed += prefix_folder::remove(&folder).map_err(|error| {
                Error::refused(format!(
                    "conversations are still in {shown}: {error}; then run: sanctum-launchd uninstall --remove-prefix-cache \
                     --config {}",
                    ssh::quoted_file(&installation.file)
                ))
            })?;
        }
    }
    let result = json!({
        "host": installation.host,
        "changed": changed,
        "prefixes_removed": removed,
    });
    Ok(console.end(&line, result)?)
}

/// Whether the deployed fleet.toml is the file that `--config` or the working folder names: it may be the only copy.
fn named_by_operator(args: &GlobalArgs, installation: &Installation) -> bool {
    let is_named = args.config.is_some() || Path::new("fleet.toml").exists();
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let file = real(&installation.file);
    is_named && file.is_some() && file == real(&installation.home.fleet_toml())
}

/// The folders in which this host's servers keep computed prefixes.
fn prefix_folders(installation: &Installation) -> Result<Vec<PathBuf>, Error> {
    let mut folders = Vec::new();
    for (_, role) in installation.fleet.agents_of(&installation.host) {
        if let Role::Server(server) = role
            && let Some(folder) = &server.cache_dir
        {
            folders.push(folder.beside(&installation.file)?);
        }
    }
    Ok(folders)
}
