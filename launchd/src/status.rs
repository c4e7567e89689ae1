//! What `status` knows about a host: release, agents, their watchdogs' verdicts, who was let in and how.

mod screen;

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use sanctum_config::{Label, Role};
use sanctum_host::lease::LeaseStatus;
use sanctum_watch::{Kind, State};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::ask::{Door, Health, SOON};
use crate::journal::Journal;
use crate::report::made_safe;
use crate::site::Site;
use crate::undelivered;

pub use screen::{Paint, count, screen, summary};

/// A host as it says it is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct HostStatus {
    /// The host.
    pub host: Label,
    /// Why nothing is known of it.
    pub problem: Option<String>,
    /// Why it was not even asked, as fleet.toml has it.
    #[serde(default)]
    pub not_asked: Option<String>,
    /// What is installed.
    pub release: Option<String>,
    /// Since when.
    pub installed: Option<String>,
    /// A command that was interrupted, or is at work.
    pub maintenance: Option<String>,
    /// Its agents, in the order of fleet.toml.
    pub agents: Vec<AgentStatus>,
    /// Its servers' words about themselves.
    pub servers: Vec<ServerStatus>,
    /// Its certificates and revocation lists.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
}

/// A certificate or a revocation list.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct CertificateStatus {
    /// Its file, as seen from `certs/`.
    pub file: String,
    /// When it ends; none if it does not end, or cannot be used (there is a problem then).
    pub ends: Option<DateTime<Utc>>,
    /// What is wrong with it, and what to do: its end is near or past, or it cannot be used.
    pub problem: Option<String>,
    /// Whether that cannot wait.
    pub urgent: bool,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct AgentStatus {
    /// Its name in fleet.toml.
    pub name: Label,
    /// `server`, `agent` or `watchdog`.
    pub role: String,
    /// How it stands with launchd.
    pub standing: Stand,
    /// Its process.
    pub pid: Option<u32>,
    /// How often launchd has started it.
    pub runs: Option<u64>,
    /// How its last process ended, if one has.
    pub last_exit: Option<String>,
    /// What a watchdog remembers.
    pub watch: Option<WatchStatus>,
}

/// How an agent stands with launchd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stand {
    /// It has a process.
    Running,
    /// It is loaded and has none.
    Waiting,
    /// It should be loaded and is not.
    Missing,
    /// It is disabled and not loaded, as it should be.
    StandingBy,
    /// It is loaded and should not be.
    Intruding,
    /// fleet.toml has it, and it was never installed.
    NotInstalled,
}

/// What a watchdog remembers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct WatchStatus {
    /// Its last verdict: `ok`, `miss`, `busy` or `offline`.
    pub verdict: Option<String>,
    /// What it saw.
    pub said: Option<String>,
    /// When.
    pub checked: Option<DateTime<Utc>>,
    /// Misses in a row.
    pub misses: u32,
    /// Ok verdicts per ok and missed ones in 24 hours, 0 to 1.
    pub success_24h: Option<f64>,
    /// The same in 7 days.
    pub success_7d: Option<f64>,
    /// What an alert reached a channel for and is not over.
    pub open: Vec<String>,
    /// What an alert was raised for, that no channel has accepted, and is not over.
    #[serde(default)]
    pub unnotified: Vec<String>,
    /// What its spool holds: alerts that have not reached a channel, with the channel's error.
    #[serde(default)]
    pub undelivered: Vec<String>,
    /// Why it seems to have stopped watching.
    pub stopped: Option<String>,
}

/// A server's words about itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ServerStatus {
    /// Its name in fleet.toml.
    pub name: Label,
    /// The agent that serves in its place.
    pub served_by: Label,
    /// `ready`, `loading`, `draining`, or why it is silent.
    pub health: String,
    /// Requests that were let in and refused, by method; none if it does not say.
    pub auth: Option<BTreeMap<String, Decisions>>,
}

/// Decisions of a server's gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Decisions {
    /// Let in.
    pub granted: u64,
    /// Refused.
    pub refused: u64,
}

impl HostStatus {
    /// A host of which nothing is known.
    pub fn unknown(host: Label, problem: String) -> Self {
        Self {
            host,
            problem: Some(problem),
            not_asked: None,
            release: None,
            installed: None,
            maintenance: None,
            agents: Vec::new(),
            servers: Vec::new(),
            certificates: Vec::new(),
        }
    }

    /// The same with every text in it safe to show: servers, file names, watchdogs' records and other hosts have a say in it.
    pub fn made_safe(self) -> Self {
        let value = serde_json::to_value(self).expect("a status is plain data");
        serde_json::from_value(made_safe(value)).expect("only texts have changed")
    }

