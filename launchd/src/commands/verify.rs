//! `sanctum-launchd verify`: compare this host with its receipt, or another host over ssh: first from outside, then as its
//! own sanctum-launchd reports.

use chrono::{DateTime, Utc};
use sanctum_config::Role;
use sanctum_host::{
    Finding, FindingKind, Installation, TypedCommands, offbox, ssh, this_host, warnings,
};
use sanctum_watch::certificates::on_host;
use sanctum_watch::verify_host;
use serde::Deserialize;
use serde_json::json;

use super::open_installed;
use crate::args::GlobalArgs;
use crate::console::Console;
use crate::status::count;
use crate::wait::Wait;
use crate::{Error, prefix_check, undelivered};

/// Runs it. Findings are an error.
pub(crate) fn run(args: &GlobalArgs, console: &mut Console) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let host = &installation.host;
    let here = this_host(&installation.fleet, &installation.home);
    let is_here = here.is_ok_and(|here| here.as_ref() == Some(host));
    let destination = installation.fleet.hosts[host].ssh.as_deref();
    let VerifyResult {
        findings,
        warnings,
        certificates,
    } = match destination.filter(|_| !is_here) {
        Some(destination) => from_outside(&installation, destination)?,
        None => this_machine(&installation)?,
    };
    if !console.is_json() {
        for certificate in &certificates {
            console.note(certificate)?;
        }
        for warning in &warnings {
            console.note(&format!("warning: {warning}"))?;
        }
        for finding in &findings {
            console.note(&finding.to_string())?;
        }
    }
    let mut line = match findings.len() {
        0 => format!("{host} is as it was installed"),
        several => format!("{host}: {}", count(several, "finding")),
    };
    if !warnings.is_empty() {
        line.push_str(&format!("; {}", count(warnings.len(), "warning")));
    }
    let result = json!({
        "host": host,
        "findings": findings,
        "warnings": warnings,
        "certificates": certificates,
    });
    console.end(&line, result)?;
    match findings.len() {
        0 => Ok(()),
        several => Err(Error::Problems(several)),
    }
}

/// The result of a verification, as text and JSON have it.
#[derive(Default, Deserialize)]
struct VerifyResult {
    findings: Vec<Finding>,
    /// What is not urgent.
    #[serde(default)]
    warnings: Vec<Finding>,
    /// A line for each certificate and revocation list, with the days that are left.
    #[serde(default)]
    certificates: Vec<String>,
}

fn this_machine(installation: &Installation) -> Result<VerifyResult, Error> {
    let now = Utc::now();
    let mut findings = verify_host(installation, now)?;
    // Drift does not report these: its own alerts use the same channels.
    for (name, role) in installation.fleet.agents_of(&installation.host) {
        match role {
            Role::Watch(_) => findings.extend(undelivered::of_watchdog(&installation.home, name)),
            Role::Server(_) => findings.extend(prefix_check::of_server(installation, name)),
            Role::Agent(_) | Role::Page(_) => {}
        }
    }
    Ok(VerifyResult {
        findings,
        warnings: warnings(installation),
        certificates: certificates(installation, now),
    })
}

/// Certificates that cannot be read are findings, not lines here.
fn certificates(installation: &Installation, now: DateTime<Utc>) -> Vec<String> {
    let Installation {
        fleet,
        file,
        home,
        host,
        ..
    } = installation;
    let validities = on_host(fleet, file, home, host).into_iter().flatten();
    let line = |validity: sanctum_watch::certificates::Validity| {
        let path = validity.path.display();
        match (validity.ends, validity.days_left(now)) {
            (Some(ends), Some(days)) => {
                let date = ends.format("%Y-%m-%d");
                format!("{path}: {validity} is valid until {date} ({days} days)")
            }
            _ => format!("{path}: {validity} does not expire"),
        }
    };
    validities.map(line).collect()
}

/// What this host sees comes first: it does not depend on the other host's own report. A host that hangs is given up as early
/// as by `status`; one that answers may take longer for its hashes.
fn from_outside(installation: &Installation, destination: &str) -> Result<VerifyResult, Error> {
    let Installation {
        fleet,
        file,
        home,
        host,
        ..
    } = installation;
    let wait = Wait::new(ssh::SHORT_LIMIT + 2 * ssh::LIMIT);
    wait.show(&format!("comparing {host}"));
    // What else is wrong with ssh, the comparison reports.
    ssh::run_in_time(destination, "true")
        .map_err(|why| Error::refused(format!("{host} cannot be compared: {why}")))?;
    let commands = TypedCommands::of(fleet, home, file);
    let seen = offbox(fleet, home, host, &commands, ssh::LIMIT);
    let mut findings = seen.map_err(|error| Error::refused(error.to_string()))?;
    match ask(installation, destination) {
        Ok(reported) => {
            findings.extend(reported.findings);
            Ok(VerifyResult {
                findings,
                ..reported
            })
        }
        // What this host sees is reported all the same.
        Err(error) => {
            let subject = format!("{host}: its own report");
            let fix = installation.typed(&format!("status --host {host}"));
            findings.push(Finding::new(
                FindingKind::NoAnswer,
                subject,
                error.to_string(),
                fix,
            ));
            Ok(VerifyResult {
                findings,
                ..VerifyResult::default()
            })
        }
    }
}

fn ask(installation: &Installation, destination: &str) -> Result<VerifyResult, Error> {
    let answer = ssh::ask_launchd(&installation.fleet, destination, "verify");
    serde_json::from_value(answer.map_err(Error::refused)?).map_err(|error| {
        Error::refused(format!(
            "the sanctum-launchd of `{}` is of another version ({error}); install the same release there",
            installation.host
        ))
    })
}
