//! Constraints that cannot continue in the middle of an answer.

use sanctum_engine::schedule::Event;
use sanctum_grammar::GrammarError;
use serde_json::{Value, json};

use super::fixture::{TestServer, token};

/// The answer to a request whose constraint is too complex behind its first token.
async fn answer(route: &str, body: &Value, stream: bool) -> (u16, String) {
    let server = TestServer::new();
    let mut body = body.clone();
    body["stream"] = stream.into();
    let (answer, ()) = tokio::join!(server.post(route, body), async {
        let job = server.job().await;
        let path = job.request.constraint.as_ref().unwrap().path().to_owned();
        let reason = "it takes longer than 500 ms a token".to_owned();
        job.events.try_send(token("{")).unwrap();
        let error = GrammarError::TooComplex { path, reason };
        job.events.try_send(Event::Refused(error)).unwrap();
    });
    (answer.status.as_u16(), answer.text)
}

#[tokio::test]
async fn constraint_too_complex_in_mid_answer_is_named_by_the_field_of_the_request() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let user = json!([{ "role": "user", "content": "hi" }]);
    let named = json!({ "name": "x", "schema": schema });
    let flat = json!({ "type": "json_schema", "name": "x", "schema": schema });
    let tool = json!({ "type": "function", "name": "f", "strict": true, "parameters": schema });
    let search = json!({ "type": "web_search_20250305", "name": "web_search" });
    let client_tool = json!({ "name": "f", "strict": true, "input_schema": schema });
    for (route, body, field) in [
        (
            "/v1/chat/completions",
            json!({
                "messages": user,
                "response_format": { "type": "json_schema", "json_schema": named },
            }),
            "response_format.json_schema.schema",
        ),
        (
            "/v1/responses",
            json!({ "input": "hi", "text": { "format": flat } }),
            "text.format.schema",
        ),
        (
            "/v1/responses",
            json!({ "input": "hi", "text": { "format": { "type": "json_object" } } }),
            "text.format",
        ),
        (
            "/v1/responses",
            json!({ "input": "hi", "tools": [{ "type": "web_search" }, tool] }),
            "tools[1].parameters",
        ),
        (
            "/v1/messages",
            json!({
                "messages": user, "max_tokens": 5,
                "output_config": { "format": { "type": "json_schema", "schema": schema } },
            }),
            "output_config.format.schema",
        ),
        (
            "/v1/messages",
            json!({ "messages": user, "max_tokens": 5, "tools": [search, client_tool] }),
            "tools[1].input_schema",
        ),
    ] {
        let message = format!("`{field}` is too complex");
        let (status, text) = answer(route, &body, false).await;
        assert_eq!(status, 400, "{route} {body}: {text}");
        assert!(text.contains(&message), "{route} {body}: {text}");
        if route != "/v1/messages" {
            let error: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(error["error"]["param"], field);
            assert_eq!(error["error"]["code"], "unsupported_constraint");
        }
        let (status, text) = answer(route, &body, true).await;
        assert_eq!(status, 200, "{route} {body}: {text}");
        assert!(text.contains(&message), "{route} {body}: {text}");
    }
}
