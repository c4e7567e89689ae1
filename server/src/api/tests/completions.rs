use sanctum_engine::schedule::{Event, FinishReason, TokenLogprob};
use serde_json::{Value, json};

use super::fixture::{TestServer, finished, likely, token};

const PATH: &str = "/v1/completions";

#[tokio::test]
async fn text_and_tokens_reach_the_engine_unchanged() {
    let server = TestServer::new();
    for prompt in [
        json!("a<b"),
        json!(["a<b"]),
        json!([97, 60, 98]),
        json!([[97, 60, 98]]),
    ] {
        let events = vec![token("x"), finished(FinishReason::Length, "y")];
        let (job, answer) = server.ask(PATH, json!({ "prompt": prompt }), events).await;
        assert_eq!(job.request.prompt, b"a<b".map(u32::from));
        let answer = answer.json();
        assert_eq!(answer["object"], "text_completion");
        assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
        let choice =
            json!({ "index": 0, "text": "xy", "logprobs": null, "finish_reason": "length" });
        assert_eq!(answer["choices"], json!([choice]));
        assert_eq!(answer["usage"]["completion_tokens"], 2);
    }
}

#[tokio::test]
async fn stream_has_the_text_the_finish_reason_and_the_usage() {
    let server = TestServer::new();
    let body = json!({ "prompt": "a", "stream": true, "stream_options": { "include_usage": true }, "logprobs": 1 });
    let events = vec![
        likely("x", -0.5),
        likely("y", -1.5),
        finished(FinishReason::Stop, ""),
    ];
    let (job, answer) = server.ask(PATH, body, events).await;
    assert_eq!(job.request.logprobs, Some(1));
    let chunks = answer.chunks();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "xy");
    assert_eq!(
        chunks[1]["choices"][0]["logprobs"]["text_offset"],
        json!([1])
    );
    assert_eq!(
        chunks[1]["choices"][0]["logprobs"]["token_logprobs"],
        json!([-1.5])
    );
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[3]["usage"]["prompt_tokens"], 5);
    assert_eq!(chunks.len(), 4);
}

#[tokio::test]
async fn tokens_that_the_model_does_not_have_are_refused() {
    let server = TestServer::new();
    let answer = server.post(PATH, json!({ "prompt": [1, 256] })).await;
    assert_eq!(answer.error(), (400, json!("prompt"), Value::Null));
    let answer = server
        .post(PATH, json!({ "prompt": "a", "logit_bias": { "256": 1 } }))
        .await;
    assert_eq!(answer.error(), (400, json!("logit_bias"), Value::Null));
}

/// The log probabilities of a prompt, of which the first token has none.
fn scores(rest: &str) -> Event {
    let score = |byte: u8| TokenLogprob {
        id: byte.into(),
        logprob: -0.25,
        top: [(b'?'.into(), -0.125)].into(),
    };
    Event::Prompt {
        logprobs: rest.bytes().map(score).collect(),
    }
}

/// The last event, after an end-of-sequence token.
fn ended(eos: u8) -> Event {
    match finished(FinishReason::Stop, "") {
        Event::Finished {
            reason,
            stop,
            text,
            usage,
            ..
        } => Event::Finished {
            eos: Some(TokenLogprob {
                id: eos.into(),
                logprob: -0.75,
                top: [].into(),
            }),
            reason,
            stop,
            text,
            usage,
        },
        other => other,
    }
}

#[tokio::test]
async fn echo_puts_the_prompt_before_the_answer() {
    let server = TestServer::new();
    for prompt in [json!("a€b"), json!(["a€b"]), json!("a€b".as_bytes())] {
        let body = json!({ "prompt": prompt, "echo": true });
        let events = vec![token("x"), finished(FinishReason::Stop, "")];
        let (job, answer) = server.ask(PATH, body, events).await;
        assert!(!job.request.scores_prompt());
        let choice = &answer.json()["choices"][0];
        assert_eq!(
            (&choice["text"], &choice["logprobs"]),
            (&json!("a€bx"), &Value::Null)
        );
    }
}

