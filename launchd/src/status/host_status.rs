//! The status of a host as data, which `status --json` prints and another host's `status` reads; and its problems.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sanctum_config::{Label, escape_json};
use sanctum_host::{MaintenanceWindow, StoppedAgent};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The status of a host.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct HostStatus {
    /// The host.
    pub(crate) host: Label,
    /// Why its status is unknown.
    pub(crate) problem: Option<String>,
    /// Why it was not asked, according to fleet.toml.
    #[serde(default)]
    pub(crate) not_asked: Option<String>,
    /// The installed release.
    pub(crate) release: Option<String>,
    /// When it was installed.
    pub(crate) installed: Option<String>,
    /// A command that was interrupted or is running.
    pub(crate) maintenance: Option<String>,
    /// The maintenance window, if one is open.
    #[serde(default)]
    pub(crate) window: Option<MaintenanceWindow>,
    /// Why records of this host cannot be read: what they say is not shown.
    #[serde(default)]
    pub(crate) unreadable: Vec<String>,
    /// The volume of the fleet's home.
    #[serde(default)]
    pub(crate) disk: Option<DiskStatus>,
    /// Its agents, in the order of fleet.toml.
    pub(crate) agents: Vec<AgentStatus>,
    /// Its servers.
    pub(crate) servers: Vec<ServerStatus>,
    /// Its certificates and revocation lists.
    #[serde(default)]
    pub(crate) certificates: Vec<CertificateStatus>,
}

/// The volume of the fleet's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct DiskStatus {
    /// Bytes that this user can still write.
    pub(crate) free_bytes: u64,
    /// Its size in bytes.
    pub(crate) total_bytes: u64,
}

impl DiskStatus {
    /// Whether logs, state and alerts may soon find no space.
    fn is_low(&self) -> bool {
        const LOW: u64 = 256 << 20;
        self.free_bytes < LOW
    }
}

/// A certificate or a revocation list.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct CertificateStatus {
    /// Its path, relative to `certs/`.
    pub(crate) file: String,
    /// When it expires; none if it does not expire, or cannot be used (there is a problem then).
    pub(crate) ends: Option<DateTime<Utc>>,
    /// The problem and its fix: it expires soon, has expired, or cannot be used.
    pub(crate) problem: Option<String>,
    /// Whether the problem is urgent.
    pub(crate) urgent: bool,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct AgentStatus {
    /// Its name in fleet.toml.
    pub(crate) name: Label,
    /// `server`, `agent`, `watchdog` or `page`.
    pub(crate) role: String,
    /// Its state in launchd.
    pub(crate) state: AgentState,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// How often launchd has started it.
    pub(crate) runs: Option<u64>,
    /// How its last process ended.
    pub(crate) last_exit: Option<String>,
    /// When and why an operator stopped it.
    #[serde(default)]
    pub(crate) stopped: Option<StoppedAgent>,
    /// How long its process has been running, in seconds.
    #[serde(default)]
    pub(crate) uptime_seconds: Option<u64>,
    /// The resident memory of its process, in bytes.
    #[serde(default)]
    pub(crate) memory_bytes: Option<u64>,
    /// The state of a watchdog.
    pub(crate) watch: Option<WatchStatus>,
}

/// The state of an agent in launchd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AgentState {
    /// It has a process.
    Running,
    /// It is loaded and has no process.
    NotRunning,
    /// It should be loaded and is not.
    NotLoaded,
    /// It is disabled and not loaded, as it should be.
    Standby,
    /// It is on standby and loaded.
    LoadedStandby,
    /// It is in fleet.toml and not installed.
    NotInstalled,
    /// An operator has stopped it.
    Stopped,
}

impl AgentStatus {
    /// How often launchd has started it again since it was loaded; none if that is unknown.
    pub(crate) fn restarts(&self) -> Option<u64> {
        self.runs.map(|runs| runs.saturating_sub(1))
    }
}

