//! The guardian against a folder, and programs that stand in for servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use std::path::Path;

use sanctum_watch::OUTAGE;

use super::*;

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
    let setting = Setting {
        home: Home::new(folder.to_owned(), folder.to_owned()),
        watch: fleet.watch[&name].clone(),
        host: "mini".parse().unwrap(),
        config,
        name,
        fleet,
    };
    Guardian::new(&setting).unwrap()
}

/// A server was killed for this once every three minutes, and nothing was wrong with it.
#[tokio::test]
async fn who_cannot_look_calls_a_human_and_kills_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "secret").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let mut guardian = guardian(folder.path());
    let mut round = Round {
        now: Utc::now(),
        memory: serde_json::Value::Null,
    };
    for minute in 0..10 {
        round.now += TimeDelta::minutes(minute);
        let report = guardian.check(&mut round).await;
        assert_eq!(report.verdict.kind, Kind::Miss);
        assert_eq!(guardian.due, None, "{}", report.verdict.said);
        let [
            Notice::Holds {
                key: BLIND, note, ..
            },
        ] = &report.notices[..]
        else {
            panic!("{:?}", report.notices);
        };
        assert!(note.body.contains("chmod 600"), "{}", note.body);
    }
    // Nor does a record that nobody can read mean that the server is dead.
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/active.json"), "{").unwrap();
    let report = guardian.check(&mut round).await;
    assert!(matches!(
        report.notices[..],
        [Notice::Holds { key: BLIND, .. }]
    ));
}

fn memory(remembered: &Round) -> Memory {
    serde_json::from_value(remembered.memory.clone()).unwrap()
}

/// A program that answers `/health` so, and lists its models.
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
            // Where there is no answer the connection is closed.
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
        let client = guardian.watched.client().unwrap();
        assert_eq!(guardian.ask(&client).await, Answer::Alive, "{health:?}");
    }
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
    assert_eq!(guardian.deployment(&agent), None);
    let path = folder.path().join("state/receipt.json");
    receipt("2026-11-30T10:00:00Z").write(&path).unwrap();
    let (first, _) = guardian.deployment(&agent).unwrap();
    // The same again, as by an install that finds nothing to do.
    receipt("2026-11-30T10:00:00Z").write(&path).unwrap();
    let (second, installed) = guardian.deployment(&agent).unwrap();
    assert_ne!(first, second);
    assert_eq!(installed.to_rfc3339(), "2026-11-30T10:00:00+00:00");

    let now = Utc::now();
    let mut round = Round {
        now,
        memory: json!({ "restarts": [now, now], "spent": now, "deployment": first }),
    };
    fs::write(folder.path().join("token"), "secret").unwrap();
    fs::set_permissions(
        folder.path().join("token"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    guardian.check(&mut round).await;
    let memory = memory(&round);
    assert_eq!((memory.spent, memory.restarts.len()), (None, 0));
    assert_eq!(memory.deployment.as_deref(), Some(&*second));
}

#[tokio::test]
async fn kernel_panic_is_reported_though_the_server_cannot_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut guardian = guardian(folder.path());
    let reports = folder.path().join("reports");
    fs::create_dir(&reports).unwrap();
    guardian.panic_reports = Some(reports.clone());
    let mut round = Round {
        now: Utc::now(),
        memory: serde_json::Value::Null,
    };
    let mut told = async || {
        let report = guardian.check(&mut round).await;
        let events = report
            .notices
            .into_iter()
            .filter_map(|notice| match notice {
                Notice::Event { key, note } => Some((key, note.body)),
                _ => None,
            });
        events.collect::<Vec<_>>()
    };
    assert_eq!(told().await, []);
    fs::write(reports.join("a.panic"), "panic(cpu 0)").unwrap();
    assert_eq!(
        told().await,
        [("panic", "a.panic: panic(cpu 0)".to_owned())]
    );
    assert_eq!(told().await, []);
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
    // In place of a log: an error of its own, and no reason not to rotate the others.
    fs::create_dir(log("guardian.launchd.log")).unwrap();
    let mut round = Round {
        now: Utc::now(),
        memory: serde_json::Value::Null,
    };
    assert_eq!(guardian.act(&mut round).await, []);
    let size = |name: &str| fs::metadata(log(name)).unwrap().len();
    for name in ["other.log", "server.launchd.log"] {
        assert_eq!((size(name), size(&format!("{name}.1"))), (0, 1_200_000));
    }
    assert_eq!(size("server.log"), 1_200_000, "the server rotates its own");
    assert_eq!(guardian.unrotated, [log("guardian.launchd.log")].into());
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
async fn check_that_is_dropped_at_its_limit_forgets_nothing_and_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut guardian, _listener) = guardian_of_silence(folder.path());
    let now = Utc::now();
    let before = json!({ "restarts": [now], "spent": now, "panics": ["a.panic"] });
    let mut round = Round {
        now,
        memory: before.clone(),
    };
    let limit = Duration::from_millis(50);
    let checked = tokio::time::timeout(limit, guardian.check(&mut round)).await;
    assert!(checked.is_err());
    assert_eq!((round.memory, &guardian.due), (before, &None));
    let report = guardian.timed_out("the check did not come to its end in 80 s".to_owned());
    let [
        Notice::Holds {
            key: BLIND, note, ..
        },
    ] = &report.notices[..]
    else {
        panic!("{:?}", report.notices);
    };
    assert_eq!(note.severity, Severity::Critical);
    assert!(note.body.starts_with("the check did not come to its end"));
}

