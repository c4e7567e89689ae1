//! The body of a POST: JSON, of bounded size, or an error in OpenAI's shape.

use std::error::Error;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};

use super::error::ApiError;
use crate::listen::ArrivalError;

/// The largest body taken, in bytes: a prompt of a whole context of 262,144 tokens is about a tenth of it.
pub const LARGEST: usize = 16 << 20;

/// A body that says it is JSON; whether it is will be seen by who parses it.
pub struct JsonBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::MediaType);
        }
        match Bytes::from_request(request, state).await {
            Ok(body) => Ok(Self(body)),
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ApiError::TooLarge { limit: LARGEST })
            }
            Err(error) => Err(match late(&error) {
                Some(late) => ApiError::Late {
                    why: late.to_string(),
                },
                None => ApiError::Invalid {
                    param: None,
                    message: format!("the body could not be read: {}", error.body_text()),
                    code: None,
                },
            }),
        }
    }
}

/// The complaint that it did not come in time, if that is at the bottom of it.
fn late<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ArrivalError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(late @ ArrivalError::Late) = error.downcast_ref() {
            return Some(late);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::response::IntoResponse;
    use futures_util::stream;

    /// What is answered to a body that breaks off with this error.
    async fn answer(error: impl Error + Send + Sync + 'static) -> axum::response::Response {
        let chunks = [Ok(Bytes::from_static(b"{")), Err(error)];
        let request = Request::post("/")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from_stream(stream::iter(chunks)))
            .unwrap();
        let refused = JsonBody::from_request(request, &()).await.err();
        refused.unwrap().into_response()
    }

    #[tokio::test]
    async fn late_is_not_broken() {
        let late = answer(ArrivalError::Late).await;
        assert_eq!(late.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(late.headers()[header::CONNECTION], "close");
        let broken = answer(std::io::Error::other("cut off")).await;
        assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
        assert!(!broken.headers().contains_key(header::CONNECTION));
    }
}
