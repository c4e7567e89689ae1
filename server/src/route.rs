//! Which route a request matched. Metrics and the audit log show it instead of the path, since clients can make up any
//! number of paths.

use axum::extract::{MatchedPath, Request};
use axum::http::Method;

/// Chat completions.
pub(crate) const CHAT: &str = "/v1/chat/completions";
/// Text completions.
pub(crate) const COMPLETIONS: &str = "/v1/completions";
/// OpenAI responses.
pub(crate) const RESPONSES: &str = "/v1/responses";
/// Anthropic messages.
pub(crate) const MESSAGES: &str = "/v1/messages";
/// Adapters, listed and swapped.
pub(crate) const ADAPTERS: &str = "/v1/adapters";
/// Whether the server is alive.
pub(crate) const HEALTH: &str = "/health";
/// The metrics.
pub(crate) const METRICS: &str = "/metrics";

/// A method and the matched route, both from a fixed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// `GET`, `POST`, `HEAD`, `OPTIONS` or `OTHER`.
    pub method: &'static str,
    /// The pattern of the route; `none` where no route matched.
    pub path: String,
}

impl Route {
    /// The route of a request that the router has matched.
    pub(crate) fn of(request: &Request) -> Self {
        let path = request.extensions().get::<MatchedPath>();
        Self {
            method: match *request.method() {
                Method::GET => "GET",
                Method::POST => "POST",
                Method::HEAD => "HEAD",
                Method::OPTIONS => "OPTIONS",
                _ => "OTHER",
            },
            path: path.map_or("none", MatchedPath::as_str).to_owned(),
        }
    }

    /// Whether the engine answers it.
    fn is_inference(&self) -> bool {
        [CHAT, COMPLETIONS, RESPONSES, MESSAGES].contains(&self.path.as_str())
    }

    /// Whether it is audited: the engine answers it, or it gives a model another adapter.
    pub(crate) fn is_audited(&self) -> bool {
        self.is_inference() || (self.method == "POST" && self.path == ADAPTERS)
    }

    /// Whether watchdogs and operators use it, however busy a server is.
    pub(crate) fn is_for_operators(&self) -> bool {
        [HEALTH, METRICS].contains(&self.path.as_str())
    }
}
