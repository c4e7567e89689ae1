//! One generation, as all protocols see it: what they ask for, and what they get.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use sanctum_config::did_you_mean;
use sanctum_engine::prefix::Reuse;
use sanctum_engine::schedule::{Event, FinishReason, Generation, KeptMemory, TokenLogprob, Usage};
use sanctum_engine::text::{TemplateError, Text, TokenizerError};
use sanctum_grammar::Rules;
use serde_json::Value;

use super::body::JsonBody;
use super::conversation::{Conversation, fold_later_system};
use super::echo::{Echo, EchoBudget, EchoPart};
use super::error::ApiError;
use super::names::Names;
use super::parameters::GenerationParameters;
use super::prefix_scope;
use super::reply::{ReplyParser, ReplyPart};
use super::state::AppState;
use crate::client_key::ClientKey;
use crate::gate::GenerationRecord;
use crate::models::Ready;
use crate::prepare::Ticket;
use crate::shutdown::Shutdown;

/// Lists the fields of the request that had no effect.
const IGNORED_FIELDS: HeaderName = HeaderName::from_static("sanctum-ignored-fields");
/// Names in that header, at most.
const MOST_NAMED: usize = 20;

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

/// A generation in progress, of one or several choices. Dropping it, as the HTTP layer does when the client has
/// disconnected, cancels it.
pub(crate) struct ActiveGeneration {
    model: ModelInfo,
    text: Text,
    choices: Vec<RunningChoice>,
    /// The choice that is polled first next time, so that none is preferred.
    turn: usize,
    usage: Usage,
    prompt_tokens: usize,
    ignored: Vec<String>,
    shutdown: Shutdown,
    record: GenerationRecord,
}

