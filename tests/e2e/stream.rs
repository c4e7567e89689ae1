//! Streaming.

use async_openai::types::chat::{
    ChatCompletionStreamOptions, CreateChatCompletionRequest, FinishReason, Role,
};
use sanctum_tests::Server;
use serde_json::json;

use crate::openai::{COUNT, SUM, ask, chat, joined, said, stream};

#[tokio::test]
async fn stream_has_the_same_text_as_a_whole_answer() {
    let server = Server::start([""; 0]).await;
    for question in [SUM, COUNT, "Repeat: çà 日本 🚀 ok", "Who are you?"] {
        let whole = chat(&server, ask(question)).await;
        let chunks = stream(&server, ask(question)).await;
        assert_eq!(joined(&chunks), said(&whole), "{question}");

        let first = &chunks.first().unwrap().choices[0];
        assert_eq!(first.delta.role, Some(Role::Assistant));
        let (last, others) = chunks.split_last().unwrap();
        assert_eq!(last.choices[0].finish_reason, Some(FinishReason::Stop));
        assert!(
            others
                .iter()
                .all(|chunk| chunk.choices[0].finish_reason.is_none())
        );
        assert!(chunks.iter().all(|chunk| chunk.id == chunks[0].id));
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.object == "chat.completion.chunk")
        );
        assert!(chunks.iter().all(|chunk| chunk.usage.is_none()));
    }
}

#[tokio::test]
async fn usage_is_last_if_requested() {
    let server = Server::start([""; 0]).await;
    let options = ChatCompletionStreamOptions {
        include_usage: Some(true),
        include_obfuscation: None,
    };
    let request = CreateChatCompletionRequest {
        stream_options: Some(options),
        ..ask(COUNT)
    };
    let chunks = stream(&server, request).await;
    let (last, others) = chunks.split_last().unwrap();
    assert!(others.iter().all(|chunk| chunk.usage.is_none()));
    assert!(last.choices.is_empty());
    assert_eq!(last.usage, chat(&server, ask(COUNT)).await.usage);
}

#[tokio::test]
async fn stream_is_events_that_end_with_done() {
    let server = Server::start([""; 0]).await;
    let body = json!({ "messages": [{ "role": "user", "content": SUM }], "temperature": 0, "stream": true });
    let answer = server.http().post("/v1/chat/completions", &body).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(answer.headers["cache-control"], "no-cache");
    let events: Vec<&str> = answer.text.split_terminator("\n\n").collect();
    assert!(
        events.iter().all(|event| event.starts_with("data: ")),
        "{events:?}"
    );
    assert_eq!(*events.last().unwrap(), "data: [DONE]");
}

#[tokio::test]
async fn partial_character_is_never_sent() {
    let server = Server::start([""; 0]).await;
    let body = json!({
        "messages": [{ "role": "user", "content": "Repeat: çà 日本 🚀 ok" }],
        "temperature": 2, "seed": 3, "max_tokens": 60, "ignore_eos": true, "stream": true,
    });
    let mut whole = body.clone();
    whole["stream"] = false.into();
    let whole = server
        .http()
        .post("/v1/chat/completions", &whole)
        .await
        .json();
    let chunks = server
        .http()
        .stream("/v1/chat/completions", &body)
        .await
        .rest()
        .await;
    let joined: String = chunks.iter().map(|chunk| chunk.text()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], joined);
}
