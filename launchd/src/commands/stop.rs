//! `sanctum-launchd stop`: stop an agent on purpose, until `start`.

use std::time::Duration;

use sanctum_config::{Fleet, Label, Role};
use sanctum_host::{Installation, StoppedAgents};
use serde_json::{Value, json};

use super::open_installed;
use crate::agent_control::{AgentControl, agent_of_host, installed_agent};
use crate::args::{GlobalArgs, StopArgs};
use crate::console::Console;
use crate::wait::Wait;
use crate::{Error, remote};

/// How long another host may take to stop an agent, which drains first, without printing anything.
const STOP_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Runs it.
pub(crate) fn run(args: &GlobalArgs, stop: &StopArgs, console: &mut Console) -> Result<(), Error> {
    let installation = open_installed(args)?;
    match remote::destination(&installation)? {
        Some(destination) => there(&installation, destination, stop, console),
        None => here(&installation, stop, console),
    }
}

fn here(installation: &Installation, stop: &StopArgs, console: &mut Console) -> Result<(), Error> {
    let Installation {
        fleet,
        home,
        host,
        launchctl,
        ..
    } = installation;
    let agent = installed_agent(installation, &stop.agent)?;
    let name = agent.name.clone();
    let recorded = StoppedAgents::read(&home.stopped())?;
    let is_loaded = launchctl.print(&agent.label)?.is_some();
    let result = |stopped: bool, changed: bool| json!({ "host": host, "agent": name, "stopped": stopped, "changed": changed });
    if !agent.enabled {
        return Err(Error::refused(format!(
            "`{name}` is on standby on {host}, so it does not run; to keep it from serving, nothing has to be done"
        )));
    }
    if let Some(stopped) = recorded.get(&name).filter(|_| !is_loaded) {
        let line = format!("nothing to do: {name} is {}", stopped.describe());
        return Ok(console.end(&line, result(true, false))?);
    }
    console.step(
        "stop",
        &format!("stop {name}, and record that it is stopped on purpose"),
    )?;
    if console.dry_run {
        let line = format!("{name} would be stopped; nothing has been changed");
        return Ok(console.end(&line, result(false, false))?);
    }
    AgentControl::begin(installation, "stop", agent, console)?.stop(stop.reason.as_deref())?;
    for (watchdog, other) in watchdogs(fleet, &name) {
        if other != host && stop.from.as_ref() != Some(other) {
            console.note(&format!(
                "{watchdog} on {other} does not know that and alerts; on {other}, run: sanctum-launchd stop {name} --host \
                 {host}"
            ))?;
        }
    }
    let start = installation.typed(&format!("start {name}"));
    let line = format!("{name} is stopped until: {start}");
    Ok(console.end(&line, result(true, true))?)
}

/// Stops it there, and records it here too if a watchdog of this host watches it. The record would hide an outage, so it is
/// written only if that host has confirmed that the agent is stopped.
fn there(
    installation: &Installation,
    destination: &str,
    stop: &StopArgs,
    console: &mut Console,
) -> Result<(), Error> {
    let Installation {
        fleet, home, host, ..
    } = installation;
    let name = &stop.agent;
    let here = sanctum_host::this_host(fleet, home)?;
    let mut words = vec!["stop", name.as_str()];
    if let Some(reason) = &stop.reason {
        words.extend(["--reason", reason.as_str()]);
    }
    if let Some(here) = &here {
        words.extend(["--from", here.as_str()]);
    }
    // The agent's name may be one of another host, whose watchdogs must not be silenced.
    agent_of_host(installation, name)?;
    let wait = Wait::new(STOP_LIMIT);
    wait.show(&format!("stopping {name} on {host}"));
    let result = remote::ask(installation, destination, &words, &wait, console.dry_run)?;
    drop(wait);
    if !confirms(&result, host, name, !console.dry_run) {
        return Err(Error::refused(format!(
            "the command on {host} ended without an error, and did not confirm that {name} is stopped, so it is not recorded \
             here; to see whether it is, run: {}",
            installation.typed(&format!("status --host {host}"))
        )));
    }
    for entry in result["steps"].as_array().into_iter().flatten() {
        let text = |key: &str| entry[key].as_str();
        match (text("step"), text("what"), text("note")) {
            (Some(step), Some(what), _) => console.step(step, what)?,
            (_, _, Some(note)) => console.note(note)?,
            _ => {}
        }
    }
    let watches: Vec<String> = watchdogs(fleet, name)
        .filter(|(_, runs_on)| Some(*runs_on) == here.as_ref())
        .map(|(watchdog, _)| watchdog.to_string())
        .collect();
    if !watches.is_empty() && !console.dry_run {
        StoppedAgents::add(&home.stopped(), name, stop.reason.as_deref())?;
        console.note(&format!(
            "{} on this host does not alert about it until it is started",
            watches.join(", ")
        ))?;
    }
    let changed = result["changed"] == true;
    let line = match result["summary"].as_str() {
        Some(summary) if !changed => summary.to_owned(),
        _ => {
            let start = installation.typed(&format!("start {name} --host {host}"));
            format!("{name} is stopped until: {start}")
        }
    };
    let result =
        json!({ "host": host, "agent": name, "stopped": result["stopped"], "changed": changed });
    Ok(console.end(&line, result)?)
}

/// Whether the result of `stop` on another host is about this agent and says that it is stopped, if it `must` be.
fn confirms(result: &Value, host: &Label, agent: &Label, must: bool) -> bool {
    result["host"] == host.as_str()
        && result["agent"] == agent.as_str()
        && (!must || result["stopped"] == true)
}

/// The watchdogs that ask the server that `agent` is or serves for, with their hosts.
fn watchdogs<'a>(
    fleet: &'a Fleet,
    agent: &'a Label,
) -> impl Iterator<Item = (&'a Label, &'a Label)> {
    let server = match fleet.role(agent) {
        Some(Role::Agent(standby)) => standby.standby_for.as_ref(),
        _ => Some(agent),
    };
    fleet.watch.iter().filter_map(move |(name, watch)| {
        let asks = watch.check(name).as_str() != "drift";
        let watched = fleet.watched_server(watch).filter(|_| asks)?;
        (Some(watched) == server).then(|| Some((name, fleet.host_of(name)?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_result_of_a_stop_of_this_agent_confirms_it() {
        let [mini, server] = ["mini", "server"].map(|name| name.parse::<Label>().unwrap());
        let result = |agent: &str, stopped: bool| json!({ "host": "mini", "agent": agent, "stopped": stopped });
        let confirms = |result: &Value, must| confirms(result, &mini, &server, must);
        assert!(confirms(&result("server", true), true));
        assert!(!confirms(&result("server", false), true));
        assert!(confirms(&result("server", false), false), "a dry run");
        assert!(!confirms(&result("shadow", true), true));
        for other in [json!({}), json!({ "agent": "server", "stopped": true })] {
            assert!(!confirms(&other, true), "{other}");
        }
    }
}
