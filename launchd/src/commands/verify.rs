//! `sanctum-launchd verify`: this host, or another one over ssh: first as it looks from outside, then in its own words.

use serde_json::json;

use super::open;
use crate::args::SiteArgs;
use crate::offbox::offbox;
use crate::report::Report;
use crate::site::{Site, this_host};
use crate::{Failure, Finding, Kind, remote, verify};

/// Runs it; findings are a failure.
pub fn run(args: &SiteArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let here = this_host(&site.fleet, &site.home).is_ok_and(|here| here == site.host);
    let elsewhere = site.fleet.hosts[&site.host]
        .ssh
        .as_deref()
        .filter(|_| !here);
    let findings = match elsewhere {
        Some(destination) => from_outside(&site, destination)?,
        None => verify(&site)?,
    };
    if !report.is_json() {
        for finding in &findings {
            report.note(&finding.to_string())?;
        }
    }
    let host = &site.host;
    let line = match findings.len() {
        0 => format!("{host} is as it was installed"),
        1 => format!("{host}: 1 finding"),
        several => format!("{host}: {several} findings"),
    };
    report.end(&line, json!({ "host": host, "findings": findings }))?;
    match findings.len() {
        0 => Ok(()),
        several => Err(Failure::Found(several)),
    }
}

/// What is seen from here comes first: it does not depend on the other host's word.
fn from_outside(site: &Site, destination: &str) -> Result<Vec<Finding>, Failure> {
    let seen = offbox(&site.fleet, &site.home, &site.host, remote::LIMIT);
    let mut findings = seen.map_err(|error| Failure::Refused(error.to_string()))?;
    match ask(site, destination) {
        Ok(own) => findings.extend(own),
        // What was seen from here is worth telling all the more.
        Err(failure) => {
            let about = format!("{}: its own word", site.host);
            let mend = format!("sanctum-launchd status --host {}", site.host);
            findings.push(Finding::new(Kind::Silent, about, failure.to_string(), mend));
        }
    }
    Ok(findings)
}

fn ask(site: &Site, destination: &str) -> Result<Vec<Finding>, Failure> {
    let said = remote::ask(&site.fleet, destination, "verify").map_err(Failure::Refused)?;
    serde_json::from_value(said["findings"].clone()).map_err(|error| {
        Failure::Refused(format!(
            "`{}` answers in words of another version ({error}); install the same release there",
            site.host
        ))
    })
}