/// The state of a watchdog.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct WatchStatus {
    /// Its last verdict: `ok`, `miss`, `busy`, `offline` or `stopped`.
    pub(crate) verdict: Option<String>,
    /// What it observed.
    pub(crate) detail: Option<String>,
    /// When it checked last.
    pub(crate) checked: Option<DateTime<Utc>>,
    /// Misses in a row.
    pub(crate) misses: u32,
    /// The share of ok verdicts among ok verdicts and misses in 24 hours, 0 to 1.
    pub(crate) success_24h: Option<f64>,
    /// The same in 7 days.
    pub(crate) success_7d: Option<f64>,
    /// Open conditions whose alert a channel has accepted.
    pub(crate) open: Vec<String>,
    /// Whether its only channel is its log, so that nothing notifies the operator.
    #[serde(default)]
    pub(crate) log_only: bool,
    /// Open conditions whose alert no channel has accepted.
    #[serde(default)]
    pub(crate) unnotified: Vec<String>,
    /// Alerts in its spool that a channel has not accepted, with the channel's error.
    #[serde(default)]
    pub(crate) undelivered: Vec<String>,
    /// Why the service behind its heartbeat URL does not accept its heartbeat.
    #[serde(default)]
    pub(crate) heartbeat_url: Option<String>,
    /// Why it seems to have stopped watching.
    pub(crate) stopped: Option<String>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct ServerStatus {
    /// Its name in fleet.toml.
    pub(crate) name: Label,
    /// The agent that serves for it.
    pub(crate) served_by: Label,
    /// `ready`, `loading`, `draining`, `stopped`, or `no answer` with the reason.
    pub(crate) state: String,
    /// Why it reuses no prefixes, for each model in which a check of them failed.
    #[serde(default)]
    pub(crate) prefix_checks: Vec<String>,
    /// Requests that are computed.
    #[serde(default)]
    pub(crate) in_flight: Option<u64>,
    /// Requests that wait.
    #[serde(default)]
    pub(crate) queued: Option<u64>,
    /// Generated tokens a second, measured over one second; none if its metrics are not accessible.
    #[serde(default)]
    pub(crate) tokens_per_second: Option<f64>,
    /// Memory that MLX uses, in bytes; none with another backend.
    #[serde(default)]
    pub(crate) mlx_memory_bytes: Option<u64>,
    /// Accepted and refused requests by authentication method; none if they are unknown.
    pub(crate) auth: Option<BTreeMap<String, Decisions>>,
}

/// The number of accepted and refused requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Decisions {
    /// Accepted requests.
    pub(crate) granted: u64,
    /// Refused requests.
    pub(crate) refused: u64,
}

impl HostStatus {
    /// A host whose status is unknown.
    pub(crate) fn unknown(host: Label, problem: String) -> Self {
        Self {
            host,
            problem: Some(problem),
            not_asked: None,
            release: None,
            installed: None,
            maintenance: None,
            window: None,
            unreadable: Vec::new(),
            disk: None,
            agents: Vec::new(),
            servers: Vec::new(),
            certificates: Vec::new(),
        }
    }

    /// A host that is not asked, for this reason.
    pub(crate) fn not_asked(host: Label, reason: String) -> Self {
        Self {
            problem: None,
            not_asked: Some(reason),
            ..Self::unknown(host, String::new())
        }
    }

    /// What another host has printed for `status --local --json`.
    ///
    /// # Errors
    /// If it has another form.
    pub(crate) fn from_answer(answer: &Value) -> Result<Self, String> {
        let first = answer["hosts"].get(0).cloned().unwrap_or(Value::Null);
        serde_json::from_value(first)
            .map_err(|error| format!("its sanctum-launchd is of another version: {error}"))
    }

    /// The same with all texts escaped: some come from servers, file names, records and other hosts.
    pub(crate) fn escaped(self) -> Self {
        let value = serde_json::to_value(self).expect("a status is plain data");
        serde_json::from_value(escape_json(value)).expect("only texts have changed")
    }

