//! The fields of the published APIs: docs/api.md has each in one of its lists, and the server treats it so.

use std::collections::{BTreeMap, BTreeSet};

use sanctum_engine::schedule::FinishReason;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::fixture::{TestResponse, TestServer, finished, post};

/// Made by tests/clients/request_fields.py from the published packages.
const PUBLISHED: &str = include_str!("request_fields.json");
const DOCS: &str = include_str!("../../../../docs/api.md");

/// How the server treats a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Treatment {
    Honoured,
    Inert,
    Unsupported,
}

impl Treatment {
    const ALL: [(Self, &str); 3] = [
        (Self::Honoured, "| Honoured |"),
        (Self::Inert, "| Inert |"),
        (Self::Unsupported, "| Unsupported |"),
    ];
}

/// The published fields of each route, with their types.
fn published() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: Map<String, Value> = serde_json::from_str(PUBLISHED).unwrap();
    all.remove("sources").unwrap();
    serde_json::from_value(all.into()).unwrap()
}

/// The lists of docs/api.md for a route.
fn documented(route: &str) -> Vec<(String, Treatment)> {
    let head = format!("### Fields of `POST {route}`\n");
    let (_, section) = DOCS
        .split_once(&head)
        .unwrap_or_else(|| panic!("no {head}"));
    let section = section.split("\n#").next().unwrap();
    let of = |(treatment, row): (Treatment, &str)| {
        let row = section.lines().find_map(|line| line.strip_prefix(row));
        let names = row.unwrap_or_default().split('`').skip(1).step_by(2);
        let named = names.map(move |name| (name.to_owned(), treatment));
        named.collect::<Vec<_>>()
    };
    Treatment::ALL.into_iter().flat_map(of).collect()
}

/// What a request of the route needs.
fn base(route: &str) -> Value {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    match route {
        "/v1/completions" => json!({ "prompt": "hi" }),
        "/v1/responses" => json!({ "input": "hi" }),
        "/v1/messages" => json!({ "messages": messages, "max_tokens": 5 }),
        _ => json!({ "messages": messages }),
    }
}

