//! Why a request gets no answer: the status, the code and the words of each error, in OpenAI's shape
//! (`{"error": {"message", "type", "param", "code"}}`).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sanctum_engine::schedule::SubmitError;
use sanctum_grammar::GrammarError;
use serde_json::{Value, json};

use super::names::Names;
use crate::models::{ModelError, SwapError};

/// The code of the error that a response is, for the list of refusals: an extension of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub &'static str);

/// An error of the API.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    status: StatusCode,
    /// A word that programs can match on.
    code: Option<&'static str>,
    /// The field of the body, as a path such as `messages[1].content`; none where no field is at fault.
    param: Option<String>,
    /// What is wrong, and what to send instead.
    message: String,
    /// When to try again, in seconds.
    retry_after: Option<u64>,
    /// The rest of the body may still arrive, and would be taken for the next request.
    closes: bool,
}

impl ApiError {
    /// Any error.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: Some(code),
            param: None,
            message: message.into(),
            retry_after: None,
            closes: false,
        }
    }

    /// A field that is wrong.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::bad_request(message)
        }
    }

    /// A body that is wrong as a whole.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: None,
            ..Self::new(StatusCode::BAD_REQUEST, "", message)
        }
    }

    /// A field that OpenAI knows, that would change the answer, and that this server cannot honour.
    pub(crate) fn unsupported(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        let message = format!("`{param}` is not supported: {why}");
        Self::invalid(param, message).with_code("unsupported_parameter")
    }

    /// A field that this server does not know; `fix` is the end of the sentence.
    pub(crate) fn unknown_field(path: &str, fix: &str) -> Self {
        let shown: String = path.chars().take(80).collect();
        let message = format!("unknown field `{shown}`{fix}");
        Self::invalid(shown, message).with_code("unknown_parameter")
    }

    /// A prompt that does not fit into the context; `tokens` is its length in words.
    pub(crate) fn too_long(param: &str, tokens: &str, context: usize) -> Self {
        let message = format!(
            "the prompt has {tokens} tokens and the context holds {context}; shorten the prompt (one token at least is left \
             for the answer)"
        );
        Self::invalid(param, message).with_code("context_length_exceeded")
    }

    /// The server has failed.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_failed", message)
    }

    /// The server drains.
    pub(crate) fn shutting_down() -> Self {
        let message = "the server is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message).with_retry_after(5)
    }

    /// The same with a code.
    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The same for a field.
    pub(crate) fn with_param(self, param: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    /// The same, and the client should try again after so many seconds.
    pub(crate) fn with_retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// The same, and the connection is closed after it.
    pub(crate) fn closing(self) -> Self {
        Self {
            closes: true,
            ..self
        }
    }

    /// The same about a chat body that was translated: the field has the client's name.
    pub(crate) fn renamed(self, names: &Names) -> Self {
        let Some(param) = &self.param else {
            return self;
        };
        Self {
            message: names.message(param, &self.message),
            param: Some(names.client(param)),
            ..self
        }
    }

    /// Why the rules for the form of an answer were refused.
    pub(crate) fn from_grammar(error: &GrammarError) -> Self {
        match error.path() {
            Some(path) => {
                Self::invalid(path, error.to_string()).with_code("unsupported_constraint")
            }
            None => Self::internal(error.to_string()),
        }
    }

    /// Why the engine did not accept a request; `prompt` is the field that holds the prompt.
    pub(crate) fn from_submit(error: &SubmitError, prompt: &str) -> Self {
        let message = error.to_string();
        match *error {
            SubmitError::QueueFull { retry_after_s, .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
                    .with_retry_after(retry_after_s.max(1))
            }
            SubmitError::PromptTooLong {
                prompt: tokens,
                context,
            } => Self::too_long(prompt, &tokens.to_string(), context),
            SubmitError::TooMuchMemory { .. } => {
                Self::invalid(prompt, message).with_code("context_length_exceeded")
            }
            SubmitError::MemoryShared { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "memory_shared", message)
                    .with_retry_after(5)
            }
            SubmitError::PromptEmpty | SubmitError::UnknownToken { .. } => {
                Self::invalid(prompt, message)
            }
            SubmitError::Draining => Self::shutting_down(),
            SubmitError::Stopped => Self::internal(message),
        }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The field that is at fault.
    #[cfg(test)]
    pub(crate) fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// The body: also what a stream that cannot continue sends as its last event.
    pub(crate) fn body(&self) -> Value {
        error_body(self.status, &self.message, self.param.as_deref(), self.code)
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let message = error.to_string();
        match error {
            ModelError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "model_not_found", message).with_param("model")
            }
            ModelError::Loading { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "model_loading", message)
                    .with_retry_after(5)
            }
        }
    }
}

impl From<SwapError> for ApiError {
    fn from(error: SwapError) -> Self {
        let message = error.to_string();
        match error {
            SwapError::Model(error) => error.into(),
            SwapError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "adapter_not_found", message).with_param("adapter")
            }
            SwapError::Unusable { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "adapter_unusable",
                message,
            )
            .with_param("adapter"),
            SwapError::NoMemory(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "insufficient_memory",
                message,
            ),
            SwapError::Disabled => Self::new(StatusCode::FORBIDDEN, "adapters_off", message),
            SwapError::Running { .. } => {
                Self::new(StatusCode::CONFLICT, "swap_running", message).with_retry_after(5)
            }
            SwapError::ShuttingDown => Self::shutting_down(),
            SwapError::Load | SwapError::Task(_) => Self::internal(message),
        }
    }
}

/// OpenAI's shape.
pub(crate) fn error_body(
    status: StatusCode,
    message: &str,
    param: Option<&str>,
    code: Option<&str>,
) -> Value {
    json!({ "error": { "message": message, "type": kind(status), "param": param, "code": code } })
}

/// OpenAI's type of errors with a status.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let code = self.code.unwrap_or(kind(self.status));
        response.extensions_mut().insert(ErrorCode(code));
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // The router gives it the shape of the route's protocol.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_has_openais_shape() {
        let error = ApiError::invalid("temperature", "`temperature` must be a number");
        assert_eq!(
            error.body(),
            json!({ "error": {
                "message": "`temperature` must be a number",
                "type": "invalid_request_error",
                "param": "temperature",
                "code": null,
            }})
        );
    }

    #[test]
    fn errors_of_the_engine_have_statuses_of_their_own() {
        let error = |error| ApiError::from_submit(&error, "messages");
        let full = error(SubmitError::QueueFull {
            queued: 8,
            retry_after_s: 0,
        });
        assert_eq!(full.status(), 429);
        assert_eq!(full.into_response().headers()[header::RETRY_AFTER], "1");
        let long = error(SubmitError::PromptTooLong {
            prompt: 9,
            context: 8,
        });
        let body = long.body();
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert_eq!(body["error"]["param"], "messages");
        assert_eq!(error(SubmitError::Draining).status(), 503);
        assert_eq!(error(SubmitError::Stopped).status(), 500);
    }
}
