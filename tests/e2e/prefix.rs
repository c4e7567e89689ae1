//! Reused prefixes: what is reported of them, and which requests share them.

use sanctum_tests::{Server, Signal};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// A system prompt that is worth a snapshot.
fn system() -> String {
    format!(
        "You answer briefly. {}",
        "A lamp is not a candle. ".repeat(8)
    )
}

fn chat(messages: &[Value]) -> Value {
    json!({ "messages": messages, "temperature": 0, "max_tokens": 8 })
}

/// The first turn of a conversation.
fn first() -> Vec<Value> {
    vec![
        json!({ "role": "system", "content": system() }),
        json!({ "role": "user", "content": "What is 2+2?" }),
    ]
}

/// The second one, after an answer.
fn second(answer: &Value) -> Vec<Value> {
    let mut messages = first();
    messages.push(json!({ "role": "assistant", "content": answer }));
    messages.push(json!({ "role": "user", "content": "What is 3+4?" }));
    messages
}

async fn ask(server: &Server, path: &str, body: &Value) -> Value {
    let answer = server.http().post(path, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The tokens of the prompt, and those of them that were reused.
fn tokens(answer: &Value) -> (u64, u64) {
    let usage = &answer["usage"];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{usage}"));
    (
        number(&usage["prompt_tokens"]),
        number(&usage["prompt_tokens_details"]["cached_tokens"]),
    )
}

#[tokio::test]
async fn second_turn_of_a_chat_reuses_the_first_and_answers_the_same() {
    let server = Server::start(["--threads", "1"]).await;
    let answer = ask(&server, CHAT, &chat(&first())).await;
    assert_eq!(tokens(&answer).1, 0);
    let said = &answer["choices"][0]["message"]["content"];
    let warm = ask(&server, CHAT, &chat(&second(said))).await;
    let (prompt, reused) = tokens(&warm);
    assert!(reused > tokens(&answer).0 / 2 && reused < prompt, "{warm}");

    let mut declined = chat(&second(said));
    declined["cache_prompt"] = json!(false);
    let cold = ask(&server, CHAT, &declined).await;
    assert_eq!(tokens(&cold), (prompt, 0));
    assert_eq!(cold["choices"], warm["choices"]);

    let mut streamed = chat(&second(said));
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let chunks = server.http().stream(CHAT, &streamed).await.rest().await;
    let last = chunks.iter().rfind(|chunk| !chunk.is_done()).unwrap();
    assert!(tokens(&last.data).1 >= reused, "{}", last.data);

    let metrics = server.metrics().await;
    let value = |name: &str| metrics.sum(&format!("sanctum_prefix_cache_{name}"), &[]);
    assert_eq!(value("hits_total"), 2.0);
    assert!(value("hit_tokens_total") >= (2 * reused) as f64);
    assert!(value("bytes") > 0.0 && value("snapshots") > 0.0);
    assert_eq!((value("enabled"), value("differences_total")), (1.0, 0.0));
    let health = server.http().get("/health").await.json();
    assert_eq!(health["prefix_cache"], json!({ "status": "on" }));
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code, Some(0));
}

#[tokio::test]
async fn salt_separates_requests_that_begin_alike() {
    let server = Server::start(["--threads", "1"]).await;
    let salted = |salt: Option<&str>| {
        let mut body = chat(&first());
        body["cache_salt"] = json!(salt);
        body
    };
    for salt in [None, Some("a"), Some("b")] {
        for is_first in [true, false] {
            let answer = ask(&server, CHAT, &salted(salt)).await;
            assert_eq!(tokens(&answer).1 == 0, is_first, "{salt:?} {answer}");
        }
    }
    let answer = server.http().post(CHAT, &salted(Some(""))).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["param"], "cache_salt");
}

#[tokio::test]
async fn server_without_reuse_computes_every_prompt() {
    let server = Server::start(["--prefix-cache", "off"]).await;
    for _ in 0..3 {
        assert_eq!(tokens(&ask(&server, CHAT, &chat(&first())).await).1, 0);
    }
    let health = server.http().get("/health").await.json();
    assert_eq!(health["prefix_cache"], json!({ "status": "off" }));
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum("sanctum_prefix_cache_enabled", &[]), 0.0);
    assert_eq!(metrics.sum("sanctum_prefix_cache_bytes", &[]), 0.0);
}

