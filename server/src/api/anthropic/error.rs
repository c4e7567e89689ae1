//! The shape of errors.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::protocol::FailureKind;

/// Where Anthropic's clients look for the id of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Gives an error of the API Anthropic's shape, wherever it comes from, and every response the request's id where
/// Anthropic's clients look for it.
pub(crate) fn shape(mut response: Response, request_id: &str) -> Response {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let body = error_body(error.status().as_u16(), &error.to_string(), request_id);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body.to_string());
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The body of an error response. The same `request_id` belongs into the header `request-id`.
pub(crate) fn error_body(status: u16, message: &str, request_id: &str) -> Value {
    json!({
        "type": "error",
        "error": { "type": error_type(status), "message": message },
        "request_id": request_id,
    })
}

/// The type of an error with an HTTP status.
pub(crate) fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        // Anthropic's own servers send 529; a loading or stopping server is as temporary.
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The type of an error that ends a stream.
pub(crate) fn failure_type(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Invalid => "invalid_request_error",
        FailureKind::Overloaded => "overloaded_error",
        FailureKind::Server => "api_error",
    }
}
