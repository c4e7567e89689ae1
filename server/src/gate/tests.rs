//! The gate around real routes, with peers that the test invents. What needs real sockets is in the end-to-end tests.

mod console;
mod origins;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::api::guard;
use crate::front::Fronts;
use crate::models::Models;
use crate::peer::Identity;
use crate::prepare::PreparingStatus;
use crate::route;

const TOKEN: &str = "7f3c0a91d5e84b26a1f09c3d7e5b8a4412345678";
const LAPTOP: [u8; 4] = [192, 0, 2, 7];

/// A gate around a chat that answers at once, a completion that never ends, and a health page.
struct GatedServer {
    gate: Arc<Gate>,
    router: Router,
    _secrets: TempDir,
}

/// What came back.
struct GateOutcome {
    status: StatusCode,
    response: Response,
}

fn rules() -> AccessRules {
    AccessRules {
        token: None,
        loopback: Loopback::Bypass,
        disabled: false,
        origins: Vec::new(),
        hosts: Vec::new(),
        fronts: vec!["front".into()],
        per_client: NonZeroUsize::new(2).unwrap(),
    }
}

impl GatedServer {
    /// With the token, under these rules.
    fn new(rules: AccessRules) -> Self {
        let secrets = TempDir::new().unwrap();
        let file = secrets.path().join("token");
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let shown = "~/secrets/server.token".to_owned();
        let token = Some(TokenPath { file, shown });
        Self::keeping(AccessRules { token, ..rules }, secrets)
    }

    fn without_token(rules: AccessRules) -> Self {
        Self::keeping(rules, TempDir::new().unwrap())
    }

    fn keeping(rules: AccessRules, secrets: TempDir) -> Self {
        let metrics = Arc::new(Metrics::new());
        let audit = AuditLog::off(metrics.clone());
        let listen = ["192.0.2.1:1337".parse().unwrap()];
        let gate = Arc::new(Gate::new(rules, &listen, metrics, audit).unwrap());
        let endless =
            || async { Body::from_stream(stream::pending::<Result<&str, axum::Error>>()) };
        let router = Router::new()
            .route(route::CHAT, post(|| async { "answer" }))
            .route(route::COMPLETIONS, post(endless))
            .route(route::HEALTH, get(|| async { "ok" }))
            .route(route::STATUS, get(|| async { "status" }))
            .route(route::CONSOLE, get(|| async { "console" }))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(from_fn_with_state(gate.clone(), guard));
        Self {
            gate,
            router,
            _secrets: secrets,
        }
    }

    async fn send(&self, request: Request) -> GateOutcome {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        GateOutcome { status, response }
    }

    async fn status(&self, request: Request) -> u16 {
        self.send(request).await.status.as_u16()
    }

    fn counted(&self, sample: &str) -> bool {
        let page = self.gate.metrics.render(
            &Models::new([("m".parse().unwrap(), Vec::new())], false),
            &Fronts::none(),
            &PreparingStatus::default(),
        );
        page.lines().any(|line| line == sample)
    }
}

impl GateOutcome {
    async fn error(self) -> (u16, String, String) {
        let status = self.status.as_u16();
        let body = self
            .response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = |key: &str| body["error"][key].as_str().unwrap().to_owned();
        (status, text("code"), text("message"))
    }
}

/// A chat from this address, with further headers.
fn from(address: impl Into<IpAddr>, headers: &[(&str, &str)]) -> Request {
    asking(route::CHAT, peer(address, None), headers)
}

