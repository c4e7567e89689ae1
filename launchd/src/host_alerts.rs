//! The alerts of a host as data: what `alert list --json` prints, and what `alert list --host` and the fleet page read from
//! another host.

use chrono::{DateTime, Utc};
use sanctum_config::{Label, Role, UntrustedText, escape_json};
use sanctum_host::Installation;
use sanctum_watch::WatchdogState;
use sanctum_watch::alert::{
    History, Mute, Mutes, PastAlert, ResolveRequest, Severity, Undelivered, undelivered,
};
use serde::{Deserialize, Serialize};

/// The alerts of a host.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct HostAlerts {
    /// The host.
    pub(crate) host: Label,
    /// Open conditions, oldest first.
    pub(crate) open: Vec<ListedAlert>,
    /// Past alerts that belong to no open condition, newest first.
    pub(crate) recent: Vec<ListedAlert>,
    /// Conditions that are muted now, whether they are open or not.
    pub(crate) mutes: Vec<Mute>,
    /// What could not be read.
    pub(crate) problems: Vec<String>,
}

/// An open condition, or a past alert.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct ListedAlert {
    /// What `alert mute` and `alert resolve` take.
    pub(crate) id: String,
    /// What it is about: `canary/misses`.
    pub(crate) condition: String,
    /// The watchdog that raised it.
    pub(crate) watchdog: Label,
    /// The host of that watchdog.
    pub(crate) host: Label,
    /// How urgent it is.
    pub(crate) severity: Option<Severity>,
    /// Its title.
    pub(crate) title: String,
    /// The beginning of its text; line breaks are escaped. Empty if it is not in the list of past alerts.
    #[serde(default)]
    pub(crate) body: String,
    /// Since when the condition is open; of a past alert, when it was raised.
    pub(crate) since: DateTime<Utc>,
    /// How many alerts the condition has raised.
    pub(crate) alerts: u32,
    /// Whether it is open.
    pub(crate) is_open: bool,
    /// The channels that have accepted the last alert.
    pub(crate) delivered: Vec<Label>,
    /// The channels that have not, with the error.
    pub(crate) waiting: Vec<PendingChannel>,
    /// The channels that did not receive it because it was muted.
    pub(crate) silent: Vec<Label>,
    /// The mute of its condition.
    pub(crate) muted: Option<Mute>,
    /// Whether an operator has asked to close it, and the watchdog has not done so yet.
    pub(crate) is_closing: bool,
    /// Other watchdogs that would alert about the same cause.
    pub(crate) covers: Vec<Covered>,
}

/// A channel that has not accepted an alert.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct PendingChannel {
    /// The channel.
    pub(crate) channel: Label,
    /// Its last error; none before the first attempt.
    pub(crate) error: Option<UntrustedText>,
    /// Whether the channel rejected it permanently.
    pub(crate) is_refused: bool,
}

/// What another watchdog observes of the same cause.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Covered {
    /// The other watchdog.
    pub(crate) watchdog: Label,
    /// What it observes.
    pub(crate) message: String,
    /// Since when.
    pub(crate) since: DateTime<Utc>,
}

/// The watchdogs of the host.
pub(crate) fn watchdogs(installation: &Installation) -> Vec<&Label> {
    let agents = installation.fleet.agents_of(&installation.host);
    let watchdogs = agents.into_iter();
    let watchdogs = watchdogs.filter(|(_, role)| matches!(role, Role::Watch(_)));
    watchdogs.map(|(name, _)| name).collect()
}

/// The files of one watchdog.
struct WatchdogAlerts {
    name: Label,
    state: Option<WatchdogState>,
    past: Vec<PastAlert>,
    undelivered: Vec<Undelivered>,
}

