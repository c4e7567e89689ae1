//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, and the status that goes with each.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sanctum_engine::schedule::SubmitError;
use serde_json::{Value, json};

use crate::prepare::bodies::NoRoom;

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// The request itself is wrong: 400.
    #[error("{message}")]
    Invalid {
        /// The field, as a path into the body such as `messages[1].content`; none where the body is no JSON object.
        param: Option<String>,
        /// What is wrong and what to send instead.
        message: String,
        /// A word that programs can match on.
        code: Option<&'static str>,
    },
    /// 404.
    #[error("the model `{id}` does not exist{mend}")]
    ModelNotFound {
        /// What was asked for.
        id: String,
        /// What there is, as the end of the sentence.
        mend: String,
    },
    /// 404.
    #[error("there is no adapter `{name}`{mend}")]
    AdapterNotFound {
        /// What was asked for.
        name: String,
        /// What there is, as the end of the sentence.
        mend: String,
    },
    /// It does not fit the model, or is none: 422.
    #[error("the adapter `{name}` cannot be merged: {why}; the model goes on as it was")]
    AdapterUnusable {
        /// Which.
        name: String,
        /// Why not.
        why: String,
    },
    /// Two engines of a model do not fit into memory: 507.
    #[error("{0}; the model goes on as it was")]
    NoRoom(String),
    /// Nothing may be swapped: 403.
    #[error(
        "adapters are not swapped here: the server was started without --adapter-dir; start it with that flag, or with --adapter-path"
    )]
    AdaptersOff,
    /// Another swap of this model is under way: 409.
    #[error(
        "another swap of `{id}` is under way; try again when GET /v1/adapters shows its result"
    )]
    SwapRunning {
        /// The model.
        id: String,
    },
    /// It would fit into memory, if an adapter were not being swapped: 503.
    #[error("{0}")]
    MemoryShared(String),
    /// 404.
    #[error("there is nothing at {method} {path}; see GET /v1/models, POST /v1/chat/completions")]
    RouteNotFound {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// 405.
    #[error("{path} does not answer {method}; see the Allow header")]
    MethodNotAllowed {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// 408.
    #[error("the body {why}; send it at once")]
    Late {
        /// How much time there was.
        why: String,
    },
    /// 413.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The largest body taken.
        limit: usize,
    },
    /// 415.
    #[error("the body must be JSON; send the header Content-Type: application/json")]
    MediaType,
    /// The queue is full: 429.
    #[error("{queued} requests are waiting already; try again in {} s", retry_after.as_secs())]
    Busy {
        /// Requests that wait.
        queued: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// Too many large bodies at once: 429.
    #[error("{0}; retry after they finish")]
    BodiesFull(NoRoom),
    /// 503.
    #[error("the model `{id}` is still loading; GET /health says how far it is")]
    Loading {
        /// The model.
        id: String,
    },
    /// 503.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The engine cannot go on: 500.
    #[error("{0}")]
    Engine(String),
}

impl ApiError {
    /// A field that is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            param: Some(param.into()),
            message: message.into(),
            code: None,
        }
    }

    /// A field that OpenAI knows, that would change the answer, and that this server cannot honour.
    pub fn unsupported(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        Self::Invalid {
            message: format!("`{param}` is not supported here: {why}"),
            param: Some(param),
            code: Some("unsupported_parameter"),
        }
    }

    /// What the engine said when it was handed the request; `prompt` is the field that holds the prompt.
    pub fn from_submit(error: SubmitError, prompt: &str) -> Self {
        let invalid = |code| Self::Invalid {
            param: Some(prompt.to_owned()),
            message: error.to_string(),
            code,
        };
        match error {
            SubmitError::QueueFull {
                queued,
                retry_after_s,
            } => Self::Busy {
                queued,
                retry_after: Duration::from_secs(retry_after_s.max(1)),
            },
            SubmitError::PromptTooLong { .. } | SubmitError::TooMuchMemory { .. } => {
                invalid(Some("context_length_exceeded"))
            }
            SubmitError::MemoryShared { .. } => Self::MemoryShared(error.to_string()),
            SubmitError::PromptEmpty | SubmitError::UnknownToken { .. } => invalid(None),
            SubmitError::Draining => Self::ShuttingDown,
            SubmitError::Stopped => Self::Engine(error.to_string()),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::ModelNotFound { .. }
            | Self::AdapterNotFound { .. }
            | Self::RouteNotFound { .. } => StatusCode::NOT_FOUND,
            Self::AdapterUnusable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoRoom(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::AdaptersOff => StatusCode::FORBIDDEN,
            Self::SwapRunning { .. } => StatusCode::CONFLICT,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Late { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy { .. } | Self::BodiesFull(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Loading { .. } | Self::ShuttingDown | Self::MemoryShared(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The body: also what a stream that cannot go on sends as its last event.
    pub fn body(&self) -> Value {
        let code = match self {
            Self::Invalid { code, .. } => *code,
            Self::ModelNotFound { .. } => Some("model_not_found"),
            Self::AdapterNotFound { .. } => Some("adapter_not_found"),
            Self::AdapterUnusable { .. } => Some("adapter_unusable"),
            Self::NoRoom(_) => Some("insufficient_memory"),
            Self::AdaptersOff => Some("adapters_off"),
            Self::SwapRunning { .. } => Some("swap_running"),
            Self::MemoryShared(_) => Some("memory_shared"),
            Self::RouteNotFound { .. } => Some("unknown_url"),
            Self::MethodNotAllowed { .. } => Some("method_not_allowed"),
            Self::Late { .. } => Some("body_late"),
            Self::TooLarge { .. } => Some("body_too_large"),
            Self::MediaType => Some("unsupported_media_type"),
            Self::Busy { .. } => Some("queue_full"),
            Self::BodiesFull(_) => Some("bodies_full"),
            Self::Loading { .. } => Some("model_loading"),
            Self::ShuttingDown => Some("shutting_down"),
            Self::Engine(_) => Some("engine_failed"),
        };
        let param = match self {
            Self::Invalid { param, .. } => param.as_deref(),
            Self::ModelNotFound { .. } => Some("model"),
            Self::AdapterNotFound { .. } | Self::AdapterUnusable { .. } => Some("adapter"),
            _ => None,
        };
        error_body(self.status(), &self.to_string(), param, code)
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy { retry_after, .. } => Some(retry_after.as_secs()),
            Self::BodiesFull(_) => Some(1),
            Self::Loading { .. }
            | Self::ShuttingDown
            | Self::SwapRunning { .. }
            | Self::MemoryShared(_) => Some(5),
            _ => None,
        }
    }
}

/// OpenAI's shape.
pub fn error_body(
    status: StatusCode,
    message: &str,
    param: Option<&str>,
    code: Option<&str>,
) -> Value {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // The rest of the body may still be under way, and would be taken for the next request.
        if matches!(
            self,
            Self::Late { .. } | Self::TooLarge { .. } | Self::BodiesFull(_)
        ) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_openai_s() {
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
    fn what_the_engine_refuses_has_its_own_status() {
        let status = |error| ApiError::from_submit(error, "messages").status().as_u16();
        let full = SubmitError::QueueFull {
            queued: 8,
            retry_after_s: 0,
        };
        assert_eq!(status(full.clone()), 429);
        let response = ApiError::from_submit(full, "messages").into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let long = SubmitError::PromptTooLong {
            prompt: 9,
            context: 8,
        };
        let body = ApiError::from_submit(long, "messages").body();
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert_eq!(body["error"]["param"], "messages");
        assert_eq!(status(SubmitError::Draining), 503);
        assert_eq!(status(SubmitError::Stopped), 500);
    }
}
