//! `POST /v1/completions`: continues a prompt without a chat template.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use sanctum_engine::schedule::TokenLogprob;
use sanctum_grammar::Rules;
use serde::Serialize;
use serde_json::Value;

use super::answer_rules::take_format;
use super::body::JsonBody;
use super::echo::EchoPart;
use super::error::ApiError;
use super::fields::{JsonField, JsonFields};
use super::generation::{
    self, ActiveGeneration, GenerationEnd, GenerationOutput, GenerationRequest, GenerationUsage,
    PromptInput,
};
use super::names::Names;
use super::openai::{Completion, CompletionHead, finish_reason, logprobs_later};
use super::parameters::{GenerationParameters, take_bool};
use super::reply::ReplyPart;
use super::sse::StreamEvent;
use super::state::AppState;
use super::{logprobs, openai, sse};
use crate::gate::GenerationRecord;

/// A text completion, whole or a chunk.
#[derive(Clone, Debug, Serialize)]
struct TextChoice {
    /// Which choice, from 0: the number of the prompt times `n`, plus the number of the continuation.
    index: usize,
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
    fields.refuse("best_of", |n| *n == 1, "one answer is generated")?;
    fields.refuse(
        "suffix",
        |suffix| *suffix == "",
        "the model was not trained to fill in a middle",
    )?;
    let mut request = GenerationRequest {
        model: fields.take("model").map(JsonField::string).transpose()?,
        prompts: prompts(fields.need("prompt")?)?,
        prompt_field: "prompt",
        names: Names::default(),
        unknown: Vec::new(),
        ignored: Vec::new(),
        rules: Rules {
            answer: take_format(&mut fields)?,
            calls: None,
        },
        logprobs: match fields.take("logprobs") {
            Some(field) => Some(field.integer(0..=20)? as usize),
            None => None,
        },
        echo: take_bool(&mut fields, "echo")?,
        parameters: GenerationParameters::take_completion(&mut fields)?,
    };
    request.unknown = fields.finish()?;
    Ok(request)
}

/// Prompts in one request, at most.
const MOST_PROMPTS: usize = 64;

/// A string, an array of token ids, or an array of either.
fn prompts(field: JsonField) -> Result<Vec<PromptInput>, ApiError> {
    let forms = "a string, an array of token ids, or an array of these";
    match field.value() {
        Value::String(_) => Ok(vec![PromptInput::Text(field.string()?)]),
        Value::Array(items) => match items.as_slice() {
            [] => Err(empty(&field)),
            [Value::String(_) | Value::Array(_), ..] if items.len() <= MOST_PROMPTS => {
                field.array()?.into_iter().map(one_prompt).collect()
            }
            [Value::String(_) | Value::Array(_), ..] => Err(ApiError::invalid(
                "prompt",
                format!(
                    "`prompt` has {} prompts; {MOST_PROMPTS} at most",
                    items.len()
                ),
            )),
            _ => Ok(vec![PromptInput::Tokens(tokens(field)?)]),
        },
        _ => Err(field.must_be(forms)),
    }
}

fn one_prompt(field: JsonField) -> Result<PromptInput, ApiError> {
    match field.value() {
        Value::String(_) => Ok(PromptInput::Text(field.string()?)),
        Value::Array(ids) if ids.is_empty() => Err(empty(&field)),
        Value::Array(_) => Ok(PromptInput::Tokens(tokens(field)?)),
        _ => Err(field.must_be("a string or an array of token ids")),
    }
}

fn empty(field: &JsonField) -> ApiError {
    let path = field.path();
    let message = format!("`{path}` is empty; send a text or one token id at least");
    ApiError::invalid(path, message)
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
    let (mut generation, stream) = generation::start(&app, record, body, parse).await?;
    let ignored = generation.take_ignored();
    let head = CompletionHead::new("cmpl-", "text_completion", generation.model());
    let Some(stream) = stream else {
        let mut response = whole(generation, head).await?;
        ActiveGeneration::report_ignored(&ignored, &mut response);
        return Ok(response);
    };
    let encoder = TextEncoder {
        head,
        columns: vec![logprobs::Columns::new(generation.text().clone()); generation.choices()],
        include_usage: stream.include_usage,
    };
    let mut response = sse::stream(generation, encoder);
    ActiveGeneration::report_ignored(&ignored, &mut response);
    Ok(response)
}

