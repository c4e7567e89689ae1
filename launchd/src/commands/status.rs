//! `sanctum-launchd status`: all agents of all hosts on one screen.

use std::io::IsTerminal;

use sanctum_config::Label;
use sanctum_host::{Installation, ssh, this_host};
use serde_json::{Value, json};

use super::open_installed;
use crate::Error;
use crate::args::{GlobalArgs, StatusArgs};
use crate::console::Console;
use crate::status::{self, HostStatus, Paint, screen, summary};

/// Runs it. The `status` of another host reads the JSON.
pub(crate) fn run(
    args: &GlobalArgs,
    options: &StatusArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let now = chrono::Utc::now();
    let here = match options.local {
        true => Some(installation.host.clone()),
        false => this_host(&installation.fleet, &installation.home)
            .ok()
            .flatten(),
    };
    let only = args
        .host
        .as_ref()
        .or(here.as_ref().filter(|_| options.local));
    // A host without agents and without `ssh`, such as the CA's, has nothing to show.
    let wanted = (installation.fleet.hosts.iter())
        .filter(|(host, section)| match only {
            Some(only) => only == *host,
            None => !section.agents.is_empty() || section.ssh.is_some(),
        })
        .map(|(host, _)| host);
    let mut hosts = Vec::new();
    for host in wanted {
        let status = match here.as_ref() == Some(host) {
            // A problem of this host must not hide the others.
            true => status::this_host(&installation, now)
                .unwrap_or_else(|error| HostStatus::unknown(host.clone(), error.to_string())),
            false => ask(&installation, host),
        };
        hosts.push(status.escaped());
    }
    let line = summary(&hosts);
    if console.is_json() {
        console.end(&line, json!({ "hosts": hosts }))?;
    } else {
        let use_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let paint = match use_colours {
            true => Paint::Colours,
            false => Paint::Plain,
        };
        let screen = screen(&hosts, now, paint);
        console.raw().write_all(screen.as_bytes())?;
    }
    match hosts.iter().map(|host| host.problems().len()).sum() {
        0 => Ok(()),
        several => Err(Error::Problems(several)),
    }
}

/// Another host, over ssh. A host that does not answer is a line on the screen.
fn ask(installation: &Installation, host: &Label) -> HostStatus {
    let unknown = |problem: String| HostStatus::unknown(host.clone(), problem);
    let section = installation.fleet.hosts.get(host);
    let Some(destination) = section.and_then(|host| host.ssh.as_deref()) else {
        let reason = format!("[hosts.{host}] has no `ssh`, so it is not asked from here");
        return HostStatus {
            problem: None,
            not_asked: Some(reason),
            ..unknown(String::new())
        };
    };
    match ssh::ask_launchd(&installation.fleet, destination, "status --local") {
        Err(reason) => unknown(reason),
        Ok(answer) => {
            let first = answer["hosts"].get(0).cloned().unwrap_or(Value::Null);
            serde_json::from_value(first).unwrap_or_else(|error| {
                unknown(format!(
                    "its sanctum-launchd is of another version: {error}"
                ))
            })
        }
    }
}
