//! Clients on another machine, which is another network namespace: connections within this machine are all local.

use std::fs;
use std::net::SocketAddr;

use sanctum_tests::{Outside, Raw, Server, Signal, within};
use serde_json::json;

use crate::auth::{OTHER, TOKEN, bearer, secret};

/// The server's address on this host.
fn address(server: &Server, host: &str) -> SocketAddr {
    let ready = |line: String| {
        let fields: serde_json::Value = serde_json::from_str(&line).ok()?;
        let address = fields["address"].as_str()?.strip_prefix("http://")?.parse();
        address
            .ok()
            .filter(|at: &SocketAddr| at.ip().to_string() == host)
    };
    let found = server.log().into_iter().find_map(ready);
    found.unwrap_or_else(|| panic!("{host} is not in {:#?}", server.log()))
}

/// A server with a token, on loopback and on one address that the namespace reaches.
async fn open(outside: &Outside, more: &[&str]) -> (tempfile::TempDir, Server, SocketAddr) {
    let (folder, file) = secret();
    let here = outside.here().to_string();
    let mut args = vec!["--host", "127.0.0.1", "--host", &here];
    args.extend(["--auth-token-file", file.to_str().unwrap()]);
    args.extend(more);
    let server = Server::start(args.clone()).await;
    // The second address is logged right after the first.
    let announced = |line: &String| line.contains(&format!("http://{here}:"));
    within("the second address", async {
        while !server.log().iter().any(announced) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let at = address(&server, &here);
    (folder, server, at)
}

fn ask(outside: &Outside, at: SocketAddr, headers: &[&str]) -> Raw {
    let mut all = vec!["host: mini.example:1337"];
    all.extend(headers);
    Raw::ask(outside.connect(at), "GET /v1/models", &all, "")
}

#[tokio::test]
async fn remote_client_needs_the_token() {
    let Some(outside) = Outside::new() else {
        return;
    };
    let (folder, server, at) = open(&outside, &["--audit-log", "audit.jsonl"]).await;
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
    // Local clients of the same server need no token.
    assert_eq!(server.http().get("/v1/models").await.status, 200);
    let counted = server.metrics().await;
    let bearer = |outcome| {
        counted.sum(
            "sanctum_auth_total",
            &[("method", "bearer"), ("outcome", outcome)],
        )
    };
    assert_eq!((bearer("granted"), bearer("refused")), (3.0, 7.0));
    let home = server.home().to_owned();
    server.signal(Signal::TERM);
    let audit = home.join("audit.jsonl");
    within("the audit log", async {
        while fs::read_to_string(&audit).unwrap().lines().count() < 15 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let audit = fs::read_to_string(audit).unwrap();
    let peer = format!("\"peer\":\"{}:", outside.there());
    assert_eq!(
        audit.lines().filter(|line| line.contains(&peer)).count(),
        15
    );
    assert_eq!(
        audit
            .lines()
            .filter(|line| line.contains("\"route\":\"none\""))
            .count(),
        2
    );
    let log = server.ended().await.log.join("\n") + &audit;
    assert!(!log.contains(&TOKEN[..63]) && !log.contains(OTHER), "{log}");
    drop(folder);
}

#[tokio::test]
async fn ipv4_client_of_ipv6_socket_is_identified_as_ipv4() {
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
    // Over this socket 127.0.0.1 is ::ffff:127.0.0.1.
    for loopback in [
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
    ] {
        let local = std::net::TcpStream::connect(loopback).unwrap();
        let answer = Raw::ask(local, "GET /v1/models", &["host: localhost"], "");
        assert_eq!(answer.status, 200, "{loopback}: {}", answer.body);
    }
    // This machine's own address is not loopback and needs the token.
    let own = std::net::TcpStream::connect(at(outside.here())).unwrap();
    assert_eq!(
        Raw::ask(own, "GET /v1/models", &["host: localhost"], "").status,
        401
    );
}

#[tokio::test]
async fn streams_count_until_they_end_or_their_client_disconnects() {
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
    within("a place", async {
        while ask(&outside, at, &[&token]).status != 200 {}
    })
    .await;
}
