//! The fuzz entry point for what the gate reads of a request's head.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};

use super::bearer::{Presented, Token};
use super::loopback::{self, RequestHost};

const TOKEN: &[u8] = b"5f0c3f6c1f0b4c6d9a1e2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f70";

/// The `Authorization` and `Host` headers of a request over loopback, and a token file: only bytes that contain
/// the token match it.
pub fn bearer(bytes: &[u8]) {
    let Ok(expected) = Token::expected(TOKEN) else {
        unreachable!("it is a token");
    };
    let holds = bytes.windows(TOKEN.len()).any(|window| window == TOKEN);
    if let Ok(token) = Token::expected(bytes) {
        assert!(!token.matches(&expected) || holds);
    }
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut request = Request::new(Body::empty());
    let headers = request.headers_mut();
    headers.insert(header::AUTHORIZATION, value.clone());
    headers.insert(header::HOST, value);
    if let Presented::Token(token) = Presented::of(request.headers()) {
        assert!(!token.matches(&expected) || holds);
    }
    if let Ok(host) = RequestHost::of(&request) {
        let rules = loopback::LoopbackRules {
            own: &[],
            names: &[],
            is_named_origin: false,
        };
        let _ = loopback::check(&request, &host, &rules);
    }
}
