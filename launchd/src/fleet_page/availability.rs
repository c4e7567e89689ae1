//! How available a server is, decided from what the hosts report. Pure functions.

use sanctum_config::{Fleet, Label};
use serde::Serialize;

use crate::status::{AgentStatus, HostStatus, ServerStatus};

/// How available a server is. What is not known has no value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Availability {
    /// It accepts requests, and no watchdog reports a miss.
    Up,
    /// It is loading or draining, a standby serves for it, a check of its prefixes failed, or a watchdog reports a miss.
    Degraded,
    /// It does not answer, or an operator has stopped it.
    Down,
}

/// What the history records of a server at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ServerSample {
    /// How available it is.
    pub(crate) availability: Availability,
    /// Generated tokens a second.
    pub(crate) tokens_per_second: Option<f64>,
    /// Requests that wait.
    pub(crate) queued: Option<u64>,
}

/// How available a server is, and its numbers. `own` is the status of its host, and `all` are those of all hosts; a status
/// that is out of date is in neither. If its host is unknown, the canaries of other hosts decide. None if that is unknown too.
pub(crate) fn sample(
    fleet: &Fleet,
    server: &Label,
    own: Option<&HostStatus>,
    all: &[&HostStatus],
) -> Option<ServerSample> {
    let Some(own) = own else {
        return from_outside(fleet, server, all).map(|availability| ServerSample {
            availability,
            tokens_per_second: None,
            queued: None,
        });
    };
    let status = own.servers.iter().find(|status| status.name == *server)?;
    let has_miss = watchdogs(fleet, server, all).any(|watchdog| has_verdict(watchdog, "miss"));
    Some(ServerSample {
        availability: from_host(status, has_miss),
        tokens_per_second: status.tokens_per_second,
        queued: status.queued,
    })
}

/// From the status that its own host reports.
fn from_host(status: &ServerStatus, has_miss: bool) -> Availability {
    let is_whole = status.prefix_checks.is_empty() && status.served_by == status.name;
    match status.state.as_str() {
        "ready" if is_whole && !has_miss => Availability::Up,
        "ready" | "loading" | "draining" => Availability::Degraded,
        _ => Availability::Down,
    }
}

/// From the canaries of other hosts, which ask it over the network.
fn from_outside(fleet: &Fleet, server: &Label, all: &[&HostStatus]) -> Option<Availability> {
    let canaries = watchdogs(fleet, server, all).filter(|watchdog| {
        let watch = fleet.watch.get(&watchdog.name);
        watch.is_some_and(|watch| watch.check(&watchdog.name).as_str() == "canary")
    });
    let verdicts = canaries.filter_map(|canary| match canary {
        canary if has_verdict(canary, "ok") || has_verdict(canary, "busy") => {
            Some(Availability::Up)
        }
        canary if has_verdict(canary, "miss") => Some(Availability::Down),
        _ => None,
    });
    verdicts.max()
}

/// The watchdogs that ask this server, as the hosts report them.
fn watchdogs<'a>(
    fleet: &'a Fleet,
    server: &'a Label,
    all: &'a [&'a HostStatus],
) -> impl Iterator<Item = &'a AgentStatus> {
    let agents = all.iter().flat_map(|host| &host.agents);
    agents.filter(move |agent| {
        fleet.watch.get(&agent.name).is_some_and(|watch| {
            // Drift concerns files, not answers.
            watch.check(&agent.name).as_str() != "drift"
                && fleet.watched_server(watch) == Some(server)
        })
    })
}