fn asking(path: &str, peer: Peer, headers: &[(&str, &str)]) -> Request {
    let method = if path == route::HEALTH { "GET" } else { "POST" };
    let mut request = Request::builder().method(method).uri(path).extension(peer);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header(header::HOST, "192.0.2.1:1337");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

fn peer(address: impl Into<IpAddr>, identity: Option<Identity>) -> Peer {
    let address = SocketAddr::new(address.into(), 50_000);
    Peer { address, identity }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn loopback_needs_no_token_in_any_form_of_its_address() {
    for server in [
        GatedServer::new(rules()),
        GatedServer::without_token(rules()),
    ] {
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(server.status(from(address, &[])).await, 200);
            // Clients that insist on a key send one that means nothing.
            let any = [("authorization", "Bearer none-is-needed")];
            assert_eq!(server.status(from(address, &any)).await, 200);
        }
        assert!(server.counted(r#"sanctum_auth_total{method="loopback",outcome="granted"} 8"#));
    }
}

#[tokio::test]
async fn other_machines_need_the_token() {
    let server = GatedServer::new(rules());
    for address in [
        "192.0.2.7",
        "::ffff:192.0.2.7",
        "2001:db8::7",
        "128.0.0.1",
        "::",
    ] {
        let address: IpAddr = address.parse().unwrap();
        let (status, code, message) = server.send(from(address, &[])).await.error().await;
        assert_eq!((status, code.as_str()), (401, "invalid_api_key"));
        assert!(message.contains("~/secrets/server.token"), "{message}");
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let right = format!("{scheme} {TOKEN}");
            let right = [("authorization", right.as_str())];
            assert_eq!(server.status(from(address, &right)).await, 200);
        }
    }
    assert!(server.counted(
        r#"sanctum_auth_total{method="none",outcome="refused",reason="token_missing"} 5"#
    ));
    assert!(server.counted(r#"sanctum_auth_total{method="bearer",outcome="granted"} 15"#));
}

#[tokio::test]
async fn wrong_token_is_refused_and_not_repeated() {
    let server = GatedServer::new(rules());
    let longer = format!("{TOKEN}0");
    for (header, reason) in [
        (
            bearer("ffffffffffffffffffffffffffffffffffffffff"),
            "is not the one",
        ),
        (bearer(&TOKEN[..20]), "is not the one"),
        (bearer(&longer), "is not the one"),
        (format!("Basic {TOKEN}"), "must be sent once"),
        (format!("Token {TOKEN}"), "must be sent once"),
        (TOKEN.to_owned(), "must be sent once"),
        ("Bearer".to_owned(), "must be sent once"),
    ] {
        let seen = server
            .send(from(LAPTOP, &[("authorization", &header)]))
            .await;
        assert_eq!(seen.response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert!(seen.response.headers().contains_key("x-request-id"));
        let (status, code, message) = seen.error().await;
        assert_eq!(
            (status, code.as_str()),
            (401, "invalid_api_key"),
            "{header}"
        );
        assert!(message.contains(reason), "{header}: {message}");
        let presented = header.rsplit(' ').next().unwrap();
        assert!(
            presented == "Bearer" || !message.contains(presented),
            "{message}"
        );
    }
    let right = bearer(TOKEN);
    let twice = [
        ("authorization", right.as_str()),
        ("authorization", right.as_str()),
    ];
    assert_eq!(server.status(from(LAPTOP, &twice)).await, 401);
}

#[tokio::test]
async fn server_without_a_token_refuses_other_machines() {
    let server = GatedServer::without_token(rules());
    for header in [bearer(TOKEN), bearer(""), "Bearer  ".into(), String::new()] {
        let (status, _, message) = (server
            .send(from(LAPTOP, &[("authorization", &header)]))
            .await)
            .error()
            .await;
        assert_eq!(status, 401);
        assert!(message.contains("sanctum-pki token server"), "{message}");
    }
}

#[tokio::test]
async fn header_never_makes_a_request_local() {
    let server = GatedServer::new(rules());
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;host=localhost"),
        ("x-forwarded-host", "localhost"),
        ("host", "localhost"),
        ("client-ip", "::1"),
    ] {
        assert_eq!(
            server.status(from(LAPTOP, &[(name, value)])).await,
            401,
            "{name}"
        );
    }
    // Nor does one keep it from being local: a proxy's headers say nothing about who asks.
    let proxied = [("x-forwarded-for", "203.0.113.5")];
    assert_eq!(server.status(from([127, 0, 0, 1], &proxied)).await, 200);
}

#[tokio::test]
async fn web_page_on_loopback_is_refused_without_the_token() {
    let server = GatedServer::new(rules());
    let right = bearer(TOKEN);
    let wrong = bearer("ffffffffffffffffffffffffffffffffffffffff");
    for (name, value, status) in [
        ("host", "evil.example", 403),
        ("host", "localhost.evil.example", 403),
        ("host", "127.0.0.1.evil.example:1337", 403),
        ("origin", "http://evil.example", 403),
        ("origin", "http://127.0.0.1:1337", 403),
    ] {
        let local = [127, 0, 0, 1];
        assert_eq!(
            server.status(from(local, &[(name, value)])).await,
            status,
            "{value}"
        );
        let with =
            |token: &str| server.status(from(local, &[(name, value), ("authorization", token)]));
        assert_eq!(with(&wrong).await, status);
        assert_eq!(with(&right).await, 200);
    }
    let mut form = from([127, 0, 0, 1], &[("content-type", "text/plain")]);
    *form.body_mut() = Body::from("{}");
    let (status, code, message) = server.send(form).await.error().await;
    assert_eq!((status, code.as_str()), (415, "unsupported_media_type"));
    assert!(message.contains("application/json"), "{message}");
    let mut two = from([127, 0, 0, 1], &[("authorization", &right)]);
    two.headers_mut()
        .append(header::HOST, "localhost".parse().unwrap());
    assert_eq!(server.send(two).await.error().await.1, "not_one_host");
}

#[tokio::test]
async fn required_loopback_needs_the_token() {
    let server = GatedServer::new(AccessRules {
        loopback: Loopback::Required,
        ..rules()
    });
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(server.status(from(address, &[])).await, 401);
        let right = bearer(TOKEN);
        assert_eq!(
            server
                .status(from(address, &[("authorization", &right)]))
                .await,
            200
        );
    }
}

#[tokio::test]
async fn certificate_is_verified_again_at_every_request() {
    let server = GatedServer::new(rules());
    let trusted = Arc::new(AtomicBool::new(true));
    let shared = trusted.clone();
    let identity = Identity::new("laptop", move || shared.load(Relaxed));
    let ask = || asking(route::CHAT, peer(LAPTOP, Some(identity.clone())), &[]);
    assert_eq!(server.status(ask()).await, 200);
    assert!(server.counted(r#"sanctum_client_requests_total{client="laptop"} 1"#));
    trusted.store(false, Relaxed);
    let mut request = ask();
    let right = bearer(TOKEN).parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, right);
    let seen = server.send(request).await;
    assert_eq!(seen.status, 401);
    assert_eq!(seen.response.headers()[header::CONNECTION], "close");
    assert!(
        server.counted(
            r#"sanctum_auth_total{method="mtls",outcome="refused",reason="certificate"} 1"#
        )
    );
    assert!(server.counted(r#"sanctum_client_requests_total{client="laptop"} 1"#));
}

#[tokio::test]
async fn request_without_a_peer_is_refused_on_every_route() {
    for rules in [
        rules(),
        AccessRules {
            disabled: true,
            ..rules()
        },
    ] {
        let server = GatedServer::new(rules);
        for path in [route::HEALTH, route::CHAT, "/nowhere"] {
            let mut request = asking(path, peer([127, 0, 0, 1], None), &[]);
            request.extensions_mut().remove::<Peer>();
            let (status, code, _) = server.send(request).await.error().await;
            assert_eq!((status, code.as_str()), (500, "no_peer"));
        }
    }
}

#[tokio::test]
async fn every_route_is_behind_the_gate() {
    let server = GatedServer::new(rules());
    for path in [
        route::CHAT,
        route::COMPLETIONS,
        route::HEALTH,
        "/metrics",
        "/nowhere",
        "/",
    ] {
        assert_eq!(
            server.status(asking(path, peer(LAPTOP, None), &[])).await,
            401,
            "{path}"
        );
    }
}

#[tokio::test]
async fn disabled_gate_accepts_every_request_and_reports_it() {
    let server = GatedServer::without_token(AccessRules {
        disabled: true,
        ..rules()
    });
    let request = from(
        LAPTOP,
        &[("origin", "http://evil.example"), ("host", "evil.example")],
    );
    assert_eq!(server.status(request).await, 200);
    assert!(server.counted("sanctum_auth_disabled 1"));
    assert!(server.counted(r#"sanctum_auth_total{method="disabled",outcome="granted"} 1"#));
    assert!(GatedServer::new(rules()).counted("sanctum_auth_disabled 0"));
}

#[tokio::test]
async fn stream_holds_its_permit_until_it_ends_or_is_dropped() {
    let server = GatedServer::new(rules());
    let right = bearer(TOKEN);
    let right = [("authorization", right.as_str())];
    let stream = || asking(route::COMPLETIONS, peer(LAPTOP, None), &right);
    let one = server.send(stream()).await;
    let _two = server.send(stream()).await;
    let refused = server.send(from(LAPTOP, &right)).await;
    assert_eq!(refused.response.headers()[header::RETRY_AFTER], "1");
    let (status, code, message) = refused.error().await;
    assert_eq!((status, code.as_str()), (429, "too_many_requests"));
    assert!(message.contains("2 requests"), "{message}");

    // Other clients have permits of their own, and watchdogs need none.
    assert_eq!(server.status(from([192, 0, 2, 8], &right)).await, 200);
    let health = asking(route::HEALTH, peer(LAPTOP, None), &right);
    assert_eq!(server.status(health).await, 200);
    drop(one);
    assert_eq!(server.status(from(LAPTOP, &right)).await, 200);
    // That response was read to its end or dropped; either releases the permit.
    assert_eq!(server.status(from(LAPTOP, &right)).await, 200);
}

#[tokio::test]
async fn requests_from_one_ipv6_network_share_their_limit() {
    let server = GatedServer::new(rules());
    let right = bearer(TOKEN);
    let right = [("authorization", right.as_str())];
    let stream = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        asking(route::COMPLETIONS, peer(address, None), &right)
    };
    let _one = server.send(stream("2001:db8::1")).await;
    let _two = server.send(stream("2001:db8::2")).await;
    assert_eq!(server.status(stream("2001:db8::3")).await, 429);
    assert_eq!(server.status(stream("2001:db8:0:1::3")).await, 200);
}

#[tokio::test]
async fn local_request_with_the_token_is_another_client_than_one_without() {
    let server = GatedServer::new(rules());
    let client = |address: [u8; 4], headers: &[(&str, &str)]| match server
        .gate
        .admit(&from(address, headers))
        .1
        .unwrap()
    {
        Admitted::Client(client) => client,
        other => panic!("{other:?}"),
    };
    let token = bearer(TOKEN);
    let local = [127, 0, 0, 1];
    assert_eq!(client(local, &[]), ClientKey::Loopback);
    assert_eq!(
        client(local, &[("authorization", "Bearer x")]),
        ClientKey::Loopback
    );
    let with_token = client(local, &[("authorization", &token)]);
    assert_eq!(with_token, ClientKey::LoopbackWithToken);
    assert_eq!(
        client(LAPTOP, &[("authorization", &token)]),
        ClientKey::Ipv4(LAPTOP.into())
    );
}

#[tokio::test]
async fn listed_host_name_is_accepted_and_another_is_named() {
    let server = GatedServer::new(AccessRules {
        hosts: vec!["host.docker.internal".parse().unwrap()],
        ..rules()
    });
    let here = [127, 0, 0, 1];
    let named = [("host", "host.docker.internal:1337")];
    assert_eq!(server.status(from(here, &named)).await, 200);
    let seen = server
        .send(from(here, &[("host", "gateway.docker.internal")]))
        .await;
    let (status, code, message) = seen.error().await;
    assert_eq!((status, code.as_str()), (403, "foreign_host"));
    for part in ["`gateway.docker.internal`", "--allow-host", "allow_hosts"] {
        assert!(message.contains(part), "{message}");
    }
}