/// A valid value of a field, with what it needs beside it; for an unsupported field, one that asks for something.
fn value(route: &str, field: &str) -> Value {
    let function = json!({ "name": "f", "parameters": { "type": "object" } });
    let is_completion = route == "/v1/completions";
    let is_message = route.starts_with("/v1/messages");
    match field {
        "model" => json!({ "model": "council" }),
        "messages" | "prompt" | "input" if base(route).get(field).is_some() => base(route),
        "n" => json!({ "n": 2 }),
        "frequency_penalty" | "presence_penalty" | "temperature" | "top_p" | "min_p"
        | "repetition_penalty" | "repeat_penalty" => json!({ field: 0.5 }),
        "max_tokens"
        | "max_completion_tokens"
        | "max_output_tokens"
        | "n_predict"
        | "num_predict"
        | "max_new_tokens"
        | "top_k"
        | "repetition_context_size"
        | "max_tool_calls"
        | "seed" => json!({ field: 3 }),
        "logit_bias" => json!({ "logit_bias": { "5": 1 } }),
        "logprobs" if is_completion => json!({ "logprobs": 1 }),
        "top_logprobs" if route == "/v1/chat/completions" => {
            json!({ "logprobs": true, "top_logprobs": 2 })
        }
        "top_logprobs" => json!({ "top_logprobs": 2 }),
        "logprobs"
        | "parallel_tool_calls"
        | "store"
        | "stream"
        | "echo"
        | "enable_thinking"
        | "ignore_eos"
        | "cache_prompt"
        | "include_reasoning"
        | "add_generation_prompt"
        | "background" => json!({ field: true }),
        "continue_final_message" => json!({ field: false }),
        "reasoning_effort" => json!({ "reasoning_effort": "low" }),
        "reasoning" => json!({ "reasoning": { "effort": "low" } }),
        "response_format" => json!({ "response_format": { "type": "text" } }),
        "stop" | "instructions" | "system" => json!({ field: "x" }),
        "stop_sequences" => json!({ field: ["x"] }),
        "stream_options" if route == "/v1/responses" => {
            json!({ "stream": true, "stream_options": { "include_obfuscation": true } })
        }
        "stream_options" => json!({ "stream": true, "stream_options": { "include_usage": true } }),
        "tools" if route == "/v1/responses" => {
            json!({ "tools": [{ "type": "function", "name": "f", "parameters": null }] })
        }
        "tools" if is_message => {
            json!({ "tools": [{ "name": "f", "input_schema": { "type": "object" } }] })
        }
        "tools" => json!({ "tools": [{ "type": "function", "function": function }] }),
        "tool_choice" if is_message => json!({ "tool_choice": { "type": "auto" } }),
        "tool_choice" => json!({ "tool_choice": "auto" }),
        "guided_json" | "json_schema" => json!({ field: { "type": "object" } }),
        "guided_regex" => json!({ field: "a+" }),
        "guided_choice" => json!({ field: ["a", "b"] }),
        "guided_grammar" => json!({ field: "start: \"a\"" }),
        "chat_template_kwargs" => json!({ field: { "enable_thinking": true } }),
        "text" => json!({ "text": { "format": { "type": "text" }, "verbosity": "low" } }),
        "include" => json!({ "include": ["reasoning.encrypted_content"] }),
        "truncation" => json!({ "truncation": "auto" }),
        "thinking" => json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }),
        "output_config" => json!({ "output_config": { "effort": "low" } }),
        "thread" => json!({ "thread": { "type": "create" } }),
        "best_of" => json!({ "best_of": 2 }),
        "min_tokens" => json!({ "min_tokens": 5 }),
        "stop_token_ids" => json!({ "stop_token_ids": [1] }),
        "modalities" => json!({ "modalities": ["text", "audio"] }),
        "functions" => json!({ "functions": [function] }),
        "mcp_servers" | "context_management" if !is_message => json!({ field: [] }),
        "betas" | "mcp_servers" => json!({ field: ["x"] }),
        _ => {
            let types = published();
            let types = types.get(route).and_then(|fields| fields.get(field));
            match types.map_or("string", String::as_str) {
                types if types.contains("string") => json!({ field: "x" }),
                types if types.contains("object") => json!({ field: { "type": "x" } }),
                types if types.contains("boolean") => json!({ field: true }),
                _ => json!({ field: [] }),
            }
        }
    }
}

