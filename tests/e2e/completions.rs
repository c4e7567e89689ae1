//! `POST /v1/completions`: a prompt without a template.

use std::collections::BTreeSet;

use async_openai::types::chat::{ChatCompletionStreamOptions, CompletionFinishReason, Prompt};
use async_openai::types::completions::CreateCompletionRequest;
use futures_util::StreamExt;
use sanctum_tests::{Server, within};
use serde_json::json;

use crate::openai::client;

fn count(prompt: Prompt) -> CreateCompletionRequest {
    CreateCompletionRequest {
        model: Server::BUILT_IN.into(),
        prompt,
        temperature: Some(0.0),
        max_tokens: Some(12),
        logprobs: Some(2),
        ..Default::default()
    }
}

#[tokio::test]
async fn prompt_is_continued_whole_or_streamed() {
    let server = Server::start([""; 0]).await;
    let client = client(&server);
    let request = count(Prompt::String("5, 6, 7,".into()));
    let whole = within("an answer", client.completions().create(request.clone()))
        .await
        .unwrap();
    let choice = &whole.choices[0];
    assert!(!choice.text.is_empty());
    assert_eq!(whole.object, "text_completion");

    let logprobs = choice.logprobs.as_ref().unwrap();
    assert_eq!(logprobs.tokens.concat(), choice.text);
    assert_eq!(
        logprobs.tokens.len(),
        whole.usage.as_ref().unwrap().completion_tokens as usize
    );
    assert_eq!(
        logprobs.text_offset[1] as usize,
        logprobs.tokens[0].chars().count()
    );

    let options = ChatCompletionStreamOptions {
        include_usage: Some(true),
        include_obfuscation: None,
    };
    let request = CreateCompletionRequest {
        stream_options: Some(options),
        ..request
    };
    let stream = within("an answer", client.completions().create_stream(request))
        .await
        .unwrap();
    let chunks: Vec<_> = within("the stream", stream.map(Result::unwrap).collect()).await;
    let choices = || chunks.iter().flat_map(|chunk| &chunk.choices);
    assert_eq!(
        choices()
            .map(|choice| choice.text.as_str())
            .collect::<String>(),
        whole.choices[0].text
    );
    let ends: Vec<CompletionFinishReason> = choices()
        .filter_map(|choice| choice.finish_reason)
        .collect();
    assert_eq!(ends, [whole.choices[0].finish_reason.unwrap()]);
    assert_eq!(chunks.last().unwrap().usage, whole.usage);
}

#[tokio::test]
async fn prompt_may_be_token_ids() {
    let server = Server::start([""; 0]).await;
    let client = client(&server);
    let ids: Vec<u32> = (300..310).collect();
    for prompt in [
        Prompt::IntegerArray(ids.clone()),
        Prompt::ArrayOfIntegerArray(vec![ids]),
    ] {
        let answer = within("an answer", client.completions().create(count(prompt)))
            .await
            .unwrap();
        assert_eq!(answer.usage.unwrap().prompt_tokens, 10);
    }
}

#[tokio::test]
async fn same_seed_gives_the_same_text_and_another_another() {
    let server = Server::start([""; 0]).await;
    let client = client(&server);
    let text = async |seed| {
        #[allow(deprecated)] // deprecated by OpenAI; most clients still send it
        let wild = CreateCompletionRequest {
            temperature: Some(2.0),
            seed: Some(seed),
            max_tokens: Some(40),
            ..count(Prompt::String("Once".into()))
        };
        let answer = within("an answer", client.completions().create(wild)).await;
        answer.unwrap().choices[0].text.clone()
    };
    let first = text(1).await;
    assert_eq!(text(1).await, first);
    assert_ne!(text(2).await, first);
}

#[tokio::test]
async fn logit_bias_can_force_a_token() {
    let server = Server::start([""; 0]).await;
    let client = client(&server);
    let mut words = Vec::new();
    for id in ["300", "301"] {
        let request = CreateCompletionRequest {
            logit_bias: Some([(id.to_owned(), 100.into())].into()),
            max_tokens: Some(3),
            ..count(Prompt::String("5, 6, 7,".into()))
        };
        let answer = within("an answer", client.completions().create(request))
            .await
            .unwrap();
        let tokens = answer.choices[0].logprobs.clone().unwrap().tokens;
        assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
        words.push(tokens[0].clone());
    }
    assert_ne!(words[0], words[1]);
}

#[tokio::test]
async fn request_may_have_more_choices_than_the_queue_has_places() {
    let server = Server::start(["--max-slots", "2", "--queue", "3"]).await;
    let prompts: Vec<String> = (0..7).map(|number| format!("{number}, ")).collect();
    for stream in [false, true] {
        let body = json!({
            "prompt": prompts, "n": 2, "max_tokens": 4, "seed": 7, "stream": stream,
            "ignore_eos": true,
        });
        if stream {
            let chunks = server.http().stream("/v1/completions", &body).await;
            let chunks = within("the stream", chunks.rest()).await;
            assert!(chunks.last().unwrap().is_done());
            let ended = chunks
                .iter()
                .filter(|chunk| !chunk.is_done())
                .map(|chunk| &chunk.data["choices"][0])
                .filter(|choice| choice["finish_reason"] == "length");
            let indices: BTreeSet<u64> = ended
                .map(|choice| choice["index"].as_u64().unwrap())
                .collect();
            assert_eq!(indices, (0..14).collect());
            continue;
        }
        let whole = server.http().post_and_wait("/v1/completions", &body).await;
        let whole = whole.json();
        let choices = whole["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 14, "{whole}");
        assert_eq!(whole["usage"]["completion_tokens"], 14 * 4);
        // Each has the seed of its number, whenever it was submitted.
        let alone = json!({
            "prompt": prompts[6], "max_tokens": 4, "seed": 8, "ignore_eos": true,
        });
        let alone = server.http().post_and_wait("/v1/completions", &alone).await;
        assert_eq!(choices[13]["text"], alone.json()["choices"][0]["text"]);
    }
    // A prompt that the engine would never serve is found before the first is submitted.
    let mut bad = vec![json!([1, 2]); 9];
    bad[8] = json!([1, 4_000_000_000u32]);
    let answer = server
        .http()
        .post("/v1/completions", &json!({ "prompt": bad, "stream": true }))
        .await;
    assert_eq!(answer.status, 400, "{}", answer.text);
}
