//! The guardian with a real folder, and small programs in place of servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use std::path::Path;

use sanctum_watch::OUTAGE;
use serde_json::Value;

use chrono::TimeDelta;

use super::*;
use crate::decide::Decision;

fn guardian(folder: &Path) -> Guardian {
    guardian_with(folder, "guardian", "")
}

fn guardian_with(folder: &Path, name: &str, more: &str) -> Guardian {
    let text = format!(
        "[fleet]\nhome = \"{0}\"\n[hosts.mini]\naddress = \"a\"\nagents = [\"server\", {1}]\n\
         [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:9\"]\n\
         auth = {{ token_file = \"{0}/token\", loopback = \"required\" }}\n\
         [watch.guardian]\ntarget = \"server\"\nevery = \"1m\"\n{more}",
        folder.display(),
        match more.contains("second") {
            true => "\"guardian\", \"second\"",
            false => "\"guardian\"",
        }
    );
    let config = folder.join("fleet.toml");
    let fleet = Fleet::parse(&text, &config).unwrap();
    let name: Label = name.parse().unwrap();
    let config = WatchdogConfig {
        home: Home::new(folder.to_owned(), folder.to_owned()),
        watch: fleet.watch[&name].clone(),
        host: "mini".parse().unwrap(),
        config,
        name,
        fleet,
    };
    Guardian::new(&config).unwrap()
}

fn round(now: DateTime<Utc>, memory: &Value) -> Round<'_> {
    Round {
        now,
        memory,
        misses: 0,
    }
}

fn has_restart(report: &CheckReport<GuardianAction>) -> bool {
    let mut actions = report.actions.iter();
    actions.any(|planned| matches!(planned.action, GuardianAction::Restart(_)))
}

/// The body of the only notice, which is that the guardian cannot check.
fn blind(report: &CheckReport<GuardianAction>) -> &str {
    match &report.notices[..] {
        [
            Notice::Open {
                key: BLIND, text, ..
            },
        ] => &text.body,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn guardian_that_cannot_check_alerts_and_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "secret").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let mut guardian = guardian(folder.path());
    let (mut now, mut memory) = (Utc::now(), Value::Null);
    for minute in 0..10 {
        now += TimeDelta::minutes(minute);
        let report = guardian.check(&round(now, &memory)).await;
        assert_eq!(report.verdict.kind, VerdictKind::Miss);
        assert!(!has_restart(&report));
        let body = blind(&report);
        assert!(body.contains("chmod 600"), "{body}");
        memory = report.memory.unwrap();
    }
    // An active.json that is damaged does not mean that the server is dead either.
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/active.json"), "{").unwrap();
    let report = guardian.check(&round(now, &memory)).await;
    assert!(blind(&report).contains("active.json is damaged"));
    // Its fleet.toml is not where commands look for it.
    let file = folder.path().join("fleet.toml");
    let next = format!("sanctum-launchd verify --config {}", file.display());
    assert_eq!(report.verdict.next, next);
}

fn remembered(report: CheckReport<GuardianAction>) -> ServerHistory {
    serde_json::from_value(report.memory.unwrap()).unwrap()
}

/// A program that answers `/health` in this way, and lists its models.
fn standby(health: &'static str) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 2048];
            let read = stream.read(&mut request).unwrap_or(0);
            let answer = match request[..read].starts_with(b"GET /health ") {
                true => health.to_owned(),
                false => {
                    let body = r#"{"object":"list","data":[{"id":"m"}]}"#;
                    format!("200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                }
            };
            // Without an answer the connection is closed, and after one too: the client must not send the next request over it.
            let answer = answer.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            if !answer.is_empty() {
                let _ = write!(stream, "HTTP/1.1 {answer}");
            }
        }
    });
    address
}

#[tokio::test]
async fn standby_without_heartbeat_is_alive_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for health in [
        "200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}",
        "200 OK\r\ncontent-length: 15\r\n\r\n<!doctype html>",
        "404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "",
    ] {
        let mut guardian = guardian(folder.path());
        guardian.watched.endpoint.base = format!("http://{}", standby(health));
        guardian.watched.endpoint.credentials = sanctum_client::Credentials::None;
        let active = guardian.watched.client().await.unwrap();
        assert_eq!(ask(&active).await.0, ServerAnswer::Alive, "{health:?}");
    }
}

