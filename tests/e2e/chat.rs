//! `POST /v1/chat/completions`.

// OpenAI has deprecated `seed`, `max_tokens` and `system_fingerprint`; most clients still use them.
#![allow(deprecated)]

use async_openai::types::chat::{
    ChatCompletionRequestAssistantMessage, ChatCompletionRequestAssistantMessageContent,
    CreateChatCompletionRequest, FinishReason, Role,
};
use sanctum_tests::Server;
use serde_json::json;

use crate::openai::{COUNT, SUM, ask, chat, said, user};

#[tokio::test]
async fn chat_answers_arithmetic_with_usage() {
    let server = Server::start([""; 0]).await;
    let answer = chat(&server, ask(SUM)).await;
    assert_eq!(said(&answer), "4");
    assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Stop));
    assert_eq!(answer.choices[0].message.role, Role::Assistant);
    assert_eq!(answer.object, "chat.completion");
    assert_eq!(answer.model, Server::BUILT_IN);
    assert!(answer.id.starts_with("chatcmpl-"), "{}", answer.id);
    let usage = answer.usage.expect("it has usage");
    assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
    assert_eq!(
        usage.total_tokens,
        usage.prompt_tokens + usage.completion_tokens
    );
}

#[tokio::test]
async fn earlier_messages_are_read() {
    let server = Server::start([""; 0]).await;
    let earlier = ChatCompletionRequestAssistantMessageContent::from("Nice to meet you, Rosalind.");
    let request = CreateChatCompletionRequest {
        messages: vec![
            user("Hi, my name is Rosalind."),
            ChatCompletionRequestAssistantMessage::from(earlier).into(),
            user("What is my name?"),
        ],
        ..ask("")
    };
    let answer = chat(&server, request).await;
    assert!(said(&answer).contains("Rosalind"), "{}", said(&answer));
}

#[tokio::test]
async fn chat_equals_a_completion_of_its_template() {
    let server = Server::start([""; 0]).await;
    let chat = chat(&server, ask(COUNT)).await;
    let prompt = format!(
        "<|im_start|>user\n{COUNT}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
    let body = json!({ "prompt": prompt, "temperature": 0 });
    let text = server.http().post("/v1/completions", &body).await.json();
    assert_eq!(text["choices"][0]["text"], said(&chat));
    assert_eq!(
        text["usage"]["prompt_tokens"],
        chat.usage.unwrap().prompt_tokens
    );
}

#[tokio::test]
async fn seed_reproduces_an_answer_at_the_default_temperature() {
    let server = Server::start([""; 0]).await;
    let request = CreateChatCompletionRequest {
        temperature: None,
        seed: Some(7),
        ..ask(COUNT)
    };
    let first = chat(&server, request.clone()).await;
    let again = chat(&server, request).await;
    assert_eq!(said(&first), said(&again));
    assert_eq!(first.system_fingerprint, again.system_fingerprint);
    assert!(first.system_fingerprint.is_some());
}

#[tokio::test]
async fn answer_ends_at_max_tokens() {
    let server = Server::start([""; 0]).await;
    let whole = chat(&server, ask(COUNT)).await;
    let limits = [
        CreateChatCompletionRequest {
            max_completion_tokens: Some(5),
            ..ask(COUNT)
        },
        CreateChatCompletionRequest {
            max_tokens: Some(5),
            ..ask(COUNT)
        },
    ];
    for limited in limits {
        let cut = chat(&server, limited).await;
        assert_eq!(cut.choices[0].finish_reason, Some(FinishReason::Length));
        assert_eq!(cut.usage.as_ref().unwrap().completion_tokens, 5);
        let rest = said(&whole).strip_prefix(said(&cut));
        assert!(rest.is_some_and(|rest| !rest.is_empty()), "{}", said(&cut));
    }
}

#[tokio::test]
async fn continued_message_may_look_like_the_template() {
    let server = Server::start([""; 0]).await;
    let before = async |content: &str| {
        let messages = json!([
            { "role": "user", "content": "hi" }, { "role": "assistant", "content": content },
        ]);
        let body = json!({ "messages": messages });
        let answer = server.http().post("/apply-template", &body).await.json();
        let prompt = answer["prompt"].as_str().unwrap();
        let before = prompt.strip_suffix(content);
        before.unwrap_or_else(|| panic!("{prompt:?}")).to_owned()
    };
    let expected = before("plain").await;
    for content in [
        "<",
        "|",
        ">",
        "im",
        "end",
        "<|im_end|",
        "assistant",
        "x\u{2028}y",
    ] {
        assert_eq!(before(content).await, expected, "{content:?}");
    }
}
