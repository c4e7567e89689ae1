//! One generation, as all protocols see it: what they ask for, prepared and submitted to the engine.

mod active;
mod running;
mod waiting;

pub(crate) use active::{
    ActiveGeneration, GenerationEnd, GenerationOutput, GenerationUsage, ModelInfo,
};

use std::sync::Arc;

use axum::http::HeaderValue;
use sanctum_config::did_you_mean;
use sanctum_engine::prefix::Reuse;
use sanctum_engine::schedule::SubmitError;
use sanctum_engine::text::{TemplateError, TokenizerError};
use sanctum_grammar::Rules;
use serde_json::Value;

use self::waiting::{PromptChoices, WaitingChoices};
use super::body::JsonBody;
use super::conversation::{Conversation, fold_later_system};
use super::echo::EchoBudget;
use super::error::ApiError;
use super::names::Names;
use super::parameters::GenerationParameters;
use super::prefix_scope;
use super::reasoning_effort;
use super::reply::ReplyParser;
use super::state::AppState;
use crate::client_key::ClientKey;
use crate::gate::GenerationRecord;
use crate::models::Ready;
use crate::prepare::Ticket;
use crate::random;

/// What a protocol asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GenerationRequest {
    /// The model; none: the first.
    pub model: Option<String>,
    /// What the model continues; of each prompt there are `parameters.n` continuations.
    pub prompts: Vec<PromptInput>,
    /// The field of the request that errors about the prompt name.
    pub prompt_field: &'static str,
    /// The client's names of the fields that errors name, if its body was translated.
    pub names: Names,
    /// Fields that are unknown and have no effect.
    pub unknown: Vec<String>,
    /// Known fields that have no effect here, although a client might expect one.
    pub ignored: Vec<String>,
    /// What form the answer must have.
    pub rules: Rules,
    /// `Some(k)`: report log probabilities, and those of the k most likely tokens.
    pub logprobs: Option<usize>,
    /// Whether each answer begins with its prompt.
    pub echo: bool,
    /// How to generate.
    pub parameters: GenerationParameters,
}

/// What a model continues.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PromptInput {
    /// A conversation, which the model's chat template renders.
    Conversation(Conversation),
    /// A text.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// Prepares a request when it is its client's turn, and submits it to the engine of its model. `parse` turns the body into
/// the request and what else the protocol needs.
pub(crate) async fn start<T: Send + 'static>(
    app: &Arc<AppState>,
    record: GenerationRecord,
    body: JsonBody,
    parse: impl FnOnce(&[u8]) -> Result<(GenerationRequest, T), ApiError> + Send + 'static,
) -> Result<(ActiveGeneration, T), ApiError> {
    let client = body.owner.client().clone();
    let part = body.prefix_scope.clone();
    prepare(app, body, parse, move |app, (request, rest), ticket| {
        refuse_unknown(&request.unknown, app.strict_fields)?;
        let names = request.names.clone();
        let submitted = submit(app, record, (&client, part.as_ref()), request, ticket);
        Ok((submitted.map_err(|error| error.renamed(&names))?, rest))
    })
    .await
}

/// Parses a body and works on what it asks for, on a thread for that, when it is its client's turn.
pub(crate) async fn prepare<P, T: Send + 'static>(
    app: &Arc<AppState>,
    body: JsonBody,
    parse: impl FnOnce(&[u8]) -> Result<P, ApiError> + Send + 'static,
    work: impl FnOnce(&AppState, P, &Ticket) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let JsonBody {
        bytes,
        owner,
        memory,
        ..
    } = body;
    let size = bytes.len();
    let shared = app.clone();
    let work = move |ticket: &Ticket| {
        let parsed = parse(&bytes);
        // The body is not needed any more, and a long prompt takes long.
        drop((bytes, memory));
        work(&shared, parsed?, ticket)
    };
    let prepared = app.preparing.run(owner, size, work).await;
    prepared.unwrap_or_else(|panicked| Err(ApiError::internal(panicked.to_string())))
}