/// Whether a watchdog that runs has this verdict.
fn has_verdict(agent: &AgentStatus, verdict: &str) -> bool {
    agent
        .watch
        .as_ref()
        .is_some_and(|watch| watch.stopped.is_none() && watch.verdict.as_deref() == Some(verdict))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    const FLEET: &str = "[hosts.mini]\naddress = \"a\"\nagents = [\"server\", \"guardian\", \"drift\"]\n\
        [hosts.laptop]\naddress = \"b\"\nagents = [\"outside\"]\n[servers.server]\nhost = \"mini\"\n\
        [watch.guardian]\ntarget = \"server\"\n[watch.drift]\n[watch.outside]\ncheck = \"canary\"\n";

    fn label(name: &str) -> Label {
        name.parse().unwrap()
    }

    fn host(name: &str, more: Value) -> HostStatus {
        let mut page =
            serde_json::to_value(HostStatus::unknown(label(name), String::new())).unwrap();
        for (key, value) in more.as_object().unwrap() {
            page[key] = value.clone();
        }
        serde_json::from_value(page).unwrap()
    }

    fn mini(state: &str, served_by: &str, checks: &[&str]) -> HostStatus {
        let server = json!({ "name": "server", "served_by": served_by, "state": state, "auth": null, "prefix_checks": checks,
            "tokens_per_second": 41.5, "queued": 3 });
        host("mini", json!({ "servers": [server] }))
    }

    fn watchdog(name: &str, verdict: &str, stopped: Option<&str>) -> Value {
        json!({ "name": name, "role": "watchdog", "state": "running", "pid": 1, "runs": 1, "last_exit": null,
            "watch": { "verdict": verdict, "detail": null, "checked": null, "misses": 0, "success_24h": null,
                "success_7d": null, "open": [], "stopped": stopped } })
    }

    fn of(own: Option<&HostStatus>, others: &[HostStatus]) -> Option<Availability> {
        let fleet = Fleet::parse(FLEET, Path::new("fleet.toml")).unwrap();
        let all: Vec<&HostStatus> = own.into_iter().chain(others).collect();
        sample(&fleet, &label("server"), own, &all).map(|sample| sample.availability)
    }

    #[test]
    fn server_is_up_degraded_or_down_by_its_state() {
        use Availability::{Degraded, Down, Up};
        for (state, served_by, checks, expected) in [
            ("ready", "server", &[][..], Up),
            ("ready", "escape-hatch", &[], Degraded),
            ("ready", "server", &["council: differs"], Degraded),
            ("loading", "server", &[], Degraded),
            ("draining", "server", &[], Degraded),
            ("stopped", "server", &[], Down),
            ("no answer (refused)", "server", &[], Down),
        ] {
            let own = mini(state, served_by, checks);
            assert_eq!(of(Some(&own), &[]), Some(expected), "{state}");
        }
        assert_eq!(
            of(Some(&host("mini", json!({}))), &[]),
            None,
            "not installed"
        );
    }

    #[test]
    fn server_that_answers_wrong_is_degraded() {
        let own = mini("ready", "server", &[]);
        let outside = |verdict: &str, stopped: Option<&str>| {
            [host(
                "laptop",
                json!({ "agents": [watchdog("outside", verdict, stopped)] }),
            )]
        };
        assert_eq!(of(Some(&own), &outside("ok", None)), Some(Availability::Up));
        assert_eq!(
            of(Some(&own), &outside("miss", None)),
            Some(Availability::Degraded)
        );
        let old = outside("miss", Some("no heartbeat since yesterday"));
        assert_eq!(of(Some(&own), &old), Some(Availability::Up));
        let drift = [host(
            "mini",
            json!({ "agents": [watchdog("drift", "miss", None)] }),
        )];
        assert_eq!(
            of(Some(&own), &drift),
            Some(Availability::Up),
            "its files are another matter"
        );
    }

    #[test]
    fn server_of_an_unreachable_host_is_what_canaries_elsewhere_find() {
        let laptop = |name: &str, verdict: &str| {
            [host(
                "laptop",
                json!({ "agents": [watchdog(name, verdict, None)] }),
            )]
        };
        assert_eq!(of(None, &laptop("outside", "ok")), Some(Availability::Up));
        assert_eq!(of(None, &laptop("outside", "busy")), Some(Availability::Up));
        assert_eq!(
            of(None, &laptop("outside", "miss")),
            Some(Availability::Down)
        );
        assert_eq!(of(None, &laptop("outside", "offline")), None);
        assert_eq!(of(None, &laptop("guardian", "miss")), None);
        assert_eq!(of(None, &[]), None);
    }

    #[test]
    fn sample_has_the_servers_numbers() {
        let fleet = Fleet::parse(FLEET, Path::new("fleet.toml")).unwrap();
        let own = mini("ready", "server", &[]);
        let sample = sample(&fleet, &label("server"), Some(&own), &[&own]).unwrap();
        assert_eq!(
            (sample.tokens_per_second, sample.queued),
            (Some(41.5), Some(3))
        );
    }
}