impl HostAlerts {
    /// The alerts of this host's watchdogs. A file that cannot be read is a problem, and hides no other.
    pub(crate) fn read(installation: &Installation, now: DateTime<Utc>) -> Self {
        let home = &installation.home;
        let mut problems = Vec::new();
        let mutes = Mutes::read(&home.mutes()).unwrap_or_else(|error| {
            problems.push(error.to_string());
            Mutes::default()
        });
        let mut all = Vec::new();
        for name in watchdogs(installation) {
            let state = WatchdogState::read(&home.watch_state(name));
            let past = History::read(&home.alert_history(name));
            let waiting = undelivered(&home.spool(name));
            let mut problem = |error: String| problems.push(format!("{name}: {error}"));
            all.push(WatchdogAlerts {
                name: name.clone(),
                state: state.unwrap_or_else(|error| {
                    problem(error.to_string());
                    None
                }),
                past: past.unwrap_or_else(|error| {
                    problem(error.to_string());
                    Vec::new()
                }),
                undelivered: waiting.unwrap_or_else(|error| {
                    problem(error.to_string());
                    Vec::new()
                }),
            });
        }
        let requests = home.resolve_requests();
        let mut open = Vec::new();
        let mut recent = Vec::new();
        for watchdog in &all {
            let requested = ResolveRequest::pending(&requests, &watchdog.name).unwrap_or_default();
            let alerts = watchdog.open();
            for mut alert in alerts {
                alert.host = installation.host.clone();
                alert.muted = mutes.of(&alert.condition, now).cloned();
                alert.is_closing = requested.iter().any(|request| request.id == alert.id);
                alert.covers = covered_by(&all, &watchdog.name);
                open.push(alert);
            }
            recent.extend(watchdog.recent().map(|alert| ListedAlert {
                host: installation.host.clone(),
                muted: mutes.of(&alert.condition, now).cloned(),
                ..alert
            }));
        }
        open.sort_by_key(|alert| alert.since);
        recent.sort_by_key(|alert| std::cmp::Reverse(alert.since));
        Self {
            host: installation.host.clone(),
            open,
            recent,
            mutes: mutes.current(now).cloned().collect(),
            problems,
        }
    }

    /// The same with all texts escaped: files and other hosts have written them.
    pub(crate) fn escaped(self) -> Self {
        let value = serde_json::to_value(self).expect("alerts are plain data");
        serde_json::from_value(escape_json(value)).expect("only texts have changed")
    }

    /// The alert with this id, or of this condition; an open one before a past one.
    pub(crate) fn find(&self, id: &str) -> Option<&ListedAlert> {
        let mut all = self.open.iter().chain(&self.recent);
        all.find(|alert| alert.id == id || alert.condition == id)
    }

    /// The ids of all alerts.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        let all = self.open.iter().chain(&self.recent);
        all.map(|alert| alert.id.as_str())
    }
}

impl WatchdogAlerts {
    fn open(&self) -> Vec<ListedAlert> {
        let open = self.state.iter().flat_map(|state| &state.open);
        open.map(|(key, open)| {
            let last = match open.alerts {
                ..=1 => open.id.clone(),
                number => format!("{}-{number}", open.id),
            };
            ListedAlert {
                condition: format!("{}/{key}", self.name),
                severity: open.severity,
                title: open.title.clone(),
                since: open.since,
                alerts: open.alerts,
                is_open: true,
                id: open.id.clone(),
                ..self.listed(&last)
            }
        })
        .collect()
    }

    /// The past alerts that are not of an open condition.
    fn recent(&self) -> impl Iterator<Item = ListedAlert> {
        let ids: Vec<&str> = self
            .state
            .iter()
            .flat_map(|state| state.open.values())
            .map(|open| open.id.as_str())
            .collect();
        let past = self.past.iter().filter(move |past| {
            !ids.iter()
                .any(|id| past.id == **id || past.id.starts_with(&format!("{id}-")))
        });
        past.map(|past| ListedAlert {
            condition: past.condition.clone(),
            severity: Some(past.severity),
            title: past.title.to_string(),
            since: past.raised,
            ..self.listed(&past.id)
        })
    }

    /// What is known about the delivery of an alert.
    fn listed(&self, id: &str) -> ListedAlert {
        let past = self.past.iter().rev().find(|past| past.id == id);
        let waiting = self.undelivered.iter().filter(|one| one.id == id);
        ListedAlert {
            id: id.to_owned(),
            condition: String::new(),
            watchdog: self.name.clone(),
            host: self.name.clone(),
            severity: None,
            title: String::new(),
            body: past.map(|past| past.body.to_string()).unwrap_or_default(),
            since: DateTime::UNIX_EPOCH,
            alerts: 1,
            is_open: false,
            delivered: past
                .map(|past| past.delivered.keys().cloned().collect())
                .unwrap_or_default(),
            waiting: waiting
                .map(|one| PendingChannel {
                    channel: one.channel.clone(),
                    error: one.error.clone(),
                    is_refused: one.refused,
                })
                .collect(),
            silent: past.map(|past| past.muted.clone()).unwrap_or_default(),
            muted: None,
            is_closing: false,
            covers: Vec::new(),
        }
    }
}

fn covered_by(all: &[WatchdogAlerts], by: &Label) -> Vec<Covered> {
    let others = all.iter().filter_map(|other| {
        let covered = other.state.as_ref()?.covered.as_ref()?;
        (covered.by == *by).then(|| Covered {
            watchdog: other.name.clone(),
            message: covered.message.clone(),
            since: covered.since,
        })
    });
    others.collect()
}
