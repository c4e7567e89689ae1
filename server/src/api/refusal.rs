//! The responses to requests that the gate refuses.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::{ErrorCode, error_body};
use crate::gate::Refusal;

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoPeer => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::NotOneHost => StatusCode::BAD_REQUEST,
        Refusal::Certificate
        | Refusal::NoTokenHere
        | Refusal::TokenMissing { .. }
        | Refusal::TokenMalformed { .. }
        | Refusal::TokenWrong { .. } => StatusCode::UNAUTHORIZED,
        Refusal::ForeignHost { .. } | Refusal::Origin => StatusCode::FORBIDDEN,
        Refusal::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
    }
}

/// OpenAI's code where it has one.
fn code(refusal: &Refusal) -> &'static str {
    match status(refusal) {
        StatusCode::UNAUTHORIZED => "invalid_api_key",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        _ => refusal.reason(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = status(&self);
        let body = error_body(status, &self.to_string(), None, Some(code(&self)));
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(ErrorCode(self.reason()));
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        // Further requests on the connection would be refused as well.
        if matches!(self, Self::Certificate | Self::NoPeer) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