#[tokio::test]
async fn echo_with_logprobs_covers_the_prompt_and_the_end_of_sequence() {
    let server = TestServer::new();
    let body = json!({ "prompt": "abc", "echo": true, "logprobs": 1, "max_tokens": 5 });
    let events = vec![scores("bc"), likely("x", -0.5), ended(b'!')];
    let (job, answer) = server.ask(PATH, body.clone(), events).await;
    assert!(job.request.scores_prompt());
    assert_eq!((job.request.max_tokens, job.request.logprobs), (5, Some(1)));
    let expected = json!({
        "tokens": ["a", "b", "c", "x", "!"],
        "token_logprobs": [null, -0.25, -0.25, -0.5, -0.75],
        "top_logprobs": [
            null, { "?": -0.125, "b": -0.25 }, { "?": -0.125, "c": -0.25 }, { "?": -3.0, "x": -0.5 }, { "!": -0.75 },
        ],
        "text_offset": [0, 1, 2, 3, 4],
    });
    let choice = &answer.json()["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["logprobs"]),
        (&json!("abcx"), &expected)
    );

    // Streamed, the prompt comes first, and the parts add up to the same.
    let mut streamed = body;
    streamed["stream"] = true.into();
    let events = vec![scores("bc"), likely("x", -0.5), ended(b'!')];
    let (_, answer) = server.ask(PATH, streamed, events).await;
    let chunks = answer.chunks();
    assert_eq!(chunks[0]["choices"][0]["text"], "abc");
    let choices = chunks.iter().map(|chunk| &chunk["choices"][0]);
    let text: String = choices
        .clone()
        .filter_map(|choice| choice["text"].as_str())
        .collect();
    assert_eq!(text, "abcx");
    for column in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let parts = choices
            .clone()
            .filter_map(|choice| choice["logprobs"][column].as_array());
        let all: Vec<Value> = parts.flatten().cloned().collect();
        assert_eq!(json!(all), expected[column], "{column}");
    }
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn no_tokens_are_generated_where_none_are_asked_for() {
    let server = TestServer::new();
    let body = json!({ "prompt": [97, 98], "echo": true, "max_tokens": 0, "logprobs": 0 });
    let events = vec![scores("b"), finished(FinishReason::Length, "")];
    let (job, answer) = server.ask(PATH, body, events).await;
    assert_eq!(job.request.max_tokens, 0);
    let choice = &answer.json()["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["finish_reason"]),
        (&json!("ab"), &json!("length"))
    );
    assert_eq!(choice["logprobs"]["token_logprobs"], json!([null, -0.25]));
    // Without echo the answer is empty.
    let body = json!({ "prompt": "ab", "max_tokens": 0 });
    let events = vec![finished(FinishReason::Length, "")];
    let (job, answer) = server.ask(PATH, body, events).await;
    assert_eq!(
        (job.request.max_tokens, job.request.scores_prompt()),
        (0, false)
    );
    assert_eq!(answer.json()["choices"][0]["text"], "");
    // A chat has at least one token.
    let chat = json!({ "messages": [{ "role": "user", "content": "a" }], "max_tokens": 0 });
    let answer = server.post("/v1/chat/completions", chat).await;
    assert_eq!(answer.error(), (400, json!("max_tokens"), Value::Null));
}

#[tokio::test]
async fn each_prompt_and_each_choice_has_its_own_echo() {
    let server = TestServer::new();
    let body = json!({ "prompt": ["ab", [99, 100]], "n": 2, "echo": true, "logprobs": 0, "max_tokens": 1, "stop": ["b"] });
    let script = async {
        for (rest, said) in [("b", "1"), ("b", "2"), ("d", "3"), ("d", "4")] {
            let job = server.job().await;
            // Stop strings are looked for in the answer only.
            assert_eq!(job.request.stop, ["b"]);
            for event in [
                scores(rest),
                likely(said, -0.5),
                finished(FinishReason::Length, ""),
            ] {
                job.events.try_send(event).unwrap();
            }
        }
    };
    let (answer, ()) = tokio::join!(server.post(PATH, body), script);
    let answer = answer.json();
    let texts: Vec<&Value> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| &choice["text"])
        .collect();
    assert_eq!(texts, ["ab1", "ab2", "cd3", "cd4"]);
    assert_eq!(
        answer["choices"][2]["logprobs"]["tokens"],
        json!(["c", "d", "3"])
    );
}

#[tokio::test]
async fn hostile_echo_is_refused_by_the_field() {
    let server = TestServer::new();
    for (body, param) in [
        (json!({ "prompt": "a", "echo": "yes" }), "echo"),
        (json!({ "prompt": "a", "echo": 1 }), "echo"),
        (
            json!({ "prompt": "a", "echo": true, "best_of": 2 }),
            "best_of",
        ),
        (
            json!({ "prompt": "a", "echo": true, "logprobs": -1 }),
            "logprobs",
        ),
        (
            json!({ "prompt": "a", "echo": true, "logprobs": 21 }),
            "logprobs",
        ),
        (
            json!({ "prompt": "a", "echo": true, "max_tokens": -2 }),
            "max_tokens",
        ),
        (
            json!({ "prompt": "a", "echo": true, "max_tokens": 0.5 }),
            "max_tokens",
        ),
        (
            json!({ "prompt": "", "echo": true, "max_tokens": 0 }),
            "prompt",
        ),
        (
            json!({ "prompt": [256], "echo": true, "max_tokens": 0 }),
            "prompt",
        ),
        (json!({ "prompt": [-1], "echo": true }), "prompt[0]"),
        (json!({ "prompt": [0.5], "echo": true }), "prompt[0]"),
        (json!({ "prompt": vec![97; 2000], "echo": true }), "prompt"),
    ] {
        let answer = server.post(PATH, body).await;
        let (status, found, _) = answer.error();
        assert_eq!((status, found), (400, json!(param)), "{}", answer.text);
    }
    // Null is absence.
    let body = json!({ "prompt": "a", "echo": null, "max_tokens": null });
    let (_, answer) = server
        .ask(PATH, body, vec![finished(FinishReason::Stop, "x")])
        .await;
    assert_eq!(answer.json()["choices"][0]["text"], "x");
}