/// The whole completion, once all choices have ended.
async fn whole(
    mut generation: ActiveGeneration,
    head: CompletionHead,
) -> Result<Response, ApiError> {
    let columns = logprobs::Columns::new(generation.text().clone());
    let mut choices = vec![(String::new(), columns, None); generation.choices()];
    loop {
        match generation.next().await? {
            GenerationOutput::Prompt { choice, part } => {
                let (text, columns, _) = &mut choices[choice];
                text.push_str(&part.text);
                columns.begin(part.first);
                columns.extend_prompt(part.logprobs);
            }
            GenerationOutput::Token {
                choice,
                parts,
                logprob,
            } => {
                let (text, columns, _) = &mut choices[choice];
                text.push_str(&content(parts));
                columns.extend(logprob);
            }
            GenerationOutput::Finished {
                choice,
                parts,
                eos,
                end,
                usage,
            } => {
                let (text, columns, ended) = &mut choices[choice];
                columns.extend(eos);
                text.push_str(&content(parts));
                *ended = Some(end);
                let Some(usage) = usage else { continue };
                let (mut whole, mut written) = (Vec::new(), Vec::new());
                for (index, (text, columns, end)) in choices.into_iter().enumerate() {
                    let parts = columns.parts(generation.kept(index));
                    whole.push(TextChoice {
                        index,
                        text,
                        logprobs: parts.is_some().then(logprobs_later),
                        finish_reason: end.as_ref().map(finish_reason),
                    });
                    written.extend(parts);
                }
                return Ok(Completion::whole(&head, whole, usage).response(written));
            }
        }
    }
}

/// The text of parts; without a template all of them are content.
fn content(parts: Vec<ReplyPart>) -> String {
    let texts = parts.into_iter().map(|part| match part {
        ReplyPart::Content(text) | ReplyPart::Reasoning(text) => text,
        _ => String::new(),
    });
    texts.collect()
}

/// Encodes the chunks of a streamed completion.
struct TextEncoder {
    head: CompletionHead,
    /// The log probabilities of each choice.
    columns: Vec<logprobs::Columns>,
    include_usage: bool,
}

impl TextEncoder {
    fn chunk(&mut self, index: usize, text: String, end: Option<GenerationEnd>) -> String {
        let choice = TextChoice {
            index,
            text,
            logprobs: self.columns[index].take(),
            finish_reason: end.as_ref().map(finish_reason),
        };
        Completion::chunk(&self.head, choice, self.include_usage)
    }
}

impl sse::Encoder for TextEncoder {
    fn opening(&mut self) -> Vec<StreamEvent> {
        Vec::new()
    }

    fn prompt(&mut self, choice: usize, part: EchoPart) -> Vec<StreamEvent> {
        let columns = &mut self.columns[choice];
        columns.begin(part.first);
        columns.extend_prompt(part.logprobs);
        openai::events(vec![self.chunk(choice, part.text, None)])
    }

    fn token(
        &mut self,
        choice: usize,
        parts: Vec<ReplyPart>,
        logprob: Option<TokenLogprob>,
    ) -> Vec<StreamEvent> {
        let text = content(parts);
        if text.is_empty() && logprob.is_none() {
            return Vec::new();
        }
        self.columns[choice].extend(logprob);
        openai::events(vec![self.chunk(choice, text, None)])
    }

    fn closing(
        &mut self,
        choice: usize,
        parts: Vec<ReplyPart>,
        end: GenerationEnd,
        usage: Option<GenerationUsage>,
    ) -> Vec<StreamEvent> {
        let chunks = vec![self.chunk(choice, content(parts), Some(end))];
        openai::closing(chunks, usage, |usage| {
            self.include_usage
                .then(|| Completion::<TextChoice>::usage(&self.head, usage))
        })
    }

    fn failure(&mut self, error: &ApiError) -> Vec<StreamEvent> {
        openai::failure(error)
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
        let prompt = |text: &str| parse(&format!("{{\"prompt\": {text}}}")).map(|r| r.prompts);
        let text = |text: &str| PromptInput::Text(text.into());
        let tokens = || PromptInput::Tokens(vec![1, 2]);
        assert_eq!(prompt("\"hi\""), Ok(vec![text("hi")]));
        assert_eq!(prompt("[\"hi\"]"), Ok(vec![text("hi")]));
        assert_eq!(prompt("[1, 2]"), Ok(vec![tokens()]));
        assert_eq!(prompt("[[1, 2]]"), Ok(vec![tokens()]));
        assert_eq!(prompt("[\"a\", [1, 2]]"), Ok(vec![text("a"), tokens()]));
        for bad in [
            "3",
            "[]",
            "[[]]",
            "[\"a\", 1]",
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
        for (field, value) in [("best_of", "2"), ("suffix", "\"x\"")] {
            let error = parse(&format!("{{\"prompt\": \"a\", \"{field}\": {value}}}")).unwrap_err();
            assert_eq!(error.body()["error"]["param"], field);
            assert_eq!(error.body()["error"]["code"], "unsupported_parameter");
        }
        let harmless =
            r#"{"prompt": "a", "echo": false, "best_of": 1, "suffix": null, "logprobs": 0}"#;
        assert_eq!(parse(harmless).unwrap().logprobs, Some(0));
    }
}
