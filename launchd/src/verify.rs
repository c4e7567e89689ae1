//! Whether a host is as it was installed: files against the receipt, launchd against the property lists, keys against
//! their rules. It only looks. Drift asks the same questions every hour and may call [`verify`] for its findings.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sanctum_config::{Active, ArtefactKind, Digest, InstalledAgent, Receipt, Role};
use sanctum_watch::launchctl::LastExit;
use sanctum_watch::lease::Standing;

use crate::Failure;
use crate::change::open_secrets;
use crate::finding::{Finding, Kind};
use crate::firewall;
use crate::journal::{Journal, Lock};
use crate::plist::arguments_in;
use crate::site::Site;

/// Puts the installed files and agents back.
const REINSTALL: &str = "sanctum-launchd install";

/// Everything that is not as it should be on this host; empty if all is well.
///
/// # Errors
/// If the receipt cannot be read or launchd gives no answer: then nothing can be said.
pub fn verify(site: &Site) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    interrupted(site, &mut findings)?;
    let Some(receipt) = site.receipt()? else {
        let mend = "sanctum-launchd install --release FOLDER";
        let wrong = format!(
            "nothing is installed here ({} is missing)",
            site.home.receipt().display()
        );
        findings.push(Finding::new(Kind::NotInstalled, &site.host, wrong, mend));
        forbidden_keys(site, &mut findings);
        return Ok(findings);
    };
    files(site, &receipt, &mut findings)?;
    agents(site, &receipt, &mut findings)?;
    strangers(site, &receipt, &mut findings);
    forbidden_keys(site, &mut findings);
    for (path, mode) in open_secrets(site)? {
        let wrong = "others can read or enter it";
        let mend = format!("chmod {mode:o} {}", path.display());
        findings.push(Finding::new(Kind::Mode, path.display(), wrong, mend));
    }
    blocked(site, &mut findings);
    Ok(findings)
}

fn interrupted(site: &Site, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let journal = match Journal::read(&site.home.journal()) {
        Ok(journal) => journal,
        Err(failure) => {
            let path = site.home.journal();
            let mend = format!("mv {0} {0}.damaged && {REINSTALL}", path.display());
            findings.push(Finding::new(
                Kind::Interrupted,
                path.display(),
                failure.to_string(),
                mend,
            ));
            None
        }
    };
    // A command that works now holds the lock, and is not interrupted.
    let at_work = site.home.state().is_dir() && Lock::take(&site.home.state()).is_err();
    if let Some(journal) = journal
        && !at_work
    {
        let mend = format!(
            "{REINSTALL} (finishes it, or takes it back if no file had been changed); or: sanctum-launchd rollback (takes it back)"
        );
        let path = site.home.journal();
        findings.push(Finding::new(
            Kind::Interrupted,
            path.display(),
            journal.interruption(),
            mend,
        ));
    }
    if let Ok(Standing::Expired(lease)) = Standing::read(&site.home.lease(), chrono::Utc::now()) {
        let wrong = format!(
            "`{}` (process {}) took the maintenance lease at {} and never gave it back",
            lease.owner, lease.pid, lease.taken
        );
        findings.push(Finding::new(
            Kind::Lease,
            site.home.lease().display(),
            wrong,
            REINSTALL,
        ));
    }
    Ok(())
}

fn files(site: &Site, receipt: &Receipt, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for artefact in &receipt.artefacts {
        let path = &artefact.path;
        let found = Digest::of_file(path).map_err(|error| Failure::read(path, error))?;
        match found {
            None => {
                findings.push(Finding::new(
                    Kind::Missing,
                    path.display(),
                    "it is missing",
                    REINSTALL,
                ));
                continue;
            }
            Some(found) if found != artefact.sha256 => {
                let wrong = format!(
                    "it was changed after it was installed (SHA-256 {found}, installed {})",
                    artefact.sha256
                );
                let mend = match artefact.kind {
                    ArtefactKind::Fleet => format!(
                        "{REINSTALL} --config YOUR-FLEET.TOML (or without --config, if this change is to stay)"
                    ),
                    _ => format!("{REINSTALL} (puts back what was installed)"),
                };
                findings.push(Finding::new(Kind::Changed, path.display(), wrong, mend));
            }
            Some(_) => {}
        }
        let about = fs::metadata(path).map_err(|error| Failure::read(path, error))?;
        let mode = about.permissions().mode() & 0o7777;
        if mode != artefact.mode {
            let wrong = format!("its mode is {mode:04o}, installed {:04o}", artefact.mode);
            let mend = format!("chmod {:o} {}", artefact.mode, path.display());
            findings.push(Finding::new(Kind::Mode, path.display(), wrong, mend));
        }
    }
    if site.file != site.home.fleet_toml() && Digest::of(&site.text) != receipt.fleet_sha256 {
        let wrong = "it differs from the fleet.toml that is deployed here";
        let mend = format!("{REINSTALL} --config {}", site.file.display());
        findings.push(Finding::new(
            Kind::Undeployed,
            site.file.display(),
            wrong,
            mend,
        ));
    }
    Ok(())
}

