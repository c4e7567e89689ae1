//! Screens and summaries.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Fleet, Label};

use super::host_status::{
    AgentState, AgentStatus, CertificateStatus, Decisions, DiskStatus, ServerStatus, WatchStatus,
};
use sanctum_host::{MaintenanceWindow, StoppedAgent};

use super::*;

/// The screen of a fleet with the agents of [`host`].
fn screen(hosts: &[HostStatus], now: DateTime<Utc>, paint: Paint) -> String {
    let text = "[hosts.mini]\naddress = \"m\"\n[agents.escape-hatch]\nhost = \"mini\"\nprogram = [\"/bin/x\"]\n";
    let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
    let names: Vec<&Label> = hosts.iter().map(|host| &host.host).collect();
    let screen = StatusScreen::new(&fleet, &names, now, paint);
    let sections: String = hosts.iter().map(|host| screen.section(host)).collect();
    sections + &screen.end(hosts)
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_776_500_000, 0).unwrap()
}

fn agent(name: &str, state: AgentState) -> AgentStatus {
    AgentStatus {
        name: name.parse().unwrap(),
        role: "watchdog".into(),
        state,
        pid: None,
        runs: None,
        last_exit: None,
        stopped: None,
        uptime_seconds: None,
        memory_bytes: None,
        watch: None,
    }
}

fn host() -> HostStatus {
    let watch = WatchStatus {
        verdict: Some("ok".into()),
        detail: Some("4".into()),
        checked: Some(now() - TimeDelta::minutes(4)),
        misses: 0,
        success_24h: Some(0.9999),
        success_7d: Some(1.0),
        open: Vec::new(),
        log_only: false,
        unnotified: Vec::new(),
        undelivered: Vec::new(),
        heartbeat_url: None,
        stopped: None,
    };
    HostStatus {
        release: Some("0.2.0".into()),
        installed: Some("2026-04-18T03:00:00Z".into()),
        problem: None,
        disk: Some(DiskStatus {
            free_bytes: 100_000_000_000,
            total_bytes: 500_000_000_000,
        }),
        agents: vec![
            AgentStatus {
                role: "server".into(),
                pid: Some(77),
                runs: Some(3),
                uptime_seconds: Some(93_600),
                memory_bytes: Some(1_610_612_736),
                ..agent("server", AgentState::Running)
            },
            AgentStatus {
                watch: Some(watch),
                ..agent("canary", AgentState::Running)
            },
            agent("escape-hatch", AgentState::Standby),
        ],
        servers: vec![ServerStatus {
            name: "server".parse().unwrap(),
            served_by: "server".parse().unwrap(),
            state: "ready".into(),
            prefix_checks: Vec::new(),
            in_flight: Some(2),
            queued: Some(1),
            tokens_per_second: Some(41.25),
            mlx_memory_bytes: None,
            auth: Some(BTreeMap::from([
                ("mtls".to_owned(), decisions(12, 0)),
                ("bearer".to_owned(), decisions(3, 2)),
                ("none".to_owned(), decisions(0, 0)),
            ])),
        }],
        ..HostStatus::unknown("mini".parse().unwrap(), String::new())
    }
}

fn decisions(granted: u64, refused: u64) -> Decisions {
    Decisions { granted, refused }
}

#[test]
fn screen_without_problems_ends_with_all_is_well() {
    let text = screen(&[host()], now(), Paint::Plain);
    assert_eq!(
        text,
        "mini  release 0.2.0 since 2026-04-18T03:00:00Z
  AGENT         STATE                UP  RESTARTS    MEMORY  VERDICT       AGO    24 H     7 D
  server        running            26 h         2   1.5 GiB
  canary        running                                      ok          4 min   99.9%    100%
  escape-hatch  standby
  server: ready; 2 running, 1 queued, 41.2 tokens/s; accepted: bearer 3 (2 refused), mtls 12
  disk: 93.1 GiB of 466 GiB free

all is well: 1 host, 3 agents
"
    );
    assert!(screen(&[host()], now(), Paint::Colours).contains("\x1b[32mrunning"));
}

