//! HTTP/1.1 on loopback: the page, its two files, and `/status.json`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sanctum_config::terminal_json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::request_check::check;
use super::view::FleetView;

/// Connections at once; others wait.
const CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head, and may keep an idle connection.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection may last: a client that does not read must not keep it.
const CONNECTION_LIMIT: Duration = Duration::from_secs(600);
/// The pause after an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// Nothing from elsewhere, no inline script or style, no frame around the page, and no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// The colours are those of the server's console.
const STYLE: &str = concat!(
    include_str!("../../../crates/config/assets/palette.css"),
    include_str!("assets/page.css"),
);

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Accepts connections until the future is dropped.
pub(super) async fn accept(listener: TcpListener, view: Arc<FleetView>) -> Infallible {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("a connection was not accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let view = Arc::clone(&view);
        tokio::spawn(async move {
            let _permit = permit;
            if let Ok(Err(error)) =
                tokio::time::timeout(CONNECTION_LIMIT, serve(stream, view)).await
            {
                tracing::debug!("a connection has ended: {error}");
            }
        });
    }
}

async fn serve(stream: TcpStream, view: Arc<FleetView>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request, &view);
        async move { Ok::<_, Infallible>(answer) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(request: Request<Incoming>, view: &FleetView) -> Response<Full<Bytes>> {
    let (request, _) = request.into_parts();
    if let Err(refusal) = check(&request) {
        let mut response = page(refusal.status, TEXT, format!("{}\n", refusal.message));
        if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
        }
        return response;
    }
    let ok = StatusCode::OK;
    match request.uri.path() {
        "/" => page(ok, HTML, include_str!("assets/index.html")),
        "/page.css" => page(ok, "text/css; charset=utf-8", STYLE),
        "/page.js" => {
            let javascript = "text/javascript; charset=utf-8";
            page(
                ok,
                javascript,
                concat!(
                    include_str!("assets/dom.js"),
                    include_str!("assets/charts.js"),
                    include_str!("assets/hosts.js"),
                    include_str!("assets/alerts.js"),
                    include_str!("assets/page.js"),
                ),
            )
        }
        "/status.json" => {
            let json = terminal_json(&format!("{:#}\n", view.page(Utc::now())));
            page(ok, "application/json", json)
        }
        _ => page(
            StatusCode::NOT_FOUND,
            TEXT,
            "there is nothing here; the fleet page is at /, and its data at /status.json\n",
        ),
    }
}

/// A response with the headers that each one has.
fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_defines_each_variable_that_it_uses() {
        let uses = STYLE.split("var(").skip(1);
        let names: Vec<&str> = uses.filter_map(|rest| rest.split(')').next()).collect();
        assert!(!names.is_empty());
        for name in names {
            assert!(STYLE.contains(&format!("{name}:")), "{name}");
        }
    }
}