/// Claude Code puts a line before its system prompt that changes with every conversation, in some versions with every
/// request.
#[tokio::test]
async fn messages_with_different_billing_headers_share_their_prefix() {
    let server = Server::start(["--threads", "1"]).await;
    let header =
        |number: u32| format!("x-anthropic-billing-header: cc_version=2.1.0; cch={number};");
    let blocks = |number| {
        json!([
            { "type": "text", "text": header(number) },
            { "type": "text", "text": system() },
        ])
    };
    let line = |number| json!(format!("{}\n\n{}", header(number), system()));
    let body = |system: Value| {
        json!({
            "system": system,
            "messages": [{ "role": "user", "content": "What is 2+2?" }],
            "max_tokens": 8,
            "temperature": 0,
        })
    };
    let usage = async |system: Value| {
        let answer = ask(&server, "/v1/messages", &body(system)).await;
        let usage = &answer["usage"];
        let number = |name: &str| usage[name].as_u64().unwrap_or_else(|| panic!("{usage}"));
        (number("input_tokens"), number("cache_read_input_tokens"))
    };
    let (prompt, reused) = usage(blocks(1)).await;
    assert_eq!(reused, 0);
    for other in [blocks(2), line(3), line(4)] {
        let (computed, reused) = usage(other.clone()).await;
        assert_eq!(computed + reused, prompt, "{other}");
        assert!(reused > prompt / 2, "{reused} of {prompt} tokens: {other}");
    }
    // What a user writes is text, whatever it looks like.
    let counted = async |text: String| {
        let mut body = body(json!(system()));
        body["messages"][0]["content"] = json!(text);
        let answer = ask(&server, "/v1/messages/count_tokens", &body).await;
        answer["input_tokens"].as_u64().unwrap()
    };
    let plain = counted("What is 2+2?".to_owned()).await;
    let quoted = counted(format!("{}\nWhat is 2+2?", header(5))).await;
    assert!(
        quoted > plain + 10,
        "{quoted} tokens, and {plain} without the line"
    );
}

#[tokio::test]
async fn responses_report_reused_tokens() {
    let server = Server::start(["--threads", "1"]).await;
    let body = |stream: bool| {
        json!({
            "instructions": system(),
            "input": "What is 2+2?",
            "temperature": 0,
            "max_output_tokens": 8,
            "stream": stream,
        })
    };
    let reused = |response: &Value| {
        let usage = &response["usage"];
        let details = &usage["input_tokens_details"];
        details["cached_tokens"]
            .as_u64()
            .unwrap_or_else(|| panic!("{response}"))
    };
    assert_eq!(
        reused(&ask(&server, "/v1/responses", &body(false)).await),
        0
    );
    let plain = reused(&ask(&server, "/v1/responses", &body(false)).await);
    assert!(plain > 20, "{plain}");
    let answer = server.http().post("/v1/responses", &body(true)).await;
    let last = answer
        .text
        .lines()
        .rfind(|line| line.starts_with("data: "))
        .unwrap();
    let last: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert!(reused(&last["response"]) >= plain, "{last}");
}

#[tokio::test]
async fn completions_report_reused_tokens() {
    let server = Server::start(["--threads", "1"]).await;
    let prompt: Vec<u32> = (0..200).map(|at| 40 + at * 7 % 300).collect();
    let body = json!({ "prompt": prompt, "temperature": 0, "max_tokens": 4, "ignore_eos": true });
    let first = ask(&server, "/v1/completions", &body).await;
    assert_eq!(tokens(&first), (200, 0));
    // The second leaves the path of the first where its prompt ends, the third continues there.
    let mut last = first.clone();
    for _ in 0..2 {
        last = ask(&server, "/v1/completions", &body).await;
        assert_eq!(last["choices"], first["choices"]);
    }
    let (prompt, reused) = tokens(&last);
    assert!(reused > 100 && reused < prompt, "{last}");
}
