//! Whether a host is as it was installed: files against the receipt, launchd against the property lists, keys against
//! their rules. It only looks. Drift calls it every hour, so that both always find the same.

mod agents;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sanctum_config::{Digest, Fleet, Home, Label};
use sanctum_host::launchctl::exit_timeout_in;
use sanctum_host::lease::LeaseStatus;
use sanctum_host::{ArtefactKind, Receipt};
use sanctum_watch::certificates::on_host;

use crate::Failure;
use crate::change::open_secrets;
use crate::finding::{Finding, Kind};
use crate::firewall;
use crate::journal::{Journal, Lock};
use crate::release::Release;
use crate::site::Site;
use crate::{other_fleet, sign, trial};

/// Puts the installed files and agents back.
const REINSTALL: &str = "sanctum-launchd install";

/// Everything that is not as it should be on this host, in a fixed order; empty if all is well.
///
/// # Errors
/// If the receipt cannot be read or launchd gives no answer: then nothing can be said.
pub fn verify(site: &Site) -> Result<Vec<Finding>, Failure> {
    site.launchctl.check_exists()?;
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
    release(site, &receipt, &mut findings);
    agents::agents(site, &receipt, chrono::Utc::now(), &mut findings)?;
    strangers(site, &receipt, &mut findings);
    forbidden_keys(site, &mut findings);
    for (path, mode) in open_secrets(site)? {
        let wrong = "others can read or enter it";
        let mend = format!("chmod {mode:o} {}", path.display());
        findings.push(Finding::new(Kind::Mode, path.display(), wrong, mend));
    }
    blocked(site, &mut findings);
    let Site {
        fleet,
        file,
        home,
        host,
        ..
    } = site;
    findings.extend(certificates(fleet, file, home, host, Utc::now()));
    findings.sort();
    Ok(findings)
}

/// What need not be mended at once, and is no sign of a change: shown by `verify`, not reported by drift.
pub fn warnings(site: &Site) -> Vec<Finding> {
    let mut warnings = Vec::new();
    if firewall::concerns(&site.fleet, &site.host) {
        let program = site.home.bin().join("sanctum-server");
        if program.is_file() && sign::is_ad_hoc(&program) {
            warnings.push(Finding::new(
                Kind::AdHoc,
                program.display(),
                "other hosts reach this server, and it is signed ad hoc: the firewall's rule and the permission for the \
                 local network are lost with every new build",
                "sign it with a Developer ID: sanctum-launchd sign FOLDER, before sanctum-launchd pack",
            ));
        }
    }
    let receipt = site.receipt().ok().flatten();
    for agent in receipt.iter().flat_map(|receipt| &receipt.agents) {
        let service = site.launchctl.print(&agent.label).ok().flatten();
        let applied = service.and_then(|service| service.exit_timeout);
        let (Some(applied), Some(asked)) = (applied, exit_timeout_in(&agent.plist)) else {
            continue;
        };
        if applied < asked {
            let wrong = format!(
                "launchd ends it {} s after SIGTERM, and its property list asks for {} s: requests that take longer to \
                 drain are cut off",
                applied.as_secs(),
                asked.as_secs()
            );
            let mend = "shorten its `drain` in fleet.toml (launchd caps ExitTimeOut on some systems), then: sanctum-launchd \
                        install";
            warnings.push(Finding::new(Kind::ExitTimeout, &agent.label, wrong, mend));
        }
    }
    warnings
}

