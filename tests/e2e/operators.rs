//! Health, metrics and logs, for operators.

use sanctum_tests::{Ended, Server, Signal};
use serde_json::{Value, json};

use crate::openai::{COUNT, ask, chat, stream};

#[tokio::test]
async fn health_shows_whether_the_engine_is_busy_and_its_progress() {
    let server = Server::start([""; 0]).await;
    let idle = server.http().get("/health").await;
    assert_eq!(idle.status, 200);
    let idle = idle.json();
    assert_eq!(
        (&idle["status"], &idle["phase"]),
        (&json!("ok"), &json!("ready"))
    );
    assert_eq!(
        (&idle["in_flight"], &idle["queued"]),
        (&json!(0), &json!(0))
    );

    let busy = server.stream_of(2000).await;
    server
        .health_shows("work", |health| health["in_flight"] == 1)
        .await;
    let progress = |health: &Value| health["progress"].as_u64().unwrap();
    let mut before = progress(&idle);
    for _ in 0..3 {
        let later = server.health_shows("progress", |health| progress(health) > before);
        before = progress(&later.await);
    }
    drop(busy);
    server
        .health_shows("rest", |health| health["in_flight"] == 0)
        .await;
}

#[tokio::test]
async fn metrics_count_requests_tokens_and_time() {
    let server = Server::start([""; 0]).await;
    let whole = chat(&server, ask(COUNT)).await.usage.unwrap();
    stream(&server, ask(COUNT)).await;
    server.stream_of(10).await.rest().await;
    server.http().get("/v1/nothing").await;

    let metrics = server.metrics().await;
    let model = ("model", Server::BUILT_IN);
    let requests = |route, status| {
        metrics.sum(
            "sanctum_http_requests_total",
            &[("route", route), ("status", status)],
        )
    };
    assert_eq!(requests("/v1/chat/completions", "200"), 2.0);
    assert_eq!(requests("/v1/completions", "200"), 1.0);
    assert_eq!(requests("none", "404"), 1.0);
    let ended = |outcome| metrics.sum("sanctum_generations_total", &[model, ("outcome", outcome)]);
    assert_eq!(
        (ended("stop"), ended("length"), ended("failed")),
        (2.0, 1.0, 0.0)
    );

    // As `usage` counts: the end-of-sequence token is not part of the answer.
    let generated = 2.0 * f64::from(whole.completion_tokens) + 10.0;
    assert_eq!(
        metrics.sum("sanctum_completion_tokens_total", &[model]),
        generated
    );
    let prompts = metrics.sum("sanctum_prompt_tokens_total", &[model]);
    assert!(prompts > 2.0 * f64::from(whole.prompt_tokens), "{prompts}");
    assert!(metrics.sum("sanctum_engine_passes_total", &[model]) > 0.0);

    let timed = |name: &str| metrics.sum(&format!("{name}_count"), &[model]);
    assert_eq!(timed("sanctum_time_to_first_token_seconds"), 3.0);
    assert_eq!(timed("sanctum_time_per_output_token_seconds"), 3.0);
    assert!(metrics.sum("sanctum_time_to_first_token_seconds_sum", &[model]) > 0.0);
    for name in [
        "sanctum_requests_queued",
        "sanctum_requests_in_flight",
        "sanctum_slots",
    ] {
        assert!(metrics.names().any(|is| is == name), "{name}");
    }
}

#[tokio::test]
async fn log_lines_are_json_unless_on_a_terminal() {
    let server = Server::start([""; 0]).await;
    chat(&server, ask(COUNT)).await;
    server.signal(Signal::TERM);
    let Ended { log, stdout, .. } = server.ended().await;
    assert!(log.len() >= 4, "{log:#?}");
    for line in &log {
        let fields: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(fields[field].is_string(), "{line}");
        }
    }
    // The banner is for terminals.
    assert_eq!(stdout, "");
}
