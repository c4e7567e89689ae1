//! What the gate reads of a request's head, for [`crate::surface`].

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};

use super::bearer::{Presented, Token};
use super::local::{self, Host};

const TOKEN: &[u8] = b"5f0c3f6c1f0b4c6d9a1e2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f70";

/// The `Authorization` and `Host` headers of a request over loopback, and a token file: only what holds the token
/// passes for it.
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
    if let Ok(host) = Host::of(&request) {
        let _ = local::check(&request, &host, &[]);
    }
}
