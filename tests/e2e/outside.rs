//! Who comes from another machine: all of it from another network namespace, since nothing on this machine is one.

use std::net::SocketAddr;

use sanctum_tests::{Outside, Raw, Server};
use serde_json::json;

use crate::auth::{OTHER, TOKEN, address, bearer, secret};

/// A server on loopback and on one address that the outside reaches, with a token.
async fn open(outside: &Outside, more: &[&str]) -> (tempfile::TempDir, Server, SocketAddr) {
    let (folder, file) = secret();
    let here = outside.here().to_string();
    let mut args = vec!["--host", "127.0.0.1", "--host", &here];
    args.extend(["--auth-token-file", file.to_str().unwrap()]);
    args.extend(more);
    let server = Server::start(args.clone()).await;
    server
        .health_shows("that it serves", |health| health["status"] == "ok")
        .await;
    let at = loop {
        // The second address is announced right after the first.
        if server
            .log()
            .iter()
            .any(|line| line.contains(&format!("http://{here}:")))
        {
            break address(&server, &here);
        }
        tokio::task::yield_now().await;
    };
    (folder, server, at)
}

fn ask(outside: &Outside, at: SocketAddr, headers: &[&str]) -> Raw {
    let mut all = vec!["host: mini.example:1337"];
    all.extend(headers);
    Raw::ask(outside.connect(at), "GET /v1/models", &all, "")
}

#[tokio::test]
async fn from_another_machine_the_token_is_the_only_way_in() {
    let Some(outside) = Outside::new() else {
        return;
    };
    let (_folder, server, at) = open(&outside, &[]).await;
    let (right, wrong) = (bearer(TOKEN), bearer(OTHER));
    let basic = format!("authorization: Basic {TOKEN}");
    let short = bearer(&TOKEN[..63]);
    let long = bearer(&format!("{TOKEN}0"));
    let lower = format!("authorization: bearer {TOKEN}");
    let upper = format!("authorization: BEARER {TOKEN}");
    for (headers, status) in [
        (&[][..], 401),
        (&[right.as_str()], 200),
        (&[&lower], 200),
        (&[&upper], 200),
        (&[&wrong], 401),
        (&[&basic], 401),
        (&[&short], 401),
        (&[&long], 401),
        (&["authorization: Bearer"], 401),
        (&[&right, &right], 401),
        (&[&right, &wrong], 401),
        (&["x-forwarded-for: 127.0.0.1"], 401),
        (&["forwarded: for=127.0.0.1", "x-real-ip: ::1"], 401),
    ] {
        let answer = ask(&outside, at, headers);
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        if status == 401 {
            assert!(
                answer.head.contains("www-authenticate: Bearer"),
                "{}",
                answer.head
            );
            assert!(
                answer.body.contains("invalid_api_key") && answer.body.contains("server.token")
            );
            assert!(!answer.body.contains(&TOKEN[..63]) && !answer.body.contains(OTHER));
        }
    }
    for path in [
        "/health",
        "/metrics",
        "/nowhere",
        "/v1/chat/completions",
        "*",
    ] {
        let answer = Raw::ask(
            outside.connect(at),
            &format!("GET {path}"),
            &["host: localhost"],
            "",
        );
        assert_eq!(answer.status, 401, "{path}: {}", answer.body);
    }
    // To the local programs of the same server nothing has changed.
    assert_eq!(server.http().get("/v1/models").await.status, 200);
    let counted = server.metrics().await;
    let bearer = |outcome| {
        counted.sum(
            "sanctum_auth_total",
            &[("method", "bearer"), ("outcome", outcome)],
        )
    };
    assert_eq!((bearer("granted"), bearer("refused")), (3.0, 7.0));
    for line in server.log() {
        assert!(!line.contains(TOKEN) && !line.contains(OTHER), "{line}");
    }
}

#[tokio::test]
async fn an_ipv4_client_of_an_ipv6_socket_is_who_it_is() {
    let Some(outside) = Outside::new() else {
        return;
    };
    let (_folder, file) = secret();
    let args = ["--host", "::", "--auth-token-file", file.to_str().unwrap()];
    let server = Server::start(args).await;
    let port = address(&server, "::").port();
    let at = |ip: std::net::Ipv4Addr| SocketAddr::from((ip, port));
    assert_eq!(ask(&outside, at(outside.here()), &[]).status, 401);
    assert_eq!(
        ask(&outside, at(outside.here()), &[&bearer(TOKEN)]).status,
        200
    );
    let local = std::net::TcpStream::connect(at([127, 0, 0, 1].into())).unwrap();
    let answer = Raw::ask(local, "GET /v1/models", &["host: localhost"], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    // This machine under an address of its own that is not loopback is not let in by it.
    let own = std::net::TcpStream::connect(at(outside.here())).unwrap();
    assert_eq!(
        Raw::ask(own, "GET /v1/models", &["host: localhost"], "").status,
        401
    );
}

#[tokio::test]
async fn streams_hold_their_places_until_they_end_or_their_client_goes() {
    let Some(outside) = Outside::new() else {
        return;
    };
    let (_folder, server, at) = open(&outside, &["--max-requests-per-client", "2"]).await;
    let body =
        json!({ "prompt": "Count.", "max_tokens": 1900, "ignore_eos": true, "stream": true })
            .to_string();
    let token = bearer(TOKEN);
    let headers = [
        "host: mini",
        "content-type: application/json",
        token.as_str(),
    ];
    let begin = || Raw::begin(outside.connect(at), "POST /v1/completions", &headers, &body);
    let (one, _two) = (begin(), begin());
    let refused = ask(&outside, at, &[&token]);
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    let health = Raw::ask(
        outside.connect(at),
        "GET /health",
        &["host: mini", &token],
        "",
    );
    assert_eq!(health.status, 200);
    assert_eq!(server.http().get("/v1/models").await.status, 200);
    drop(one);
    sanctum_tests::within("a place", async {
        while ask(&outside, at, &[&token]).status != 200 {}
    })
    .await;
}