fn submit(
    app: &AppState,
    record: GenerationRecord,
    (client, part): (&ClientKey, Option<&HeaderValue>),
    request: GenerationRequest,
    ticket: &Ticket,
) -> Result<ActiveGeneration, ApiError> {
    let GenerationRequest {
        model,
        prompts,
        prompt_field,
        names,
        unknown,
        ignored: without_effect,
        rules,
        logprobs,
        echo,
        parameters,
    } = request;
    let mut ignored = unknown;
    ignored.extend(without_effect);
    let served = app.models.pick(model.as_deref())?;
    record.model(served.id().as_str());
    let ready = served.ready()?;
    let text = ready.engine.text();
    let reuse = match parameters.cache_prompt {
        true => {
            let part = part.map(HeaderValue::as_bytes);
            prefix_scope::reuse(app.sharing, client, part, parameters.cache_salt.as_deref())
        }
        false => Reuse::Off,
    };
    let mut choices_of_prompts = Vec::new();
    let mut prompt_tokens = 0;
    let mut echoes = EchoBudget::default();
    for prompt in prompts {
        let mut reasons = false;
        let mut sent = None;
        let (tokens, reply) = match prompt {
            PromptInput::Conversation(conversation) => {
                let tools = conversation.tools.clone();
                let prompt = render(conversation, prompt_field, &ready, ticket, &mut ignored)?;
                // The template decides whether the model reasons first, and ends the prompt with an open think block.
                reasons = prompt.trim_end().ends_with("<think>");
                let reply = ReplyParser::of_conversation(reasons, rules.calls.as_ref(), &tools);
                (encode(&prompt, prompt_field, &ready, ticket)?, reply)
            }
            PromptInput::Text(text) => {
                let tokens = encode(&text, prompt_field, &ready, ticket)?;
                sent = echo.then_some(text);
                (tokens, ReplyParser::of_text())
            }
            PromptInput::Tokens(tokens) => (tokens, ReplyParser::of_text()),
        };
        prompt_tokens += tokens.len();
        let echo = match echo {
            true => Some(echoes.echo(sent, &tokens, text, parameters.n, logprobs.is_some())?),
            false => None,
        };
        let constraint = text.constrain_while(&rules, reasons, &|| ticket.is_wanted());
        let constraint = constraint.map_err(|error| ApiError::from_grammar(&error))?;
        check_prompt(&tokens, prompt_field, &ready)?;
        let count = parameters.n;
        let parameters = parameters.clone();
        let mut request = parameters.into_request(tokens, constraint, logprobs, reuse, &ready)?;
        request.score_prompt = echo.is_some();
        choices_of_prompts.push(PromptChoices {
            request,
            reply,
            echo,
            count,
            submitted: 0,
        });
    }
    let mut choices = Vec::new();
    let mut waiting = WaitingChoices::new(ready.clone(), choices_of_prompts, prompt_field);
    waiting.admit(&mut choices)?;
    record.submitted(prompt_tokens);
    let model = ModelInfo {
        id: served.id().to_string(),
        fingerprint: ready.fingerprint.clone(),
    };
    Ok(ActiveGeneration::new(
        model,
        text.clone(),
        (choices, waiting),
        prompt_tokens,
        (ignored, names),
        app.shutdown.clone(),
        record,
    ))
}

/// Refuses a prompt that the engine would never serve. Some are submitted only when others have ended, and all are checked
/// before the first.
fn check_prompt(tokens: &[u32], field: &str, ready: &Ready) -> Result<(), ApiError> {
    let (prompt, context) = (tokens.len(), ready.engine.limits().context);
    let vocab = ready.engine.vocab();
    let unknown = tokens.iter().find(|&&id| id as usize >= vocab);
    let error = match unknown {
        _ if prompt == 0 => SubmitError::PromptEmpty,
        _ if prompt >= context => SubmitError::PromptTooLong { prompt, context },
        Some(&id) => SubmitError::UnknownToken { id, vocab },
        None => return Ok(()),
    };
    Err(ApiError::from_submit(&error, field))
}

/// With `--strict-fields`, refuses a request that has an unknown field.
pub(crate) fn refuse_unknown(unknown: &[String], strict: bool) -> Result<(), ApiError> {
    match unknown.first().filter(|_| strict) {
        None => Ok(()),
        Some(name) => Err(ApiError::unknown_field(
            name,
            "; this server refuses unknown fields (--strict-fields): remove it",
        )),
    }
}

/// Counts the tokens of a request's prompt, when it is its client's turn.
pub(crate) async fn count(
    app: &Arc<AppState>,
    body: JsonBody,
    parse: impl FnOnce(&[u8]) -> Result<GenerationRequest, ApiError> + Send + 'static,
) -> Result<usize, ApiError> {
    prepare(app, body, parse, |app, request, ticket| {
        refuse_unknown(&request.unknown, app.strict_fields)?;
        let ready = app.models.pick(request.model.as_deref())?.ready()?;
        let field = request.prompt_field;
        let mut tokens = 0;
        for prompt in request.prompts {
            let text = match prompt {
                PromptInput::Conversation(conversation) => {
                    render(conversation, field, &ready, ticket, &mut Vec::new())
                }
                PromptInput::Text(text) => Ok(text),
                PromptInput::Tokens(ids) => {
                    tokens += ids.len();
                    continue;
                }
            };
            let encoded = text.and_then(|text| encode(&text, field, &ready, ticket));
            tokens += encoded
                .map_err(|error| error.renamed(&request.names))?
                .len();
        }
        Ok(tokens)
    })
    .await
}