#[test]
fn problems_are_listed_and_counted() {
    let mut mini = host();
    mini.agents[0].state = AgentState::NotRunning;
    mini.agents[1].watch.as_mut().unwrap().verdict = Some("miss".into());
    mini.servers[0].state = "no answer (refused)".into();
    let laptop = HostStatus::unknown("laptop".parse().unwrap(), "no route to host".into());
    let text = screen(&[mini, laptop], now(), Paint::Plain);
    for line in [
        "! mini: server is loaded and does not run",
        "! mini: canary reports a miss: 4",
        "! mini: server: no answer (refused)",
        "! laptop: no route to host",
        "4 problems: 2 hosts, 3 agents",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}

#[test]
fn open_alert_of_a_watchdog_that_only_logs_has_notified_no_operator() {
    let mut mini = host();
    let watch = mini.agents[1].watch.as_mut().unwrap();
    watch.open = vec!["wrong answer".to_owned()];
    let problem = "mini: canary has an open alert, and the operator was notified: wrong answer";
    assert_eq!(mini.problems(), [problem]);
    mini.agents[1].watch.as_mut().unwrap().log_only = true;
    let problem = "mini: canary has an open alert, which is in its log only: wrong answer";
    assert_eq!(mini.problems(), [problem]);
}

#[test]
fn status_json_is_read_as_it_was_written() {
    let text = serde_json::to_string(&host()).unwrap();
    assert_eq!(serde_json::from_str::<HostStatus>(&text).unwrap(), host());
}

#[test]
fn host_without_ssh_is_not_a_problem() {
    let laptop = HostStatus {
        problem: None,
        not_asked: Some("[hosts.laptop] has no `ssh`, so it is not asked from here".into()),
        ..HostStatus::unknown("laptop".parse().unwrap(), String::new())
    };
    let text = screen(&[laptop, host()], now(), Paint::Plain);
    assert!(
        text.starts_with("laptop  [hosts.laptop] has no `ssh`"),
        "{text}"
    );
    assert!(
        text.ends_with("all is well: 1 host, 3 agents; not asked: laptop\n"),
        "{text}"
    );
}

#[test]
fn summary_before_the_first_check_is_not_all_is_well() {
    let mut mini = host();
    mini.agents[1].watch = None;
    let line = summary(&[mini.clone()]);
    assert_eq!(
        line,
        "nothing has been checked yet: 1 host, 3 agents; not checked yet: canary"
    );
    let mut guardian = host().agents.remove(1);
    guardian.name = "guardian".parse().unwrap();
    mini.agents.push(guardian);
    let line = summary(&[mini]);
    assert_eq!(
        line,
        "all is well: 1 host, 4 agents; not checked yet: canary"
    );
    let gone = HostStatus {
        not_asked: Some("no `ssh`".into()),
        ..HostStatus::unknown("gone".parse().unwrap(), String::new())
    };
    assert_eq!(summary(&[gone]), "no host was asked; not asked: gone");
}

#[test]
fn certificates_are_shown_with_their_days() {
    let certificate = |file: &str, days: i64| {
        let ends = now() + TimeDelta::days(days) + TimeDelta::hours(1);
        let near = (days < 30).then(|| format!("{file} expires; sanctum-pki renew it"));
        CertificateStatus {
            file: file.into(),
            ends: Some(ends),
            problem: near,
            urgent: days < 7,
        }
    };
    let mut mini = host();
    mini.certificates = vec![
        certificate("ca.crt", 1700),
        certificate("server.crt", 29),
        certificate("clients/canary.crt", -2),
        CertificateStatus {
            ends: None,
            ..certificate("other.crl", 100)
        },
    ];
    let text = screen(&[mini], now(), Paint::Plain);
    for line in [
        "  certificates: ca.crt 1700 d, server.crt 29 d, clients/canary.crt expired, other.crl does not expire",
        "warning: mini: server.crt expires; sanctum-pki renew it",
        "! mini: clients/canary.crt expires; sanctum-pki renew it",
        "1 problem: 1 host, 3 agents; 1 warning",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}

#[test]
fn stopped_agents_and_windows_are_shown_and_are_no_problems() {
    let mut mini = host();
    mini.agents[0].state = AgentState::Stopped;
    mini.agents[0].stopped = Some(StoppedAgent {
        since: now(),
        reason: Some("new disk".into()),
    });
    mini.servers[0].state = "stopped".into();
    mini.agents[1].watch.as_mut().unwrap().verdict = Some("stopped".into());
    mini.window = Some(MaintenanceWindow {
        since: now(),
        until: now() + TimeDelta::minutes(30),
        reason: None,
    });
    let text = screen(&[mini], now(), Paint::Plain);
    for line in [
        "  maintenance window until 2026-04-18 08:43 UTC",
        "  server is stopped on purpose since 2026-04-18 08:13 UTC (new disk)",
        "all is well: 1 host, 3 agents; stopped on purpose: server; maintenance window: mini",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}
