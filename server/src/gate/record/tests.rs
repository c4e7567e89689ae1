use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use axum::http::StatusCode;
use sanctum_config::Rotation;
use sanctum_engine::schedule::Usage;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::audit::{AuditFile, AuditWriter};
use crate::peer::{Identity, Peer};
use crate::route;

/// An audit log in a folder of its own.
struct AuditFixture {
    dir: TempDir,
    audit: AuditLog,
    writer: AuditWriter,
}

impl AuditFixture {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let file = AuditFile {
            path: dir.path().join("audit.jsonl"),
            rotation: Rotation {
                max_bytes: NonZeroU64::new(1 << 20).unwrap(),
                keep: 1,
            },
        };
        let (audit, writer) = AuditLog::start(file, Arc::new(Metrics::new())).unwrap();
        Self { dir, audit, writer }
    }

    fn record(&self, path: &str) -> RequestRecord {
        let route = Route {
            method: "POST",
            path: path.to_owned(),
        };
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            identity: Some(Identity::new("laptop", || true)),
        };
        let metrics = Arc::new(Metrics::new());
        RequestRecord::new(
            route,
            AuthMethod::Mtls,
            Some(peer),
            self.audit.clone(),
            metrics,
            Arc::default(),
        )
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
    cached_tokens: 0,
};

#[test]
fn line_has_client_route_cost_and_outcome() {
    let log = AuditFixture::new();
    let mut record = log.record(route::CHAT);
    let generation = record.generation();
    let id = record.id().to_owned();
    generation.model("council");
    generation.submitted(12);
    record.responded(StatusCode::OK, None);
    generation.finished("stop", COST);
    record.complete();
    drop(record);
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
fn every_end_of_a_request_has_its_outcome() {
    type End = fn(&mut RequestRecord, &GenerationRecord);
    let ends: [(&str, End); 9] = [
        ("client_gone", |_, _| {}),
        ("client_gone", |record, generation| {
            generation.submitted(1);
            record.responded(StatusCode::OK, None);
        }),
        ("client_gone", |record, generation| {
            record.responded(StatusCode::OK, None);
            generation.finished("stop", COST);
        }),
        ("cancelled", |record, generation| {
            record.responded(StatusCode::OK, None);
            generation.cancelled();
            record.complete();
        }),
        ("cancelled", |record, generation| {
            generation.cancelled();
            record.responded(StatusCode::SERVICE_UNAVAILABLE, None);
        }),
        ("failed", |record, generation| {
            record.responded(StatusCode::OK, None);
            generation.failed();
            record.complete();
        }),
        ("failed", |record, _| {
            record.responded(StatusCode::INTERNAL_SERVER_ERROR, None)
        }),
        ("refused", |record, _| {
            record.responded(StatusCode::BAD_REQUEST, None)
        }),
        ("refused", |record, _| {
            let file = String::new();
            record.refused(&Refusal::TokenWrong { file });
            record.responded(StatusCode::UNAUTHORIZED, None);
        }),
    ];
    let log = AuditFixture::new();
    for (_, end) in &ends {
        let mut record = log.record(route::CHAT);
        let generation = record.generation();
        end(&mut record, &generation);
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
fn tokens_generated_before_the_client_disconnected_are_counted() {
    let log = AuditFixture::new();
    let record = log.record(route::COMPLETIONS);
    let generation = record.generation();
    generation.submitted(7);
    generation.token();
    generation.token();
    drop(record);
    let lines = log.lines();
    assert_eq!(lines[0]["prompt_tokens"], 7);
    assert_eq!(lines[0]["completion_tokens"], 2);
}

#[test]
fn tokens_that_an_upstream_reports_are_audited() {
    let log = AuditFixture::new();
    let mut record = log.record(route::CHAT);
    let generation = record.generation();
    generation.model("council");
    generation.served_by("studio");
    record.responded(StatusCode::OK, None);
    generation.reported(Some(7), None);
    generation.reported(Some(7), Some(3));
    record.complete();
    drop(record);
    let lines = log.lines();
    assert_eq!(lines[0]["served_by"], "studio");
    assert_eq!(lines[0]["prompt_tokens"], 7);
    assert_eq!(lines[0]["completion_tokens"], 3);
}

#[test]
fn pages_for_operators_are_audited_only_when_refused() {
    let log = AuditFixture::new();
    for path in [route::HEALTH, route::METRICS, "/v1/models", "none"] {
        log.record(path).responded(StatusCode::OK, None);
        let mut refused = log.record(path);
        let file = String::new();
        refused.refused(&Refusal::TokenMissing { file });
        refused.responded(StatusCode::UNAUTHORIZED, None);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line["outcome"] == "refused"));
}

proptest::proptest! {
    #[test]
    fn model_name_never_breaks_its_line(name in "(?s).{0,40}") {
        let log = AuditFixture::new();
        let record = log.record(route::CHAT);
        record.generation().model(&name);
        drop(record);
        let lines = log.lines();
        proptest::prop_assert_eq!(lines.len(), 1);
        proptest::prop_assert_eq!(lines[0]["model"].as_str(), Some(name.as_str()));
    }
}