#[tokio::test]
async fn standby_that_serves_is_asked_without_the_servers_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut guardian = guardian(folder.path());
    let address = standby("404 Not Found\r\ncontent-length: 0\r\n\r\n");
    guardian.watched.endpoint.plain = Some(format!("http://{address}"));
    // The server itself requires a token, which does not exist.
    let error = guardian.watched.client().await.unwrap_err();
    assert!(error.message.contains("token"), "{}", error.message);
    let (server, escape_hatch) = ("server".parse().unwrap(), "escape-hatch".parse().unwrap());
    let mut active = sanctum_host::Active::default();
    active.set(server, escape_hatch);
    active
        .write(&folder.path().join("state/active.json"))
        .unwrap();
    let client = guardian.watched.client().await.unwrap();
    assert_eq!(client.standby, Some("escape-hatch".parse().unwrap()));
    assert_eq!(ask(&client).await.0, ServerAnswer::Alive);
    // A server that listens for TLS only has no place for a standby.
    guardian.watched.endpoint.plain = None;
    let report = guardian.check(&round(Utc::now(), &Value::Null)).await;
    let body = blind(&report);
    assert!(
        body.starts_with("`escape-hatch` serves in place of server on mini"),
        "{body}"
    );
}

#[tokio::test]
async fn deployment_restores_the_restart_budget() {
    let folder = tempfile::tempdir().unwrap();
    let mut guardian = guardian(folder.path());
    let receipt = |installed: &str| Receipt {
        host: "mini".parse().unwrap(),
        release: "1".to_owned(),
        previous: None,
        installed: installed.to_owned(),
        fleet_sha256: sanctum_config::Digest::of(b""),
        artefacts: Vec::new(),
        agents: Vec::new(),
    };
    let agent: Label = "server".parse().unwrap();
    let home = Home::new(folder.path().to_owned(), folder.path().to_owned());
    assert_eq!(deployment(&home, &agent), None);
    let path = folder.path().join("state/receipt.json");
    receipt("2026-11-30T10:00:00Z").write(&path).unwrap();
    let (first, _) = deployment(&home, &agent).unwrap();
    // The same again, as by an install that finds nothing to do.
    receipt("2026-11-30T10:00:00Z").write(&path).unwrap();
    let (second, installed) = deployment(&home, &agent).unwrap();
    assert_ne!(first, second);
    assert_eq!(installed.to_rfc3339(), "2026-11-30T10:00:00+00:00");

    let now = Utc::now();
    let memory = json!({ "restarts": [now, now], "spent": now, "deployment": first });
    fs::write(folder.path().join("token"), "secret").unwrap();
    fs::set_permissions(
        folder.path().join("token"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let history = remembered(guardian.check(&round(now, &memory)).await);
    assert_eq!((history.spent, history.restarts.len()), (None, 0));
    assert_eq!(history.deployment.as_deref(), Some(&*second));
}

#[tokio::test]
async fn kernel_panic_is_reported_though_the_server_cannot_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut guardian = guardian(folder.path());
    let reports = folder.path().join("reports");
    fs::create_dir(&reports).unwrap();
    guardian.panic_reports = Some(reports.clone());
    let mut memory = Value::Null;
    let mut events = async || {
        let report = guardian.check(&round(Utc::now(), &memory)).await;
        memory = report.memory.unwrap();
        let events = report
            .notices
            .into_iter()
            .filter_map(|notice| match notice {
                Notice::Event { key, text } => Some((key, text.body)),
                _ => None,
            });
        events.collect::<Vec<_>>()
    };
    assert_eq!(events().await, []);
    fs::write(reports.join("a.panic"), "panic(cpu 0)").unwrap();
    let panic = ("panic", "a.panic: panic(cpu 0)".to_owned());
    assert_eq!(events().await, [panic]);
    assert_eq!(events().await, []);
}

#[tokio::test]
async fn log_that_launchd_appends_to_is_rotated_as_fleet_toml_says() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[logs]\nmax_mb = 1\nkeep = 2\n[agents.other]\nhost = \"mini\"\nprogram = [\"/bin/other\"]\n\
        [watch.second]\ncheck = \"guardian\"\ntarget = \"server\"\n";
    let mut guardian = guardian_with(folder.path(), "guardian", more);
    fs::create_dir(folder.path().join("logs")).unwrap();
    let log = |name: &str| folder.path().join("logs").join(name);
    for name in ["other.log", "server.launchd.log", "server.log"] {
        fs::write(log(name), "x\n".repeat(600_000)).unwrap();
    }
    // A folder in place of a log is an error, and does not prevent the other rotations.
    fs::create_dir(log("guardian.launchd.log")).unwrap();
    let report = guardian.check(&round(Utc::now(), &Value::Null)).await;
    assert_eq!(report.actions.len(), 3);
    for planned in report.actions {
        assert_eq!(guardian.execute(planned.action).await, []);
    }
    let size = |name: &str| fs::metadata(log(name)).unwrap().len();
    for name in ["other.log", "server.launchd.log"] {
        assert_eq!((size(name), size(&format!("{name}.1"))), (0, 1_200_000));
    }
    assert_eq!(size("server.log"), 1_200_000, "the server rotates its own");
    assert_eq!(guardian.logged, [log("guardian.launchd.log")].into());
    let second = guardian_with(folder.path(), "second", more);
    assert_eq!(second.launchd_logs, Vec::<PathBuf>::new());
}

