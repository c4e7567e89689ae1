//! What is known about the fleet now: each host's last known state, its age and the last error. Observers write it, HTTP
//! requests read it; no lock is held while either waits for anything.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Fleet, Label};
use serde::Serialize;
use serde_json::{Value, json};

use super::availability::{ServerSample, sample};
use super::history::{FleetHistory, Span, Strip};
use super::settings::OBSERVATION_LIMIT;
use crate::host_alerts::HostAlerts;
use crate::status::{HostStatus, summary};

/// What is known about the fleet. ViewState by all threads of the page.
#[derive(Debug)]
pub(crate) struct FleetView {
    /// The fleet.
    pub(super) fleet: Fleet,
    /// This host, if it is known which one it is.
    here: Option<Label>,
    /// The time between two observations.
    every: Duration,
    shared: Mutex<ViewState>,
}

#[derive(Debug)]
struct ViewState {
    hosts: BTreeMap<Label, HostView>,
    servers: Vec<ServerView>,
    history_problem: Option<String>,
}

/// What a host reports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HostObservation {
    /// Its status.
    pub(super) status: HostStatus,
    /// Its alerts.
    pub(super) alerts: HostAlerts,
}

/// A host.
#[derive(Clone, Debug, Default)]
struct HostView {
    /// Its last known state, and when it was observed.
    known: Option<(DateTime<Utc>, HostObservation)>,
    /// Why it could not be observed since then.
    error: Option<ObservationError>,
    /// Why it is not asked, according to fleet.toml.
    not_asked: Option<String>,
}

/// Why a host could not be observed.
#[derive(Clone, Debug, Serialize)]
struct ObservationError {
    /// The reason, with the next command.
    message: String,
    /// When it was observed last; else when it failed first.
    since: DateTime<Utc>,
}

/// The history of a server, as the page draws it.
#[derive(Clone, Debug, Serialize)]
struct ServerView {
    server: Label,
    host: Label,
    /// None if it is unknown.
    availability: Option<super::availability::Availability>,
    day: Strip,
    week: Strip,
}

