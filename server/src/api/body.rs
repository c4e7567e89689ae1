//! The bodies of POST requests: read within limits on each, on those of one client, and on all together.
//!
//! Bodies are counted as they arrive, not as they are announced: a client that sends slowly takes no room from others. The
//! beginning of each is free, since the number of connections limits it already: a request of ordinary size is never
//! refused because others send large ones.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use futures_util::StreamExt;
use sanctum_config::UntrustedText;

use super::error::ApiError;
use crate::client_key::ClientKey;
use crate::peer::{Peer, RequestBodyError};
use crate::prepare::Owner;

/// For which of its clients another server asks, as a hash: computed prefixes are not shared between them. Everyone may send it,
/// since it only separates.
pub(crate) const PREFIX_SCOPE: HeaderName = HeaderName::from_static("sanctum-prefix-scope");
/// The largest body, in bytes: a prompt of a whole context of 262,144 tokens is about a tenth of it.
pub(crate) const LARGEST: usize = 16 << 20;
/// Bytes of all bodies together.
const MOST: usize = 64 << 20;
/// Of those one client's. Local programs that show neither a certificate nor the bearer token count as one client, since
/// they cannot be distinguished; those with the token are another.
const MOST_OF_ONE: usize = MOST / 2;
/// Bytes of each body that are not counted.
const FREE: usize = 64 << 10;

/// A body that is announced as JSON, which nothing has parsed yet. Clones are handles to the same; one in the extensions of a
/// request is its body, read already.
#[derive(Clone)]
pub(crate) struct JsonBody {
    /// What was sent.
    pub bytes: Bytes,
    /// Whose it is.
    pub owner: Owner,
    /// The part of the client's computed prefixes that it may reuse; all of them if there is none.
    pub prefix_scope: Option<HeaderValue>,
    /// Its memory.
    pub memory: Arc<BodyMemory>,
}

/// The memory of all bodies. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct BodyLimit(Arc<Mutex<HashMap<ClientKey, usize>>>);

/// The memory of one body; released when it is dropped.
pub(crate) struct BodyMemory {
    limit: BodyLimit,
    client: ClientKey,
    bytes: usize,
    counted: usize,
}

/// There is no memory for more of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NoRoom {
    /// One client has all that it may have.
    #[error(
        "requests of this client already have {} MiB of bodies in preparation (local programs without a token or a \
         certificate count as one client)",
        MOST_OF_ONE >> 20
    )]
    Client,
    /// All clients together have.
    #[error("requests with {} MiB of bodies are in preparation", MOST >> 20)]
    Server,
}

impl<S: Send + Sync> FromRequest<S> for JsonBody
where
    BodyLimit: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, ApiError> {
        if let Some(body) = request.extensions_mut().remove::<Self>() {
            return Ok(body);
        }
        // Before the first read, which sends `100 Continue` to a client that waits for it.
        if announced(&request).is_some_and(|length| length > LARGEST as u64) {
            return Err(too_large());
        }
        if let Some(encoding) = encoding(&request) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_content_encoding",
                format!(
                    "the body is compressed (Content-Encoding: {encoding}) and this server reads plain JSON; send it without \
                     Content-Encoding"
                ),
            )
            .closing());
        }
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "the body must be JSON; send the header Content-Type: application/json",
            ));
        }
        // The gate refuses requests of unknown origin.
        let (client, address) =
            sender(&request).ok_or_else(|| ApiError::internal("the request has no sender"))?;
        let mut memory = BodyLimit::from_ref(state).begin(client.clone());
        let owner = Owner::of(client, address);
        let prefix_scope = request.headers().get(PREFIX_SCOPE).cloned();
        let bytes = read(request.into_body(), &mut memory).await?;
        Ok(Self {
            bytes: bytes.into(),
            owner,
            prefix_scope,
            memory: Arc::new(memory),
        })
    }
}

/// Who sent the request, as the listener and the gate determined.
fn sender(request: &Request) -> Option<(ClientKey, std::net::SocketAddr)> {
    let client: &ClientKey = request.extensions().get()?;
    let peer: &Peer = request.extensions().get()?;
    Some((client.clone(), peer.address))
}

/// The length that the head of a request announces.
fn announced(request: &Request) -> Option<u64> {
    let length = request.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// The first encoding of the body that is not the identity, as an error may show it.
fn encoding(request: &Request) -> Option<UntrustedText> {
    let all = request.headers().get_all(header::CONTENT_ENCODING).iter();
    let names = all.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let name = names
        .map(<[u8]>::trim_ascii)
        .find(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))?;
    Some(UntrustedText::bounded(&String::from_utf8_lossy(name), 40))
}

