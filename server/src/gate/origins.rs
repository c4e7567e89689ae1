//! The origins of web pages: which of them may read answers, and which need no token on this machine.
//!
//! A browser sends a page's request to another origin and hides the answer from the page, unless the answer names the page's
//! origin. Before a request that a form could not send, it asks with a preflight, which never has credentials.
//!
//! The server has a page of its own, the console. Its origin needs no listing.
//!
//! Source: the Fetch standard, "CORS protocol"; RFC 6454 for `Origin`; the W3C draft "Fetch Metadata" for `Sec-Fetch-Site`.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use sanctum_config::Origin;

/// How the page that has sent a request is related to this server, as the browser says.
const FETCH_SITE: &str = "sec-fetch-site";

/// The origins that the operator allows.
#[derive(Debug)]
pub(crate) struct AllowedOrigins {
    listed: Vec<Origin>,
}

/// Who may read an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AllowedReader {
    /// Pages of this origin, as the request wrote it.
    Origin(HeaderValue),
    /// Every page.
    Any,
}

impl AllowedOrigins {
    /// As the operator lists them.
    pub(super) fn new(listed: Vec<Origin>) -> Self {
        Self { listed }
    }

    /// Whether there are none: then answers do not depend on `Origin`.
    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The page that may read the answer to a request; none for requests of programs and of other pages.
    pub(crate) fn reader(&self, headers: &HeaderMap) -> Option<AllowedReader> {
        let origin = only_origin(headers)?;
        if self.lists(origin) {
            return Some(AllowedReader::Origin(origin.clone()));
        }
        self.listed
            .contains(&Origin::Any)
            .then_some(AllowedReader::Any)
    }

    /// Whether pages of the request's origin are listed by name. `*` lists none: it would let every page that a browser on
    /// this machine has open use the server without the token.
    pub(super) fn names(&self, headers: &HeaderMap) -> bool {
        only_origin(headers).is_some_and(|origin| self.lists(origin))
    }

    /// Whether the request is the preflight of a page that may read answers.
    pub(super) fn allow_preflight(&self, request: &Request) -> bool {
        is_preflight(request) && self.reader(request.headers()).is_some()
    }

    fn lists(&self, origin: &HeaderValue) -> bool {
        let is = |listed: &Origin| match listed {
            Origin::Any => false,
            Origin::Exact(text) => text.as_bytes() == origin.as_bytes(),
        };
        self.listed.iter().any(is)
    }
}

/// Whether the request has the origin of this server's own page, at the host that it names. A page of another website has
/// another origin, also where that website's name was rebound to this machine; then the host is foreign, which the caller
/// checks.
pub(super) fn is_own(headers: &HeaderMap, scheme: &str) -> bool {
    let is_same_site = match headers.get(FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => true,
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(origin), Some(host), None) = (only_origin(headers), hosts.next(), hosts.next())
    else {
        return false;
    };
    let origin = origin.as_bytes().strip_prefix(scheme.as_bytes());
    let origin = origin.and_then(|rest| rest.strip_prefix(b"://"));
    is_same_site && origin.is_some_and(|name| !name.is_empty() && name == host.as_bytes())
}

/// Whether a browser asks with it whether a page may send another request.
pub(super) fn is_preflight(request: &Request) -> bool {
    let has = |name| request.headers().contains_key(name);
    *request.method() == Method::OPTIONS
        && has(header::ORIGIN)
        && has(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The `Origin` header, if there is exactly one.
fn only_origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(header::ORIGIN).iter();
    match (all.next(), all.next()) {
        (Some(origin), None) => Some(origin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(listed: &[&str]) -> AllowedOrigins {
        AllowedOrigins::new(
            listed
                .iter()
                .map(|origin| origin.parse().unwrap())
                .collect(),
        )
    }

    fn headers(origins: &[&'static str]) -> HeaderMap {
        let values = origins
            .iter()
            .map(|origin| HeaderValue::from_static(origin));
        values.map(|value| (header::ORIGIN, value)).collect()
    }

    #[test]
    fn listed_origin_may_read_and_needs_no_token_here() {
        let allowed = allowed(&["https://chat.example", "null"]);
        for origin in ["https://chat.example", "null"] {
            let headers = headers(&[origin]);
            let reader = AllowedReader::Origin(HeaderValue::from_static(origin));
            assert_eq!(allowed.reader(&headers), Some(reader));
            assert!(allowed.names(&headers));
        }
        for other in [
            &["https://chat.example.evil.example"][..],
            &["http://chat.example"],
            &["https://chat.example:8443"],
            &["https://chat.example", "https://chat.example"],
            &["https://chat.example, https://evil.example"],
            &["*"],
            &[""],
            &[],
        ] {
            assert_eq!(allowed.reader(&headers(other)), None, "{other:?}");
            assert!(!allowed.names(&headers(other)), "{other:?}");
        }
    }

    #[test]
    fn own_origin_is_that_of_the_host_that_the_request_names() {
        let own = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_own(&headers, "http")
        };
        let host = ("host", "127.0.0.1:1337");
        let origin = ("origin", "http://127.0.0.1:1337");
        assert!(own(&[host, origin]));
        assert!(own(&[host, origin, ("sec-fetch-site", "same-origin")]));
        assert!(own(&[
            ("host", "localhost"),
            ("origin", "http://localhost")
        ]));
        for other in [
            &[host][..],
            &[origin],
            &[host, host, origin],
            &[host, origin, origin],
            &[host, origin, ("sec-fetch-site", "same-site")],
            &[host, origin, ("sec-fetch-site", "cross-site")],
            &[host, ("origin", "http://127.0.0.1:1338")],
            &[host, ("origin", "http://127.0.0.1")],
            &[host, ("origin", "http://localhost:1337")],
            &[host, ("origin", "https://127.0.0.1:1337")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "null")],
            &[("host", ""), ("origin", "http://")],
        ] {
            assert!(!own(other), "{other:?}");
        }
    }

    #[test]
    fn star_lets_every_page_read_and_lists_none() {
        let any = allowed(&["*", "https://chat.example"]);
        let other = headers(&["https://other.example"]);
        assert_eq!(any.reader(&other), Some(AllowedReader::Any));
        assert!(!any.names(&other));
        assert!(any.names(&headers(&["https://chat.example"])));
        assert_eq!(any.reader(&headers(&[])), None);
    }
}
