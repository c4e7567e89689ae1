//! `POST /v1/chat/completions`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use sanctum_config::did_you_mean;
use sanctum_engine::request::{FinishReason, TokenLogprob, Usage};
use serde_json::{Value, json};

use super::answer::Answer;
use super::body::JsonBody;
use super::chat_request::ChatRequest;
use super::error::ApiError;
use super::running::{Running, Step};
use super::wire::{Body, ChatChoice, ChatDelta, Delta, Head, Message};
use super::{App, blocking, logprobs, sse};
use crate::audit::Account;
use crate::models::Ready;

/// Answers `POST /v1/chat/completions`.
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let shared = app.clone();
    let (running, talk, stream) = blocking(move || {
        let request = ChatRequest::parse(&body)?;
        let served = shared.models.pick(request.model.as_deref())?;
        account.model(served.id().as_str());
        let ready = served.ready()?;
        let ready = &*ready;
        let prompt = render(&request, ready)?;
        let talk = |object| Talk {
            head: Head::new("chatcmpl-", object, served, ready),
            answer: Answer::new(&prompt, &request.tools),
            logprobs: request.logprobs.is_some().then(Vec::new),
        };
        let stream = request.parameters.stream;
        let talk = talk(match stream {
            Some(_) => "chat.completion.chunk",
            None => "chat.completion",
        });
        let tokens = super::tokens(&prompt, "messages", ready)?;
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
fn render(request: &ChatRequest, ready: &Ready) -> Result<String, ApiError> {
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
    template
        .render(&request.messages, &request.tools, &request.template)
        .map_err(|error| ApiError::invalid("messages", error.to_string()))
}

/// One answer in the making.
struct Talk {
    head: Head,
    answer: Answer,
    /// Those not yet sent, if they were asked for. All generated tokens are in them, those of thoughts, calls and
    /// held back text included.
    logprobs: Option<Vec<Value>>,
}

impl Talk {
    fn token(&mut self, text: &str, logprob: Option<&TokenLogprob>) -> Vec<Delta> {
        if let (Some(all), Some(token)) = (&mut self.logprobs, logprob) {
            all.push(logprobs::chat_token(token));
        }
        self.answer.push(text)
    }

    /// The log probabilities gathered since the last call, in the form of a choice's `logprobs`.
    fn take_logprobs(&mut self) -> Option<Value> {
        let tokens = std::mem::take(self.logprobs.as_mut()?);
        Some(json!({ "content": tokens, "refusal": null }))
    }

    async fn whole(mut self, mut running: Running) -> Result<Response, ApiError> {
        let mut deltas = Vec::new();
        loop {
            match running.next().await? {
                Step::Token { text, logprob } => {
                    deltas.extend(self.token(&text, logprob.as_ref()));
                }
                Step::Finished {
                    reason,
                    text,
                    usage,
                } => {
                    deltas.extend(self.answer.finish(&text));
                    let choice = ChatChoice {
                        index: 0,
                        message: message(deltas),
                        logprobs: self.take_logprobs(),
                        finish_reason: self.answer.finish_reason(reason),
                    };
                    return Ok(Json(Body::whole(&self.head, choice, usage)).into_response());
                }
            }
        }
    }
}

/// All that was said, put together.
fn message(deltas: Vec<Delta>) -> Message {
    let mut content = String::new();
    let mut message = Message {
        role: "assistant",
        content: None,
        reasoning_content: None,
        tool_calls: Vec::new(),
    };
    for delta in deltas {
        content.extend(delta.content);
        if let Some(more) = delta.reasoning_content {
            message
                .reasoning_content
                .get_or_insert_default()
                .push_str(&more);
        }
        for mut call in delta.tool_calls {
            call.index = None;
            message.tool_calls.push(call);
        }
    }
    if message.tool_calls.is_empty() || !content.is_empty() {
        message.content = Some(content);
    }
    message
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

    fn token(&mut self, text: &str, logprob: Option<&TokenLogprob>) -> Vec<String> {
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
