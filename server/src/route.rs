//! Which route a request matched: what metrics and the audit log show instead of its path, since paths are without
//! number and their senders choose them.

use axum::extract::{MatchedPath, Request};
use axum::http::Method;

/// Where the engine is asked.
pub const CHAT: &str = "/v1/chat/completions";
/// Where the engine is asked.
pub const COMPLETIONS: &str = "/v1/completions";
/// Where adapters are swapped.
pub const ADAPTERS: &str = "/v1/adapters";
/// For operators.
pub const HEALTH: &str = "/health";
/// For operators.
pub const METRICS: &str = "/metrics";

/// A method and a matched route, both of a fixed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST`, `HEAD`, `OPTIONS` or `OTHER`.
    pub method: &'static str,
    /// As it was registered; `none` where nothing matched.
    pub path: String,
}

impl Route {
    /// The route of a request that the router has seen.
    pub fn of(request: &Request) -> Self {
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

    /// Whether the engine is asked here.
    pub fn is_inference(&self) -> bool {
        [CHAT, COMPLETIONS].contains(&self.path.as_str())
    }

    /// Whether it decides answers: the engine is asked, or a model is given another adapter.
    pub fn is_written_down(&self) -> bool {
        self.is_inference() || (self.method == "POST" && self.path == ADAPTERS)
    }

    /// Whether this is what watchdogs and operators look at, however busy a server is.
    pub fn is_operators(&self) -> bool {
        [HEALTH, METRICS].contains(&self.path.as_str())
    }
}
