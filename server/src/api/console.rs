//! `GET /`: the console, a web page to chat with the models and to see what the server does.
//!
//! The page is in the program, loads nothing from elsewhere, and is the same for every client. It takes what it shows from
//! [`status`](super::status) and from the API, with the token that it asks for where one is needed.
//!
//! Its Content-Security-Policy permits its own files and requests to this server, and nothing else: text that a model or
//! another server has written cannot become a script, even by a defect of the page (`require-trusted-types-for`).

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

const PAGE: &str = include_str!("../console/console.html");
/// The colours are those of the fleet page.
const STYLE: &str = concat!(
    include_str!("../../../crates/config/assets/palette.css"),
    include_str!("../console/console.css"),
);
/// One module: each file uses only what is above it.
const SCRIPT: &str = concat!(
    include_str!("../console/text.js"),
    include_str!("../console/api.js"),
    include_str!("../console/chart.js"),
    include_str!("../console/chat.js"),
    include_str!("../console/status.js"),
    include_str!("../console/start.js"),
);
const ICON: &str = include_str!("../console/console.svg");

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The headers of every file of the console.
const HEADERS: [(HeaderName, HeaderValue); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    // A page of one version with the script of another would fail, so that nothing is kept over an upgrade.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // Other websites can neither load its files nor keep a handle to its window.
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Answers `GET /`.
pub(crate) async fn page() -> Response {
    file("text/html; charset=utf-8", PAGE)
}

/// Answers `GET /console.css`.
pub(crate) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

/// Answers `GET /console.js`.
pub(crate) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// Answers `GET /console.svg`.
pub(crate) async fn icon() -> Response {
    file("image/svg+xml", ICON)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    (HEADERS, kind, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_refers_to_the_files_of_the_console_only() {
        let pieces = PAGE.split(['"', '\'', '<', '>', ' ']);
        let paths: Vec<&str> = pieces.filter(|piece| piece.starts_with('/')).collect();
        for path in ["/console.css", "/console.js", "/console.svg"] {
            assert!(paths.contains(&path), "{path} is not in {paths:?}");
        }
        for file in [PAGE, STYLE, SCRIPT] {
            // The namespace of SVG is a name, not an address.
            let file = file.replace("http://www.w3.org/2000/svg", "");
            assert!(!file.contains("http:") && !file.contains("https:") && !file.contains("url("));
        }
        // The policy forbids them.
        assert!(
            !PAGE.contains("style=") && !PAGE.contains(" onclick") && !PAGE.contains("<script>")
        );
    }

    #[test]
    fn style_defines_each_variable_that_it_uses() {
        let uses = STYLE.split("var(").skip(1);
        let names: Vec<&str> = uses.filter_map(|rest| rest.split(')').next()).collect();
        assert!(!names.is_empty());
        for name in names {
            assert!(STYLE.contains(&format!("{name}:")), "{name}");
        }
    }

    #[test]
    fn script_makes_no_markup_of_text_and_stores_nothing() {
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "localStorage",
            "sessionStorage",
            "indexedDB",
            "document.cookie",
        ] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
    }
}
