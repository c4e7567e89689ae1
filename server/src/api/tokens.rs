//! `POST /tokenize`, `/detokenize` and `/apply-template`, `GET /tokenizer_info`: what a model reads.
//!
//! The bodies are those of llama.cpp's and vLLM's servers, as far as they agree: `content` and `prompt` are the same field.
//! The work is done where requests are prepared, and so is the text of the response: it can be megabytes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sanctum_engine::text::{ChatTemplate, Text};
use serde_json::{Value, json};

use super::body::{self, JsonBody};
use super::chat;
use super::error::ApiError;
use super::fields::{JsonField, JsonFields};
use super::generation::{self, ActiveGeneration, PromptInput};
use super::parameters::take_bool;
use super::state::AppState;
use crate::models::Ready;
use crate::prepare::Ticket;

/// What `POST /tokenize` asks for.
#[derive(Debug, PartialEq)]
struct TokenizeRequest {
    input: PromptRequest,
    /// Each token with its text, as llama.cpp has it.
    with_pieces: bool,
    /// The texts of the tokens beside them, as vLLM has it.
    return_token_strs: bool,
}

/// A prompt, as the requests of this module have it.
#[derive(Debug, PartialEq)]
struct PromptRequest {
    model: Option<String>,
    /// The field that errors about the prompt name.
    field: &'static str,
    prompt: PromptInput,
    /// Fields that are unknown and have no effect.
    unknown: Vec<String>,
    /// Fields that are known and have no effect.
    ignored: Vec<String>,
}

/// What `POST /detokenize` asks for.
#[derive(Debug, PartialEq)]
struct DetokenizeRequest {
    model: Option<String>,
    tokens: Vec<u32>,
    unknown: Vec<String>,
}

/// Text of a response, and the fields that had no effect.
type TokensAnswer = (String, Vec<String>);

/// Answers `POST /tokenize`.
pub(crate) async fn tokenize(
    State(app): State<Arc<AppState>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let answered = generation::prepare(&app, body, TokenizeRequest::parse, tokenized);
    Ok(response(answered.await?))
}

/// Answers `POST /detokenize`.
pub(crate) async fn detokenize(
    State(app): State<Arc<AppState>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let answered = generation::prepare(&app, body, DetokenizeRequest::parse, detokenized);
    Ok(response(answered.await?))
}

/// Answers `POST /apply-template`.
pub(crate) async fn apply_template(
    State(app): State<Arc<AppState>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let parse = |body: &[u8]| PromptRequest::of_chat(JsonFields::parse(body)?);
    let answered = generation::prepare(&app, body, parse, rendered);
    Ok(response(answered.await?))
}

/// Answers `GET /tokenizer_info`, which is vLLM's, for the first model: with it and the other routes lm-eval needs no
/// tokenizer of its own.
pub(crate) async fn info(State(app): State<Arc<AppState>>) -> Result<Json<Value>, ApiError> {
    let ready = app.models.pick(None)?.ready()?;
    let text = ready.engine.text();
    let template = text.template.as_deref();
    let special = |name| template.and_then(|template| template.special_token(name));
    let eos = text
        .eos
        .first()
        .map(|&id| String::from_utf8_lossy(bytes(text, id)));
    Ok(Json(json!({
        "bos_token": special("bos_token"),
        "eos_token": special("eos_token").map(Into::into).or(eos),
        "pad_token": special("pad_token"),
        "chat_template": template.map(ChatTemplate::source),
        "vocab_size": ready.engine.vocab(),
        "model_max_length": ready.engine.limits().context,
    })))
}

fn response((text, ignored): TokensAnswer) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (kind, text).into_response();
    ActiveGeneration::report_ignored(&ignored, &mut response);
    response
}

impl TokenizeRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = JsonFields::parse(body)?;
        let with_pieces = take_bool(&mut fields, "with_pieces")?;
        let return_token_strs = take_bool(&mut fields, "return_token_strs")?;
        // The models of this server have no tokens that are added to every text.
        take_bool(&mut fields, "add_special")?;
        take_bool(&mut fields, "add_special_tokens")?;
        fields.refuse(
            "parse_special",
            |parse| *parse == true,
            "control tokens in a text are tokens, as in the prompts of completions",
        )?;
        let input = match fields.has_value("messages") {
            true => PromptRequest::of_chat(fields)?,
            false => PromptRequest::of_text(fields)?,
        };
        Ok(Self {
            input,
            with_pieces,
            return_token_strs,
        })
    }
}

impl PromptRequest {
    fn of_text(mut fields: JsonFields) -> Result<Self, ApiError> {
        let model = fields.take("model").map(JsonField::string).transpose()?;
        let (field, text) = match (fields.take("content"), fields.take("prompt")) {
            (Some(content), None) => ("content", content),
            (None, Some(prompt)) => ("prompt", prompt),
            (Some(_), Some(prompt)) => {
                let message = "`content` and `prompt` are the same; send one of them";
                return Err(ApiError::invalid(prompt.path(), message));
            }
            (None, None) => {
                let message = "`content` is missing: send a text, or the `messages` of a chat";
                return Err(ApiError::invalid("content", message));
            }
        };
        Ok(Self {
            model,
            field,
            prompt: PromptInput::Text(text.string()?),
            unknown: fields.finish()?,
            ignored: Vec::new(),
        })
    }

