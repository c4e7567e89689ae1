//! `sanctum-launchd pause` and `resume`: the maintenance window of each host.

use chrono::{DateTime, Utc};
use sanctum_config::{Label, atomic};
use sanctum_host::{Installation, MaintenanceWindow, ssh, this_host};
use serde_json::{Value, json};

use super::open_installed;
use crate::Error;
use crate::args::{GlobalArgs, PauseArgs, ResumeArgs};
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

/// Changes the window of the hosts that the command line names, and reports each: one that cannot be reached is a problem, one
/// without `ssh` is a note.
fn each_host(
    args: &GlobalArgs,
    local: bool,
    there: &str,
    here: impl Fn(&Installation) -> Result<Option<DateTime<Utc>>, Error>,
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
    let mut results: Vec<Value> = Vec::new();
    let mut failed = 0;
    for host in fleet.hosts.keys() {
        match only {
            Some(only) if only != host => continue,
            None if !has_watchdogs(host) => continue,
            _ => {}
        }
        if console.dry_run {
            console.step(
                "window",
                &format!("change the maintenance window of {host}"),
            )?;
            continue;
        }
        let destination = fleet.hosts[host].ssh.as_deref();
        let outcome = match (this.as_ref() == Some(host), destination) {
            (true, _) => here(&installation).map_err(|error| error.to_string()),
            (false, Some(destination)) => {
                ssh::ask_launchd(fleet, destination, there).and_then(|answer| {
                    let first = &answer["hosts"][0];
                    match (&first["problem"], first["until"].as_str()) {
                        (Value::Null, until) => Ok(until.and_then(|until| until.parse().ok())),
                        (problem, _) => {
                            Err(problem.as_str().unwrap_or("it did not say why").to_owned())
                        }
                    }
                })
            }
            (false, None) => {
                console.note(&format!(
                    "{host}: unchanged, because [hosts.{host}] has no `ssh`; run the command there"
                ))?;
                continue;
            }
        };
        match &outcome {
            Ok(_) => console.note(&format!("{host}: {done}"))?,
            Err(problem) => {
                failed += 1;
                console.note(&format!("{host}: {problem}"))?;
            }
        }
        results.push(json!({
            "host": host,
            "until": outcome.as_ref().ok().copied().flatten(),
            "problem": outcome.err(),
        }));
    }
    let line = match (failed, results.len()) {
        _ if console.dry_run => "nothing has been changed".to_owned(),
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