/// One continuation.
struct RunningChoice {
    reply: ReplyParser,
    /// None once it has ended.
    events: Option<Generation>,
    kept: KeptMemory,
    /// What comes before the first token.
    echo: Option<Echo>,
    /// Whether its prompt is counted in the usage: once for all continuations of it.
    counts_prompt: bool,
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
    /// A part of the prompt, before the first token, if the request has `echo`.
    Prompt {
        /// Of which choice, from 0.
        choice: usize,
        /// The part.
        part: EchoPart,
    },
    /// One more token.
    Token {
        /// Of which choice, from 0.
        choice: usize,
        /// What became certain with it; often nothing.
        parts: Vec<ReplyPart>,
        /// If it was asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The end of a choice.
    Finished {
        /// Which, from 0.
        choice: usize,
        /// What remained.
        parts: Vec<ReplyPart>,
        /// The end-of-sequence token, if log probabilities of the prompt and the answer were asked for: clients take the
        /// last of them for the answer's.
        eos: Option<TokenLogprob>,
        /// Why it ended.
        end: GenerationEnd,
        /// What all cost, with the last of them.
        usage: Option<Usage>,
    },
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GenerationEnd {
    /// An end-of-sequence token, or the end of what a constraint allows.
    Stop,
    /// This stop string of the request.
    StopString(String),
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
    let client = body.owner.client().clone();
    prepare(app, body, parse, move |app, (request, rest), ticket| {
        refuse_unknown(&request.unknown, app.strict_fields)?;
        let names = request.names.clone();
        let submitted = submit(app, record, &client, request, ticket);
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
    client: &ClientKey,
    request: GenerationRequest,
    ticket: &Ticket,
) -> Result<ActiveGeneration, ApiError> {
    let GenerationRequest {
        model,
        prompts,
        prompt_field,
        names: _,
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
        true => prefix_scope::reuse(app.sharing, client, parameters.cache_salt.as_deref()),
        false => Reuse::Off,
    };
    let mut choices = Vec::new();
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
                let forced = rules.calls.as_ref().is_some_and(|calls| calls.required);
                let reply = ReplyParser::of_conversation(reasons, forced, &tools);
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
        let constraint = text.constrain(&rules, reasons);
        let constraint = constraint.map_err(|error| ApiError::from_grammar(&error))?;
        for number in 0..parameters.n {
            let parameters = parameters.clone();
            let mut request = parameters.into_request(
                tokens.clone(),
                constraint.clone(),
                logprobs,
                reuse,
                &ready,
            )?;
            request.sampling.seed = request.sampling.seed.wrapping_add(number as u64);
            request.score_prompt = echo.is_some();
            let submitted = ready.engine.submit(request);
            let events = submitted.map_err(|error| ApiError::from_submit(&error, prompt_field))?;
            choices.push(RunningChoice {
                reply: reply.clone(),
                kept: events.kept(),
                events: Some(events),
                echo: echo.clone(),
                counts_prompt: number == 0,
            });
        }
    }
    record.submitted(prompt_tokens);
    Ok(ActiveGeneration {
        model: ModelInfo {
            id: served.id().to_string(),
            fingerprint: ready.fingerprint.clone(),
        },
        text: text.clone(),
        choices,
        turn: 0,
        usage: Usage::default(),
        prompt_tokens,
        ignored,
        shutdown: app.shutdown.clone(),
        record,
    })
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
        messages,
        tools,
        variables,
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
    let last = messages.last().map(|message| message["content"].clone());
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
    if continues {
        let last = last.as_ref().and_then(Value::as_str).unwrap_or_default();
        let end = prompt.rfind(last.trim()).map(|at| at + last.trim().len());
        let Some(end) = end else {
            let message = "this model's chat template changes the last message, so that it cannot be continued; send \
                           continue_final_message: false";
            return Err(ApiError::invalid("continue_final_message", message));
        };
        prompt.truncate(end);
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

impl ActiveGeneration {
    /// The model that generates.
    pub(crate) fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The text of tokens.
    pub(crate) fn text(&self) -> &Text {
        &self.text
    }

    /// Puts the names of fields without effect into a header of the response.
    pub(crate) fn report_ignored(ignored: &[String], response: &mut Response) {
        if ignored.is_empty() {
            return;
        }
        let named: Vec<String> = ignored
            .iter()
            .take(MOST_NAMED)
            .map(|name| header_safe(name))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&named.join(", ")) {
            response.headers_mut().insert(IGNORED_FIELDS, value);
        }
    }

    /// The fields of the request that have no effect, which are counted now.
    pub(crate) fn take_ignored(&mut self) -> Vec<String> {
        self.record.ignored_fields(self.ignored.len());
        std::mem::take(&mut self.ignored)
    }

    /// Tokens of all prompts.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// How many choices there are.
    pub(crate) fn choices(&self) -> usize {
        self.choices.len()
    }

    /// The memory of a choice's log probabilities, to be held as long as they are.
    pub(crate) fn kept(&self, choice: usize) -> KeptMemory {
        self.choices[choice].kept.clone()
    }

    /// The next output of any choice. None follows the last [`GenerationOutput::Finished`] or an error.
    ///
    /// # Errors
    /// If the engine fails, or the server's drain limit has passed.
    pub(crate) async fn next(&mut self) -> Result<GenerationOutput, ApiError> {
        let mut echoes = self.choices.iter_mut().enumerate();
        let part = echoes.find_map(|(index, choice)| Some((index, choice.next_echo()?)));
        if let Some((choice, part)) = part {
            return Ok(GenerationOutput::Prompt { choice, part });
        }
        let (choices, turn) = (&mut self.choices, self.turn);
        let event = poll_fn(|context| poll_event(choices, turn, context));
        let (choice, event) = tokio::select! {
            biased;
            event = event => event,
            () = self.shutdown.cancelled() => {
                self.record.cancelled();
                return Err(ApiError::shutting_down());
            }
        };
        self.turn = (choice + 1) % self.choices.len();
        let stopped = "the engine has stopped; see the server's log for the reason".to_owned();
        let running = &mut self.choices[choice];
        match event.unwrap_or(Event::Failed(stopped)) {
            Event::Prompt { logprobs } => {
                if let Some(echo) = &mut running.echo {
                    echo.scored(logprobs);
                }
                let part = running.next_echo().unwrap_or_default();
                Ok(GenerationOutput::Prompt { choice, part })
            }
            Event::Token { text, logprob, .. } => {
                self.record.token();
                let parts = running.reply.push(text);
                Ok(GenerationOutput::Token {
                    choice,
                    parts,
                    logprob,
                })
            }
            Event::Finished {
                reason,
                stop,
                text,
                eos,
                usage,
            } => {
                let eos = eos.filter(|_| running.echo.is_some());
                let parts = running.reply.finish(text, reason == FinishReason::Length);
                // Calls count only if the reply was not cut off after them.
                let end = match reason {
                    FinishReason::Stop if running.reply.has_called() => GenerationEnd::ToolCalls,
                    FinishReason::Stop => {
                        stop.map_or(GenerationEnd::Stop, GenerationEnd::StopString)
                    }
                    FinishReason::Length => GenerationEnd::Length,
                };
                running.events = None;
                self.usage.completion_tokens += usage.completion_tokens;
                if running.counts_prompt {
                    self.usage.prompt_tokens += usage.prompt_tokens;
                    self.usage.cached_tokens += usage.cached_tokens;
                }
                let is_last = self.choices.iter().all(|choice| choice.events.is_none());
                if is_last {
                    let name = match reason {
                        FinishReason::Stop => "stop",
                        FinishReason::Length => "length",
                    };
                    self.record.finished(name, self.usage);
                }
                Ok(GenerationOutput::Finished {
                    choice,
                    parts,
                    eos,
                    end,
                    usage: is_last.then_some(self.usage),
                })
            }
            Event::Failed(reason) => {
                self.record.failed();
                Err(ApiError::internal(reason))
            }
        }
    }
}

impl RunningChoice {
    /// The next part of the prompt, if it is sent back and there is one now.
    fn next_echo(&mut self) -> Option<EchoPart> {
        self.echo.as_mut()?.next_part()
    }
}

/// A name as a header may show it: at most 64 characters that need no escape.
fn header_safe(name: &str) -> String {
    let safe = |c: char| match c.is_ascii_alphanumeric() || "._-[]".contains(c) {
        true => c,
        false => '?',
    };
    name.chars().take(64).map(safe).collect()
}

/// The next event of any choice that has not ended, beginning with choice `turn`.
fn poll_event(
    choices: &mut [RunningChoice],
    turn: usize,
    context: &mut Context<'_>,
) -> Poll<(usize, Option<Event>)> {
    let count = choices.len();
    for index in (0..count).map(|offset| (turn + offset) % count) {
        if let Some(events) = &mut choices[index].events
            && let Poll::Ready(event) = events.poll_next(context)
        {
            return Poll::Ready((index, event));
        }
    }
    Poll::Pending
}
