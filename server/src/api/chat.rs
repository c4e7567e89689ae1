//! `POST /v1/chat/completions`.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use sanctum_config::did_you_mean;
use sanctum_engine::schedule::{FinishReason, TokenLogprob, Usage};
use sanctum_engine::text::{TemplateError, Text};
use serde_json::Value;

use super::answer::Answer;
use super::body::JsonBody;
use super::chat_request::ChatRequest;
use super::error::ApiError;
use super::running::{Running, Step};
use super::wire::{Body, ChatChoice, ChatDelta, Delta, Head, Message};
use super::{App, logprobs, prepare, sse};
use crate::audit::Account;
use crate::models::Ready;
use crate::prepare::Ticket;

/// Answers `POST /v1/chat/completions`.
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let shared = app.clone();
    let (running, talk, stream) = prepare(&app, body, move |body, ticket| {
        let mut request = ChatRequest::parse(body)?;
        let served = shared.models.pick(request.model.as_deref())?;
        account.model(served.id().as_str());
        let ready = served.ready()?;
        let ready = &*ready;
        let prompt = render(&mut request, ready, ticket)?;
        let talk = |object| Talk {
            head: Head::new("chatcmpl-", object, served, ready),
            answer: Answer::new(&prompt, &request.tools),
            logprobs: request.logprobs.is_some().then(Vec::new),
            words: ready.engine.text().clone(),
        };
        let stream = request.parameters.stream;
        let talk = talk(match stream {
            Some(_) => "chat.completion.chunk",
            None => "chat.completion",
        });
        let tokens = super::tokens(&prompt, "messages", ready, ticket)?;
        let request = request
            .parameters
            .into_request(tokens, request.logprobs, ready)?;
        let running = Running::submit(&shared, served, ready, request, "messages", began, account)?;
        Ok((running, talk, stream))
    })
    .await?;
    match stream {
        None => talk.whole(running).await,
        Some(stream) => Ok(sse::stream(
            running,
            ChatChunks {
                talk,
                include_usage: stream.include_usage,
            },
        )),
    }
}

/// The prompt that the model's template makes of the conversation.
fn render(request: &mut ChatRequest, ready: &Ready, ticket: &Ticket) -> Result<String, ApiError> {
    let Some(template) = &ready.engine.text().template else {
        return Err(ApiError::invalid(
            "model",
            "this model has no chat template; put the chat_template.jinja of its base model into its folder and restart the \
             server, or use POST /v1/completions",
        ));
    };
    for (name, value) in &request.template {
        // Not to think is what a template that knows no thinking does anyway.
        let idle = name == "enable_thinking" && value == false;
        if !template.reads(name) && !idle {
            let param = format!("chat_template_kwargs.{name}");
            let near = did_you_mean(name, template.variables());
            let mend = format!("this model's chat template does not read it{near}");
            return Err(ApiError::unsupported(param, &mend));
        }
    }
    let goes_on = || ticket.goes_on();
    template
        .render_in_place(
            std::mem::take(&mut request.messages),
            &request.tools,
            &request.template,
            &goes_on,
        )
        .map_err(|error| ApiError::Invalid {
            param: Some("messages".to_owned()),
            message: error.to_string(),
            code: matches!(error, TemplateError::TooLong { .. })
                .then_some("context_length_exceeded"),
        })
}

/// One answer in the making.
struct Talk {
    head: Head,
    answer: Answer,
    /// Those not yet sent, if they were asked for. All generated tokens are in them, those of thoughts, calls and
    /// held back text included.
    logprobs: Option<Vec<TokenLogprob>>,
    /// What the tokens are in text.
    words: Text,
}

impl Talk {
    fn token(&mut self, text: &str, logprob: Option<TokenLogprob>) -> Vec<Delta> {
        if let Some(all) = &mut self.logprobs {
            all.extend(logprob);
        }
        self.answer.push(text)
    }

    /// The log probabilities gathered since the last call, in the form of a choice's `logprobs`.
    fn take_logprobs(&mut self) -> Option<Value> {
        let tokens = std::mem::take(self.logprobs.as_mut()?);
        Some(logprobs::chat(&tokens, &self.words))
    }

    async fn whole(mut self, mut running: Running) -> Result<Response, ApiError> {
        let mut message = Message::default();
        loop {
            match running.next().await? {
                Step::Token { text, logprob } => {
                    let deltas = self.token(&text, logprob);
                    deltas.into_iter().for_each(|delta| message.add(delta));
                }
                Step::Finished {
                    reason,
                    text,
                    usage,
                } => {
                    let deltas = self.answer.finish(&text);
                    deltas.into_iter().for_each(|delta| message.add(delta));
                    let parts = self.logprobs.take();
                    let choice = ChatChoice {
                        index: 0,
                        message: message.whole(),
                        logprobs: parts.as_ref().map(|_| logprobs::later()),
                        finish_reason: self.answer.finish_reason(reason),
                    };
                    let words = self.words;
                    let parts = parts.map(|tokens| {
                        let tokens = logprobs::Tokens::new(tokens, running.kept());
                        logprobs::chat_parts(tokens, words)
                    });
                    return Ok(Body::whole(&self.head, choice, usage).response(parts));
                }
            }
        }
    }
}

/// The chunks of a streamed answer.
struct ChatChunks {
    talk: Talk,
    include_usage: bool,
}

impl ChatChunks {
    fn chunk(
        &mut self,
        delta: Delta,
        logprobs: Option<Value>,
        end: Option<&'static str>,
    ) -> String {
        let choice = ChatDelta {
            index: 0,
            delta,
            logprobs,
            finish_reason: end,
        };
        Body::chunk(&self.talk.head, choice, self.include_usage)
    }

    /// A chunk for each delta, the log probabilities with the first of them. A token that made no delta is sent for
    /// the sake of its log probability.
    fn chunks(&mut self, mut deltas: Vec<Delta>) -> Vec<String> {
        let mut logprobs = match &self.talk.logprobs {
            Some(tokens) if !tokens.is_empty() => self.talk.take_logprobs(),
            _ => None,
        };
        if deltas.is_empty() && logprobs.is_some() {
            deltas.push(Delta::default());
        }
        deltas
            .into_iter()
            .map(|delta| self.chunk(delta, logprobs.take(), None))
            .collect()
    }
}

impl sse::Chunks for ChatChunks {
    fn opening(&mut self) -> Vec<String> {
        let role = Delta {
            role: Some("assistant"),
            content: Some(String::new()),
            ..Delta::default()
        };
        vec![self.chunk(role, None, None)]
    }

    fn token(&mut self, text: &str, logprob: Option<TokenLogprob>) -> Vec<String> {
        let deltas = self.talk.token(text, logprob);
        self.chunks(deltas)
    }

    fn closing(&mut self, reason: FinishReason, text: &str, usage: Usage) -> Vec<String> {
        let deltas = self.talk.answer.finish(text);
        let mut chunks = self.chunks(deltas);
        let end = self.talk.answer.finish_reason(reason);
        chunks.push(self.chunk(Delta::default(), None, Some(end)));
        if self.include_usage {
            chunks.push(Body::<ChatDelta>::usage(&self.talk.head, usage));
        }
        chunks
    }
}