impl FleetView {
    /// Nothing is known yet about these hosts.
    pub(super) fn new<'a>(
        fleet: Fleet,
        here: Option<Label>,
        every: Duration,
        hosts: impl IntoIterator<Item = &'a Label>,
    ) -> Self {
        let hosts = hosts
            .into_iter()
            .map(|host| (host.clone(), HostView::default()));
        let shared = ViewState {
            hosts: hosts.collect(),
            servers: Vec::new(),
            history_problem: None,
        };
        Self {
            fleet,
            here,
            every,
            shared: Mutex::new(shared),
        }
    }

    fn shared(&self) -> MutexGuard<'_, ViewState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host that is not asked, for this reason.
    pub(super) fn not_asked(&self, host: &Label, reason: String) {
        if let Some(view) = self.shared().hosts.get_mut(host) {
            view.not_asked = Some(reason);
        }
    }

    /// What was observed of a host, or why nothing was: then its last known state stays.
    pub(super) fn observed(
        &self,
        host: &Label,
        now: DateTime<Utc>,
        result: Result<HostObservation, String>,
    ) {
        let mut shared = self.shared();
        let Some(view) = shared.hosts.get_mut(host) else {
            return;
        };
        match result {
            Ok(observation) => {
                if view.error.take().is_some() {
                    tracing::info!(%host, "the host is observed again");
                }
                view.known = Some((now, observation));
            }
            Err(message) => {
                let since = match &view.error {
                    Some(error) => error.since,
                    None => {
                        tracing::warn!(%host, "the host cannot be observed: {message}");
                        view.known.as_ref().map_or(now, |(observed, _)| *observed)
                    }
                };
                view.error = Some(ObservationError { message, since });
            }
        }
    }

    /// How available each server is now. A server about which nothing is known is not in it.
    pub(super) fn samples(&self, now: DateTime<Utc>) -> BTreeMap<Label, ServerSample> {
        let shared = self.shared();
        let limit = 2 * self.every + OBSERVATION_LIMIT;
        let limit = TimeDelta::from_std(limit).unwrap_or(TimeDelta::MAX);
        let fresh = |host: &Label| {
            let view = shared.hosts.get(host).filter(|view| view.error.is_none())?;
            let (observed, observation) = view.known.as_ref()?;
            (now - *observed <= limit).then_some(&observation.status)
        };
        let all: Vec<&HostStatus> = shared.hosts.keys().filter_map(fresh).collect();
        let servers = self.fleet.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let sample = sample(&self.fleet, name, fresh(&server.host), &all)?;
                Some((name.clone(), sample))
            })
            .collect()
    }

    /// The history to show from now on.
    pub(super) fn show_history(
        &self,
        history: &FleetHistory,
        samples: &BTreeMap<Label, ServerSample>,
        now: DateTime<Utc>,
    ) {
        let servers = self.fleet.servers.iter().map(|(name, server)| ServerView {
            server: name.clone(),
            host: server.host.clone(),
            availability: samples.get(name).map(|sample| sample.availability),
            day: history.strip(name, Span::Day, now),
            week: history.strip(name, Span::Week, now),
        });
        let servers: Vec<ServerView> = servers.collect();
        let mut shared = self.shared();
        // Only servers of the hosts that are shown.
        let shown = servers
            .into_iter()
            .filter(|server| shared.hosts.contains_key(&server.host));
        shared.servers = shown.collect();
        shared.history_problem = history.problem().map(str::to_owned);
    }

    /// The page as JSON: what `/status.json` answers.
    pub(super) fn page(&self, now: DateTime<Utc>) -> Value {
        let shared = self.shared();
        let hosts: Vec<Value> = shared
            .hosts
            .iter()
            .map(|(host, view)| page_of(host, view, now))
            .collect();
        let statuses: Vec<HostStatus> = shared
            .hosts
            .iter()
            .filter_map(|(host, view)| view.status(host))
            .collect();
        let summary = match statuses.is_empty() && !shared.hosts.is_empty() {
            true => "no host has been observed yet".to_owned(),
            false => summary(&statuses),
        };
        json!({
            "fleet": self.fleet.fleet.name,
            "host": self.here,
            "version": env!("CARGO_PKG_VERSION"),
            "time": now,
            "every_seconds": self.every.as_secs_f64(),
            "summary": summary,
            "history_problem": shared.history_problem,
            "hosts": hosts,
            "servers": shared.servers,
        })
    }
}

impl HostView {
    /// The last known status, with the error as its problem; none if nothing is known.
    fn status(&self, host: &Label) -> Option<HostStatus> {
        if let Some(reason) = &self.not_asked {
            return Some(HostStatus::not_asked(host.clone(), reason.clone()));
        }
        let known = self
            .known
            .as_ref()
            .map(|(_, observation)| observation.status.clone());
        let Some(error) = &self.error else {
            return known;
        };
        let problem = match &known {
            Some(_) => format!(
                "not observed since {}: {}",
                error.since.format("%Y-%m-%d %H:%M UTC"),
                error.message
            ),
            None => error.message.clone(),
        };
        Some(match known {
            Some(status) => HostStatus {
                problem: Some(problem),
                ..status
            },
            None => HostStatus::unknown(host.clone(), problem),
        })
    }
}