/// Sends a request; the engine ends every generation at once.
async fn send(server: &TestServer, route: &str, body: Value) -> TestResponse {
    let answer = server.router.clone().oneshot(post(route, body));
    let answer = async { TestResponse::read(answer.await.unwrap()).await };
    let engine = async {
        loop {
            while let Ok(Some(job)) = server.inbox.jobs.try_recv() {
                let _ = job.events.try_send(finished(FinishReason::Stop, "a"));
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = answer => answer,
        () = engine => unreachable!("it runs for ever"),
    }
}

#[test]
fn every_published_field_is_in_one_list_of_the_docs() {
    for (route, fields) in published() {
        let lists = documented(&route);
        let mut seen = BTreeSet::new();
        for (name, _) in &lists {
            assert!(
                seen.insert(name.as_str()),
                "{route}: `{name}` is listed twice"
            );
        }
        let missing: Vec<&String> = fields
            .keys()
            .filter(|name| !seen.contains(name.as_str()))
            .collect();
        assert!(
            missing.is_empty(),
            "{route}: docs/api.md does not list {missing:?}"
        );
    }
}

#[test]
fn values_of_the_test_have_the_published_types() {
    for (route, fields) in published() {
        for (field, types) in fields {
            let value = &value(&route, &field)[&field];
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            // `object` stands for every type that has a name of its own.
            assert!(
                types.contains("object") || types.contains(kind),
                "{route}: {field} is {types}, and the test has {value}"
            );
        }
    }
}

#[tokio::test]
async fn documented_field_is_treated_as_its_list_says() {
    for route in published().keys() {
        for (field, treatment) in documented(route) {
            let server = TestServer::new();
            let mut body = base(route);
            let extra = match field.as_str() {
                "previous_response_id" => {
                    let first = send(&server, route, base(route)).await.json();
                    json!({ "previous_response_id": first["id"] })
                }
                field => value(route, field),
            };
            body.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            let answer = send(&server, route, body.clone()).await;
            let text = &answer.text;
            match treatment {
                Treatment::Honoured | Treatment::Inert => {
                    assert_eq!(answer.status, 200, "{route}: {body}: {text}");
                    let unknown = answer.headers.get("sanctum-ignored-fields");
                    let named = unknown.is_some_and(|names| {
                        names
                            .to_str()
                            .unwrap()
                            .split(", ")
                            .any(|name| name == field)
                    });
                    let may_be_named = treatment == Treatment::Inert;
                    assert!(!named || may_be_named, "{route}: {field} is unknown");
                }
                Treatment::Unsupported => {
                    assert_eq!(answer.status, 400, "{route}: {body}: {text}");
                    let message = answer.json()["error"]["message"].to_string();
                    assert!(
                        message.contains(&format!("`{field}` is not supported")),
                        "{message}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn field_that_looks_like_one_of_its_protocol_is_refused_with_the_suggestion() {
    for (route, wrong, right) in [
        ("/v1/chat/completions", "temprature", "temperature"),
        ("/v1/completions", "max_token", "max_tokens"),
        ("/v1/responses", "max_output_token", "max_output_tokens"),
        ("/v1/responses", "instruction", "instructions"),
        ("/v1/messages", "stop_sequence", "stop_sequences"),
        ("/v1/messages/count_tokens", "sytem", "system"),
    ] {
        let server = TestServer::new();
        let mut body = base(route);
        body[wrong] = json!("x");
        let answer = send(&server, route, body).await;
        let expected = format!("unknown field `{wrong}`; did you mean `{right}`?");
        assert_eq!(answer.status, 400, "{route}: {}", answer.text);
        assert_eq!(
            answer.json()["error"]["message"],
            expected.as_str(),
            "{route}"
        );
    }
}

#[tokio::test]
async fn unknown_field_is_named_and_counted_or_refused_where_fields_are_strict() {
    for route in published().keys() {
        let mut body = base(route);
        body["x_trace"] = json!("1");
        let server = TestServer::new();
        let answer = send(&server, route, body.clone()).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
        if !route.ends_with("count_tokens") {
            assert_eq!(
                answer.headers["sanctum-ignored-fields"], "x_trace",
                "{route}"
            );
            let page = server.get("/metrics").await.text;
            assert!(
                page.contains("\nsanctum_ignored_fields_total 1\n"),
                "{route}"
            );
        }
        let strict = TestServer::strict();
        let answer = send(&strict, route, body).await;
        assert_eq!(answer.status, 400, "{route}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(
            message.contains("`x_trace`") && message.contains("--strict-fields"),
            "{route}: {message}"
        );
        let answer = send(&strict, route, base(route)).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
    }
}

/// Fields of other servers that look like fields of these APIs: vLLM's, SGLang's, llama.cpp's, Ollama's, Mistral's, Groq's,
/// Cerebras's, OpenRouter's, text-generation-webui's.
const OF_OTHER_SERVERS: [&str; 23] = [
    "context",
    "encoder_repetition_penalty",
    "images",
    "min_completion_tokens",
    "min_new_tokens",
    "mode",
    "parse_tool_calls",
    "presence_penalty_range",
    "prompt_cache_isolation_key",
    "prompt_logprobs",
    "reasoning_budget",
    "reasoning_format",
    "reasoning_history",
    "repetition_decay",
    "repetition_penalty_range",
    "response_fields",
    "return_token_ids",
    "return_tokens",
    "safe_prompt",
    "skip_special_tokens",
    "temperature_last",
    "top_a",
    "top_n_tokens",
];

#[tokio::test]
async fn field_of_another_server_is_accepted_and_named() {
    for route in published().keys() {
        for field in OF_OTHER_SERVERS {
            let server = TestServer::new();
            let mut body = base(route);
            body[field] = json!(3);
            let answer = send(&server, route, body).await;
            assert_eq!(answer.status, 200, "{route}: {field}: {}", answer.text);
            if !route.ends_with("count_tokens") {
                assert_eq!(answer.headers["sanctum-ignored-fields"], field, "{route}");
            }
        }
    }
}

#[tokio::test]
async fn null_is_absence_whatever_the_name() {
    for route in published().keys() {
        let server = TestServer::strict();
        let mut body = base(route);
        for name in ["temprature", "top_a", "x_trace", "modle"] {
            body[name] = Value::Null;
        }
        let answer = send(&server, route, body).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
        assert!(
            !answer.headers.contains_key("sanctum-ignored-fields"),
            "{route}"
        );
    }
    let server = TestServer::new();
    for extra in [
        json!({ "chat_template_kwargs": { "messages": null, "enable_thinking": null, "x": null } }),
        json!({ "logit_bias": { "5": null } }),
        json!({ "stream": true, "stream_options": { "include_usag": null } }),
    ] {
        let mut body = base("/v1/chat/completions");
        let shown = extra.to_string();
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let answer = send(&server, "/v1/chat/completions", body).await;
        assert_eq!(answer.status, 200, "{shown}: {}", answer.text);
        assert!(
            !answer.headers.contains_key("sanctum-ignored-fields"),
            "{shown}"
        );
    }
    let text = json!({ "content": "hi", "messages": null });
    assert_eq!(server.post("/tokenize", text).await.status, 200);
}

#[tokio::test]
async fn unknown_fields_of_messages_and_calls_are_ignored_whatever_their_names() {
    let server = TestServer::new();
    let call = json!({
        "id": "c", "type": "function", "index": 0, "idx": 1,
        "function": { "name": "f", "arguments": "{}", "argument": "x", "nam": null },
    });
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": "hi", "tex": 1, "types": null }], "names": "x", "tool_call": 1 },
        { "role": "assistant", "content": null, "tool_calls": [call], "tool_call_id": null, "contents": 1, "reasonin": "x" },
        { "role": "tool", "tool_call_id": "c", "content": "x", "tool_calls": null, "tool_call_ids": "y" },
        { "role": "system", "content": "x", "reasoning": null, "refusals": null },
        { "role": "user", "content": "bye", "tool_calls": [] },
    ]);
    let answer = send(
        &server,
        "/v1/chat/completions",
        json!({ "messages": messages }),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn body_of_thousands_of_unknown_fields_is_refused_with_their_number() {
    for route in published().keys() {
        let server = TestServer::new();
        let mut body = base(route);
        for number in 0..300 {
            body[format!("x_{number}")] = json!(1);
        }
        let answer = send(&server, route, body).await;
        assert_eq!(answer.status, 400, "{route}: {}", answer.text);
        assert!(
            answer.text.contains("300 fields"),
            "{route}: {}",
            answer.text
        );
    }
    let server = TestServer::new();
    let names = (0..300).map(|number| (format!("x_{number}"), json!(1)));
    let variables: Map<String, Value> = names.collect();
    let mut body = base("/v1/chat/completions");
    body["chat_template_kwargs"] = variables.into();
    let answer = send(&server, "/v1/chat/completions", body).await;
    assert_eq!(answer.error().0, 400);
    assert!(
        answer.text.contains("chat_template_kwargs"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn limit_of_tokens_has_the_names_of_other_servers() {
    for name in [
        "max_tokens",
        "n_predict",
        "num_predict",
        "max_new_tokens",
        "max_completion_tokens",
    ] {
        for route in ["/v1/chat/completions", "/v1/completions"] {
            let server = TestServer::new();
            let mut body = base(route);
            body[name] = json!(3);
            let events = vec![finished(FinishReason::Length, "a")];
            let (job, answer) = server.ask(route, body, events).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text);
            assert_eq!(job.request.max_tokens, 3, "{route}: {name}");
        }
    }
}