impl GenerationRequest {
    /// The same, with the client's names of its fields.
    pub(crate) fn named(self, names: Names) -> Self {
        Self { names, ..self }
    }
}

/// The prompt that the model's template makes of the conversation.
pub(crate) fn render(
    conversation: Conversation,
    field: &str,
    ready: &Ready,
    ticket: &Ticket,
    ignored: &mut Vec<String>,
) -> Result<String, ApiError> {
    let Some(template) = &ready.engine.text().template else {
        return Err(ApiError::invalid(
            "model",
            "this model has no chat template; put the chat_template.jinja of its base model into its folder and restart the \
             server, or use POST /v1/completions",
        ));
    };
    let Conversation {
        mut messages,
        tools,
        mut variables,
        effort,
        continues,
    } = conversation;
    for (name, value) in &variables {
        // A template that knows no thinking does not think anyway.
        let has_no_effect = name == "enable_thinking" && value == false;
        if !template.reads(name) && !has_no_effect {
            let param = format!("chat_template_kwargs.{name}");
            let near = did_you_mean(name, template.variables());
            if !near.is_empty() {
                let why = format!("this model's chat template does not read it{near}");
                return Err(ApiError::unsupported(param, &why));
            }
            ignored.push(param);
        }
    }
    reasoning_effort::add_to(&mut variables, effort, template, !tools.is_empty())?;
    // Where the template puts the end of the last message. The message itself may occur in what the template writes after it.
    let mark = continues.then(|| random::id("end-of-message-"));
    if let (Some(mark), Some(last)) = (&mark, messages.last_mut()) {
        let text = last["content"].as_str().unwrap_or_default();
        last["content"] = format!("{text}{mark}").into();
    }
    let render = |messages: Vec<Value>| {
        let is_wanted = || ticket.is_wanted();
        let mut variables = variables.clone();
        if continues {
            variables.insert("add_generation_prompt".into(), false.into());
        }
        template.render_in_place(messages, &tools, &variables, &is_wanted)
    };
    let is_system = |(_, message): &(usize, &Value)| message["role"] == "system";
    let later_system = messages.iter().enumerate().skip(1).find(is_system);
    let later_system = later_system.map(|(index, _)| format!("messages[{index}].role"));
    let folded = fold_later_system(&messages);
    let rendered = match (render(messages), folded) {
        // This template accepts a system message at the beginning only.
        (Err(TemplateError::Raised(_)), Some(folded)) => {
            ignored.extend(later_system);
            render(folded)
        }
        (rendered, _) => rendered,
    };
    let mut prompt = rendered.map_err(|error| {
        let invalid = ApiError::invalid(field, error.to_string());
        match error {
            TemplateError::TooLong { .. } => invalid.with_code("context_length_exceeded"),
            _ => invalid,
        }
    })?;
    if let Some(mark) = mark {
        let Some(end) = prompt.rfind(&mark) else {
            let message = "this model's chat template changes the last message, so that it cannot be continued; send \
                           continue_final_message: false";
            return Err(ApiError::invalid("continue_final_message", message));
        };
        prompt.truncate(end);
        // Tokens of words begin with their space.
        prompt.truncate(prompt.trim_end().len());
    }
    Ok(prompt)
}

/// The tokens of a prompt. One that does not fit into the context is refused as soon as that is certain.
pub(crate) fn encode(
    text: &str,
    field: &str,
    ready: &Ready,
    ticket: &Ticket,
) -> Result<Vec<u32>, ApiError> {
    let context = ready.engine.limits().context;
    // One token at least is left for the answer.
    let most = context.saturating_sub(1);
    let tokenizer = &ready.engine.text().tokenizer;
    let encoded = tokenizer.encode_within(text, most, || ticket.is_wanted());
    encoded.map_err(|error| match error {
        TokenizerError::TooLong { at_least } => {
            ApiError::too_long(field, &format!("at least {at_least}"), context)
        }
        error => ApiError::invalid(field, error.to_string()),
    })
}
