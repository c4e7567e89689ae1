//! One generation, as all protocols see it: what they ask for, and what they get.

use std::sync::Arc;

use sanctum_config::did_you_mean;
use sanctum_engine::schedule::{Event, FinishReason, Generation, KeptMemory, TokenLogprob, Usage};
use sanctum_engine::text::{TemplateError, Text, TokenizerError};

use super::body::JsonBody;
use super::conversation::Conversation;
use super::error::ApiError;
use super::parameters::GenerationParameters;
use super::reply::{ReplyParser, ReplyPart};
use super::state::AppState;
use crate::gate::GenerationRecord;
use crate::models::Ready;
use crate::prepare::Ticket;
use crate::shutdown::Shutdown;

/// What a protocol asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GenerationRequest {
    /// The model; none: the first.
    pub model: Option<String>,
    /// What the model continues.
    pub prompt: PromptInput,
    /// The field of the request that errors about the prompt name.
    pub prompt_field: &'static str,
    /// `Some(k)`: report log probabilities, and those of the k most likely tokens.
    pub logprobs: Option<usize>,
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

/// A generation in progress. Dropping it, as the HTTP layer does when the client has disconnected, cancels it.
pub(crate) struct ActiveGeneration {
    model: ModelInfo,
    text: Text,
    reply: ReplyParser,
    events: Generation,
    shutdown: Shutdown,
    record: GenerationRecord,
}

/// The model that generates.
#[derive(Clone, Debug)]
pub(crate) struct ModelInfo {
    /// The id that requests name it by.
    pub id: String,
    /// Names its weights and its arithmetic.
    pub fingerprint: String,
}

