//! Observing the status of this host: its agents in launchd, the state of its watchdogs, its servers and certificates.

mod server;

use std::fmt::Display;
use std::path::Path;

use chrono::{DateTime, Utc};
use sanctum_config::fleet::{ChannelKind, Watch};
use sanctum_config::{Label, Role};
use sanctum_host::journal::is_command_running;
use sanctum_host::launchctl::{LastExit, Service};
use sanctum_host::lease::{Lease, LeaseStatus};
use sanctum_host::{
    Active, Installation, Journal, MaintenanceWindow, StoppedAgents, process_usage,
};
use sanctum_watch::WatchdogState;
use sanctum_watch::certificates::on_host;

use super::host_status::{
    AgentState, AgentStatus, CertificateStatus, DiskStatus, HostStatus, WatchStatus,
};
use crate::at_once::at_once;
use crate::{Error, undelivered};
use server::server_status;

/// The status of this host.
///
/// A record that cannot be read is a problem of its own, and hides nothing else.
///
/// # Errors
/// If the receipt cannot be read, or launchctl fails.
pub(crate) fn this_host(
    installation: &Installation,
    now: DateTime<Utc>,
) -> Result<HostStatus, Error> {
    installation.launchctl.check_exists()?;
    let receipt = installation.receipt()?;
    let mut unreadable = Vec::new();
    let active = or_default(Active::read(&installation.home.active()), &mut unreadable);
    let stopped = StoppedAgents::read(&installation.home.stopped());
    let stopped = or_default(stopped, &mut unreadable);
    let maintenance = maintenance(installation, now, &mut unreadable);
    let window = MaintenanceWindow::read(&installation.home.window(), now);
    let window = or_default(window, &mut unreadable);
    let mut agents = Vec::new();
    let mut served = Vec::new();
    for (name, role) in installation.fleet.agents_of(&installation.host) {
        let installed = receipt.as_ref().and_then(|receipt| receipt.agent(name));
        let service = installation
            .launchctl
            .print(&installation.fleet.launchd_label(name))?;
        let state = match (installed, &service) {
            (None, _) => AgentState::NotInstalled,
            (Some(agent), None) if agent.enabled && stopped.contains(name) => AgentState::Stopped,
            (Some(agent), None) if agent.enabled => AgentState::NotLoaded,
            (Some(_), None) => AgentState::Standby,
            (Some(agent), Some(_)) if !agent.enabled => AgentState::LoadedStandby,
            (Some(_), Some(service)) if service.is_running() => AgentState::Running,
            (Some(_), Some(_)) => AgentState::NotRunning,
        };
        let last_exit = |service: &Service| {
            let exit = service.last_exit.filter(|exit| *exit != LastExit::Never);
            exit.map(|exit| exit.to_string())
        };
        agents.push(AgentStatus {
            name: name.clone(),
            role: match role {
                Role::Server(_) => "server",
                Role::Agent(_) => "agent",
                Role::Watch(_) => "watchdog",
                Role::Page(_) => "page",
            }
            .to_owned(),
            state,
            pid: service.as_ref().and_then(|service| service.pid),
            runs: service.as_ref().and_then(|service| service.runs),
            last_exit: service.as_ref().and_then(last_exit),
            stopped: installed.and(stopped.get(name)).cloned(),
            uptime_seconds: None,
            memory_bytes: None,
            watch: match role {
                Role::Watch(watch) => watch_status(installation, name, watch, now),
                _ => None,
            },
        });
        if matches!(role, Role::Server(_)) && installed.is_some() {
            served.push(name);
        }
    }
    let probe = |name: &Label| {
        let served_by = active.agent_for(name);
        let is_stopped = stopped.contains(served_by);
        server_status(installation, name, served_by, is_stopped)
    };
    let servers = at_once(served, probe, |_| Ok::<(), Error>(()))?;
    let pids: Vec<u32> = agents.iter().filter_map(|agent| agent.pid).collect();
    let usage = process_usage(&pids);
    for agent in &mut agents {
        let usage = agent.pid.and_then(|pid| usage.get(&pid));
        agent.uptime_seconds = usage.map(|usage| usage.uptime.as_secs());
        agent.memory_bytes = usage.map(|usage| usage.resident_bytes);
    }
    Ok(HostStatus {
        host: installation.host.clone(),
        problem: None,
        not_asked: None,
        release: receipt.as_ref().map(|receipt| receipt.release.clone()),
        installed: receipt.map(|receipt| receipt.installed),
        maintenance,
        window,
        unreadable,
        disk: disk(installation),
        agents,
        servers,
        certificates: certificates(installation, now),
    })
}

/// What a record says; the default, and its error among the problems, if it cannot be read.
fn or_default<T: Default, E: Display>(result: Result<T, E>, problems: &mut Vec<String>) -> T {
    result.unwrap_or_else(|error| {
        problems.push(error.to_string());
        T::default()
    })
}

fn disk(installation: &Installation) -> Option<DiskStatus> {
    let volume = rustix::fs::statvfs(installation.home.path()).ok()?;
    Some(DiskStatus {
        free_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
        total_bytes: volume.f_blocks.saturating_mul(volume.f_frsize),
    })
}

