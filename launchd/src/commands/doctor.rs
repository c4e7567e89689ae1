//! `sanctum-launchd doctor`: everything that a fleet needs and that no installation can see.

use std::time::Duration;

use sanctum_config::Label;
use sanctum_host::{Installation, ssh, this_host};
use serde_json::{Value, json};

use super::open_installed;
use crate::args::{DoctorArgs, GlobalArgs};
use crate::console::Console;
use crate::doctor::{
    DoctorLine, DoctorOutcome, DoctorReport, ask_from_outside, check_from_here, check_here,
    versions, watchers_elsewhere,
};
use crate::status::count;
use crate::{Error, remote};

/// What one host found about another, or about itself.
struct DoctorSection {
    /// The host that was checked.
    host: Label,
    /// The host that has checked it.
    from: Label,
    lines: Vec<DoctorLine>,
}

/// Runs it. Failures are an error.
pub(crate) fn run(
    args: &GlobalArgs,
    options: &DoctorArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let host = installation.host.clone();
    let here = this_host(&installation.fleet, &installation.home)?;
    let mut report = None;
    let sections = match remote::destination(&installation)? {
        None => {
            let inside = check_here(&installation, Duration::from_secs(options.patience))?;
            let mut sections = vec![DoctorSection {
                host: host.clone(),
                from: host.clone(),
                lines: inside.lines.clone(),
            }];
            report = Some(inside);
            if !options.local {
                sections.extend(around(&installation));
            }
            sections
        }
        Some(destination) => {
            let here = here.ok_or_else(|| {
                Error::refused(
                    "it is unknown which host this is, and what it reaches depends on that; install here first",
                )
            })?;
            let mut outside = check_from_here(&installation, &here, &host);
            let mut sections = Vec::new();
            let has_ssh = !outside.iter().any(DoctorLine::is_failed_ssh);
            if !options.outside && !has_ssh {
                outside.push(
                    DoctorLine::not_checkable("inside", "ssh fails, see above")
                        .by_hand(format!("on {host}: sanctum-launchd doctor")),
                );
            } else if !options.outside {
                match inside(&installation, destination, options.patience) {
                    Ok(there) => {
                        let ours = installation.receipt()?.map(|receipt| receipt.release);
                        outside.push(versions(&here, ours.as_deref(), &there));
                        sections.push(DoctorSection {
                            host: host.clone(),
                            from: host.clone(),
                            lines: there.lines,
                        });
                    }
                    // ssh works, so its sanctum-launchd does not.
                    Err(why) => outside.push(DoctorLine::failed(
                        "inside",
                        why,
                        format!("on {host}: sanctum-launchd doctor"),
                    )),
                }
            }
            sections.insert(
                0,
                DoctorSection {
                    host: host.clone(),
                    from: here,
                    lines: outside,
                },
            );
            sections
        }
    };
    print(&host, &sections, report, console)
}

fn print(
    host: &Label,
    sections: &[DoctorSection],
    report: Option<DoctorReport>,
    console: &mut Console,
) -> Result<(), Error> {
    for DoctorSection { host, from, lines } in sections {
        if console.is_json() {
            break;
        }
        console.note(&match host == from {
            true => format!("{host}, from inside:"),
            false => format!("{host}, from {from}:"),
        })?;
        for line in lines {
            console.note(&format!("  {}", line.to_string().replace('\n', "\n  ")))?;
        }
    }
    let lines = || sections.iter().flat_map(|section| &section.lines);
    let failed = lines().filter(|line| line.is_failure()).count();
    let passed = lines()
        .filter(|line| line.outcome == DoctorOutcome::Passed)
        .count();
    let all = lines().count();
    let line = format!(
        "{}, {failed} failed, {} not checkable here",
        count(passed, "check") + " passed",
        all - failed - passed
    );
    let sections: Vec<Value> = sections
        .iter()
        .map(
            |section| json!({ "host": section.host, "from": section.from, "lines": section.lines }),
        )
        .collect();
    console.end(
        &line,
        json!({ "host": host, "sections": sections, "report": report }),
    )?;
    match failed {
        0 => Ok(()),
        several => Err(Error::Problems(several)),
    }
}

/// What another host finds about itself.
fn inside(
    installation: &Installation,
    destination: &str,
    patience: u64,
) -> Result<DoctorReport, String> {
    let command = format!("doctor --local --patience {patience}");
    // Each server has its own patience there.
    let servers = u32::try_from(installation.fleet.servers.len())
        .unwrap_or(1)
        .max(1);
    let limit = Duration::from_secs(patience).saturating_mul(servers) + ssh::LIMIT;
    let answer = ssh::ask_launchd_within(&installation.fleet, destination, &command, limit)?;
    serde_json::from_value::<DoctorReport>(answer["report"].clone())
        .map(DoctorReport::escaped)
        .map_err(|error| format!("its sanctum-launchd is of another version: {error}"))
}

/// The hosts around this one: those whose servers are watched from here, and those that watch this one.
fn around(installation: &Installation) -> Vec<DoctorSection> {
    let Installation { fleet, host, .. } = installation;
    let mut sections = Vec::new();
    for other in fleet.hosts.keys().filter(|other| *other != host) {
        let is_watched_here = fleet.watch.iter().any(|(name, watch)| {
            let target = fleet.watched_server(watch);
            fleet.host_of(name) == Some(host)
                && target.and_then(|target| fleet.host_of(target)) == Some(other)
        });
        if is_watched_here {
            sections.push(DoctorSection {
                host: other.clone(),
                from: host.clone(),
                lines: check_from_here(installation, host, other),
            });
        }
    }
    for (other, destination) in watchers_elsewhere(fleet, host) {
        let lines = ask_from_outside(installation, destination).unwrap_or_else(|why| {
            let command = format!("on {other}: sanctum-launchd doctor --host {host}");
            vec![DoctorLine::not_checkable("outside", why).by_hand(command)]
        });
        sections.push(DoctorSection {
            host: host.clone(),
            from: other.clone(),
            lines,
        });
    }
    sections
}