/// What a generation yields.
#[derive(Debug)]
pub(crate) enum GenerationOutput {
    /// One more token.
    Token {
        /// What became certain with it; often nothing.
        parts: Vec<ReplyPart>,
        /// If it was asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The end.
    Finished {
        /// What remained.
        parts: Vec<ReplyPart>,
        /// Why it ended.
        end: GenerationEnd,
        /// What it cost.
        usage: Usage,
    },
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GenerationEnd {
    /// An end-of-sequence token or a stop string.
    Stop,
    /// The same, after tools were called.
    ToolCalls,
    /// `max_tokens`, or the end of the context.
    Length,
}

/// Prepares a request when it is its client's turn, and submits it to the engine of its model. `parse` turns the body into
/// the request and what else the protocol needs.
pub(crate) async fn start<T: Send + 'static>(
    app: &Arc<AppState>,
    record: GenerationRecord,
    body: JsonBody,
    parse: impl FnOnce(&[u8]) -> Result<(GenerationRequest, T), ApiError> + Send + 'static,
) -> Result<(ActiveGeneration, T), ApiError> {
    let JsonBody {
        bytes,
        owner,
        memory,
    } = body;
    let size = bytes.len();
    let shared = app.clone();
    let work = move |ticket: &Ticket| {
        let parsed = parse(&bytes);
        // The body is not needed any more, and a long prompt takes long.
        drop((bytes, memory));
        let (request, rest) = parsed?;
        Ok((submit(&shared, record, request, ticket)?, rest))
    };
    let prepared = app.preparing.run(owner, size, work).await;
    prepared.unwrap_or_else(|panicked| Err(ApiError::internal(panicked.to_string())))
}

fn submit(
    app: &AppState,
    record: GenerationRecord,
    request: GenerationRequest,
    ticket: &Ticket,
) -> Result<ActiveGeneration, ApiError> {
    let GenerationRequest {
        model,
        prompt,
        prompt_field,
        logprobs,
        parameters,
    } = request;
    let served = app.models.pick(model.as_deref())?;
    record.model(served.id().as_str());
    let ready = served.ready()?;
    let (tokens, reply) = match prompt {
        PromptInput::Conversation(conversation) => {
            let tools = conversation.tools.clone();
            let prompt = render(conversation, prompt_field, &ready, ticket)?;
            let reply = ReplyParser::of_conversation(&prompt, &tools);
            (encode(&prompt, prompt_field, &ready, ticket)?, reply)
        }
        PromptInput::Text(text) => (
            encode(&text, prompt_field, &ready, ticket)?,
            ReplyParser::of_text(),
        ),
        PromptInput::Tokens(tokens) => (tokens, ReplyParser::of_text()),
    };
    let prompt_tokens = tokens.len();
    let request = parameters.into_request(tokens, logprobs, &ready)?;
    let submitted = ready.engine.submit(request);
    let events = submitted.map_err(|error| ApiError::from_submit(&error, prompt_field))?;
    record.submitted(prompt_tokens);
    Ok(ActiveGeneration {
        model: ModelInfo {
            id: served.id().to_string(),
            fingerprint: ready.fingerprint.clone(),
        },
        text: ready.engine.text().clone(),
        reply,
        events,
        shutdown: app.shutdown.clone(),
        record,
    })
}

/// The prompt that the model's template makes of the conversation.
fn render(
    conversation: Conversation,
    field: &str,
    ready: &Ready,
    ticket: &Ticket,
) -> Result<String, ApiError> {
    let Some(template) = &ready.engine.text().template else {
        return Err(ApiError::invalid(
            "model",
            "this model has no chat template; put the chat_template.jinja of its base model into its folder and restart the \
             server, or use POST /v1/completions",
        ));
    };
    let Conversation {
        messages,
        tools,
        variables,
    } = conversation;
    for (name, value) in &variables {
        // A template that knows no thinking does not think anyway.
        let has_no_effect = name == "enable_thinking" && value == false;
        if !template.reads(name) && !has_no_effect {
            let param = format!("chat_template_kwargs.{name}");
            let near = did_you_mean(name, template.variables());
            let why = format!("this model's chat template does not read it{near}");
            return Err(ApiError::unsupported(param, &why));
        }
    }
    let is_wanted = || ticket.is_wanted();
    let rendered = template.render_in_place(messages, &tools, &variables, &is_wanted);
    rendered.map_err(|error| {
        let invalid = ApiError::invalid(field, error.to_string());
        match error {
            TemplateError::TooLong { .. } => invalid.with_code("context_length_exceeded"),
            _ => invalid,
        }
    })
}

/// The tokens of a prompt. One that does not fit into the context is refused as soon as that is certain.
fn encode(text: &str, field: &str, ready: &Ready, ticket: &Ticket) -> Result<Vec<u32>, ApiError> {
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

impl ActiveGeneration {
    /// The model that generates.
    pub(crate) fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The text of tokens.
    pub(crate) fn text(&self) -> &Text {
        &self.text
    }

    /// The memory of its log probabilities, to be held as long as they are.
    pub(crate) fn kept(&self) -> KeptMemory {
        self.events.kept()
    }

    /// The next output. None follows [`GenerationOutput::Finished`] or an error.
    ///
    /// # Errors
    /// If the engine fails, or the server's drain limit has passed.
    pub(crate) async fn next(&mut self) -> Result<GenerationOutput, ApiError> {
        let event = tokio::select! {
            biased;
            event = self.events.next() => event,
            () = self.shutdown.cancelled() => {
                self.record.cancelled();
                return Err(ApiError::shutting_down());
            }
        };
        let stopped = "the engine has stopped; see the server's log for the reason".to_owned();
        match event.unwrap_or(Event::Failed(stopped)) {
            Event::Token { text, logprob, .. } => {
                self.record.token();
                let parts = self.reply.push(text);
                Ok(GenerationOutput::Token { parts, logprob })
            }
            Event::Finished {
                reason,
                text,
                usage,
            } => {
                let name = match reason {
                    FinishReason::Stop => "stop",
                    FinishReason::Length => "length",
                };
                self.record.finished(name, usage);
                let parts = self.reply.finish(text);
                // Calls count only if the reply was not cut off after them.
                let end = match reason {
                    FinishReason::Stop if self.reply.has_called() => GenerationEnd::ToolCalls,
                    FinishReason::Stop => GenerationEnd::Stop,
                    FinishReason::Length => GenerationEnd::Length,
                };
                Ok(GenerationOutput::Finished { parts, end, usage })
            }
            Event::Failed(reason) => {
                self.record.failed();
                Err(ApiError::internal(reason))
            }
        }
    }
}