fn too_large() -> ApiError {
    let message = format!("the body is larger than {LARGEST} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message).closing()
}

/// Reads a body to its end.
async fn read(body: Body, memory: &mut BodyMemory) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| match timeout(&error) {
            Some(timeout) => {
                let message = format!("the body {timeout}; send it at once");
                ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_late", message).closing()
            }
            None => ApiError::bad_request(format!("the body could not be read: {error}")),
        })?;
        if bytes.len() + chunk.len() > LARGEST {
            return Err(too_large());
        }
        memory.grow(chunk.len()).map_err(|full| {
            let message = format!("{full}; retry after they finish");
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "bodies_full", message)
                .with_retry_after(1)
                .closing()
        })?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The timeout, if one caused the error.
fn timeout<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a RequestBodyError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(timeout @ RequestBodyError::Timeout(_)) = error.downcast_ref() {
            return Some(timeout);
        }
        cause = error.source();
    }
    None
}

impl BodyLimit {
    /// The memory of a body of which nothing has arrived.
    fn begin(&self, client: ClientKey) -> BodyMemory {
        BodyMemory {
            limit: self.clone(),
            client,
            bytes: 0,
            counted: 0,
        }
    }
}

impl BodyMemory {
    /// More of the body has arrived.
    fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.bytes += bytes;
        let more = self.bytes.saturating_sub(FREE) - self.counted;
        if more == 0 {
            return Ok(());
        }
        let mut all = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum: usize = all.values().sum();
        let own = all.get(&self.client).copied().unwrap_or(0);
        if own + more > MOST_OF_ONE {
            return Err(NoRoom::Client);
        }
        if sum + more > MOST {
            return Err(NoRoom::Server);
        }
        all.insert(self.client.clone(), own + more);
        self.counted += more;
        Ok(())
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        if self.counted == 0 {
            return;
        }
        let mut all = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&self.client) {
            *held -= self.counted;
            if *held == 0 {
                all.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::{IntoResponse, Response};
    use futures_util::stream;
    use std::time::Duration;

    fn client(number: u8) -> ClientKey {
        ClientKey::Ipv4([192, 0, 2, number].into())
    }

    /// The response to a body that breaks off with this error.
    async fn response(error: impl Error + Send + Sync + 'static) -> Response {
        let chunks = [Ok(Bytes::from_static(b"{")), Err(error)];
        let body = Body::from_stream(stream::iter(chunks));
        let refused = read(body, &mut BodyLimit::default().begin(client(1))).await;
        refused.unwrap_err().into_response()
    }

    #[tokio::test]
    async fn timeout_has_another_status_than_a_broken_body() {
        let late = response(RequestBodyError::Timeout(Duration::from_secs(30))).await;
        assert_eq!(late.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(late.headers()[header::CONNECTION], "close");
        let broken = response(std::io::Error::other("cut off")).await;
        assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
        assert!(!broken.headers().contains_key(header::CONNECTION));
    }

    #[test]
    fn client_has_half_of_the_memory_and_all_clients_have_the_whole() {
        let limit = BodyLimit::default();
        let begin = |number| limit.begin(client(number));
        let mut first = begin(1);
        assert_eq!(first.grow(FREE + MOST_OF_ONE), Ok(()));
        assert_eq!(begin(1).grow(FREE + 1), Err(NoRoom::Client));
        let mut second = begin(2);
        assert_eq!(second.grow(FREE + MOST_OF_ONE), Ok(()));
        assert_eq!(begin(3).grow(FREE + 1), Err(NoRoom::Server));
        // A body of ordinary size is accepted whatever others send.
        assert_eq!(begin(1).grow(FREE), Ok(()));
        drop(first);
        assert_eq!(begin(3).grow(FREE + 1), Ok(()));
        drop(second);
        assert!(limit.0.lock().unwrap().is_empty());
    }

    #[test]
    fn local_programs_with_the_token_have_memory_beside_those_without() {
        let limit = BodyLimit::default();
        let mut first = limit.begin(ClientKey::Loopback);
        assert_eq!(first.grow(FREE + MOST_OF_ONE), Ok(()));
        let other = limit.begin(ClientKey::Loopback).grow(FREE + 1);
        assert_eq!(other, Err(NoRoom::Client));
        let mut with_token = limit.begin(ClientKey::LoopbackWithToken);
        assert_eq!(with_token.grow(FREE + MOST_OF_ONE), Ok(()));
    }
}
