//! The console: its page, its requests with a certificate, and what it shows of clients and refusals.

use super::*;

#[tokio::test]
async fn console_is_served_without_the_token_and_what_it_shows_is_not() {
    let required = AccessRules {
        loopback: Loopback::Required,
        ..rules()
    };
    let server = GatedServer::new(required);
    let get = |path: &str, address: [u8; 4], header: Option<&str>| {
        let mut request = asking(path, peer(address, None), &[]);
        *request.method_mut() = Method::GET;
        if let Some(header) = header {
            let value = header.parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        request
    };
    for address in [LAPTOP, [127, 0, 0, 1]] {
        for wrong in [None, Some("Bearer wrong"), Some("Basic x")] {
            let status = |path| server.status(get(path, address, wrong));
            assert_eq!(status(route::CONSOLE).await, 200);
            assert_eq!(status(route::STATUS).await, 401);
        }
    }
    assert!(server.counted(r#"sanctum_auth_total{method="public",outcome="granted"} 6"#));
    let right = bearer(TOKEN);
    assert_eq!(
        server
            .status(get(route::STATUS, LAPTOP, Some(&right)))
            .await,
        200
    );
    // A POST is no request for the page.
    let post = asking(route::CONSOLE, peer(LAPTOP, None), &[]);
    assert_eq!(server.status(post).await, 401);
}

#[tokio::test]
async fn console_asks_for_an_own_name_where_no_token_is_needed() {
    let server = GatedServer::new(rules());
    let get = |host: &str| {
        let mut request = asking(
            route::CONSOLE,
            peer([127, 0, 0, 1], None),
            &[("host", host)],
        );
        *request.method_mut() = Method::GET;
        request
    };
    assert_eq!(server.status(get("localhost:1337")).await, 200);
    assert_eq!(server.status(get("rebound.example")).await, 403);
}

#[tokio::test]
async fn page_of_another_website_cannot_use_a_browsers_certificate() {
    let server = GatedServer::new(rules());
    let token = bearer(TOKEN);
    let status = |headers: Vec<(&'static str, &str)>| {
        let identity = Identity::new("laptop", || true);
        server.status(asking(route::CHAT, peer(LAPTOP, Some(identity)), &headers))
    };
    let host = ("host", "mini.example:1338");
    assert_eq!(status(vec![host]).await, 200);
    let own = ("origin", "https://mini.example:1338");
    assert_eq!(status(vec![host, own]).await, 200);
    for other in ["https://evil.example", "http://mini.example:1338", "null"] {
        assert_eq!(status(vec![host, ("origin", other)]).await, 403, "{other}");
    }
    let page = ("origin", "https://evil.example");
    let with_token = vec![host, page, ("authorization", token.as_str())];
    assert_eq!(status(with_token).await, 200);
    let listed = GatedServer::new(AccessRules {
        origins: vec!["https://chat.example".parse().unwrap()],
        ..rules()
    });
    let identity = Identity::new("laptop", || true);
    let page = [("origin", "https://chat.example"), host];
    let request = asking(route::CHAT, peer(LAPTOP, Some(identity)), &page);
    assert_eq!(listed.status(request).await, 200);
}

#[tokio::test]
async fn refusals_and_clients_are_listed() {
    let server = GatedServer::new(rules());
    let right = bearer(TOKEN);
    let right = [("authorization", right.as_str())];
    assert_eq!(server.status(from(LAPTOP, &[])).await, 401);
    assert_eq!(server.status(from(LAPTOP, &[])).await, 401);
    let stream = server
        .send(asking(route::CHAT, peer(LAPTOP, None), &right))
        .await;
    let refusals = server.gate.refusals().read();
    assert_eq!(refusals.len(), 1);
    let refusal = &refusals[0];
    assert_eq!((refusal.code, refusal.count), ("token_missing", 2));
    assert_eq!(refusal.address, Some(LAPTOP.into()));
    assert_eq!(refusal.route.as_deref(), Some(route::CHAT));
    let clients = server.gate.clients().read();
    assert_eq!(clients.len(), 1);
    assert_eq!(
        (clients[0].client.as_str(), clients[0].auth),
        ("192.0.2.7", "bearer")
    );
    assert_eq!((clients[0].waiting, clients[0].running), (1, 0));
    drop(stream);
    let clients = server.gate.clients().read();
    assert_eq!((clients[0].waiting, clients[0].requests), (0, 1));
}