    /// This host.
    ///
    /// # Errors
    /// If the receipt or a record cannot be read, or launchd gives no answer.
    pub fn here(site: &Site, now: DateTime<Utc>) -> Result<Self, Failure> {
        site.launchctl.check_exists()?;
        let receipt = site.receipt()?;
        let active = sanctum_host::Active::read(&site.home.active())?;
        let mut agents = Vec::new();
        let mut servers = Vec::new();
        for (name, role) in site.fleet.agents_of(&site.host) {
            let installed = receipt.as_ref().and_then(|receipt| receipt.agent(name));
            let service = site.launchctl.print(&site.fleet.launchd_label(name))?;
            let standing = match (installed, &service) {
                (None, _) => Stand::NotInstalled,
                (Some(agent), None) if agent.enabled => Stand::Missing,
                (Some(_), None) => Stand::StandingBy,
                (Some(agent), Some(_)) if !agent.enabled => Stand::Intruding,
                (Some(_), Some(service)) if service.is_running() => Stand::Running,
                (Some(_), Some(_)) => Stand::Waiting,
            };
            let ended = |service: &sanctum_host::launchctl::Service| {
                use sanctum_host::launchctl::LastExit;
                let exit = service.last_exit.filter(|exit| *exit != LastExit::Never);
                exit.map(|exit| exit.to_string())
            };
            agents.push(AgentStatus {
                name: name.clone(),
                role: match role {
                    Role::Server(_) => "server",
                    Role::Agent(_) => "agent",
                    Role::Watch(_) => "watchdog",
                }
                .to_owned(),
                standing,
                pid: service.as_ref().and_then(|service| service.pid),
                runs: service.as_ref().and_then(|service| service.runs),
                last_exit: service.as_ref().and_then(ended),
                watch: match role {
                    Role::Watch(_) => remembered(site, name, now),
                    _ => None,
                },
            });
            if matches!(role, Role::Server(_)) && installed.is_some() {
                servers.push(server(site, name, active.agent_for(name)));
            }
        }
        Ok(Self {
            host: site.host.clone(),
            problem: None,
            not_asked: None,
            release: receipt.as_ref().map(|receipt| receipt.release.clone()),
            installed: receipt.map(|receipt| receipt.installed),
            maintenance: maintenance(site, now)?,
            agents,
            servers,
            certificates: certificates(site, now),
        })
    }

    /// What becomes a trouble if nothing is done about it, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let certificates = self.certificates.iter().filter(|one| !one.urgent);
        let problems = certificates.filter_map(|one| one.problem.as_ref());
        problems
            .map(|problem| format!("{}: {problem}", self.host))
            .collect()
    }

    /// The watchdogs that run and have not checked anything yet.
    pub fn unchecked(&self) -> Vec<&Label> {
        let watchdogs = self.agents.iter().filter(|agent| agent.role == "watchdog");
        let running = watchdogs.filter(|agent| agent.standing == Stand::Running);
        let unchecked = |agent: &&AgentStatus| {
            agent
                .watch
                .as_ref()
                .is_none_or(|watch| watch.checked.is_none())
        };
        running.filter(unchecked).map(|agent| &agent.name).collect()
    }

    /// What is not well on it, one line each.
    pub fn troubles(&self) -> Vec<String> {
        let host = &self.host;
        let mut troubles: Vec<String> = (self.problem.iter().chain(&self.maintenance))
            .map(|what| format!("{host}: {what}"))
            .collect();
        for agent in &self.agents {
            let mut add = |what: &str| troubles.push(format!("{host}: {} {what}", agent.name));
            match agent.standing {
                Stand::Running | Stand::StandingBy => {}
                Stand::Waiting => add(&match &agent.last_exit {
                    Some(exit) => format!("is loaded and does not run (last: {exit})"),
                    None => "is loaded and does not run".to_owned(),
                }),
                Stand::Missing => add("is not loaded"),
                Stand::Intruding => add("stands by and is loaded"),
                Stand::NotInstalled => add("is not installed"),
            }
            if let Some(watch) = &agent.watch {
                if let Some(stopped) = &watch.stopped {
                    add(&format!("has stopped watching: {stopped}"));
                }
                if watch.verdict.as_deref() == Some("miss") {
                    add(&format!(
                        "says: {}",
                        watch.said.as_deref().unwrap_or("miss")
                    ));
                }
                watch.open.iter().for_each(|title| {
                    add(&format!(
                        "has an open alert, and the operator was notified: {title}"
                    ))
                });
                watch.unnotified.iter().for_each(|title| {
                    add(&format!(
                        "raised an alert that has reached no channel: {title}"
                    ))
                });
                watch.undelivered.iter().for_each(|line| add(line));
            }
        }
        let silent = self
            .servers
            .iter()
            .filter(|server| server.health.starts_with("silent"));
        troubles
            .extend(silent.map(|server| format!("{host}: {} is {}", server.name, server.health)));
        let urgent = self.certificates.iter().filter(|one| one.urgent);
        let problems = urgent.filter_map(|one| one.problem.as_ref());
        troubles.extend(problems.map(|problem| format!("{host}: {problem}")));
        troubles
    }
}

