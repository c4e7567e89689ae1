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
/// A stored response.
pub(crate) const RESPONSE: &str = "/v1/responses/{id}";
/// Anthropic messages.
pub(crate) const MESSAGES: &str = "/v1/messages";
/// Anthropic messages, counted.
pub(crate) const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
/// A text as tokens.
pub(crate) const TOKENIZE: &str = "/v1/tokenize";
/// Tokens as a text.
pub(crate) const DETOKENIZE: &str = "/v1/detokenize";
/// A conversation as a prompt.
pub(crate) const APPLY_TEMPLATE: &str = "/v1/apply-template";
/// The tokenizer of the first model.
pub(crate) const TOKENIZER_INFO: &str = "/v1/tokenizer_info";
/// The models.
pub(crate) const MODELS: &str = "/v1/models";
/// One model. Ids may look like `Qwen/Qwen3.5-27B`.
pub(crate) const MODEL: &str = "/v1/models/{*id}";
/// Adapters, listed and swapped.
pub(crate) const ADAPTERS: &str = "/v1/adapters";
/// Whether the server is alive.
pub(crate) const HEALTH: &str = "/health";
/// The metrics.
pub(crate) const METRICS: &str = "/metrics";
/// What the console shows.
pub(crate) const STATUS: &str = "/status";
/// The console.
pub(crate) const CONSOLE: &str = "/";
/// Its style.
pub(crate) const CONSOLE_STYLE: &str = "/console.css";
/// Its script.
pub(crate) const CONSOLE_SCRIPT: &str = "/console.js";
/// Its icon.
pub(crate) const CONSOLE_ICON: &str = "/console.svg";

/// The routes that exist without `/v1` too: not every client puts it into its base URL.
const VERSIONED: [&str; 13] = [
    CHAT,
    COMPLETIONS,
    RESPONSES,
    RESPONSE,
    MESSAGES,
    COUNT_TOKENS,
    TOKENIZE,
    DETOKENIZE,
    APPLY_TEMPLATE,
    TOKENIZER_INFO,
    ADAPTERS,
    MODELS,
    MODEL,
];
/// What [`VERSIONED`] routes begin with.
const VERSION: &str = "/v1";

/// The path of a route without its version; none where it exists in one form only.
pub(crate) fn unversioned(route: &str) -> Option<&str> {
    let is_versioned = VERSIONED.contains(&route);
    route.strip_prefix(VERSION).filter(|_| is_versioned)
}

/// Whether a path is one of Anthropic's API, with or without its version, whether or not there is such a route.
pub(crate) fn is_anthropic(path: &str) -> bool {
    let path = path.strip_prefix(VERSION).unwrap_or(path);
    let below = path.strip_prefix("/messages");
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// A method and the matched route, both from a fixed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// `GET`, `POST`, `HEAD`, `OPTIONS` or `OTHER`.
    pub method: &'static str,
    /// The pattern of the route, with its version where it has one; `none` where no route matched.
    pub path: String,
}

impl Route {
    /// The route of a request that the router has matched.
    pub(crate) fn of(request: &Request) -> Self {
        let path = request.extensions().get::<MatchedPath>();
        let path = path.map_or("none", MatchedPath::as_str);
        let versioned = VERSIONED
            .into_iter()
            .find(|route| unversioned(route) == Some(path));
        Self {
            method: match *request.method() {
                Method::GET => "GET",
                Method::POST => "POST",
                Method::HEAD => "HEAD",
                Method::OPTIONS => "OPTIONS",
                _ => "OTHER",
            },
            path: versioned.unwrap_or(path).to_owned(),
        }
    }

    /// Whether the engine answers it.
    pub(crate) fn is_inference(&self) -> bool {
        let is_inference = [CHAT, COMPLETIONS, RESPONSES, MESSAGES].contains(&self.path.as_str());
        is_inference && self.method != "OPTIONS"
    }

    /// Whether it is audited: the engine answers it, or it gives a model another adapter.
    pub(crate) fn is_audited(&self) -> bool {
        self.is_inference() || (self.method == "POST" && self.path == ADAPTERS)
    }

    /// Whether watchdogs and operators use it, however busy a server is.
    pub(crate) fn is_for_operators(&self) -> bool {
        [HEALTH, METRICS, STATUS].contains(&self.path.as_str()) || self.is_public()
    }

    /// Whether it is a part of the console, which is the same for every client and has no secret in it.
    pub(crate) fn is_public(&self) -> bool {
        let console = [CONSOLE, CONSOLE_STYLE, CONSOLE_SCRIPT, CONSOLE_ICON];
        ["GET", "HEAD"].contains(&self.method) && console.contains(&self.path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_is_public_and_what_it_shows_is_not() {
        let is_public = |method, path: &str| {
            let path = path.to_owned();
            Route { method, path }.is_public()
        };
        for path in [CONSOLE, CONSOLE_STYLE, CONSOLE_SCRIPT, CONSOLE_ICON] {
            assert!(is_public("GET", path) && is_public("HEAD", path), "{path}");
            assert!(!is_public("POST", path), "{path}");
        }
        for path in [STATUS, HEALTH, METRICS, MODELS, CHAT, "none"] {
            assert!(!is_public("GET", path), "{path}");
        }
    }

    #[test]
    fn path_of_anthropics_api_is_known_without_a_route() {
        for path in [MESSAGES, COUNT_TOKENS, "/messages", "/v1/messages/batches"] {
            assert!(is_anthropic(path), "{path}");
        }
        for path in [CHAT, "/v1/messagesx", "/v1/models/messages", "/"] {
            assert!(!is_anthropic(path), "{path}");
        }
    }

    #[test]
    fn versioned_route_has_a_form_without_version_and_pages_do_not() {
        assert_eq!(unversioned(CHAT), Some("/chat/completions"));
        assert_eq!(unversioned(MODEL), Some("/models/{*id}"));
        for route in [HEALTH, METRICS, "/v1/other"] {
            assert_eq!(unversioned(route), None);
        }
        for route in VERSIONED {
            assert!(unversioned(route).is_some_and(|short| short.starts_with('/')));
        }
    }
}
