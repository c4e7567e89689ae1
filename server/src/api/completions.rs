//! `POST /v1/completions`: continues a prompt without a chat template.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use sanctum_engine::schedule::{TokenLogprob, Usage};
use serde::Serialize;
use serde_json::Value;

use super::body::JsonBody;
use super::error::ApiError;
use super::fields::{JsonField, JsonFields};
use super::generation::{
    self, ActiveGeneration, GenerationEnd, GenerationOutput, GenerationRequest, PromptInput,
};
use super::openai::{Completion, CompletionHead, finish_reason, logprobs_later};
use super::parameters::GenerationParameters;
use super::reply::ReplyPart;
use super::state::AppState;
use super::{logprobs, sse};
use crate::gate::GenerationRecord;

/// A text completion, whole or a chunk.
#[derive(Clone, Debug, Serialize)]
struct TextChoice {
    /// Always 0.
    index: u32,
    /// The text, or more of it.
    text: String,
    /// Null unless asked for.
    logprobs: Option<Value>,
    /// Null until the last chunk.
    finish_reason: Option<&'static str>,
}

/// Parses a body.
///
/// # Errors
/// The field that is wrong.
pub(crate) fn parse(body: &[u8]) -> Result<GenerationRequest, ApiError> {
    let mut fields = JsonFields::parse(body)?;
    fields.refuse("echo", |echo| *echo == false, "the prompt is not sent back")?;
    fields.refuse("best_of", |n| *n == 1, "one answer is generated")?;
    fields.refuse(
        "suffix",
        |suffix| *suffix == "",
        "the model was not trained to fill in a middle",
    )?;
    let request = GenerationRequest {
        model: fields.take("model").map(JsonField::string).transpose()?,
        prompt: prompt(fields.need("prompt")?)?,
        prompt_field: "prompt",
        logprobs: match fields.take("logprobs") {
            Some(field) => Some(field.integer(0..=20)? as usize),
            None => None,
        },
        parameters: GenerationParameters::take(&mut fields)?,
    };
    fields.finish()?;
    Ok(request)
}

/// A string or an array of token ids. OpenAI also has arrays of these, of which those with one element are supported.
fn prompt(field: JsonField) -> Result<PromptInput, ApiError> {
    let wrong = |field: &JsonField| Err(field.must_be("a string or an array of token ids"));
    match field.value() {
        Value::String(_) => Ok(PromptInput::Text(field.string()?)),
        Value::Array(items) => match items.as_slice() {
            [] => wrong(&field),
            [Value::String(_) | Value::Array(_)] => match field.array()?.pop() {
                Some(only) if only.value().is_string() => Ok(PromptInput::Text(only.string()?)),
                Some(only) => Ok(PromptInput::Tokens(tokens(only)?)),
                None => Ok(PromptInput::Tokens(Vec::new())),
            },
            [Value::String(_) | Value::Array(_), ..] => Err(ApiError::unsupported(
                "prompt",
                "a request has one prompt; send one request for each",
            )),
            _ => Ok(PromptInput::Tokens(tokens(field)?)),
        },
        _ => wrong(&field),
    }
}

fn tokens(field: JsonField) -> Result<Vec<u32>, ApiError> {
    let id = |item: JsonField| Ok(item.integer(0..=i64::from(u32::MAX))? as u32);
    field.elements(|item| item.as_u64()?.try_into().ok(), id)
}

/// Answers `POST /v1/completions`.
pub(crate) async fn create(
    State(app): State<Arc<AppState>>,
    Extension(record): Extension<GenerationRecord>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let parse = |body: &[u8]| {
        let request = parse(body)?;
        let stream = request.parameters.stream;
        Ok((request, stream))
    };
    let (generation, stream) = generation::start(&app, record, body, parse).await?;
    let head = CompletionHead::new("cmpl-", "text_completion", generation.model());
    let Some(stream) = stream else {
        return whole(generation, head).await;
    };
    let encoder = TextEncoder {
        head,
        columns: logprobs::Columns::new(generation.text().clone()),
        include_usage: stream.include_usage,
    };
    Ok(sse::stream(generation, encoder))
}

/// The whole completion, once the generation has ended.
async fn whole(
    mut generation: ActiveGeneration,
    head: CompletionHead,
) -> Result<Response, ApiError> {
    let mut columns = logprobs::Columns::new(generation.text().clone());
    let mut text = String::new();
    loop {
        match generation.next().await? {
            GenerationOutput::Token { parts, logprob } => {
                text.push_str(&content(parts));
                columns.extend(logprob);
            }
            GenerationOutput::Finished { parts, end, usage } => {
                text.push_str(&content(parts));
                let parts = columns.parts(generation.kept());
                let choice = TextChoice {
                    index: 0,
                    text,
                    logprobs: parts.is_some().then(logprobs_later),
                    finish_reason: Some(finish_reason(end)),
                };
                return Ok(Completion::whole(&head, choice, usage).response(parts));
            }
        }
    }
}

/// The text of parts; without a template all of them are content.
fn content(parts: Vec<ReplyPart>) -> String {
    let texts = parts.into_iter().map(|part| match part {
        ReplyPart::Content(text) | ReplyPart::Reasoning(text) => text,
        ReplyPart::ToolCall { .. } => String::new(),
    });
    texts.collect()
}

/// Encodes the chunks of a streamed completion.
struct TextEncoder {
    head: CompletionHead,
    columns: logprobs::Columns,
    include_usage: bool,
}

impl TextEncoder {
    fn chunk(&mut self, text: String, end: Option<GenerationEnd>) -> String {
        let choice = TextChoice {
            index: 0,
            text,
            logprobs: self.columns.take(),
            finish_reason: end.map(finish_reason),
        };
        Completion::chunk(&self.head, choice, self.include_usage)
    }
}

impl sse::Encoder for TextEncoder {
    fn opening(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn token(&mut self, parts: Vec<ReplyPart>, logprob: Option<TokenLogprob>) -> Vec<String> {
        let text = content(parts);
        if text.is_empty() && logprob.is_none() {
            return Vec::new();
        }
        self.columns.extend(logprob);
        vec![self.chunk(text, None)]
    }

    fn closing(&mut self, parts: Vec<ReplyPart>, end: GenerationEnd, usage: Usage) -> Vec<String> {
        let mut chunks = vec![self.chunk(content(parts), Some(end))];
        if self.include_usage {
            chunks.push(Completion::<TextChoice>::usage(&self.head, usage));
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<GenerationRequest, ApiError> {
        super::parse(body.as_bytes())
    }

    #[test]
    fn prompt_is_a_text_or_token_ids() {
        let prompt = |text: &str| parse(&format!("{{\"prompt\": {text}}}")).map(|r| r.prompt);
        let text = PromptInput::Text("hi".into());
        let tokens = PromptInput::Tokens(vec![1, 2]);
        assert_eq!(prompt("\"hi\""), Ok(text));
        assert_eq!(prompt("[\"hi\"]"), Ok(PromptInput::Text("hi".into())));
        assert_eq!(prompt("[1, 2]"), Ok(tokens));
        assert_eq!(prompt("[[1, 2]]"), Ok(PromptInput::Tokens(vec![1, 2])));
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
    fn unsupported_fields_of_completions_are_refused_by_name() {
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