fn certificates(site: &Site, now: DateTime<Utc>) -> Vec<CertificateStatus> {
    /// Days before the end at which a warning becomes a trouble.
    const URGENT: i64 = 7;
    let certs = site.home.certs();
    let name = |path: &Path| {
        let inside = path.strip_prefix(&certs).ok();
        let inside = inside.filter(|inside| !inside.as_os_str().is_empty());
        inside.unwrap_or(path).display().to_string()
    };
    let all = sanctum_watch::certificates::on_host(&site.fleet, &site.file, &site.home, &site.host);
    all.into_iter()
        .map(|validity| match validity {
            Ok(validity) => CertificateStatus {
                file: name(&validity.path),
                ends: validity.ends,
                problem: validity
                    .problem(now)
                    .map(|problem| format!("{problem}; {}", validity.renewal(&site.host))),
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

/// A watchdog's state; one that is damaged says so in place of a verdict.
fn remembered(site: &Site, name: &Label, now: DateTime<Utc>) -> Option<WatchStatus> {
    let nothing = WatchStatus {
        verdict: None,
        said: None,
        checked: None,
        misses: 0,
        success_24h: None,
        success_7d: None,
        open: Vec::new(),
        unnotified: Vec::new(),
        undelivered: undelivered::of_watchdog(&site.home, name)
            .into_iter()
            .map(|finding| finding.wrong)
            .collect(),
        stopped: None,
    };
    match State::read(&site.home.watch_state(name)) {
        Ok(None) => None,
        Err(error) => Some(WatchStatus {
            stopped: Some(error.to_string()),
            ..nothing
        }),
        Ok(Some(state)) => Some(WatchStatus {
            verdict: state.last.as_ref().map(|last| word(last.kind).to_owned()),
            said: state.last.as_ref().map(|last| last.said.clone()),
            checked: state.checked,
            misses: state.misses,
            success_24h: state.rates(24, now).success,
            success_7d: state.rates(7 * 24, now).success,
            open: titles(&state, true),
            unnotified: titles(&state, false),
            stopped: state.stopped(now),
            ..nothing
        }),
    }
}

/// What is open and reached a channel, or reached none.
fn titles(state: &State, notified: bool) -> Vec<String> {
    let open = state.open.values();
    open.filter(|open| open.notified.is_some() == notified)
        .map(|open| open.title.clone())
        .collect()
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Ok => "ok",
        Kind::Miss => "miss",
        Kind::Busy => "busy",
        Kind::Offline => "offline",
    }
}

fn server(site: &Site, name: &Label, served_by: &Label) -> ServerStatus {
    let door = Door::to(&site.fleet, &site.file, &site.home, &site.host, name);
    let health = match &door {
        Ok(door) => door.health(SOON),
        Err(why) => Health::Silent(why.clone()),
    };
    let page = match (&door, &health) {
        (Ok(door), Health::Ready) => door.metrics(),
        _ => None,
    };
    ServerStatus {
        name: name.clone(),
        served_by: served_by.clone(),
        health: health.to_string(),
        auth: page.map(|page| decisions(&page)),
    }
}

/// From lines such as `sanctum_auth_total{method="mtls",outcome="granted"} 12`.
fn decisions(page: &str) -> BTreeMap<String, Decisions> {
    let mut methods: BTreeMap<String, Decisions> = BTreeMap::new();
    for line in page.lines() {
        let Some((labels, value)) = line
            .strip_prefix("sanctum_auth_total{")
            .and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        let label = |name: &str| {
            let begin = format!("{name}=\"");
            let mut pairs = labels.split(',');
            pairs.find_map(|pair| pair.strip_prefix(&begin)?.strip_suffix('"'))
        };
        let Some(method) = label("method") else {
            continue;
        };
        let count = value.trim().parse().unwrap_or(0);
        let decisions = methods.entry(method.to_owned()).or_default();
        match label("outcome") {
            Some("granted") => decisions.granted += count,
            _ => decisions.refused += count,
        }
    }
    methods
}

fn maintenance(site: &Site, now: DateTime<Utc>) -> Result<Option<String>, Failure> {
    let lease = LeaseStatus::read(&site.home.lease(), now)?;
    if let LeaseStatus::Held(lease) = &lease {
        return Ok(Some(format!(
            "`{}` is at work (process {})",
            lease.owner, lease.pid
        )));
    }
    if let Some(journal) = Journal::read(&site.home.journal())? {
        return Ok(Some(journal.interruption()));
    }
    Ok(match lease {
        LeaseStatus::Expired(lease) => Some(format!(
            "`{}` never gave its maintenance lease back",
            lease.owner
        )),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
