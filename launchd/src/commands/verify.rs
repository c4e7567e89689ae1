//! `sanctum-launchd verify`: this host, or another one over ssh: first as it looks from outside, then in its own words.

use sanctum_config::Role;
use sanctum_watch::certificates::on_host;
use serde::Deserialize;
use serde_json::json;

use super::open;
use crate::args::SiteArgs;
use crate::offbox::offbox;
use crate::report::Report;
use crate::site::{Site, this_host};
use crate::status::count;
use crate::{Failure, Finding, Kind, remote, undelivered, verify, warnings};

/// Runs it; findings are a failure.
pub fn run(args: &SiteArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let here = this_host(&site.fleet, &site.home).is_ok_and(|here| here == site.host);
    let elsewhere = site.fleet.hosts[&site.host]
        .ssh
        .as_deref()
        .filter(|_| !here);
    let Verified {
        findings,
        warnings,
        certificates,
    } = match elsewhere {
        Some(destination) => from_outside(&site, destination)?,
        None => here_and_now(&site)?,
    };
    if !report.is_json() {
        for certificate in &certificates {
            report.note(certificate)?;
        }
        for warning in &warnings {
            report.note(&format!("warning: {warning}"))?;
        }
        for finding in &findings {
            report.note(&finding.to_string())?;
        }
    }
    let host = &site.host;
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
    report.end(&line, result)?;
    match findings.len() {
        0 => Ok(()),
        several => Err(Failure::Found(several)),
    }
}

/// What there is to say about a host.
#[derive(Default, Deserialize)]
struct Verified {
    findings: Vec<Finding>,
    /// What need not be mended at once.
    #[serde(default)]
    warnings: Vec<Finding>,
    /// A line for each certificate and revocation list, with the days that are left.
    #[serde(default)]
    certificates: Vec<String>,
}

fn here_and_now(site: &Site) -> Result<Verified, Failure> {
    let now = chrono::Utc::now();
    let validities = on_host(&site.fleet, &site.file, &site.home, &site.host);
    // One that cannot be read is a finding.
    let certificates = validities.into_iter().flatten().map(|validity| {
        let path = validity.path.display();
        match (validity.ends, validity.days_left(now)) {
            (Some(ends), Some(days)) => {
                let date = ends.format("%Y-%m-%d");
                format!("{path}: {validity} is valid until {date} ({days} days)")
            }
            _ => format!("{path}: {validity} does not end"),
        }
    });
    let mut findings = verify(site)?;
    // Not drift's to report: its alert would lie in the same spool.
    for (name, role) in site.fleet.agents_of(&site.host) {
        if matches!(role, Role::Watch(_)) {
            findings.extend(undelivered::of_watchdog(&site.home, name));
        }
    }
    Ok(Verified {
        findings,
        warnings: warnings(site),
        certificates: certificates.collect(),
    })
}

/// What is seen from here comes first: it does not depend on the other host's word.
fn from_outside(site: &Site, destination: &str) -> Result<Verified, Failure> {
    let seen = offbox(&site.fleet, &site.home, &site.host, remote::LIMIT);
    let mut findings = seen.map_err(|error| Failure::Refused(error.to_string()))?;
    match ask(site, destination) {
        Ok(own) => {
            findings.extend(own.findings);
            return Ok(Verified { findings, ..own });
        }
        // What was seen from here is worth telling all the more.
        Err(failure) => {
            let about = format!("{}: its own word", site.host);
            let mend = format!("sanctum-launchd status --host {}", site.host);
            findings.push(Finding::new(Kind::Silent, about, failure.to_string(), mend));
        }
    }
    Ok(Verified {
        findings,
        ..Verified::default()
    })
}

fn ask(site: &Site, destination: &str) -> Result<Verified, Failure> {
    let said = remote::ask(&site.fleet, destination, "verify").map_err(Failure::Refused)?;
    serde_json::from_value(said).map_err(|error| {
        Failure::Refused(format!(
            "`{}` answers in words of another version ({error}); install the same release there",
            site.host
        ))
    })
}