    /// What is not urgent yet, one line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let certificates = self.certificates.iter().filter(|one| !one.urgent);
        let problems = certificates.filter_map(|one| one.problem.as_ref());
        problems
            .map(|problem| format!("{}: {problem}", self.host))
            .collect()
    }

    /// The watchdogs that run and have not checked yet.
    pub(crate) fn unchecked(&self) -> Vec<&Label> {
        let watchdogs = self.agents.iter().filter(|agent| agent.role == "watchdog");
        let running = watchdogs.filter(|agent| agent.state == AgentState::Running);
        let unchecked = |agent: &&AgentStatus| {
            agent
                .watch
                .as_ref()
                .is_none_or(|watch| watch.checked.is_none())
        };
        running.filter(unchecked).map(|agent| &agent.name).collect()
    }

    /// The agents that an operator has stopped.
    pub(crate) fn stopped(&self) -> Vec<&Label> {
        let stopped = self.agents.iter().filter(|agent| agent.stopped.is_some());
        stopped.map(|agent| &agent.name).collect()
    }

    /// Its problems, one line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let host = &self.host;
        let mut problems: Vec<String> = (self.problem.iter().chain(&self.maintenance))
            .chain(&self.unreadable)
            .map(|what| format!("{host}: {what}"))
            .collect();
        if let Some(disk) = self.disk.filter(DiskStatus::is_low) {
            problems.push(format!(
                "{host}: its disk has {} MiB left; remove what is not needed: du -sh ~/* | sort -h",
                disk.free_bytes >> 20
            ));
        }
        for agent in &self.agents {
            let mut add = |what: &str| problems.push(format!("{host}: {} {what}", agent.name));
            match agent.state {
                AgentState::Running | AgentState::Standby | AgentState::Stopped => {}
                AgentState::NotRunning => add(&match &agent.last_exit {
                    Some(exit) => format!("is loaded and does not run (last: {exit})"),
                    None => "is loaded and does not run".to_owned(),
                }),
                AgentState::NotLoaded => add("is not loaded"),
                AgentState::LoadedStandby => add("is on standby and loaded"),
                AgentState::NotInstalled => add("is not installed"),
            }
            if let Some(watch) = &agent.watch {
                if let Some(stopped) = &watch.stopped
                    && agent.stopped.is_none()
                {
                    add(&format!("has stopped: {stopped}"));
                }
                if watch.verdict.as_deref() == Some("miss") && agent.stopped.is_none() {
                    add(&format!(
                        "reports a miss: {}",
                        watch.detail.as_deref().unwrap_or("no details")
                    ));
                }
                let notified = match watch.log_only {
                    true => "which is in its log only",
                    false => "and the operator was notified",
                };
                watch
                    .open
                    .iter()
                    .for_each(|title| add(&format!("has an open alert, {notified}: {title}")));
                watch.unnotified.iter().for_each(|title| {
                    add(&format!(
                        "raised an alert that no channel has accepted: {title}"
                    ))
                });
                watch.undelivered.iter().for_each(|line| add(line));
                if let Some(error) = &watch.heartbeat_url {
                    add(&format!(
                        "runs, and its heartbeat_url is not accepted: {error}"
                    ));
                }
            }
        }
        let servers = self.servers.iter();
        let unanswered = servers.filter(|server| server.state.starts_with("no answer"));
        problems
            .extend(unanswered.map(|server| format!("{host}: {}: {}", server.name, server.state)));
        for server in &self.servers {
            let failed = server.prefix_checks.iter();
            problems.extend(failed.map(|reason| {
                format!(
                    "{host}: {}: a check of reused prefixes failed: {reason}",
                    server.name
                )
            }));
        }
        let urgent = self.certificates.iter().filter(|one| one.urgent);
        let urgent = urgent.filter_map(|one| one.problem.as_ref());
        problems.extend(urgent.map(|problem| format!("{host}: {problem}")));
        problems
    }
}