/// A guardian whose server accepts connections and never answers.
fn guardian_of_silence(folder: &Path) -> (Guardian, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut guardian = guardian(folder);
    guardian.watched.endpoint.base = format!("http://{}", listener.local_addr().unwrap());
    guardian.watched.endpoint.credentials = sanctum_client::Credentials::None;
    (guardian, listener)
}

#[tokio::test]
async fn guardian_whose_check_exceeds_its_limit_alerts_that_it_cannot_check() {
    let folder = tempfile::tempdir().unwrap();
    let (guardian, _listener) = guardian_of_silence(folder.path());
    let report = guardian.timed_out("the check did not finish within 80 s".to_owned());
    let Notice::Open { text, .. } = &report.notices[0] else {
        panic!("{:?}", report.notices);
    };
    assert_eq!(text.severity, Severity::Critical);
    assert!(blind(&report).starts_with("the check did not finish"));
    assert_eq!(report.memory, None, "it forgets nothing");
}

#[tokio::test]
async fn restart_is_planned_with_its_command_and_reports_its_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut guardian = guardian(folder.path());
    guardian.watched.endpoint.credentials = sanctum_client::Credentials::None;
    // Nothing listens, and the process is older than the grace.
    let memory = json!({ "started": Utc::now() - TimeDelta::hours(1) });
    let third = Round {
        misses: 2,
        ..round(Utc::now(), &memory)
    };
    let report = guardian.check(&third).await;
    let [
        PlannedAction {
            action: GuardianAction::Restart(restart),
            if_interrupted: Some(Notice::Open { text, .. }),
        },
    ] = &report.actions[..]
    else {
        panic!("{:?}", report.actions);
    };
    assert!(restart.line.starts_with("launchctl kickstart -k gui/"));
    assert_eq!(text.title, "server on mini was probably restarted");
    let end = format!("The guardian ended before `{}` did", restart.line);
    assert!(text.body.contains(&end), "{}", text.body);
    assert_eq!(report.misses, Some(0));
    let history: ServerHistory = serde_json::from_value(report.memory.clone().unwrap()).unwrap();
    assert_eq!(history.restarts.len(), 1);
    // There is no launchd where this is tested.
    let notices = guardian
        .execute(GuardianAction::Restart(restart.clone()))
        .await;
    let [
        Notice::Open {
            key: OUTAGE, text, ..
        },
    ] = &notices[..]
    else {
        panic!("{notices:?}");
    };
    assert_eq!(text.title, "server on mini could not be restarted");
}

#[test]
fn outage_is_over_when_the_server_stays_healthy_and_not_when_a_restart_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let guardian = guardian(folder.path());
    let now = Utc::now();
    let seen = Observation {
        now,
        answer: ServerAnswer::Alive,
        failed_prefix_checks: Vec::new(),
        models_without_server: Vec::new(),
        agent: ActiveAgent::Loaded { pid: None, runs: 9 },
        deployment: None,
        misses: 0,
    };
    let is_over = |condition: Condition, remedy: Remedy, healthy: Option<TimeDelta>| {
        let history = ServerHistory {
            healthy_since: healthy.map(|lasted| now - lasted),
            ..ServerHistory::default()
        };
        let agent = "server".parse().unwrap();
        let decision = Decision {
            condition,
            remedy,
            misses: 0,
            answers_again: false,
        };
        let report = guardian.describe(&agent, "", "", |subject| {
            subject.report(&seen, &decision, &history, &guardian.policy)
        });
        (report.notices.iter()).any(|notice| matches!(notice, Notice::Closed { key: OUTAGE, .. }))
    };
    let hung = Condition::Hung {
        stalled: TimeDelta::hours(1),
        preparation: false,
    };
    assert!(!is_over(hung, Remedy::Kickstart, None));
    assert!(!is_over(Condition::Starting, Remedy::Nothing, None));
    assert!(!is_over(Condition::Silent(1), Remedy::Nothing, None));
    let (short, long) = (TimeDelta::seconds(60), TimeDelta::seconds(120));
    assert!(!is_over(Condition::Answering, Remedy::Nothing, Some(short)));
    assert!(is_over(Condition::Answering, Remedy::Nothing, Some(long)));
    assert!(is_over(Condition::Busy, Remedy::Nothing, Some(long)));
}

