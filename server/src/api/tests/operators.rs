use sanctum_engine::schedule::EnginePhase;
use sanctum_engine::schedule::FinishReason;
use serde_json::{Value, json};

use super::fixture::{TestResponse, TestServer, finished, loading, local, token};
use crate::client_key::ClientKey;
use crate::prepare::Owner;

#[tokio::test]
async fn models_are_listed_with_their_context() {
    let server = TestServer::new();
    let card = json!({
        "id": "council", "aliases": [], "object": "model", "created": 1_700_000_000, "owned_by": "sanctum", "max_model_len": 1000,
        "system_fingerprint": "fp_test", "adapter": null,
    });
    assert_eq!(
        server.get("/v1/models").await.json(),
        json!({ "object": "list", "data": [card] })
    );
    assert_eq!(server.get("/v1/models/council").await.json(), card);
}

#[tokio::test]
async fn health_shows_the_heartbeat() {
    let server = TestServer::new();
    let heartbeat = server.app.models.pick(None).unwrap().heartbeat().clone();
    heartbeat.set_load(2, 3);
    let before = server.get("/health").await;
    assert_eq!(before.status, 200);
    let before = before.json();
    assert_eq!(before["status"], "ok");
    assert_eq!(before["phase"], "ready");
    assert_eq!(
        (&before["in_flight"], &before["queued"]),
        (&json!(2), &json!(3))
    );
    heartbeat.beat();
    let after = server.get("/health").await.json();
    assert_eq!(
        after["progress"].as_u64(),
        before["progress"].as_u64().map(|n| n + 1)
    );
    assert!(after["progress_age_seconds"].as_f64().unwrap() < 1.0);
    assert_eq!(after.get("models"), None);

    heartbeat.enter(EnginePhase::Draining);
    let draining = server.get("/health").await;
    assert_eq!(
        (draining.status.as_u16(), &draining.json()["status"]),
        (503, &json!("draining"))
    );
}

#[tokio::test]
async fn loading_server_reports_it_and_lists_no_model() {
    let router = local(&loading());
    let get = |path: &str| {
        let request = axum::http::Request::get(path)
            .body(axum::body::Body::empty())
            .unwrap();
        let response = tower::ServiceExt::oneshot(router.clone(), request);
        async { TestResponse::read(response.await.unwrap()).await }
    };
    let health = get("/health").await;
    assert_eq!(
        (health.status.as_u16(), &health.json()["status"]),
        (503, &json!("loading"))
    );
    assert_eq!(get("/v1/models").await.json()["data"], json!([]));
    assert_eq!(
        get("/v1/models/council").await.error(),
        (503, Value::Null, json!("model_loading"))
    );
}

#[tokio::test]
async fn metrics_count_requests_and_tokens() {
    let server = TestServer::new();
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    let events = vec![token("a"), token("b"), finished(FinishReason::Stop, "")];
    server.ask("/v1/chat/completions", body, events).await;
    server.get("/nowhere").await;
    let engine = server.app.models.engines().next().unwrap();
    let stats = engine.stats();
    stats
        .prompt_tokens
        .store(11, std::sync::atomic::Ordering::Relaxed);

    let page = server.get("/metrics").await;
    assert!(
        page.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    for line in [
        r#"sanctum_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1"#,
        r#"sanctum_http_requests_total{method="GET",route="none",status="404"} 1"#,
        r#"sanctum_generations_total{model="council",outcome="stop"} 1"#,
        r#"sanctum_time_to_first_token_seconds_count{model="council"} 1"#,
        r#"sanctum_time_per_output_token_seconds_count{model="council"} 1"#,
        r#"sanctum_prompt_tokens_total{model="council"} 11"#,
        r#"sanctum_slots{model="council"} 1"#,
        r#"sanctum_sequence_bytes_per_token{model="council",kv_cache="plain"} 0"#,
        // The script answers requests without ever giving them a slot.
        r#"sanctum_requests_queued{model="council"} 1"#,
    ] {
        assert!(
            page.text.lines().any(|have| have == line),
            "{line} is not in\n{}",
            page.text
        );
    }
}

#[tokio::test]
async fn metrics_show_what_is_being_prepared() {
    let server = TestServer::new();
    let value = |page: &str, name: &str| -> f64 {
        let line = page
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split_once(' ').unwrap().1.parse().unwrap()
    };
    let page = server.get("/metrics").await.text;
    assert_eq!(value(&page, "sanctum_preparing_requests"), 0.0);
    assert_eq!(value(&page, "sanctum_preparing_oldest_seconds"), 0.0);
    let (finish, wait) = std::sync::mpsc::channel::<()>();
    let app = server.app.clone();
    let owner = Owner::of(ClientKey::Loopback, ([127, 0, 0, 1], 9).into());
    let work = tokio::spawn(async move {
        app.preparing
            .run(owner, 5, move |_| wait.recv().is_ok())
            .await
    });
    while server.app.preparing.read().requests == 0 {
        tokio::task::yield_now().await;
    }
    let page = server.get("/metrics").await.text;
    assert_eq!(value(&page, "sanctum_preparing_requests"), 1.0);
    assert_eq!(value(&page, "sanctum_preparing_body_bytes"), 5.0);
    assert!(value(&page, "sanctum_preparing_oldest_seconds") > 0.0);
    finish.send(()).unwrap();
    assert_eq!(work.await.unwrap(), Ok(true));
}
