//! Channels with receivers over real sockets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::http::StatusCode;

use super::endpoint::MALFORMED;
use super::*;

#[tokio::test]
async fn alert_is_delivered_by_2xx_only_and_never_follows_a_redirect() {
    let elsewhere = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&elsewhere);
    let receiver = Router::new()
        .fallback(move || async move {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .route(
            "/status/{code}",
            axum::routing::any(
                async |axum::extract::Path(code): axum::extract::Path<u16>| {
                    let status = StatusCode::from_u16(code).unwrap();
                    (status, [("location", "/elsewhere")])
                },
            ),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, receiver).await });
    let answered = async |code: u16| {
        let url = format!("http://{address}/status/{code}");
        Channel::http(&url)
            .deliver(&Alert::example("canary-1"))
            .await
    };
    for code in [200, 201, 202, 204] {
        assert_eq!(answered(code).await, Ok(()), "{code}");
    }
    for code in [301, 302, 303, 307, 308] {
        let error = answered(code).await.unwrap_err();
        assert!(!error.is_permanent, "{code}: {error}");
        assert!(error.to_string().contains("redirects"), "{code}: {error}");
    }
    for code in [
        300, 304, 401, 403, 404, 408, 409, 410, 429, 500, 502, 503, 504,
    ] {
        let error = answered(code).await.unwrap_err();
        assert!(!error.is_permanent, "{code}: {error}");
    }
    for code in MALFORMED {
        let error = answered(code).await.unwrap_err();
        assert!(error.is_permanent, "{code}: {error}");
    }
    assert_eq!(elsewhere.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn receiver_with_tls_that_is_down_is_retried() {
    // The listener keeps the port, and closes connections without TLS.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || drop(listener.accept()));
    let channel = Channel::http(&format!("https://{address}/notify"));
    let failed = channel
        .deliver(&Alert::example("canary-1"))
        .await
        .unwrap_err();
    assert!(!failed.is_permanent, "{failed}");
}

#[test]
fn section_of_alerts_is_one_of_three_channels_or_an_error() {
    let text = "[alerts.force-flow]\nurl = \"http://127.0.0.1:4077/notify\"\n[alerts.desktop]\nsound = \"Submarine\"\n[alerts.log]\n[alerts.pager]\n[alerts.odd]\nurl = \"ftp://x\"\n";
    let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
    let of = |name: &str| Channel::of(&fleet, Path::new("fleet.toml"), &name.parse().unwrap());
    assert!(matches!(of("force-flow"), Ok(Channel::Webhook(_))));
    assert!(matches!(of("desktop"), Ok(Channel::Desktop(Some(sound))) if sound == "Submarine"));
    assert!(matches!(of("log"), Ok(Channel::Log)));
    assert!(matches!(of("pager"), Err(BadChannel::Kind(_))));
    assert!(matches!(of("odd"), Err(BadChannel::Value { .. })));
    let error = of("desktp").unwrap_err().to_string();
    assert!(error.contains("did you mean `desktop`"), "{error}");
}

/// The address of a receiver that answers `status` with `body` to everything, and sends what it received.
async fn receiver(
    status: u16,
    body: &'static str,
) -> (
    String,
    tokio::sync::mpsc::UnboundedReceiver<(String, String, serde_json::Value)>,
) {
    let (send, received) = tokio::sync::mpsc::unbounded_channel();
    let answer = move |request: axum::extract::Request| async move {
        let path = request.uri().path().to_owned();
        let token = request.headers().get("authorization");
        let token = token.map(|token| token.to_str().unwrap().to_owned());
        let bytes = axum::body::to_bytes(request.into_body(), 1 << 20)
            .await
            .unwrap();
        let json = serde_json::from_slice(&bytes).unwrap();
        send.send((path, token.unwrap_or_default(), json)).unwrap();
        (
            StatusCode::from_u16(status).unwrap(),
            [("location", "/SECRET/other")],
            body,
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (format!("http://{address}"), received)
}

/// The channel `x` of a section beside these files, which have mode 0600.
fn channel(folder: &Path, section: &str, files: &[(&str, &str)]) -> Channel {
    use std::os::unix::fs::PermissionsExt;
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let file = folder.join("fleet.toml");
    let fleet = Fleet::parse(&format!("[alerts.x]\n{section}"), &file).unwrap();
    Channel::of(&fleet, &file, &"x".parse().unwrap()).unwrap()
}

#[tokio::test]
async fn webhook_with_a_template_posts_its_body_to_a_secret_address() {
    let folder = tempfile::tempdir().unwrap();
    let (base, mut received) = receiver(200, "ok").await;
    let section = "url_file = \"url\"\ntoken_file = \"token\"\ntemplate = '{\"text\": \"{{title|html}}\\n{{body|6}}\"}'";
    let address = format!("{base}/SECRET/hook\n");
    let webhook = channel(
        folder.path(),
        section,
        &[("url", &address), ("token", "tk_1\n")],
    );
    let mut alert = Alert::example("canary-1");
    alert.title = "<b> \"&\"".to_owned();
    alert.body = "line\nand more".to_owned();
    webhook.deliver(&alert).await.unwrap();
    let expected = serde_json::json!({ "text": "&lt;b&gt; \"&amp;\"\nline\n…" });
    let got = received.recv().await.unwrap();
    assert_eq!(
        got,
        (
            "/SECRET/hook".to_owned(),
            "Bearer tk_1".to_owned(),
            expected
        )
    );
    // A new token counts at once.
    std::fs::write(folder.path().join("token"), "tk_2").unwrap();
    webhook.deliver(&alert).await.unwrap();
    assert_eq!(received.recv().await.unwrap().1, "Bearer tk_2");
}

#[tokio::test]
async fn ntfy_publishes_json_at_the_root_with_priority_and_tags() {
    let folder = tempfile::tempdir().unwrap();
    let (base, mut received) = receiver(200, "{}").await;
    let section = format!("kind = \"ntfy\"\nurl = \"{base}/push/fleet-7\"");
    let ntfy = channel(folder.path(), &section, &[]);
    ntfy.deliver(&Alert::example("canary-1")).await.unwrap();
    let expected = serde_json::json!({
        "topic": "fleet-7", "title": "title", "message": "body", "priority": 3,
        "tags": ["white_check_mark", "mini", "canary"],
    });
    let got = received.recv().await.unwrap();
    assert_eq!(got, ("/push/".to_owned(), String::new(), expected));
}

#[tokio::test]
async fn error_has_the_receivers_reason_and_never_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    for (status, body, is_permanent, words) in [
        (
            400,
            "chat not found",
            true,
            "400 Bad Request: chat not found",
        ),
        (403, "the token tk_1 is unknown", false, "403 Forbidden"),
        (404, "no route SECRET/hook", false, "404 Not Found"),
        (302, "", false, "redirects are not followed"),
        (500, "", false, "500"),
    ] {
        let (base, _received) = receiver(status, body).await;
        for section in [
            "url_file = \"url\"\ntoken_file = \"token\"",
            "kind = \"ntfy\"\nurl_file = \"url\"\ntoken_file = \"token\"",
        ] {
            let address = format!("{base}/SECRET/hook");
            let hook = channel(
                folder.path(),
                section,
                &[("url", &address), ("token", "tk_1")],
            );
            let error = hook.deliver(&Alert::example("canary-1")).await.unwrap_err();
            assert_eq!(error.is_permanent, is_permanent, "{error}");
            assert!(
                error.problem.contains(words) && error.problem.contains(&base),
                "{error}"
            );
            assert!(!error.fix.is_empty());
            let text = format!("{} {}", error.problem, error.fix);
            assert!(!text.contains("SECRET") && !text.contains("tk_1"), "{text}");
        }
    }
}

#[tokio::test]
async fn secret_that_others_can_read_or_that_is_missing_is_retried() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let hook = channel(
        folder.path(),
        "url_file = \"url\"",
        &[("url", "http://127.0.0.1:9/SECRET")],
    );
    let path = folder.path().join("url");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = hook.deliver(&Alert::example("canary-1")).await.unwrap_err();
    assert!(
        error.problem.contains("chmod 600") && !error.is_permanent,
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = hook.deliver(&Alert::example("canary-1")).await.unwrap_err();
    assert!(
        error.problem.contains(&path.display().to_string()),
        "{error}"
    );
}

#[test]
fn section_with_a_value_that_cannot_be_used_is_an_error_that_names_it() {
    let of = |section: &str| {
        let file = Path::new("fleet.toml");
        let fleet = Fleet::parse(&format!("[alerts.x]\n{section}"), file).unwrap();
        Channel::of(&fleet, file, &"x".parse().unwrap())
            .unwrap_err()
            .to_string()
    };
    for (section, words) in [
        ("url = \"https://user:secret@example.com/\"", "`url_file`"),
        (
            "kind = \"ntfy\"\nurl = \"https://ntfy.sh/\"",
            "https://ntfy.sh/TOPIC",
        ),
        (
            "url = \"http://a/\"\ntemplate = \"{{titel}}\"",
            "did you mean `title`",
        ),
    ] {
        let error = of(section);
        assert!(
            error.starts_with("[alerts.x]: ") && error.contains(words),
            "{error}"
        );
        assert!(!error.contains("secret@"), "{error}");
    }
}