#[tokio::test]
async fn restart_that_was_interrupted_is_reported_in_the_next_round_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut guardian = guardian(folder.path());
    guardian.watched.endpoint.credentials = sanctum_client::Credentials::None;
    let due = Due {
        action: Action::Kickstart,
        agent: "server".parse().unwrap(),
        why: "server does not move".to_owned(),
        last_error: String::new(),
    };
    let mut round = Round {
        now: Utc::now(),
        memory: json!({ "started": Utc::now(), "due": due }),
    };
    let report = guardian.check(&mut round).await;
    let Notice::Holds {
        key: OUTAGE, note, ..
    } = &report.notices[0]
    else {
        panic!("{:?}", report.notices);
    };
    assert_eq!(note.title, "server on mini was probably restarted");
    let said = "server does not move. The guardian was interrupted before `launchctl kickstart -k ";
    assert!(note.body.starts_with(said), "{}", note.body);
    // That of this round, if there is one, is another one.
    assert_eq!(round.memory["due"], json!(guardian.due));
}

#[tokio::test]
async fn restart_that_is_due_is_remembered_until_its_outcome_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut guardian = guardian(folder.path());
    let due = Due {
        // There is no such job, and no launchctl where this is tested.
        action: Action::Kickstart,
        agent: "no-such-agent".parse().unwrap(),
        why: "it does not move".to_owned(),
        last_error: String::new(),
    };
    guardian.due = Some(due.clone());
    let mut round = Round {
        now: Utc::now(),
        memory: json!({ "misses": 1, "due": due }),
    };
    let notices = guardian.act(&mut round).await;
    assert!(matches!(notices[..], [Notice::Holds { key: OUTAGE, .. }]));
    assert_eq!(round.memory, json!({ "misses": 1 }));
}

#[test]
fn condition_of_an_older_version_is_over_when_the_server_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let guardian = guardian(folder.path());
    let now = Utc::now();
    let closed = |healthy: TimeDelta| {
        let memory = Memory {
            healthy_since: Some(now - healthy),
            ..Memory::default()
        };
        let seen = Seen {
            now,
            answer: Answer::Alive,
            agent: AgentSeen::Loaded { pid: None, runs: 1 },
            deployment: None,
        };
        let agent = "server".parse().unwrap();
        let report = guardian.describe(&agent, "", |subject| {
            let (condition, action) = (Condition::Answering, Action::Leave);
            subject.report(&seen, &condition, action, &memory, &guardian.patience)
        });
        ["crash-loop", "disabled"].map(|old| {
            (report.notices.iter())
                .any(|notice| matches!(notice, Notice::Over { key, .. } if *key == old))
        })
    };
    assert_eq!(closed(TimeDelta::seconds(60)), [false; 2]);
    assert_eq!(closed(TimeDelta::seconds(120)), [true; 2]);
}

#[test]
fn outage_is_over_when_the_server_stays_well_and_not_when_its_next_restart_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let guardian = guardian(folder.path());
    let now = Utc::now();
    let seen = Seen {
        now,
        answer: Answer::Alive,
        agent: AgentSeen::Loaded { pid: None, runs: 9 },
        deployment: None,
    };
    let is_over = |condition: Condition, action: Action, healthy: Option<TimeDelta>| {
        let memory = Memory {
            healthy_since: healthy.map(|lasted| now - lasted),
            ..Memory::default()
        };
        let agent = "server".parse().unwrap();
        let report = guardian.describe(&agent, "", |subject| {
            subject.report(&seen, &condition, action, &memory, &guardian.patience)
        });
        (report.notices.iter()).any(|notice| matches!(notice, Notice::Over { key: OUTAGE, .. }))
    };
    // Its restarts of the last hour are no longer all of the last hour.
    let hung = Condition::Hung(TimeDelta::hours(1));
    assert!(!is_over(hung, Action::Kickstart, None));
    assert!(!is_over(Condition::Starting, Action::Leave, None));
    assert!(!is_over(Condition::Silent(1), Action::Leave, None));
    let (short, long) = (TimeDelta::seconds(60), TimeDelta::seconds(120));
    assert!(!is_over(Condition::Answering, Action::Leave, Some(short)));
    assert!(is_over(Condition::Answering, Action::Leave, Some(long)));
    assert!(is_over(Condition::Busy, Action::Leave, Some(long)));
}