    /// The body of a chat completion.
    fn of_chat(mut fields: JsonFields) -> Result<Self, ApiError> {
        let add_generation_prompt = fields.take("add_generation_prompt");
        let add_generation_prompt = add_generation_prompt.map(JsonField::bool).transpose()?;
        let chat = chat::parse_fields(fields)?;
        let mut prompts = chat.prompts.into_iter();
        let mut prompt = prompts.next().unwrap_or(PromptInput::Tokens(Vec::new()));
        if let (PromptInput::Conversation(conversation), Some(false)) =
            (&mut prompt, add_generation_prompt)
        {
            let name = "add_generation_prompt".to_owned();
            conversation.variables.insert(name, false.into());
        }
        Ok(Self {
            model: chat.model,
            field: chat.prompt_field,
            prompt,
            unknown: chat.unknown,
            ignored: chat.ignored,
        })
    }

    /// The prompt as a text.
    fn text(&mut self, ready: &Ready, ticket: &Ticket) -> Result<String, ApiError> {
        let nothing = PromptInput::Tokens(Vec::new());
        match std::mem::replace(&mut self.prompt, nothing) {
            PromptInput::Text(text) => Ok(text),
            PromptInput::Tokens(ids) => Ok(ready.engine.text().tokenizer.decode(&ids, false)),
            PromptInput::Conversation(conversation) => {
                generation::render(conversation, self.field, ready, ticket, &mut self.ignored)
            }
        }
    }
}

impl DetokenizeRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = JsonFields::parse(body)?;
        let id = |item: JsonField| Ok(item.integer(0..=i64::from(u32::MAX))? as u32);
        Ok(Self {
            model: fields.take("model").map(JsonField::string).transpose()?,
            tokens: fields
                .need("tokens")?
                .elements(|item| item.as_u64()?.try_into().ok(), id)?,
            unknown: fields.finish()?,
        })
    }
}

fn tokenized(
    app: &AppState,
    request: TokenizeRequest,
    ticket: &Ticket,
) -> Result<TokensAnswer, ApiError> {
    let TokenizeRequest {
        mut input,
        with_pieces,
        return_token_strs,
    } = request;
    generation::refuse_unknown(&input.unknown, app.strict_fields)?;
    let ready = app.models.pick(input.model.as_deref())?.ready()?;
    let text = input.text(&ready, ticket)?;
    let ids = generation::encode(&text, input.field, &ready, ticket)?;
    let text = ready.engine.text();
    let tokens: Value = match with_pieces {
        true => ids.iter().map(|&id| piece(text, id)).collect(),
        false => ids.as_slice().into(),
    };
    let mut answer = json!({
        "tokens": tokens,
        "count": ids.len(),
        "max_model_len": ready.engine.limits().context,
    });
    if return_token_strs {
        let text_of = |&id: &u32| String::from_utf8_lossy(bytes(text, id)).into_owned();
        answer["token_strs"] = ids.iter().map(text_of).collect();
    }
    input.unknown.extend(input.ignored);
    Ok((answer.to_string(), input.unknown))
}

fn detokenized(
    app: &AppState,
    request: DetokenizeRequest,
    ticket: &Ticket,
) -> Result<TokensAnswer, ApiError> {
    /// Tokens after which the client is asked for.
    const PIECE: usize = 1 << 16;
    generation::refuse_unknown(&request.unknown, app.strict_fields)?;
    let ready = app.models.pick(request.model.as_deref())?.ready()?;
    let (text, vocab) = (ready.engine.text(), ready.engine.vocab());
    if let Some(id) = request.tokens.iter().find(|&&id| id as usize >= vocab) {
        let message = format!(
            "token id {id} is outside the model's vocabulary of {vocab} tokens, which are numbered from 0"
        );
        return Err(ApiError::invalid("tokens", message));
    }
    let mut whole = Vec::new();
    for ids in request.tokens.chunks(PIECE) {
        for &id in ids {
            whole.extend_from_slice(bytes(text, id));
        }
        if whole.len() > body::LARGEST || !ticket.is_wanted() {
            let message = format!(
                "the text has more than {} bytes; send fewer tokens",
                body::LARGEST
            );
            return Err(ApiError::invalid("tokens", message));
        }
    }
    let whole = String::from_utf8_lossy(&whole);
    let whole = json!({ "content": whole, "prompt": whole });
    Ok((whole.to_string(), request.unknown))
}

fn rendered(
    app: &AppState,
    mut request: PromptRequest,
    ticket: &Ticket,
) -> Result<TokensAnswer, ApiError> {
    generation::refuse_unknown(&request.unknown, app.strict_fields)?;
    let ready = app.models.pick(request.model.as_deref())?.ready()?;
    let prompt = request.text(&ready, ticket)?;
    let tokens = generation::encode(&prompt, request.field, &ready, ticket)?;
    let answer = json!({
        "prompt": prompt,
        "count": tokens.len(),
        "max_model_len": ready.engine.limits().context,
    });
    request.unknown.extend(request.ignored);
    Ok((answer.to_string(), request.unknown))
}

/// A token with its text; its bytes where it is not whole characters, as llama.cpp has them.
fn piece(text: &Text, id: u32) -> Value {
    let bytes = bytes(text, id);
    let piece = match std::str::from_utf8(bytes) {
        Ok(piece) => Value::from(piece),
        Err(_) => Value::from(bytes),
    };
    json!({ "id": id, "piece": piece })
}

fn bytes(text: &Text, id: u32) -> &[u8] {
    text.tokenizer.token_bytes(text.shown(id))
}
