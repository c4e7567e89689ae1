//! Everything that `sanctum-launchd verify` and drift report about a host: the comparison with its receipt, its watchdogs
//! and its certificates.

use std::io::ErrorKind;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Fleet, Home, Label, Role};
use sanctum_host::ssh::quoted_file;
use sanctum_host::{Error, Finding, FindingKind, Installation, InstalledAgent, Receipt};

use crate::certificates::on_host;
use crate::schedule::Schedule;
use crate::state::WatchdogState;

/// After an installation a watchdog writes its state with its first check.
const FIRST_CHECK: TimeDelta = TimeDelta::minutes(25);

/// Everything on this host that is not as it should be, in a fixed order; empty if all is well.
///
/// # Errors
/// As [`sanctum_host::verify`].
pub fn verify_host(installation: &Installation, now: DateTime<Utc>) -> Result<Vec<Finding>, Error> {
    let mut findings = sanctum_host::verify(installation)?;
    if let Some(receipt) = installation.receipt()? {
        findings.extend(watchdogs(installation, &receipt, now)?);
        let Installation {
            fleet,
            file,
            home,
            host,
            ..
        } = installation;
        findings.extend(certificate_findings(fleet, file, home, host, now));
        findings.sort();
    }
    Ok(findings)
}

/// Watchdogs that are loaded and do not check: a watchdog that has stopped reports nothing.
fn watchdogs(
    installation: &Installation,
    receipt: &Receipt,
    now: DateTime<Utc>,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for agent in receipt.agents.iter().filter(|agent| agent.enabled) {
        let Some(Role::Watch(watch)) = installation.fleet.role(&agent.name) else {
            continue;
        };
        if installation.launchctl.print(&agent.label)?.is_none() {
            continue;
        }
        let schedule = Schedule::of(watch).ok();
        if let Some(problem) = stopped(installation, receipt, agent, schedule.as_ref(), now) {
            let log = installation.home.log(&agent.name);
            let target = installation.launchctl.target(&agent.label);
            let fix = format!(
                "tail {}; launchctl kickstart -k {target}",
                quoted_file(&log)
            );
            findings.push(Finding::new(
                FindingKind::Watchdog,
                &agent.label,
                problem,
                fix,
            ));
        }
    }
    Ok(findings)
}

/// Why a watchdog seems to have stopped checking; none if it checks.
fn stopped(
    installation: &Installation,
    receipt: &Receipt,
    agent: &InstalledAgent,
    schedule: Option<&Schedule>,
    now: DateTime<Utc>,
) -> Option<String> {
    let path = installation.home.watch_state(&agent.name);
    let state = match WatchdogState::read(&path) {
        Ok(state) => state,
        Err(error) => return Some(error.to_string()),
    };
    let Some(state) = state else {
        let installed = DateTime::parse_from_rfc3339(&receipt.installed);
        let is_new = installed.is_ok_and(|then| now - then.to_utc() < FIRST_CHECK);
        return (!is_new).then(|| {
            format!(
                "it has never written its state ({} is missing)",
                path.display()
            )
        });
    };
    if let Some(since) = state.silent_since(now) {
        return Some(format!("it has stopped: its last heartbeat was at {since}"));
    }
    let (checked, due) = state.overdue(schedule?, now)?;
    Some(format!(
        "it runs and does not check: its last check was at {checked}, the next was due at {due}"
    ))
}

/// Certificates and revocation lists of `host`, which is this one, that expire soon, have expired or cannot be used. The
/// text changes only at each of [`NOTICE`](crate::certificates::NOTICE)'s days, so that drift alerts once for each.
pub fn certificate_findings(
    fleet: &Fleet,
    file: &Path,
    home: &Home,
    host: &Label,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for validity in on_host(fleet, file, home, host) {
        let (path, problem, fix) = match validity {
            Ok(validity) => match validity.problem(now) {
                Some(problem) => (validity.path.clone(), problem, validity.renewal(host)),
                None => continue,
            },
            Err(error) => {
                let fix = match error.source.kind() {
                    ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
                        format!("ls -ld {}", quoted_file(&error.path))
                    }
                    _ => {
                        format!("on the CA's host: sanctum-pki --config fleet.toml bundle {host}")
                    }
                };
                let problem = format!("it cannot be used: {}", error.source);
                (error.path, problem, fix)
            }
        };
        findings.push(Finding::new(
            FindingKind::Certificate,
            path.display(),
            problem,
            fix,
        ));
    }
    findings
}
