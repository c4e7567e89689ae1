//! `sanctum-launchd pause` and `resume`: the maintenance window of each host.

use chrono::{DateTime, Utc};
use sanctum_config::{Fleet, Label, atomic};
use sanctum_host::{Installation, MaintenanceWindow, ssh, this_host};
use serde_json::{Value, json};

use super::open_installed;
use crate::Error;
use crate::args::{GlobalArgs, PauseArgs, ResumeArgs};
use crate::at_once::at_once;
use crate::console::Console;

/// Opens the window.
pub(crate) fn pause(
    args: &GlobalArgs,
    pause: &PauseArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let mut there = format!("pause --local --for {}s", pause.duration.as_secs());
    if let Some(reason) = &pause.reason {
        there.push_str(&format!(" --reason {}", ssh::quoted(reason)));
    }
    let now = Utc::now();
    let here = |installation: &Installation| {
        let path = installation.home.window();
        let reason = pause.reason.as_deref();
        MaintenanceWindow::open(&path, now, pause.duration, reason).map(|window| Some(window.until))
    };
    let until = now + pause.duration;
    let until = until.format("%Y-%m-%d %H:%M UTC");
    let done = format!("watchdogs neither alert nor act until {until}");
    each_host(
        args,
        pause.local,
        &there,
        |installation| Ok(here(installation)?),
        &done,
        console,
    )
}

/// Closes the window.
pub(crate) fn resume(
    args: &GlobalArgs,
    resume: &ResumeArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let here = |installation: &Installation| {
        let path = installation.home.window();
        atomic::remove(&path).map_err(|error| Error::write(&path, error))?;
        Ok(None)
    };
    let done = "watchdogs alert and act";
    each_host(args, resume.local, "resume --local", here, done, console)
}

/// Until when the window of a host is open now, or why it was not changed.
type WindowChange = Result<Option<DateTime<Utc>>, String>;

/// Changes the window of the hosts that the command line names, and reports each: one that cannot be reached is a problem, one
/// without `ssh` is a note. All are changed at once.
fn each_host(
    args: &GlobalArgs,
    local: bool,
    there: &str,
    here: impl Fn(&Installation) -> Result<Option<DateTime<Utc>>, Error> + Sync,
    done: &str,
    console: &mut Console,
) -> Result<(), Error> {
    let installation = open_installed(args)?;
    let fleet = &installation.fleet;
    let this = match local {
        true => Some(installation.host.clone()),
        false => this_host(fleet, &installation.home)?,
    };
    let only = args.host.as_ref().or(this.as_ref().filter(|_| local));
    let has_watchdogs = |host: &Label| {
        let agents = &fleet.hosts[host].agents;
        agents.iter().any(|agent| fleet.watch.contains_key(agent))
    };
    let hosts = fleet.hosts.keys().filter(|host| match only {
        Some(only) => only == *host,
        None => has_watchdogs(host),
    });
    if console.dry_run {
        for host in hosts {
            let what = format!("change the maintenance window of {host}");
            console.step("window", &what)?;
        }
        return Ok(console.end("nothing has been changed", json!({ "hosts": [] }))?);
    }
    let change = |host: &Label| match fleet.hosts[host].ssh.as_deref() {
        _ if this.as_ref() == Some(host) => {
            Some(here(&installation).map_err(|error| error.to_string()))
        }
        Some(destination) => Some(change_there(fleet, destination, there)),
        None => None,
    };
    let outcomes = at_once(
        hosts,
        |host| (host, change(host)),
        |(host, outcome): &(&Label, Option<WindowChange>)| {
            console.note(&match outcome {
                Some(Ok(_)) => format!("{host}: {done}"),
                Some(Err(problem)) => format!("{host}: {problem}"),
                None => format!(
                    "{host}: unchanged, because [hosts.{host}] has no `ssh`; run the command there"
                ),
            })
        },
    )?;
    let changed = outcomes
        .into_iter()
        .filter_map(|(host, outcome)| Some((host, outcome?)));
    let results: Vec<Value> = changed
        .map(|(host, outcome)| {
            json!({
                "host": host,
                "until": outcome.as_ref().ok().copied().flatten(),
                "problem": outcome.err(),
            })
        })
        .collect();
    let failed = results
        .iter()
        .filter(|result| !result["problem"].is_null())
        .count();
    let line = match (failed, results.len()) {
        (0, 0) => "no host was changed".to_owned(),
        (0, _) => done.to_owned(),
        (failed, all) => format!("{failed} of {all} hosts could not be changed"),
    };
    console.end(&line, json!({ "hosts": results }))?;
    match failed {
        0 => Ok(()),
        several => Err(Error::Problems(several)),
    }
}

/// Changes the window of another host, over ssh.
fn change_there(fleet: &Fleet, destination: &str, command: &str) -> WindowChange {
    let answer = ssh::ask_launchd_within(fleet, destination, command, ssh::SHORT_LIMIT)?;
    let first = &answer["hosts"][0];
    match (&first["problem"], first["until"].as_str()) {
        (Value::Null, until) => Ok(until.and_then(|until| until.parse().ok())),
        (problem, _) => Err(problem.as_str().unwrap_or("it did not say why").to_owned()),
    }
}