fn certificates(installation: &Installation, now: DateTime<Utc>) -> Vec<CertificateStatus> {
    /// Days before the expiry from which a warning is a problem.
    const URGENT: i64 = 7;
    let certs = installation.home.certs();
    let name = |path: &Path| {
        let inside = path.strip_prefix(&certs).ok();
        let inside = inside.filter(|inside| !inside.as_os_str().is_empty());
        inside.unwrap_or(path).display().to_string()
    };
    let all = on_host(
        &installation.fleet,
        &installation.file,
        &installation.home,
        &installation.host,
    );
    all.into_iter()
        .map(|validity| match validity {
            Ok(validity) => CertificateStatus {
                file: name(&validity.path),
                ends: validity.ends,
                problem: validity
                    .problem(now)
                    .map(|problem| format!("{problem}; {}", validity.renewal(&installation.host))),
                urgent: validity.days_left(now).is_some_and(|days| days < URGENT),
            },
            Err(error) => CertificateStatus {
                file: name(&error.path),
                ends: None,
                problem: Some(error.to_string()),
                urgent: true,
            },
        })
        .collect()
}

/// A watchdog's state. A state that does not parse is shown as the reason why it has stopped.
fn watch_status(
    installation: &Installation,
    name: &Label,
    watch: &Watch,
    now: DateTime<Utc>,
) -> Option<WatchStatus> {
    let is_log = |channel: &Label| {
        let section = installation.fleet.alerts.get(channel);
        section.and_then(|section| section.kind(channel)) == Some(ChannelKind::Log)
    };
    let nothing = WatchStatus {
        verdict: None,
        detail: None,
        checked: None,
        misses: 0,
        success_24h: None,
        success_7d: None,
        open: Vec::new(),
        log_only: !watch.alert.is_empty() && watch.alert.iter().all(is_log),
        unnotified: Vec::new(),
        undelivered: undelivered::of_watchdog(&installation.home, name)
            .into_iter()
            .map(|finding| finding.problem)
            .collect(),
        heartbeat_url: None,
        stopped: None,
    };
    match WatchdogState::read(&installation.home.watch_state(name)) {
        Ok(None) => None,
        Err(error) => Some(WatchStatus {
            stopped: Some(error.to_string()),
            ..nothing
        }),
        Ok(Some(state)) => Some(WatchStatus {
            verdict: state.last.as_ref().map(|last| last.kind.to_string()),
            detail: state.last.as_ref().map(|last| last.message.clone()),
            checked: state.checked,
            misses: state.misses,
            success_24h: state.rates(24, now).success,
            success_7d: state.rates(7 * 24, now).success,
            open: titles(&state, true),
            unnotified: titles(&state, false),
            heartbeat_url: heartbeat_problem(&state),
            stopped: state.stopped(now),
            ..nothing
        }),
    }
}

/// Why the service behind the heartbeat URL accepts nothing.
fn heartbeat_problem(state: &WatchdogState) -> Option<String> {
    let status = state.heartbeat_url.as_ref()?;
    let error = status.error.as_ref()?;
    let since = status
        .failing_since
        .map(|since| since.format(" since %Y-%m-%d %H:%M UTC").to_string());
    Some(format!("{error}{}", since.unwrap_or_default()))
}

/// The titles of open conditions that a channel has accepted an alert for, or that none has.
fn titles(state: &WatchdogState, notified: bool) -> Vec<String> {
    let open = state.open.values();
    open.filter(|open| open.notified.is_some() == notified)
        .map(|open| open.title.clone())
        .collect()
}

/// A command that is running, or one that was interrupted. The lock tells them apart: the system releases it when the
/// process ends, while the lease of a killed command stays until it expires.
fn maintenance(
    installation: &Installation,
    now: DateTime<Utc>,
    problems: &mut Vec<String>,
) -> Option<String> {
    let lease = LeaseStatus::read(&installation.home.lease(), now);
    let lease = lease.unwrap_or_else(|error| {
        let verify = installation.typed("verify");
        problems.push(format!("{error}; for the fix, run: {verify}"));
        LeaseStatus::Free
    });
    if is_command_running(&installation.home) {
        return match lease {
            LeaseStatus::Held(Lease { owner, pid, .. }) => {
                Some(format!("`{owner}` is running (process {pid})"))
            }
            // It has changed nothing yet.
            LeaseStatus::Free | LeaseStatus::Expired(_) => None,
        };
    }
    if let Some(journal) = or_default(Journal::read(&installation.home.journal()), problems) {
        return Some(format!(
            "{}; run: {} (finishes it), or: {}",
            journal.interruption(),
            installation.typed("install"),
            installation.typed("rollback")
        ));
    }
    match lease {
        LeaseStatus::Held(lease) | LeaseStatus::Expired(lease) => Some(format!(
            "`{}` (process {}) ended without releasing its maintenance lease; run: {}",
            lease.owner,
            lease.pid,
            installation.typed("install")
        )),
        LeaseStatus::Free => None,
    }
}