#[test]
fn failed_prefix_check_opens_a_critical_condition_until_the_page_reports_none() {
    let folder = tempfile::tempdir().unwrap();
    let guardian = guardian(folder.path());
    let notice = |answer: ServerAnswer, reasons: &[(&str, &str)]| {
        let seen = Observation {
            now: Utc::now(),
            answer,
            failed_prefix_checks: reasons
                .iter()
                .map(|(model, reason)| FailedPrefixCheck {
                    model: (*model).to_owned(),
                    reason: (*reason).to_owned(),
                })
                .collect(),
            models_without_server: Vec::new(),
            agent: ActiveAgent::Loaded { pid: None, runs: 1 },
            deployment: None,
            misses: 0,
        };
        let mut history = ServerHistory::default();
        let decision = decide(&seen, &mut history, &guardian.policy);
        let agent = "server".parse().unwrap();
        let report = guardian.describe(&agent, "", "", |subject| {
            subject.report(&seen, &decision, &history, &guardian.policy)
        });
        assert_eq!(decision.remedy, Remedy::Nothing);
        report.notices.into_iter().find(|notice| match notice {
            Notice::Open { key, .. } | Notice::Closed { key, .. } => *key == "prefix-check",
            Notice::Event { .. } => false,
        })
    };
    let page = || ServerAnswer::Health(Vec::new());
    let reasons = [("council", "logits differ at token 12"), ("small", "x")];
    let Some(Notice::Open { stage, text, .. }) = notice(page(), &reasons) else {
        panic!("nothing is open");
    };
    assert_eq!(text.severity, Severity::Critical);
    assert_eq!(stage, "council: logits differ at token 12; small: x");
    assert!(text.body.starts_with(&stage), "{}", text.body);
    assert!(
        text.next.contains("prefix_cache = \"off\""),
        "{}",
        text.next
    );
    assert!(matches!(notice(page(), &[]), Some(Notice::Closed { .. })));
    // A silent server, or a standby, has shown nothing.
    assert_eq!(notice(ServerAnswer::Alive, &[]), None);
    assert_eq!(notice(ServerAnswer::None("no answer".into()), &[]), None);
}

#[test]
fn model_that_no_server_has_opens_a_condition_and_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let guardian = guardian(folder.path());
    let notice = |gone: &[&str]| {
        let seen = Observation {
            now: Utc::now(),
            answer: ServerAnswer::Health(Vec::new()),
            failed_prefix_checks: Vec::new(),
            models_without_server: gone.iter().map(|&model| model.to_owned()).collect(),
            agent: ActiveAgent::Loaded { pid: None, runs: 1 },
            deployment: None,
            misses: 0,
        };
        let mut history = ServerHistory::default();
        let decision = decide(&seen, &mut history, &guardian.policy);
        let agent = "front".parse().unwrap();
        let report = guardian.describe(&agent, "http://127.0.0.1:1337", "", |subject| {
            subject.report(&seen, &decision, &history, &guardian.policy)
        });
        assert_eq!(decision.remedy, Remedy::Nothing);
        report.notices.into_iter().find(|notice| match notice {
            Notice::Open { key, .. } | Notice::Closed { key, .. } => *key == "upstreams",
            Notice::Event { .. } => false,
        })
    };
    let Some(Notice::Open { text, .. }) = notice(&["qwen (studio: it is loading)"]) else {
        panic!("nothing is open");
    };
    assert_eq!(text.severity, Severity::Critical);
    assert!(
        text.body.starts_with("qwen (studio: it is loading)"),
        "{}",
        text.body
    );
    assert!(matches!(notice(&[]), Some(Notice::Closed { .. })));
}
