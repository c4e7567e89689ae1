//! `sanctum-launchd doctor`: everything that a fleet needs and that no installation can see.

use std::time::Duration;

use sanctum_config::Label;
use sanctum_host::{Installation, ssh, this_host};
use serde_json::{Value, json};

use super::open_installed;
use crate::args::{DoctorArgs, GlobalArgs};
use crate::at_once::at_once;
use crate::console::Console;
use crate::doctor::{
    DoctorLine, DoctorOutcome, DoctorReport, ask_from_outside, check_from_here, check_here,
    one_failure_for_each_cause, versions, watchers_elsewhere,
};
use crate::status::count;
use crate::wait::Wait;
use crate::{Error, remote};

/// What one host found about another, or about itself.
#[derive(Clone)]
struct DoctorSection {
    /// The host that was checked.
    host: Label,
    /// The host that has checked it.
    from: Label,
    lines: Vec<DoctorLine>,
}

/// The checks that make a section.
enum DoctorView<'a> {
    /// This host, from inside.
    Inside,
    /// Another host, from this one.
    Of(&'a Label),
    /// This host, from another one, which ssh reaches at this destination.
    From(&'a Label, &'a str),
}

/// Runs it. Failures are an error.
pub(crate) fn run(
    args: &GlobalArgs,
    options: &DoctorArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let (sections, report) = match remote::destination(&installation)? {
        None => this_host_and_around(&installation, options, console)?,
        Some(destination) => (
            another_host(&installation, destination, options, console)?,
            None,
        ),
    };
    end(&installation.host, &sections, report, console)
}

impl DoctorSection {
    fn is_inside(&self) -> bool {
        self.host == self.from
    }

    /// The same, of which lines whose cause is in the section from `inside` of the same host do not fail again.
    fn after(self, inside: &Self) -> Self {
        match self.host == inside.host && !self.is_inside() {
            true => Self {
                lines: one_failure_for_each_cause(self.lines, &inside.lines),
                ..self
            },
            false => self,
        }
    }

    /// Prints it at once; as JSON, all sections are printed at the end.
    fn print(&self, console: &mut Console) -> Result<(), Error> {
        let Self { host, from, lines } = self;
        if console.is_json() {
            return Ok(());
        }
        console.note(&match self.is_inside() {
            true => format!("{host}, from inside:"),
            false => format!("{host}, from {from}:"),
        })?;
        for line in lines {
            console.note(&format!("  {}", line.to_string().replace('\n', "\n  ")))?;
        }
        Ok(())
    }
}

