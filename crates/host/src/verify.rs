//! Whether a host is as it was installed: files against the receipt, launchd against the property lists, keys and secrets
//! against their rules. Nothing is changed.
//!
//! `sanctum-launchd verify` and drift call the same function, so both report the same findings.

mod agents;
mod files;
mod interruption;
mod keys;

use crate::finding::{Finding, FindingKind, INSTALL_RELEASE, REINSTALL};
use crate::firewall::{self, FirewallRule};
use crate::permissions::exposed_secrets;
use crate::property_list::PropertyList;
use crate::ssh::quoted_file;
use crate::{Error, Installation, StoppedAgents, code_signature};

pub(crate) use keys::{forbidden_key, keys_of_signers};

/// Everything on this host that is not as it should be, in a fixed order; empty if all is well. After an interrupted
/// command, the differences that it explains are not reported beside it.
///
/// # Errors
/// If the receipt cannot be read or launchctl fails: then nothing is known.
pub fn verify(installation: &Installation) -> Result<Vec<Finding>, Error> {
    installation.launchctl.check_exists()?;
    let mut findings = Vec::new();
    let journal = interruption::check(installation, &mut findings);
    let interrupted = findings.len();
    match installation.receipt()? {
        Some(receipt) => {
            files::check(installation, &receipt, &mut findings)?;
            agents::check(installation, &receipt, &mut findings)?;
            for (path, mode) in exposed_secrets(installation)? {
                let problem = "other users can read or enter it";
                let fix = format!("chmod {mode:o} {}", quoted_file(&path));
                findings.push(Finding::new(
                    FindingKind::Mode,
                    path.display(),
                    problem,
                    fix,
                ));
            }
            check_firewall(installation, &mut findings);
        }
        None => {
            let problem = format!(
                "nothing is installed here ({} is missing)",
                installation.home.receipt().display()
            );
            findings.push(Finding::new(
                FindingKind::NotInstalled,
                &installation.host,
                problem,
                installation.typed_to_deploy(INSTALL_RELEASE),
            ));
        }
    }
    keys::check(installation, &mut findings);
    if let Some(journal) = journal {
        let mut at = 0;
        findings.retain(|finding| {
            at += 1;
            at <= interrupted || !journal.explains(finding)
        });
    }
    findings.sort();
    Ok(findings)
}

/// What is not urgent and not a change: `verify` shows it, and drift does not report it.
pub fn warnings(installation: &Installation) -> Vec<Finding> {
    let mut warnings = Vec::new();
    if firewall::is_needed(&installation.fleet, &installation.host) {
        let program = installation.home.bin().join("sanctum-server");
        if program.is_file() && code_signature::is_ad_hoc(&program) {
            warnings.push(Finding::new(
                FindingKind::AdHoc,
                program.display(),
                "other hosts connect to this server, and it is signed ad hoc: each new build loses the firewall's rule and \
                 the permission for the local network",
                "sign it with a Developer ID: sanctum-launchd sign FOLDER, before sanctum-launchd pack",
            ));
        }
    }
    let receipt = installation.receipt().ok().flatten();
    // `verify` reports a record that cannot be read.
    let stopped = StoppedAgents::read(&installation.home.stopped()).unwrap_or_default();
    for agent in receipt.iter().flat_map(|receipt| &receipt.agents) {
        if let Some(stopped) = stopped.get(&agent.name) {
            let fix = installation.typed(&format!("start {}", agent.name));
            let problem = format!("it is {}", stopped.describe());
            warnings.push(Finding::new(
                FindingKind::Stopped,
                &agent.label,
                problem,
                fix,
            ));
        }
    }
    for agent in receipt.iter().flat_map(|receipt| &receipt.agents) {
        let service = installation.launchctl.print(&agent.label).ok().flatten();
        let applied = service.and_then(|service| service.exit_timeout);
        let wanted = PropertyList::read(&agent.plist).and_then(|plist| plist.exit_timeout);
        let (Some(applied), Some(wanted)) = (applied, wanted) else {
            continue;
        };
        if applied < wanted {
            let problem = format!(
                "launchd sends SIGKILL {} s after SIGTERM, and its property list asks for {} s: requests that drain longer \
                 are cut off",
                applied.as_secs(),
                wanted.as_secs()
            );
            let fix = format!(
                "shorten its `drain` in fleet.toml (launchd caps ExitTimeOut on some systems), then: {}",
                installation.typed(REINSTALL)
            );
            warnings.push(Finding::new(
                FindingKind::ExitTimeout,
                &agent.label,
                problem,
                fix,
            ));
        }
    }
    warnings
}

/// Other hosts must be able to connect to the server. Nothing is checked if there is no such firewall.
fn check_firewall(installation: &Installation, findings: &mut Vec<Finding>) {
    if !firewall::is_needed(&installation.fleet, &installation.host) {
        return;
    }
    let program = installation.home.bin().join("sanctum-server");
    let (problem, fix) = match firewall::rule_for(&program) {
        Some(FirewallRule::Blocked) => (
            "the firewall blocks it: requests from this host pass, requests from other hosts do not",
            firewall::allow(&program),
        ),
        Some(FirewallRule::AllBlocked) => (
            "the firewall blocks every program: requests from this host pass, requests from other hosts do not",
            vec![firewall::unblock_all()],
        ),
        _ => return,
    };
    let fix: Vec<String> = fix.iter().map(ToString::to_string).collect();
    findings.push(Finding::new(
        FindingKind::Firewall,
        program.display(),
        problem,
        fix.join(" && "),
    ));
}
