//! The headers by which a browser learns what a page may send and read.
//!
//! Credentials of the browser (cookies, its own passwords) are never allowed: a page sends the token as a header.
//!
//! Source: the Fetch standard, "CORS protocol"; the draft "Private Network Access" for its request header.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::gate::{AllowedOrigins, AllowedReader};

const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
/// The methods of all routes.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// Seconds for which a browser need not ask again: as long as Chrome remembers at most.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// The headers of answers that a page may read besides the length and the type.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "sanctum-ignored-fields, sanctum-served-by, x-request-id, request-id, retry-after",
);
/// The headers of requests that answers depend on.
const VARY: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
);

/// The answer to a preflight of an allowed origin: the page may send what it asks to send. Whether the request itself is
/// accepted is decided when it comes.
pub(crate) fn preflight(asked: &HeaderMap) -> Response {
    let mut response = (StatusCode::NO_CONTENT, Body::empty()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    // `*` would not cover Authorization, and clients send many headers of their own.
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if asked
        .get(REQUEST_PRIVATE_NETWORK)
        .is_some_and(|asked| asked == "true")
    {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    headers.insert(header::VARY, VARY_PREFLIGHT);
    response
}

/// Adds what every answer tells browsers, refusals and streams too.
pub(crate) fn finish(
    origins: &AllowedOrigins,
    reader: Option<AllowedReader>,
    headers: &mut HeaderMap,
) {
    if origins.is_empty() {
        return;
    }
    headers.append(header::VARY, VARY);
    let Some(reader) = reader else { return };
    let allowed = match reader {
        AllowedReader::Origin(origin) => origin,
        AllowedReader::Any => HeaderValue::from_static("*"),
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
