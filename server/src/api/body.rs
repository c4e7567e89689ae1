//! The body of a POST: JSON, of bounded size, or an error in OpenAI's shape.

use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use futures_util::StreamExt;

use super::App;
use super::error::ApiError;
use crate::client_key::ClientKey;
use crate::listen::ArrivalError;
use crate::peer::Peer;
use crate::prepare::Owner;
use crate::prepare::bodies::Held;

/// The largest body taken, in bytes: a prompt of a whole context of 262,144 tokens is about a tenth of it.
pub const LARGEST: usize = 16 << 20;

/// A body that says it is JSON; whether it is will be seen by who parses it.
pub struct JsonBody {
    /// What was sent.
    pub bytes: Vec<u8>,
    /// Whose it is.
    pub owner: Owner,
    /// Its room among the bodies of all.
    pub held: Held,
}

impl FromRequest<Arc<App>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        // Before a client that waits for it is told to go on: the first read of the body does that.
        if announced(&request).is_some_and(|length| length > LARGEST as u64) {
            return Err(ApiError::TooLarge { limit: LARGEST });
        }
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::MediaType);
        }
        let owner = owner(&request).ok_or_else(|| {
            // The gate refuses requests of unknown origin.
            ApiError::Engine("the request has no sender".into())
        })?;
        let mut held = app.preparing.bodies.begin(&owner);
        let bytes = read(request.into_body(), &mut held).await?;
        Ok(Self { bytes, owner, held })
    }
}

/// Whose request it is, as the listener and the gate found out.
fn owner(request: &Request) -> Option<Owner> {
    let client: &ClientKey = request.extensions().get()?;
    let peer: &Peer = request.extensions().get()?;
    Some(Owner::of(client.clone(), peer.address))
}

/// The length that the head of a request announces.
fn announced(request: &Request) -> Option<u64> {
    let length = request.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Reads a body to its end.
async fn read(body: Body, held: &mut Held) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| match late(&error) {
            Some(late) => ApiError::Late {
                why: late.to_string(),
            },
            None => ApiError::Invalid {
                param: None,
                message: format!("the body could not be read: {error}"),
                code: None,
            },
        })?;
        if bytes.len() + chunk.len() > LARGEST {
            return Err(ApiError::TooLarge { limit: LARGEST });
        }
        held.grow(chunk.len()).map_err(ApiError::BodiesFull)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
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
    use crate::prepare::bodies::Bodies;
    use axum::body::Bytes;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use futures_util::stream;

    /// What is answered to a body that breaks off with this error.
    async fn answer(error: impl Error + Send + Sync + 'static) -> axum::response::Response {
        let chunks = [Ok(Bytes::from_static(b"{")), Err(error)];
        let body = Body::from_stream(stream::iter(chunks));
        let owner = Owner::of(ClientKey::Loopback, ([127, 0, 0, 1], 1).into());
        let refused = read(body, &mut Bodies::default().begin(&owner)).await;
        refused.unwrap_err().into_response()
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
