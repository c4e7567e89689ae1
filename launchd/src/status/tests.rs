use super::*;
use chrono::TimeDelta;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_776_500_000, 0).unwrap()
}

fn agent(name: &str, standing: Stand) -> AgentStatus {
    AgentStatus {
        name: name.parse().unwrap(),
        role: "watchdog".into(),
        standing,
        pid: None,
        runs: None,
        last_exit: None,
        watch: None,
    }
}

fn host() -> HostStatus {
    let watch = WatchStatus {
        verdict: Some("ok".into()),
        said: Some("4".into()),
        checked: Some(now() - TimeDelta::minutes(4)),
        misses: 0,
        success_24h: Some(0.9999),
        success_7d: Some(1.0),
        open: Vec::new(),
        unnotified: Vec::new(),
        undelivered: Vec::new(),
        stopped: None,
    };
    HostStatus {
        release: Some("0.2.0".into()),
        installed: Some("2026-04-18T03:00:00Z".into()),
        problem: None,
        agents: vec![
            AgentStatus {
                role: "server".into(),
                ..agent("server", Stand::Running)
            },
            AgentStatus {
                watch: Some(watch),
                ..agent("canary", Stand::Running)
            },
            agent("escape-hatch", Stand::StandingBy),
        ],
        servers: vec![ServerStatus {
            name: "server".parse().unwrap(),
            served_by: "server".parse().unwrap(),
            health: "ready".into(),
            auth: Some(decisions(PAGE)),
        }],
        ..HostStatus::unknown("mini".parse().unwrap(), String::new())
    }
}

const PAGE: &str = "# TYPE sanctum_auth_total counter\n\
    sanctum_auth_total{method=\"mtls\",outcome=\"granted\"} 12\n\
    sanctum_auth_total{method=\"bearer\",outcome=\"refused\",reason=\"wrong\"} 2\n\
    sanctum_auth_total{method=\"bearer\",outcome=\"granted\"} 3\n\
    sanctum_auth_total{method=\"none\",outcome=\"refused\",reason=\"missing\"} 0\n\
    sanctum_connections 1\n";

#[test]
fn a_well_fleet_is_one_screen_and_says_so_last() {
    let text = screen(&[host()], now(), Paint::Plain);
    assert_eq!(
        text,
        "mini  release 0.2.0 since 2026-04-18T03:00:00Z
  AGENT         STATE           VERDICT       AGO    24 H     7 D
  server        running
  canary        running         ok          4 min   99.9%    100%
  escape-hatch  standing by
  server: ready; let in by bearer 3 (2 refused), mtls 12

all is well: 1 host, 3 agents
"
    );
    assert!(screen(&[host()], now(), Paint::Colours).contains("\x1b[32mrunning"));
}

#[test]
fn troubles_are_named_and_counted() {
    let mut mini = host();
    mini.agents[0].standing = Stand::Waiting;
    mini.agents[1].watch.as_mut().unwrap().verdict = Some("miss".into());
    mini.servers[0].health = "silent (refused)".into();
    let laptop = HostStatus::unknown("laptop".parse().unwrap(), "no way there".into());
    let text = screen(&[mini, laptop], now(), Paint::Plain);
    for line in [
        "! mini: server is loaded and does not run",
        "! mini: canary says: 4",
        "! mini: server is silent (refused)",
        "! laptop: no way there",
        "4 troubles: 2 hosts, 3 agents",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}

#[test]
fn what_another_host_says_is_read_as_it_was_written() {
    let text = serde_json::to_string(&host()).unwrap();
    assert_eq!(serde_json::from_str::<HostStatus>(&text).unwrap(), host());
}

#[test]
fn a_host_that_fleet_toml_does_not_let_us_ask_is_no_trouble() {
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
fn summary_before_the_first_check_does_not_say_that_all_is_well() {
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
        let near = (days < 30).then(|| format!("{file} ends; sanctum-pki renew it"));
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
        "  certificates: ca.crt 1700 d, server.crt 29 d, clients/canary.crt expired, other.crl does not end",
        "warning: mini: server.crt ends; sanctum-pki renew it",
        "! mini: clients/canary.crt ends; sanctum-pki renew it",
        "1 trouble: 1 host, 3 agents; 1 warning",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}
