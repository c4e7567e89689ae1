//! Log probabilities.

use async_openai::types::chat::{ChatCompletionTokenLogprob, CreateChatCompletionRequest};
use sanctum_tests::Server;

use crate::openai::{COUNT, ask, chat, said, stream};

fn with_neighbours(count: u8) -> CreateChatCompletionRequest {
    CreateChatCompletionRequest {
        logprobs: Some(true),
        top_logprobs: Some(count),
        ..ask(COUNT)
    }
}

#[tokio::test]
async fn each_token_has_its_most_likely_alternatives() {
    let server = Server::start([""; 0]).await;
    let answer = chat(&server, with_neighbours(5)).await;
    let tokens = answer.choices[0].logprobs.clone().unwrap().content.unwrap();
    assert_eq!(
        tokens.len(),
        answer.usage.as_ref().unwrap().completion_tokens as usize
    );

    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token.bytes.clone().unwrap())
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), said(&answer));
    for token in &tokens {
        let top = &token.top_logprobs;
        assert_eq!(top.len(), 5);
        assert!(top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        // At temperature 0 the most likely token is chosen.
        assert_eq!(
            (&top[0].token, top[0].logprob),
            (&token.token, token.logprob)
        );
        let mass: f32 = top.iter().map(|near| near.logprob.exp()).sum();
        assert!(mass > 0.0 && mass < 1.001, "{mass}");
    }
}

#[tokio::test]
async fn stream_has_the_same_log_probabilities() {
    let server = Server::start([""; 0]).await;
    let whole = chat(&server, with_neighbours(2)).await;
    let streamed: Vec<ChatCompletionTokenLogprob> = stream(&server, with_neighbours(2))
        .await
        .into_iter()
        .flat_map(|chunk| chunk.choices)
        .filter_map(|choice| choice.logprobs?.content)
        .flatten()
        .collect();
    assert_eq!(
        streamed,
        whole.choices[0].logprobs.clone().unwrap().content.unwrap()
    );
}

#[tokio::test]
async fn log_probabilities_are_absent_unless_requested() {
    let server = Server::start([""; 0]).await;
    assert_eq!(chat(&server, ask(COUNT)).await.choices[0].logprobs, None);
}