/// Certificates and revocation lists of `host`, which is this one, that end soon or have ended: reported once at each of
/// [`sanctum_watch::certificates::NOTICE`]'s days, since the words stay the same in between.
pub fn certificates(
    fleet: &Fleet,
    file: &Path,
    home: &Home,
    host: &Label,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for validity in on_host(fleet, file, home, host) {
        let (path, wrong, mend) = match validity {
            Ok(validity) => match validity.problem(now) {
                Some(wrong) => (validity.path.clone(), wrong, validity.renewal(host)),
                None => continue,
            },
            Err(error) => {
                let mend = match error.source.kind() {
                    ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
                        format!("ls -ld {}", error.path.display())
                    }
                    _ => format!(
                        "on the CA's machine: sanctum-pki --config fleet.toml bundle {host}"
                    ),
                };
                (
                    error.path,
                    format!("it cannot be used: {}", error.source),
                    mend,
                )
            }
        };
        findings.push(Finding::new(Kind::Certificate, path.display(), wrong, mend));
    }
    findings
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
    let trial = match trial::Record::read(&site.home) {
        Ok(trial) => trial.map(|trial| {
            let wrong = format!(
                "an interrupted upgrade left its trial of `{}` running, a second copy of the model (process {})",
                trial.server, trial.process.pid
            );
            (wrong, format!("{REINSTALL} (ends it)"))
        }),
        Err(failure) => Some((failure.to_string(), format!("do that, then {REINSTALL}"))),
    };
    if let Some((wrong, mend)) = trial
        && !at_work
    {
        findings.push(Finding::new(
            Kind::Interrupted,
            "trial of an upgrade",
            wrong,
            mend,
        ));
    }
    if let Ok(LeaseStatus::Expired(lease)) =
        LeaseStatus::read(&site.home.lease(), chrono::Utc::now())
    {
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
        let found = match Digest::of_file(path) {
            Ok(found) => found,
            // It must not hide what else there is to find.
            Err(error) => {
                let wrong = format!("it cannot be read: {error}");
                let mend = format!("ls -ld {}; {REINSTALL}", path.display());
                findings.push(Finding::new(Kind::Changed, path.display(), wrong, mend));
                continue;
            }
        };
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

/// The release that is kept must be the one that the receipt tells of: it is what a reinstallation takes its programs from.
fn release(site: &Site, receipt: &Receipt, findings: &mut Vec<Finding>) {
    let folder = site.home.release(&receipt.release);
    let mend = "sanctum-launchd install --release FOLDER";
    let mut found = |wrong: String| {
        findings.push(Finding::new(Kind::Release, folder.display(), wrong, mend));
    };
    let release = match Release::read(&folder) {
        Ok(release) => release,
        Err(failure) => return found(failure.to_string()),
    };
    if release.version.as_str() != receipt.release {
        found(format!(
            "it says that it is release {}, and {} is installed",
            release.version, receipt.release
        ));
    }
    let programs = (receipt.artefacts.iter())
        .filter(|artefact| matches!(artefact.kind, ArtefactKind::Binary | ArtefactKind::Metallib));
    for artefact in programs {
        let name = artefact
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        match release.file(&name) {
            Some(file) if file.sha256 == artefact.sha256 => {}
            Some(file) => found(format!(
                "its {name} has the SHA-256 {}, and the receipt says {}",
                file.sha256, artefact.sha256
            )),
            None => found(format!("it has no {name}, and the receipt has one")),
        }
    }
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
            let theirs = other_fleet::home_of(&path)
                .filter(|home| other_fleet::is_another(home, site.home.path()));
            let (wrong, mend) = match theirs {
                Some(home) => (
                    format!(
                        "it belongs to another fleet named `{}`, installed from {}",
                        site.fleet.fleet.name,
                        home.display()
                    ),
                    format!(
                        "give one of the two another `name` in [fleet], or: sanctum-launchd uninstall --config {}",
                        home.join("fleet.toml").display()
                    ),
                ),
                None => (
                    "it was not installed by this tool, and the next login would start it"
                        .to_owned(),
                    format!("launchctl bootout {target}; rm {}", path.display()),
                ),
            };
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
    for (path, what) in keys_out_of_place(&site.home) {
        if path.exists() {
            findings.push(forbidden(&path.display().to_string(), what, &path));
        }
    }
}

/// The keys that no host that serves may have, and what each of them is.
pub(crate) fn keys_out_of_place(home: &Home) -> [(PathBuf, &'static str); 3] {
    [
        (
            home.certs().join("ca.key"),
            "it signs every certificate of the fleet",
        ),
        (
            home.certs().join("ca-old.key"),
            "it signed the certificates of the fleet",
        ),
        (
            home.secrets().join("manifest.key"),
            "it signs the manifests that servers trust",
        ),
    ]
}

pub(crate) fn forbidden(about: &str, what: &str, path: &Path) -> Finding {
    let wrong = format!("{what}, and must never be on a host that serves");
    let mend = format!(
        "move it to a machine that serves nothing, then: rm -P {} (plain rm where there is no -P)",
        path.display()
    );
    Finding::new(Kind::ForbiddenKey, about, wrong, mend)
}

/// Others must reach the server through the firewall. Where there is no such firewall, nothing is asked.
fn blocked(site: &Site, findings: &mut Vec<Finding>) {
    let program = site.home.bin().join("sanctum-server");
    if !firewall::concerns(&site.fleet, &site.host) {
        return;
    }
    let (wrong, mend) = match firewall::ruling(&program) {
        Some(firewall::Ruling::Blocked) => (
            "the firewall blocks it: this host's own requests pass, everybody else's are cut off",
            firewall::allow(&program),
        ),
        Some(firewall::Ruling::AllBlocked) => (
            "the firewall blocks every program: this host's own requests pass, everybody else's are cut off",
            vec![firewall::block_some()],
        ),
        _ => return,
    };
    let mend: Vec<String> = mend.iter().map(ToString::to_string).collect();
    findings.push(Finding::new(
        Kind::Blocked,
        program.display(),
        wrong,
        mend.join(" && "),
    ));
}
