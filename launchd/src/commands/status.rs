//! `sanctum-launchd status`: all agents of all hosts on one screen, or as a page for a browser.

use std::io::IsTerminal;

use sanctum_config::Label;
use sanctum_host::{Installation, ssh};
use serde_json::json;

use super::open_installed;
use crate::Error;
use crate::args::{GlobalArgs, StatusArgs};
use crate::at_once::at_once;
use crate::console::Console;
use crate::fleet_page;
use crate::status::{
    self, HostStatus, Paint, StatusScreen, here, shown_hosts, ssh_destination, summary,
};

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
    let shown = shown_hosts(&installation.fleet, only);
    let is_terminal = std::io::stdout().is_terminal();
    let paint = match is_terminal && std::env::var_os("NO_COLOR").is_none() {
        true => Paint::Colours,
        false => Paint::Plain,
    };
    let screen = StatusScreen::new(&installation.fleet, &shown, now, paint);
    let observe = |host: &Label| {
        let status = match here.as_ref() == Some(host) {
            // A problem of this host must not hide the others.
            true => status::this_host(&installation, now)
                .unwrap_or_else(|error| HostStatus::unknown(host.clone(), error.to_string())),
            false => ask(&installation, host),
        };
        status.escaped()
    };
    // On a terminal in the order of the answers, elsewhere in that of fleet.toml.
    let shows_at_once = is_terminal && !console.is_json();
    let hosts = at_once(shown, observe, |host| match shows_at_once {
        true => print(&screen.section(host), console),
        false => Ok(()),
    })?;
    if console.is_json() {
        console.end(&summary(&hosts), json!({ "hosts": hosts }))?;
    } else {
        if !shows_at_once {
            hosts
                .iter()
                .try_for_each(|host| print(&screen.section(host), console))?;
        }
        print(&screen.end(&hosts), console)?;
    }
    match hosts.iter().map(|host| host.problems().len()).sum() {
        0 => Ok(()),
        several => Err(Error::Problems(several)),
    }
}

fn print(text: &str, console: &mut Console) -> Result<(), Error> {
    let out = console.raw();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Another host, over ssh. A host that does not answer is a line on the screen.
fn ask(installation: &Installation, host: &Label) -> HostStatus {
    let destination = match ssh_destination(&installation.fleet, host) {
        Ok(destination) => destination,
        Err(reason) => return HostStatus::not_asked(host.clone(), reason),
    };
    let fleet = &installation.fleet;
    let answer = ssh::ask_launchd_within(fleet, destination, "status --local", ssh::SHORT_LIMIT);
    answer
        .and_then(|answer| HostStatus::from_answer(&answer))
        .unwrap_or_else(|problem| HostStatus::unknown(host.clone(), problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_has_the_limit_of_a_host() {
        let manual = include_str!("../../../docs/operating.md");
        let limit = format!(
            "for {} seconds at most, all at once",
            ssh::SHORT_LIMIT.as_secs()
        );
        assert!(manual.contains(&limit), "{limit}");
    }
}
