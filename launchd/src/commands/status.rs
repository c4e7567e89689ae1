//! `sanctum-launchd status`: all agents of all hosts on one screen.

use std::io::IsTerminal;

use sanctum_config::Label;
use serde_json::{Value, json};

use super::open;
use crate::args::{SiteArgs, StatusArgs};
use crate::report::Report;
use crate::site::{Site, this_host};
use crate::status::{HostStatus, Paint, screen, summary};
use crate::{Failure, remote};

/// Runs it. JSON is what another host's `status` reads.
pub fn run(args: &SiteArgs, status: &StatusArgs, report: &mut Report) -> Result<(), Failure> {
    let site = open(args)?;
    let now = chrono::Utc::now();
    let here = match status.local {
        true => Some(site.host.clone()),
        false => this_host(&site.fleet, &site.home).ok(),
    };
    let only = args
        .host
        .as_ref()
        .or(here.as_ref().filter(|_| status.local));
    // A host that runs nothing and is not to be asked, such as the CA's, has nothing to show.
    let wanted = (site.fleet.hosts.iter())
        .filter(|(host, section)| match only {
            Some(only) => only == *host,
            None => !section.agents.is_empty() || section.ssh.is_some(),
        })
        .map(|(host, _)| host);
    let mut hosts = Vec::new();
    for host in wanted {
        let status = match here.as_ref() == Some(host) {
            // What cannot be told of this host must not hide the others.
            true => HostStatus::here(&site, now)
                .unwrap_or_else(|failure| HostStatus::unknown(host.clone(), failure.to_string())),
            false => ask(&site, host),
        };
        hosts.push(status.made_safe());
    }
    let line = summary(&hosts);
    if report.is_json() {
        report.end(&line, json!({ "hosts": hosts }))?;
    } else {
        let paint = match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
        {
            true => Paint::Colours,
            false => Paint::Plain,
        };
        report
            .raw()
            .write_all(screen(&hosts, now, paint).as_bytes())?;
    }
    let troubles = hosts.iter().map(|host| host.troubles().len()).sum();
    match troubles {
        0 => Ok(()),
        several => Err(Failure::Found(several)),
    }
}

/// Another host, over ssh. One that cannot be asked is a line on the screen, not the end of it.
fn ask(site: &Site, host: &Label) -> HostStatus {
    let unknown = |problem: String| HostStatus::unknown(host.clone(), problem);
    let Some(destination) = site
        .fleet
        .hosts
        .get(host)
        .and_then(|host| host.ssh.as_deref())
    else {
        let why = format!("[hosts.{host}] has no `ssh`, so it is not asked from here");
        return HostStatus {
            problem: None,
            not_asked: Some(why),
            ..unknown(String::new())
        };
    };
    match remote::ask(&site.fleet, destination, "status --local") {
        Err(why) => unknown(why),
        Ok(said) => {
            let first = said["hosts"].get(0).cloned().unwrap_or(Value::Null);
            serde_json::from_value(first).unwrap_or_else(|error| {
                unknown(format!("it answers in words of another version: {error}"))
            })
        }
    }
}