fn page_of(host: &Label, view: &HostView, now: DateTime<Utc>) -> Value {
    let status = view.status(host);
    let observed = view.known.as_ref().map(|(observed, _)| *observed);
    let (problems, warnings) = match &status {
        Some(status) => (status.problems(), status.warnings()),
        None => (Vec::new(), Vec::new()),
    };
    json!({
        "host": host,
        "observed": observed,
        "age_seconds": observed.map(|observed| (now - observed).num_seconds().max(0)),
        "error": view.error,
        "not_asked": view.not_asked,
        "problems": problems,
        "warnings": warnings,
        "status": view.known.as_ref().map(|(_, observation)| &observation.status),
        "alerts": view.known.as_ref().map(|(_, observation)| &observation.alerts),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn label(name: &str) -> Label {
        name.parse().unwrap()
    }

    fn observation(host: &str, state: &str) -> HostObservation {
        let mut status =
            serde_json::to_value(HostStatus::unknown(label(host), String::new())).unwrap();
        status["problem"] = Value::Null;
        status["servers"] =
            json!([{ "name": "server", "served_by": "server", "state": state, "auth": null }]);
        HostObservation {
            status: serde_json::from_value(status).unwrap(),
            alerts: HostAlerts {
                host: label(host),
                open: Vec::new(),
                recent: Vec::new(),
                mutes: Vec::new(),
                problems: Vec::new(),
            },
        }
    }

    fn view() -> FleetView {
        let text = "[hosts.mini]\naddress = \"a\"\n[hosts.laptop]\naddress = \"b\"\n[servers.server]\nhost = \"mini\"\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        let hosts: Vec<Label> = fleet.hosts.keys().cloned().collect();
        FleetView::new(
            fleet,
            Some(label("laptop")),
            Duration::from_secs(30),
            &hosts,
        )
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_776_500_000, 0).unwrap()
    }

    #[test]
    fn host_that_fails_keeps_its_last_known_state_with_age_and_error() {
        let view = view();
        let mini = label("mini");
        assert_eq!(view.page(now())["summary"], "no host has been observed yet");
        view.observed(&mini, now(), Ok(observation("mini", "ready")));
        let later = now() + TimeDelta::minutes(4);
        for _ in 0..2 {
            view.observed(
                &mini,
                later,
                Err("`ssh mini` failed; try it by hand: ssh mini ls".into()),
            );
        }
        let page = view.page(later);
        let host = &page["hosts"][1];
        assert_eq!(host["host"], "mini");
        assert_eq!(host["age_seconds"], 240);
        assert_eq!(host["status"]["servers"][0]["state"], "ready");
        assert_eq!(host["error"]["since"], json!(now()));
        let problem = host["problems"][0].as_str().unwrap();
        assert!(
            problem.starts_with("mini: not observed since 2026-04-18 08:13 UTC: `ssh mini` failed"),
            "{problem}"
        );
        assert_eq!(page["summary"], "1 problem: 1 host, 0 agents");
        view.observed(&mini, later, Ok(observation("mini", "ready")));
        assert_eq!(view.page(later)["hosts"][1]["error"], Value::Null);
    }

    #[test]
    fn host_that_was_never_observed_has_only_its_error() {
        let view = view();
        view.observed(&label("mini"), now(), Err("refused".into()));
        view.not_asked(&label("laptop"), "[hosts.laptop] has no `ssh`".into());
        let page = view.page(now());
        assert_eq!(page["hosts"][1]["problems"], json!(["mini: refused"]));
        assert_eq!(page["hosts"][1]["status"], Value::Null);
        assert_eq!(page["hosts"][0]["not_asked"], "[hosts.laptop] has no `ssh`");
        let summary = page["summary"].as_str().unwrap();
        assert!(summary.ends_with("not asked: laptop"), "{summary}");
    }

    #[test]
    fn sample_of_an_old_or_failed_observation_is_none() {
        let view = view();
        let mini = label("mini");
        let state = |at: DateTime<Utc>| {
            let samples = view.samples(at);
            samples
                .get(&label("server"))
                .map(|sample| sample.availability)
        };
        assert_eq!(state(now()), None);
        view.observed(&mini, now(), Ok(observation("mini", "no answer (refused)")));
        assert_eq!(
            state(now()),
            Some(super::super::availability::Availability::Down)
        );
        assert_eq!(state(now() + TimeDelta::minutes(5)), None);
        view.observed(&mini, now(), Err("refused".into()));
        assert_eq!(state(now()), None);
    }
}
