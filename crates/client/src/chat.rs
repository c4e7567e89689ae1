//! `POST /v1/chat/completions`: the request and what is read of its response.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A chat completion request at temperature 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The conversation; the model answers its last message.
    pub messages: Vec<ChatMessage>,
    /// The model's id; the server's first model if none.
    pub model: Option<String>,
    /// The largest number of tokens to generate.
    pub max_tokens: u32,
    /// Further fields of the request, such as `chat_template_kwargs`. They override the fields above.
    pub more: Map<String, Value>,
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// The first choice of a chat completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatResponse {
    /// `choices[0].message.content`.
    pub text: String,
    /// `stop`, `length` or another; empty if the server does not send it.
    pub finish_reason: String,
    /// The build that answered, if the server sends it.
    pub system_fingerprint: Option<String>,
    /// Tokens of the prompt that were reused instead of computed, if the server sends it.
    pub cached_tokens: Option<u64>,
}

impl ChatRequest {
    /// One user message, for the server's first model.
    pub fn user(text: &str, max_tokens: u32) -> Self {
        Self {
            messages: vec![ChatMessage {
                role: "user".to_owned(),
                content: text.to_owned(),
            }],
            model: None,
            max_tokens,
            more: Map::new(),
        }
    }

    /// The request's JSON body.
    pub fn body(&self) -> Value {
        let mut fields = Map::new();
        if let Some(model) = &self.model {
            fields.insert("model".to_owned(), model.clone().into());
        }
        fields.insert("messages".to_owned(), json!(self.messages));
        fields.insert("temperature".to_owned(), 0.into());
        fields.insert("max_tokens".to_owned(), self.max_tokens.into());
        fields.extend(self.more.clone());
        fields.into()
    }
}

impl ChatResponse {
    /// Reads a response's JSON; none without `choices[0].message.content`.
    pub(crate) fn from_json(response: &Value) -> Option<Self> {
        let choice = &response["choices"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            text: text(&choice["message"]["content"])?,
            finish_reason: text(&choice["finish_reason"]).unwrap_or_default(),
            system_fingerprint: text(&response["system_fingerprint"]),
            cached_tokens: response["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64(),
        })
    }
}
