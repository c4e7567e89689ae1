//! The last line of `status`.

use super::host_status::{AgentState, HostStatus};

/// One line about all hosts that were asked. It also names hosts that were not asked, and watchdogs that have not checked
/// yet: their state is unknown.
pub(crate) fn summary(hosts: &[HostStatus]) -> String {
    let asked: Vec<&HostStatus> = hosts
        .iter()
        .filter(|host| host.not_asked.is_none())
        .collect();
    let agents: usize = asked.iter().map(|host| host.agents.len()).sum();
    let problems: usize = asked.iter().map(|host| host.problems().len()).sum();
    let warnings: usize = asked.iter().map(|host| host.warnings().len()).sum();
    let watchdogs = asked
        .iter()
        .flat_map(|host| &host.agents)
        .filter(|agent| agent.role == "watchdog" && agent.state == AgentState::Running)
        .count();
    let unchecked: Vec<String> = asked
        .iter()
        .flat_map(|host| host.unchecked())
        .map(ToString::to_string)
        .collect();
    let not_asked: Vec<&str> = hosts
        .iter()
        .filter(|host| host.not_asked.is_some())
        .map(|host| host.host.as_str())
        .collect();
    let fleet = format!("{}, {}", count(asked.len(), "host"), count(agents, "agent"));
    let mut line = match problems {
        0 if asked.is_empty() => "no host was asked".to_owned(),
        0 if watchdogs > 0 && unchecked.len() == watchdogs => {
            format!("nothing has been checked yet: {fleet}")
        }
        0 => format!("all is well: {fleet}"),
        _ => format!("{}: {fleet}", count(problems, "problem")),
    };
    if warnings > 0 {
        line.push_str(&format!("; {}", count(warnings, "warning")));
    }
    if !unchecked.is_empty() {
        line.push_str(&format!("; not checked yet: {}", unchecked.join(", ")));
    }
    let stopped: Vec<&str> = (asked.iter().flat_map(|host| host.stopped()))
        .map(|agent| agent.as_str())
        .collect();
    if !stopped.is_empty() {
        line.push_str(&format!("; stopped on purpose: {}", stopped.join(", ")));
    }
    let paused: Vec<&str> = (asked.iter().filter(|host| host.window.is_some()))
        .map(|host| host.host.as_str())
        .collect();
    if !paused.is_empty() {
        line.push_str(&format!("; maintenance window: {}", paused.join(", ")));
    }
    if !not_asked.is_empty() {
        line.push_str(&format!("; not asked: {}", not_asked.join(", ")));
    }
    line
}

/// A number with its noun: `1 host`, `2 hosts`.
pub(crate) fn count(number: usize, word: &str) -> String {
    match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    }
}
