//! The responses to requests that the gate refuses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, ErrorCode};
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
        let mut error = ApiError::new(status, code(&self), self.to_string());
        if status == StatusCode::TOO_MANY_REQUESTS {
            error = error.with_retry_after(1);
        }
        // Further requests on the connection would be refused as well.
        if matches!(self, Self::Certificate | Self::NoPeer) {
            error = error.closing();
        }
        let mut response = error.into_response();
        response.extensions_mut().insert(ErrorCode(self.reason()));
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
