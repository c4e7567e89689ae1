//! Authentication over loopback, and the token files with which a server starts. Clients of other machines are in `outside`.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sanctum_tests::{Ended, Process, Raw, Server, within};
use serde_json::json;
use tempfile::TempDir;

/// A token as `sanctum-pki token` generates it.
pub(crate) const TOKEN: &str = "5f0c3f6c1f0b4c6d9a1e2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f70";
/// Another token.
pub(crate) const OTHER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A folder with a token file, which ends in a newline as editors write it.
pub(crate) fn secret() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("server.token");
    write(&file, &format!("{TOKEN}\n"));
    (folder, file)
}

/// Replaces a token file by renaming.
pub(crate) fn write(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, file).unwrap();
}

/// `Authorization: Bearer …`
pub(crate) fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

/// A server that every client needs [`TOKEN`] for, its token file and the file's folder.
pub(crate) async fn requires_token(more: &[&str]) -> (Server, PathBuf, TempDir) {
    let (folder, file) = secret();
    let token = ["--auth-token-file", file.to_str().unwrap()];
    let required = ["--loopback", "required"];
    let args = [&required[..], &token, more].concat();
    (Server::start(args).await, file, folder)
}

async fn asks(server: &Server, headers: &[&str]) -> Raw {
    let at = server.http().base().strip_prefix("http://").unwrap();
    Raw::ask(
        TcpStream::connect(at).unwrap(),
        "GET /v1/models",
        headers,
        "",
    )
}

#[tokio::test]
async fn web_page_cannot_use_the_loopback_bypass() {
    let (_folder, file) = secret();
    let server = Server::start(["--auth-token-file".as_ref(), file.as_os_str()]).await;
    let token = bearer(TOKEN);
    for (headers, status) in [
        (&["host: 127.0.0.1:1337"][..], 200),
        (&["host: LOCALHOST.:1337"], 200),
        (&["host: [::1]"], 200),
        (&["host: localhost.evil.example"], 403),
        (&["host: 127.0.0.1.evil.example"], 403),
        (&["host: rebound.example:1337"], 403),
        (&["host: localhost", "origin: http://evil.example"], 403),
        (&["host: localhost", "host: localhost"], 400),
        (&[], 400),
        (&["host: rebound.example", &token], 200),
        (
            &["host: localhost", "origin: http://page.example", &token],
            200,
        ),
    ] {
        let answer = asks(&server, headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        assert!(
            answer.head.contains("x-request-id: req_"),
            "{}",
            answer.head
        );
    }
    let at = server.http().base().strip_prefix("http://").unwrap();
    let form = [
        "host: localhost",
        "content-type: application/x-www-form-urlencoded",
    ];
    let stream = TcpStream::connect(at).unwrap();
    let answer = Raw::ask(stream, "POST /v1/chat/completions", &form, "messages=hi");
    assert_eq!(answer.status, 415, "{}", answer.body);
}

#[tokio::test]
async fn required_loopback_needs_the_token() {
    let (server, _file, _folder) = requires_token(&[]).await;
    let token = bearer(TOKEN);
    assert_eq!(asks(&server, &["host: localhost"]).await.status, 401);
    assert_eq!(
        asks(&server, &["host: localhost", "x-forwarded-for: 127.0.0.1"])
            .await
            .status,
        401
    );
    assert_eq!(
        asks(&server, &["host: localhost", &token]).await.status,
        200
    );
    assert_eq!(
        asks(&server, &["host: localhost", &token, &token])
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn rotated_token_is_valid_within_two_seconds_and_a_bad_one_is_not() {
    let (server, file, _folder) = requires_token(&[]).await;
    let (old, new) = (bearer(TOKEN), bearer(OTHER));
    assert_eq!(asks(&server, &["host: localhost", &old]).await.status, 200);

    write(&file, "");
    let message = format!(
        "the token file {} is empty; make a new one with: sanctum-pki token server; the earlier token stays valid",
        file.display()
    );
    server.logged(&message).await;
    assert_eq!(asks(&server, &["host: localhost", &old]).await.status, 200);

    let began = std::time::Instant::now();
    write(&file, OTHER);
    within("the new token to count", async {
        while asks(&server, &["host: localhost", &new]).await.status != 200 {}
    })
    .await;
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
    assert_eq!(asks(&server, &["host: localhost", &old]).await.status, 401);
    for line in server.log() {
        assert!(!line.contains(TOKEN) && !line.contains(OTHER), "{line}");
    }
}

/// A rotated token that was unreadable for a moment is read later, without another change of the file.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn token_file_that_becomes_readable_again_is_read() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let (server, file, _folder) = requires_token(&[]).await;
    let pid = Pid::from_raw(server.id().try_into().unwrap());
    let none_more = Rlimit {
        current: Some(3),
        ..getrlimit(Resource::Nofile)
    };
    let before = prlimit(pid, Resource::Nofile, none_more).unwrap();
    write(&file, OTHER);
    // A recently changed file is read twice in any case; this one is older.
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(long_ago).unwrap();
    let message = format!(
        "cannot read the token file {}: Too many open files (os error 24); a running server tries again every second; \
         the earlier token stays valid",
        file.display()
    );
    server.logged(&message).await;
    prlimit(pid, Resource::Nofile, before).unwrap();
    let new = bearer(OTHER);
    within("the new token to count", async {
        while asks(&server, &["host: localhost", &new]).await.status != 200 {}
    })
    .await;
}

#[tokio::test]
async fn unsafe_token_file_is_refused_at_start() {
    let (_folder, file) = secret();
    let run = async |args: &[&str]| -> Ended { Process::launch(args).ended().await };
    let with = ["--port", "0", "--auth-token-file", file.to_str().unwrap()];
    for (text, mode, words) in [
        ("", 0o600, "is empty"),
        ("\n", 0o600, "is empty"),
        ("hunter2", 0o600, "7 characters"),
        (TOKEN, 0o640, "chmod 600"),
    ] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let ended = run(&with).await;
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.last_message().contains(words),
            "{}",
            ended.last_message()
        );
        assert!(!ended.last_message().contains("hunter2"));
    }
    let ended = run(&["--loopback", "required", "--port", "0"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.last_message().contains("sanctum-pki token server"));
}

#[tokio::test]
async fn disabled_authentication_is_reported_everywhere() {
    let args = ["--host", "0.0.0.0", "--port", "0"];
    let process = Process::launch_with(args, &[("SANCTUM_DISABLE_AUTH", "yes")]);
    assert_eq!(process.ended().await.code, Some(1));
    let args = ["--port", "0"];
    let process = Process::launch_with(args, &[("SANCTUM_DISABLE_AUTH", "1")]);
    let server = Server::ready(process).await;
    let loud = |line: &String| line.contains("SANCTUM_DISABLE_AUTH=1") && line.contains("WARN");
    assert!(server.log().iter().any(loud), "{:#?}", server.log());
    assert_eq!(asks(&server, &["host: evil.example"]).await.status, 200);
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum("sanctum_auth_disabled", &[]), 1.0);
    let granted = [("method", "disabled"), ("outcome", "granted")];
    assert_eq!(metrics.sum("sanctum_auth_total", &granted), 2.0);
    let model = server.http().get("/v1/models").await.json();
    assert_eq!(model["object"], json!("list"));
}
