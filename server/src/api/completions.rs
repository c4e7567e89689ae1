//! `POST /v1/completions`: a prompt as it is, without a chat template.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use sanctum_engine::schedule::{FinishReason, TokenLogprob, Usage};
use serde_json::Value;

use super::body::JsonBody;
use super::error::ApiError;
use super::fields::{Field, Fields};
use super::parameters::Parameters;
use super::running::{Running, Step};
use super::wire::{Body, Head, TextChoice, finish_reason};
use super::{App, logprobs, prepare, sse};
use crate::audit::Account;
use crate::models::Ready;
use crate::prepare::Ticket;

/// A parsed request.
#[derive(Debug, PartialEq)]
pub(super) struct CompletionRequest {
    model: Option<String>,
    prompt: Prompt,
    logprobs: Option<usize>,
    parameters: Parameters,
}

#[derive(Debug, PartialEq)]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

impl CompletionRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        fields.refuse("echo", |echo| *echo == false, "the prompt is not sent back")?;
        fields.refuse("best_of", |n| *n == 1, "one answer is generated")?;
        fields.refuse(
            "suffix",
            |suffix| *suffix == "",
            "the model was not trained to fill in a middle",
        )?;
        let request = Self {
            model: fields.take("model").map(Field::string).transpose()?,
            prompt: prompt(fields.need("prompt")?)?,
            logprobs: match fields.take("logprobs") {
                Some(field) => Some(field.integer(0..=20)? as usize),
                None => None,
            },
            parameters: Parameters::take(&mut fields)?,
        };
        fields.finish()?;
        Ok(request)
    }
}

/// A string or an array of token ids; OpenAI also knows arrays of these, of which we take those with one element.
fn prompt(field: Field) -> Result<Prompt, ApiError> {
    let wrong = |field: &Field| Err(field.must_be("a string or an array of token ids"));
    match field.value() {
        Value::String(_) => Ok(Prompt::Text(field.string()?)),
        Value::Array(items) => match items.as_slice() {
            [] => wrong(&field),
            [Value::String(_) | Value::Array(_)] => match field.array()?.pop() {
                Some(only) if only.value().is_string() => Ok(Prompt::Text(only.string()?)),
                Some(only) => Ok(Prompt::Tokens(tokens(only)?)),
                None => Ok(Prompt::Tokens(Vec::new())),
            },
            [Value::String(_) | Value::Array(_), ..] => Err(ApiError::unsupported(
                "prompt",
                "one prompt a request is answered; send one request for each",
            )),
            _ => Ok(Prompt::Tokens(tokens(field)?)),
        },
        _ => wrong(&field),
    }
}

fn tokens(field: Field) -> Result<Vec<u32>, ApiError> {
    let id = |item: Field| Ok(item.integer(0..=i64::from(u32::MAX))? as u32);
    field.elements(|item| item.as_u64()?.try_into().ok(), id)
}

impl Prompt {
    fn encode(self, ready: &Ready, ticket: &Ticket) -> Result<Vec<u32>, ApiError> {
        match self {
            Self::Tokens(ids) => Ok(ids),
            Self::Text(text) => super::tokens(&text, "prompt", ready, ticket),
        }
    }
}

/// Answers `POST /v1/completions`.
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let shared = app.clone();
    let (mut running, head, words, stream) = prepare(&app, body, move |body, ticket| {
        let CompletionRequest {
            model,
            prompt,
            logprobs,
            parameters,
        } = CompletionRequest::parse(body)?;
        let served = shared.models.pick(model.as_deref())?;
        account.model(served.id().as_str());
        let ready = served.ready()?;
        let ready = &*ready;
        let prompt = prompt.encode(ready, ticket)?;
        let stream = parameters.stream;
        let request = parameters.into_request(prompt, logprobs, ready)?;
        let head = Head::new("cmpl-", "text_completion", served, ready);
        let running = Running::submit(&shared, served, ready, request, "prompt", began, account)?;
        let words = ready.engine.text().clone();
        Ok((running, head, words, stream))
    })
    .await?;

    let mut columns = logprobs::Columns::new(words);
    if let Some(stream) = stream {
        let chunks = TextChunks {
            head,
            columns,
            include_usage: stream.include_usage,
        };
        return Ok(sse::stream(running, chunks));
    }
    let mut whole = String::new();
    loop {
        match running.next().await? {
            Step::Token { text, logprob } => {
                whole.push_str(&text);
                columns.extend(logprob);
            }
            Step::Finished {
                reason,
                text,
                usage,
            } => {
                whole.push_str(&text);
                let parts = columns.parts(running.kept());
                let choice = TextChoice {
                    index: 0,
                    text: whole,
                    logprobs: parts.as_ref().map(|_| logprobs::later()),
                    finish_reason: Some(finish_reason(reason)),
                };
                return Ok(Body::whole(&head, choice, usage).response(parts));
            }
        }
    }
}

/// The chunks of a streamed completion.
struct TextChunks {
    head: Head,
    columns: logprobs::Columns,
    include_usage: bool,
}

impl TextChunks {
    fn chunk(&mut self, text: &str, reason: Option<FinishReason>) -> String {
        let choice = TextChoice {
            index: 0,
            text: text.to_owned(),
            logprobs: self.columns.take(),
            finish_reason: reason.map(finish_reason),
        };
        Body::chunk(&self.head, choice, self.include_usage)
    }
}

impl sse::Chunks for TextChunks {
    fn opening(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn token(&mut self, text: &str, logprob: Option<TokenLogprob>) -> Vec<String> {
        if text.is_empty() && logprob.is_none() {
            return Vec::new();
        }
        self.columns.extend(logprob);
        vec![self.chunk(text, None)]
    }

    fn closing(&mut self, reason: FinishReason, text: &str, usage: Usage) -> Vec<String> {
        let mut chunks = vec![self.chunk(text, Some(reason))];
        if self.include_usage {
            chunks.push(Body::<TextChoice>::usage(&self.head, usage));
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::parse(body.as_bytes())
    }

    #[test]
    fn a_prompt_is_a_text_or_token_ids() {
        let prompt = |text: &str| parse(&format!("{{\"prompt\": {text}}}")).map(|r| r.prompt);
        let text = Prompt::Text("hi".into());
        let tokens = Prompt::Tokens(vec![1, 2]);
        assert_eq!(prompt("\"hi\""), Ok(text));
        assert_eq!(prompt("[\"hi\"]"), Ok(Prompt::Text("hi".into())));
        assert_eq!(prompt("[1, 2]"), Ok(tokens));
        assert_eq!(prompt("[[1, 2]]"), Ok(Prompt::Tokens(vec![1, 2])));
        for bad in [
            "3",
            "[]",
            "[\"a\", \"b\"]",
            "[1, \"a\"]",
            "[-1]",
            "[1.5]",
            "[[[1]]]",
        ] {
            assert!(prompt(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_completions_alone_know_and_we_do_not_is_named() {
        for (field, value) in [("echo", "true"), ("best_of", "2"), ("suffix", "\"x\"")] {
            let error = parse(&format!("{{\"prompt\": \"a\", \"{field}\": {value}}}")).unwrap_err();
            assert_eq!(error.body()["error"]["param"], field);
            assert_eq!(error.body()["error"]["code"], "unsupported_parameter");
        }
        let harmless =
            r#"{"prompt": "a", "echo": false, "best_of": 1, "suffix": null, "logprobs": 0}"#;
        assert_eq!(parse(harmless).unwrap().logprobs, Some(0));
    }
}
