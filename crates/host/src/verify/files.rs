//! Files against the receipt: the installed ones, the stored release, and property lists that were not installed.

use std::fs;
use std::path::PathBuf;

use sanctum_config::Digest;

use crate::finding::{Finding, FindingKind, INSTALL_RELEASE, REINSTALL};
use crate::other_fleet;
use crate::permissions::mode_of;
use crate::release::Release;
use crate::ssh::quoted_file;
use crate::{Artefact, ArtefactKind, Error, Installation, Receipt};

pub(super) fn check(
    installation: &Installation,
    receipt: &Receipt,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    for artefact in &receipt.artefacts {
        check_artefact(installation, artefact, findings)?;
    }
    if installation.file != installation.home.fleet_toml()
        && Digest::of(&installation.text) != receipt.fleet_sha256
    {
        findings.push(Finding::new(
            FindingKind::Undeployed,
            installation.file.display(),
            "it differs from the fleet.toml that is deployed here",
            format!(
                "sanctum-launchd {REINSTALL} --config {}",
                quoted_file(&installation.file)
            ),
        ));
    }
    check_release(installation, receipt, findings);
    check_property_lists(installation, receipt, findings);
    Ok(())
}

fn check_artefact(
    installation: &Installation,
    artefact: &Artefact,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let path = &artefact.path;
    let reinstall = || installation.typed(REINSTALL);
    let found =
        |kind, problem: String, fix: String| Finding::new(kind, path.display(), problem, fix);
    match Digest::of_file(path) {
        // It must not hide the other findings.
        Err(error) => {
            let problem = format!("it cannot be read: {error}");
            let fix = format!("ls -ld {}; {}", quoted_file(path), reinstall());
            findings.push(found(FindingKind::Changed, problem, fix));
            return Ok(());
        }
        Ok(None) => {
            let problem = "it is missing".to_owned();
            findings.push(found(FindingKind::Missing, problem, reinstall()));
            return Ok(());
        }
        Ok(Some(digest)) if digest != artefact.sha256 => {
            let problem = format!(
                "it was changed after it was installed (SHA-256 {digest}, installed {})",
                artefact.sha256
            );
            let fix = match artefact.kind {
                ArtefactKind::Fleet => format!(
                    "sanctum-launchd {REINSTALL} --config YOUR-FLEET.TOML; or, to keep this change: {}",
                    reinstall()
                ),
                _ => format!("{} (puts back what was installed)", reinstall()),
            };
            findings.push(found(FindingKind::Changed, problem, fix));
        }
        Ok(Some(_)) => {}
    }
    let mode = mode_of(path)?;
    if mode != artefact.mode {
        let problem = format!("its mode is {mode:04o}, installed {:04o}", artefact.mode);
        let fix = format!("chmod {:o} {}", artefact.mode, quoted_file(path));
        findings.push(found(FindingKind::Mode, problem, fix));
    }
    Ok(())
}

/// The stored release must be the one in the receipt: a reinstallation takes its programs from it.
fn check_release(installation: &Installation, receipt: &Receipt, findings: &mut Vec<Finding>) {
    let folder = installation.home.release(&receipt.release);
    let mut add = |problem: String| {
        findings.push(Finding::new(
            FindingKind::Release,
            folder.display(),
            problem,
            installation.typed(INSTALL_RELEASE),
        ));
    };
    let release = match Release::read(&folder) {
        Ok(release) => release,
        Err(error) => return add(error.to_string()),
    };
    if release.version.as_str() != receipt.release {
        add(format!(
            "its description says release {}, and release {} is installed",
            release.version, receipt.release
        ));
    }
    let programs = (receipt.artefacts.iter())
        .filter(|artefact| matches!(artefact.kind, ArtefactKind::Binary | ArtefactKind::Metallib));
    for artefact in programs {
        let name = artefact.path.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        match release.file(&name) {
            Some(file) if file.sha256 == artefact.sha256 => {}
            Some(file) => add(format!(
                "its {name} has the SHA-256 {}, and the receipt says {}",
                file.sha256, artefact.sha256
            )),
            None => add(format!("it has no {name}, and the receipt lists one")),
        }
    }
}

/// launchd loads every property list of the folder at the next login, so one of this fleet that was not installed is a
/// finding.
fn check_property_lists(
    installation: &Installation,
    receipt: &Receipt,
    findings: &mut Vec<Finding>,
) {
    let name = &installation.fleet.fleet.name;
    let prefix = format!("com.{name}.");
    let Ok(entries) = fs::read_dir(installation.home.launch_agents()) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let label = file.strip_suffix(".plist");
        let Some(label) = label.filter(|label| label.starts_with(&prefix)) else {
            continue;
        };
        if receipt.agents.iter().any(|agent| agent.plist == path) {
            continue;
        }
        let other = other_fleet::home_of(&path)
            .filter(|home| other_fleet::is_another(home, installation.home.path()));
        let (problem, fix) = match other {
            Some(home) => (
                format!(
                    "it belongs to another fleet named `{name}`, installed from {}",
                    home.display()
                ),
                format!(
                    "give one of the two another `name` in [fleet], or: sanctum-launchd uninstall --config {}",
                    quoted_file(&home.join("fleet.toml"))
                ),
            ),
            None => {
                let target = installation.launchctl.target(label);
                let fix = format!("launchctl bootout {target}; rm {}", quoted_file(&path));
                let problem = "sanctum-launchd did not install it, and launchd will start it at the next login";
                (problem.to_owned(), fix)
            }
        };
        findings.push(Finding::new(
            FindingKind::UnknownPlist,
            path.display(),
            problem,
            fix,
        ));
    }
}
