//! Requests and preflights of web pages, from listed origins and others.

use super::*;

/// A preflight of a chat from this address.
fn preflight(address: impl Into<IpAddr>, origin: &str) -> Request {
    let mut request = Request::options(route::CHAT)
        .extension(peer(address, None))
        .header(header::HOST, "127.0.0.1:1337")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            "authorization,content-type,x-stainless-os",
        )
        .header("access-control-request-private-network", "true");
    if !origin.is_empty() {
        request = request.header(header::ORIGIN, origin);
    }
    request.body(Body::empty()).unwrap()
}

fn with_origins(origins: &[&str]) -> GatedServer {
    GatedServer::new(AccessRules {
        origins: origins
            .iter()
            .map(|origin| origin.parse().unwrap())
            .collect(),
        ..rules()
    })
}

#[tokio::test]
async fn preflight_of_a_listed_origin_is_answered_without_credentials() {
    let server = with_origins(&["https://page.example"]);
    for address in [LAPTOP, [127, 0, 0, 1]] {
        let seen = server
            .send(preflight(address, "https://page.example"))
            .await;
        assert_eq!(seen.status, 204);
        let headers = seen.response.headers();
        for (name, value) in [
            ("access-control-allow-origin", "https://page.example"),
            ("access-control-allow-methods", "GET, POST, DELETE"),
            (
                "access-control-allow-headers",
                "authorization,content-type,x-stainless-os",
            ),
            ("access-control-allow-private-network", "true"),
            ("access-control-max-age", "7200"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        let vary: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert!(
            vary.contains(&&header::HeaderValue::from_static("Origin")),
            "{vary:?}"
        );
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }
    assert!(server.counted(r#"sanctum_auth_total{method="preflight",outcome="granted"} 2"#));
}

#[tokio::test]
async fn preflight_of_another_origin_is_refused_with_the_flag() {
    for server in [
        GatedServer::new(rules()),
        with_origins(&["https://page.example"]),
    ] {
        for address in [LAPTOP, [127, 0, 0, 1]] {
            let seen = server
                .send(preflight(address, "https://evil.example"))
                .await;
            assert!(
                !seen
                    .response
                    .headers()
                    .contains_key("access-control-allow-origin")
            );
            let (status, code, message) = seen.error().await;
            assert_eq!((status, code.as_str()), (403, "origin"));
            assert!(message.contains("--allow-origin"), "{message}");
        }
        // Without an origin it is no preflight.
        assert_eq!(server.status(preflight(LAPTOP, "")).await, 401);
    }
}

#[tokio::test]
async fn listed_page_needs_the_token_from_other_machines_and_none_here() {
    let server = with_origins(&["https://page.example"]);
    let origin = ("origin", "https://page.example");
    let local = ("host", "localhost");
    let token = bearer(TOKEN);
    let token = ("authorization", token.as_str());
    let here = [127, 0, 0, 1];
    for (request, status) in [
        (from(here, &[local, origin]), 200),
        (from(LAPTOP, &[origin]), 401),
        (from(LAPTOP, &[origin, token]), 200),
        (from(here, &[("host", "rebound.example"), origin]), 403),
    ] {
        let seen = server.send(request).await;
        assert_eq!(seen.status, status);
        let headers = seen.response.headers();
        // The page reads refusals too.
        assert_eq!(
            headers["access-control-allow-origin"],
            "https://page.example"
        );
        assert_eq!(headers[header::VARY], "Origin");
        let exposed = headers["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"));
    }
    let other = [local, ("origin", "https://evil.example")];
    assert_eq!(server.status(from(here, &other)).await, 403);
    let with_token = server.send(from(here, &[other[0], other[1], token])).await;
    assert_eq!(with_token.status, 200);
    let headers = with_token.response.headers();
    assert!(!headers.contains_key("access-control-allow-origin"));
    assert_eq!(headers[header::VARY], "Origin");
}

#[tokio::test]
async fn star_lets_pages_read_and_does_not_replace_the_token() {
    let server = with_origins(&["*"]);
    let origin = ("origin", "https://any.example");
    let local = ("host", "localhost");
    let here = [127, 0, 0, 1];
    let token = bearer(TOKEN);
    for (headers, status) in [
        (vec![local, origin], 403),
        (vec![local, origin, ("authorization", token.as_str())], 200),
    ] {
        let seen = server.send(from(here, &headers)).await;
        assert_eq!(seen.status, status);
        assert_eq!(seen.response.headers()["access-control-allow-origin"], "*");
    }
    assert_eq!(
        server.status(preflight(here, "https://any.example")).await,
        204
    );
}

#[tokio::test]
async fn answers_do_not_mention_origins_where_none_is_allowed() {
    let server = GatedServer::new(rules());
    let seen = server
        .send(from([127, 0, 0, 1], &[("host", "localhost")]))
        .await;
    assert_eq!(seen.status, 200);
    assert!(!seen.response.headers().contains_key(header::VARY));
}