/// The last line, or the JSON object.
fn end(
    host: &Label,
    sections: &[DoctorSection],
    report: Option<DoctorReport>,
    console: &mut Console,
) -> Result<(), Error> {
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

/// This host from inside and, without `--local`, what it and the hosts around it see of each other. All is checked at once.
fn this_host_and_around(
    installation: &Installation,
    options: &DoctorArgs,
    console: &mut Console,
) -> Result<(Vec<DoctorSection>, Option<DoctorReport>), Error> {
    let host = &installation.host;
    let patience = Duration::from_secs(options.patience);
    let mut views = vec![DoctorView::Inside];
    if !options.local {
        views.extend(around(installation));
    }
    let section = |host: &Label, from: &Label, lines| DoctorSection {
        host: host.clone(),
        from: from.clone(),
        lines,
    };
    let check = |view: DoctorView| match view {
        DoctorView::Inside => {
            let report = check_here(installation, patience);
            (section(host, host, report.lines.clone()), Some(report))
        }
        DoctorView::Of(other) => {
            let lines = check_from_here(installation, host, other);
            (section(other, host, lines), None)
        }
        DoctorView::From(other, destination) => {
            let lines = ask_from_outside(installation, destination).unwrap_or_else(|why| {
                let command = format!("on {other}: sanctum-launchd doctor --host {host}");
                vec![DoctorLine::not_checkable("outside", why).by_hand(command)]
            });
            (section(host, other, lines), None)
        }
    };
    // The section from inside is printed first: until it is known, its progress is on the terminal's last line.
    let mut early: Vec<DoctorSection> = Vec::new();
    let mut inside: Option<DoctorSection> = None;
    let found = at_once(
        views,
        check,
        |(section, _): &(DoctorSection, Option<DoctorReport>)| -> Result<(), Error> {
            if section.is_inside() {
                inside = Some(section.clone());
            }
            let Some(inside) = &inside else {
                early.push(section.clone());
                return Ok(());
            };
            section.clone().after(inside).print(console)?;
            early
                .drain(..)
                .try_for_each(|section| section.after(inside).print(console))
        },
    )?;
    let (sections, reports): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let sections = sections.into_iter().map(|section| match &inside {
        Some(inside) => section.after(inside),
        None => section,
    });
    Ok((sections.collect(), reports.into_iter().flatten().next()))
}

/// Another host from this one and, without `--outside`, from inside.
fn another_host(
    installation: &Installation,
    destination: &str,
    options: &DoctorArgs,
    console: &mut Console,
) -> Result<Vec<DoctorSection>, Error> {
    let host = &installation.host;
    let here = this_host(&installation.fleet, &installation.home)?.ok_or_else(|| {
        Error::refused(
            "it is unknown which host this is, and what it reaches depends on that; install here first",
        )
    })?;
    let outside = DoctorSection {
        host: host.clone(),
        from: here.clone(),
        lines: check_from_here(installation, &here, host),
    };
    // What is known is shown at once, unless its cause may be found inside.
    let is_known = options.outside || outside.lines.iter().all(|line| line.down.is_empty());
    if is_known {
        outside.print(console)?;
    }
    if options.outside {
        return Ok(vec![outside]);
    }
    let by_hand = format!("on {host}: sanctum-launchd doctor");
    let lines = if outside.lines.iter().any(DoctorLine::is_failed_ssh) {
        let why = "ssh fails, see above";
        vec![DoctorLine::not_checkable("inside", why).by_hand(by_hand)]
    } else {
        match ask_inside(installation, destination, options.patience) {
            Ok(there) => {
                let ours = installation.receipt()?.map(|receipt| receipt.release);
                let versions = versions(&here, ours.as_deref(), &there);
                there.lines.into_iter().chain([versions]).collect()
            }
            // ssh works, so its sanctum-launchd does not.
            Err(why) => vec![DoctorLine::failed("inside", why, by_hand)],
        }
    };
    let inside = DoctorSection {
        host: host.clone(),
        from: host.clone(),
        lines,
    };
    inside.print(console)?;
    if is_known {
        return Ok(vec![outside, inside]);
    }
    let outside = outside.after(&inside);
    outside.print(console)?;
    Ok(vec![inside, outside])
}

/// What another host finds about itself.
fn ask_inside(
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
    let wait = Wait::new(limit);
    wait.show(&format!("{} checks itself", installation.host));
    let answer = ssh::ask_launchd_within(&installation.fleet, destination, &command, limit)?;
    serde_json::from_value::<DoctorReport>(answer["report"].clone())
        .map(DoctorReport::escaped)
        .map_err(|error| format!("its sanctum-launchd is of another version: {error}"))
}

/// The hosts around this one: those whose servers are watched from here, and those that watch this one.
fn around(installation: &Installation) -> impl Iterator<Item = DoctorView<'_>> {
    let Installation { fleet, host, .. } = installation;
    let is_watched_here = move |other: &Label| {
        fleet.watch.iter().any(|(name, watch)| {
            let target = fleet.watched_server(watch);
            fleet.host_of(name) == Some(host)
                && target.and_then(|target| fleet.host_of(target)) == Some(other)
        })
    };
    let others = fleet.hosts.keys().filter(move |other| *other != host);
    let watched = others.filter(move |other| is_watched_here(other));
    let watchers = watchers_elsewhere(fleet, host);
    watched
        .map(DoctorView::Of)
        .chain(watchers.map(|(other, destination)| DoctorView::From(other, destination)))
}
