//! What an upstream's response must be like to be passed on.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use sanctum_client::{ClientError, ForwardedResponse};
use sanctum_config::UntrustedText;
use serde::de::IgnoredAny;
use serde_json::Value;

/// How long the message of an error response may take.
const MESSAGE_LIMIT: Duration = Duration::from_secs(2);
/// The longest error response whose message is read, in bytes.
const LONGEST_MESSAGE: usize = 16 << 10;
/// The longest `Retry-After` that is passed on, in seconds.
const LONGEST_RETRY: u64 = 3600;
/// The longest answer whose end only the end of its connection shows, in bytes.
const LONGEST_UNMEASURED: usize = 32 << 20;
/// Characters of a message that are shown.
const SHOWN: usize = 300;

/// Why an upstream has no answer.
pub(super) enum ResponseFailure {
    /// None has begun.
    Unanswered(ClientError),
    /// It cannot be passed on.
    Broken(&'static str),
}

/// Why the response cannot be passed on, if it cannot.
pub(super) fn unusable(response: &ForwardedResponse, first: Option<&[u8]>) -> Option<String> {
    let status = response.status();
    if !status.is_success() && !status.is_client_error() {
        return Some(format!("it answered {status}"));
    }
    // These are not passed on as they are.
    if matches!(status.as_u16(), 401 | 403 | 429) {
        return None;
    }
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Some("it sent a compressed answer, which was not asked for".to_owned());
    }
    let is_empty = status.is_success() && first.is_none_or(<[u8]>::is_empty);
    is_empty.then(|| format!("it answered {status} without a body"))
}

/// Reads an answer whole whose end only the end of its connection shows (HTTP/1.0 without a length), so that one that breaks off
/// is noticed. Streams of events show their end themselves.
pub(super) async fn whole(
    mut response: ForwardedResponse,
    first: Option<Vec<u8>>,
) -> Result<(ForwardedResponse, Option<Vec<u8>>), ResponseFailure> {
    let headers = response.headers();
    let is_measured = headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING)
        || is_event_stream(headers);
    let mut bytes = match first {
        Some(first) if !is_measured => first,
        first => return Ok((response, first)),
    };
    loop {
        match response.chunk().await {
            Ok(Some(piece)) if bytes.len() + piece.len() <= LONGEST_UNMEASURED => {
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(_)) => return Err(ResponseFailure::Broken("its answer is too long")),
            Ok(None) => break,
            Err(_) => return Err(ResponseFailure::Broken("it broke the connection off")),
        }
    }
    match serde_json::from_slice::<IgnoredAny>(&bytes) {
        Ok(_) => Ok((response, Some(bytes))),
        Err(_) => Err(ResponseFailure::Broken("it broke its answer off")),
    }
}

/// When an upstream wants to be asked again, in seconds, as far as it says it so.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(seconds.parse::<u64>().ok()?.min(LONGEST_RETRY))
}

/// Whether these are the headers of server-sent events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(|kind| kind.as_bytes());
    let essence = kind.and_then(|kind| kind.split(|&byte| byte == b';').next());
    essence.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// The message of an error response, if it has one in the form of OpenAI's API.
pub(super) async fn message(response: &mut ForwardedResponse) -> Option<String> {
    let body = async {
        let mut bytes = Vec::new();
        while let Ok(Some(piece)) = response.chunk().await {
            if bytes.len() + piece.len() > LONGEST_MESSAGE {
                return None;
            }
            bytes.extend_from_slice(&piece);
        }
        Some(bytes)
    };
    let bytes = tokio::time::timeout(MESSAGE_LIMIT, body).await.ok()??;
    let error: Value = serde_json::from_slice(&bytes).ok()?;
    let text = error["error"]["message"].as_str()?;
    Some(UntrustedText::bounded(text, SHOWN).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_an_hour_at_most() {
        for (sent, seconds) in [
            ("7", Some(7)),
            ("18446744073709551615", Some(3600)),
            ("-1", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, sent.parse().unwrap());
            assert_eq!(retry_after(&headers), seconds, "{sent}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
