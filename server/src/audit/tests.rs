use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use sanctum_engine::schedule::Usage;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::metrics::Metrics;
use crate::peer::{Identity, Peer};
use crate::route::{self, Route};

fn rotation() -> Rotation {
    Rotation {
        max_bytes: NonZeroU64::new(1 << 20).unwrap(),
        keep: 1,
    }
}

/// An audit log in a folder of its own.
struct Log {
    dir: TempDir,
    audit: Audit,
    writer: Writer,
}

impl Log {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let file = AuditFile {
            path: dir.path().join("audit.jsonl"),
            rotation: rotation(),
        };
        let (audit, writer) = Audit::start(file, Arc::new(Metrics::new())).unwrap();
        Self { dir, audit, writer }
    }

    fn entry(&self, account: &Account, path: &str) -> Entry {
        let route = Route {
            method: "POST",
            path: path.to_owned(),
        };
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            identity: Some(Identity::new("laptop", || true)),
        };
        let caller = Caller::new("mtls", Some(&peer));
        Entry::new(self.audit.clone(), account.clone(), route, caller)
    }

    /// All lines, once they are written.
    fn lines(self) -> Vec<Value> {
        self.writer.finish();
        let text = fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

const COST: Usage = Usage {
    prompt_tokens: 12,
    completion_tokens: 3,
};

#[test]
fn a_line_says_who_what_how_much_and_how_it_ended() {
    let log = Log::new();
    let account = Account::default();
    let mut entry = log.entry(&account, route::CHAT);
    let id = entry.id().to_owned();
    account.model("council");
    account.submitted(12);
    entry.answered(StatusCode::OK);
    account.finished("stop", COST);
    entry.sent();
    drop(entry);
    let mut lines = log.lines();
    assert_eq!(lines.len(), 1);
    let time = lines[0]["time"].take();
    let time = time.as_str().unwrap();
    assert!(
        chrono::DateTime::parse_from_rfc3339(time).is_ok() && time.ends_with('Z'),
        "{time}"
    );
    assert!(lines[0]["duration_ms"].take().is_u64());
    let expected = json!({
        "time": null, "request": id, "auth": "mtls", "who": "laptop", "peer": "192.0.2.7:40000",
        "method": "POST", "route": "/v1/chat/completions", "model": "council",
        "prompt_tokens": 12, "completion_tokens": 3, "duration_ms": null, "status": 200,
        "outcome": "finished", "reason": null, "finish_reason": "stop",
    });
    assert_eq!(lines[0], expected);
}

#[test]
fn every_end_has_its_outcome() {
    type End = fn(&mut Entry, &Account);
    let ends: [(&str, End); 9] = [
        ("client_gone", |_, _| {}),
        ("client_gone", |entry, account| {
            account.submitted(1);
            entry.answered(StatusCode::OK);
        }),
        ("client_gone", |entry, account| {
            entry.answered(StatusCode::OK);
            account.finished("stop", COST);
        }),
        ("cancelled", |entry, account| {
            entry.answered(StatusCode::OK);
            account.cancelled();
            entry.sent();
        }),
        ("cancelled", |entry, account| {
            account.cancelled();
            entry.answered(StatusCode::SERVICE_UNAVAILABLE);
        }),
        ("failed", |entry, account| {
            entry.answered(StatusCode::OK);
            account.failed();
            entry.sent();
        }),
        ("failed", |entry, _| {
            entry.answered(StatusCode::INTERNAL_SERVER_ERROR)
        }),
        ("refused", |entry, _| {
            entry.answered(StatusCode::BAD_REQUEST)
        }),
        ("refused", |entry, _| {
            entry.refused("token_wrong", StatusCode::UNAUTHORIZED)
        }),
    ];
    let log = Log::new();
    for (_, end) in &ends {
        let account = Account::default();
        let mut entry = log.entry(&account, route::CHAT);
        end(&mut entry, &account);
    }
    let lines = log.lines();
    let outcomes: Vec<&str> = lines
        .iter()
        .map(|line| line["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ends.map(|(outcome, _)| outcome));
    assert_eq!(lines[8]["reason"], "token_wrong");
    assert_eq!(
        (&lines[0]["status"], &lines[0]["model"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn what_was_generated_before_the_client_went_is_counted() {
    let log = Log::new();
    let account = Account::default();
    let entry = log.entry(&account, route::COMPLETIONS);
    account.submitted(7);
    account.token();
    account.token();
    drop(entry);
    let lines = log.lines();
    assert_eq!(lines[0]["prompt_tokens"], 7);
    assert_eq!(lines[0]["completion_tokens"], 2);
}

#[test]
fn pages_for_operators_are_written_down_only_when_refused() {
    let log = Log::new();
    for path in [route::HEALTH, route::METRICS, "/v1/models", "none"] {
        log.entry(&Account::default(), path)
            .answered(StatusCode::OK);
        log.entry(&Account::default(), path)
            .refused("token_missing", StatusCode::UNAUTHORIZED);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line["outcome"] == "refused"));
}

#[test]
fn audit_log_that_is_no_regular_file_fails_at_start() {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    for (path, kind) in [
        (fifo.as_path(), "a FIFO"),
        (dir.path(), "a folder"),
        (Path::new("/dev/full"), "a device"),
    ] {
        let file = AuditFile {
            path: path.to_owned(),
            rotation: rotation(),
        };
        let error = Audit::start(file, Arc::new(Metrics::new()));
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains(kind) && error.contains("--audit-log"),
            "{error}"
        );
    }
}

#[test]
fn who_sends_lines_never_waits_for_the_disk() {
    let metrics = Arc::new(Metrics::new());
    let (audit, _stuck) = writer::unwritten(metrics.clone());
    for _ in 0..5000 {
        audit.write(b"{}".to_vec());
    }
    assert!(metrics.audit_lost(0) > 3000);
}

proptest::proptest! {
    #[test]
    fn no_name_breaks_out_of_its_line(name in "(?s).{0,40}") {
        let log = Log::new();
        let account = Account::default();
        account.model(&name);
        drop(log.entry(&account, route::CHAT));
        let lines = log.lines();
        proptest::prop_assert_eq!(lines.len(), 1);
        proptest::prop_assert_eq!(lines[0]["model"].as_str(), Some(name.as_str()));
    }
}