fn agents(site: &Site, receipt: &Receipt, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let disabled = site.launchctl.disabled()?;
    let target = |agent: &InstalledAgent| site.launchctl.target(&agent.label);
    for agent in &receipt.agents {
        let mut found = |kind, wrong: String, mend: String| {
            findings.push(Finding::new(kind, &agent.label, wrong, mend));
        };
        let is_disabled = disabled.get(&agent.label).copied().unwrap_or(false);
        match (agent.enabled, is_disabled) {
            (true, true) => found(
                Kind::Disabled,
                "it is disabled, so it will not start at the next login".into(),
                format!("launchctl enable {}", target(agent)),
            ),
            (false, false) => found(
                Kind::Disabled,
                "it stands by and is not disabled: at the next login it would fight for the port"
                    .into(),
                format!("launchctl disable {}", target(agent)),
            ),
            _ => {}
        }
        let Some(service) = site.launchctl.print(&agent.label)? else {
            if agent.enabled {
                found(Kind::NotLoaded, "it is not loaded".into(), REINSTALL.into());
            }
            continue;
        };
        if !agent.enabled {
            let wrong = "it stands by and is loaded: it fights for the port".to_owned();
            found(
                Kind::Loaded,
                wrong,
                format!("launchctl bootout {}", target(agent)),
            );
            continue;
        }
        let on_disk = fs::read(&agent.plist)
            .ok()
            .and_then(|bytes| arguments_in(&bytes));
        if let Some(on_disk) = on_disk
            && on_disk != service.arguments
        {
            let wrong = format!(
                "it was loaded with other arguments than {} has (loaded: {}; there: {}); a kickstart keeps the old ones",
                agent.plist.display(),
                service.arguments.join(" "),
                on_disk.join(" ")
            );
            found(Kind::StaleArguments, wrong, REINSTALL.into());
        }
        if let (None, Some(exit @ (LastExit::Code(_) | LastExit::Signal(_)))) =
            (service.pid, service.last_exit)
        {
            let wrong = format!("it is loaded and does not run (last: {exit})");
            found(
                Kind::NotRunning,
                wrong,
                format!("tail {}", site.home.log(&agent.name).display()),
            );
        }
    }
    let active = Active::read(&site.home.active())?;
    for (name, role) in site.fleet.agents_of(&receipt.host) {
        let enabled = |name| receipt.agent(name).is_some_and(|agent| agent.enabled);
        if matches!(role, Role::Server(_))
            && receipt.agent(name).is_some()
            && !enabled(active.agent_for(name))
        {
            let path = site.home.active();
            let wrong = format!(
                "it says that `{}` serves for `{name}`, which is not enabled",
                active.agent_for(name)
            );
            findings.push(Finding::new(Kind::Active, path.display(), wrong, REINSTALL));
        }
    }
    Ok(())
}

/// Property lists of this fleet that nobody installed would be started by the next login.
fn strangers(site: &Site, receipt: &Receipt, findings: &mut Vec<Finding>) {
    let ours = format!("com.{}.", site.fleet.fleet.name);
    let Ok(entries) = fs::read_dir(site.home.launch_agents()) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let known = receipt.agents.iter().any(|agent| agent.plist == path);
        if let Some(label) = name.strip_suffix(".plist")
            && label.starts_with(&ours)
            && !known
        {
            let target = site.launchctl.target(label);
            let wrong = "it was not installed by this tool, and the next login would start it";
            let mend = format!("launchctl bootout {target}; rm {}", path.display());
            findings.push(Finding::new(Kind::Stranger, path.display(), wrong, mend));
        }
    }
}

/// The keys that sign certificates and manifests must be out of reach for whoever breaks into a server.
pub fn forbidden_keys(site: &Site, findings: &mut Vec<Finding>) {
    let serves = (site.fleet.servers.values()).any(|server| server.host == site.host);
    if !serves {
        return;
    }
    let keys = [
        (
            site.home.certs().join("ca.key"),
            "it signs every certificate of the fleet",
        ),
        (
            site.home.certs().join("ca-old.key"),
            "it signed the certificates of the fleet",
        ),
        (
            site.home.secrets().join("manifest.key"),
            "it signs the manifests that servers trust",
        ),
    ];
    for (path, what) in keys.iter().filter(|(path, _)| path.exists()) {
        let wrong = format!("{what}, and must never be on a host that serves");
        let mend = format!(
            "move it to a machine that serves nothing, then: rm -P {} (plain rm where there is no -P)",
            path.display()
        );
        findings.push(Finding::new(
            Kind::ForbiddenKey,
            path.display(),
            wrong,
            mend,
        ));
    }
}

/// Others must reach the server through the firewall. Where there is no such firewall, nothing is asked.
fn blocked(site: &Site, findings: &mut Vec<Finding>) {
    let program = site.home.bin().join("sanctum-server");
    if firewall::concerns(&site.fleet, &site.host)
        && let Some(firewall::Ruling::Blocked) = firewall::ruling(&program)
    {
        let wrong =
            "the firewall blocks it: this host's own requests pass, everybody else's are cut off";
        let mend = firewall::allow(&program)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        findings.push(Finding::new(
            Kind::Blocked,
            program.display(),
            wrong,
            mend.join(" && "),
        ));
    }
}
