//! `sanctum-launchd status`: all agents of all hosts on one screen, or as a page for a browser.

use std::io::IsTerminal;

use sanctum_config::Label;
use sanctum_host::{Installation, ssh};
use serde_json::json;

use super::open_installed;
use crate::Error;
use crate::args::{GlobalArgs, StatusArgs};
use crate::console::Console;
use crate::fleet_page;
use crate::status::{self, HostStatus, Paint, here, screen, shown_hosts, ssh_destination, summary};

/// Runs it. The `status` of another host reads the JSON.
pub(crate) fn run(
    args: &GlobalArgs,
    options: &StatusArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let here = here(&installation, options.local);
    let only = args
        .host
        .as_ref()
        .or(here.as_ref().filter(|_| options.local));
    if let Some(address) = options.serve {
        let settings = fleet_page::PageSettings::of(
            &installation.fleet,
            here.as_ref(),
            address,
            &options.page_options,
        )?;
        return fleet_page::serve(installation.clone(), here.clone(), only, settings, console);
    }
    let now = chrono::Utc::now();
    let mut hosts = Vec::new();
    for host in shown_hosts(&installation.fleet, only) {
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
    let destination = match ssh_destination(&installation.fleet, host) {
        Ok(destination) => destination,
        Err(reason) => return HostStatus::not_asked(host.clone(), reason),
    };
    let answer = ssh::ask_launchd(&installation.fleet, destination, "status --local");
    answer
        .and_then(|answer| HostStatus::from_answer(&answer))
        .unwrap_or_else(|problem| HostStatus::unknown(host.clone(), problem))
}
