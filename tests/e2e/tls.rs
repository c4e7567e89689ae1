//! TLS with `curl` and `openssl` as clients, from another network namespace where possible, with certificates of the real
//! `sanctum-pki`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sanctum_tests::{Fleet, Raw, Server, Signal, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::auth::bearer;
use crate::openai::SUM;

/// The time within which changes take effect on a running server.
const SOON: Duration = Duration::from_secs(2);

/// A server with a TLS listener, and the namespace of its clients.
struct Site {
    fleet: Fleet,
    server: Server,
    address: SocketAddr,
    #[cfg(target_os = "linux")]
    outside: Option<sanctum_tests::Outside>,
}

/// A certificate and its key.
type CertificateFiles = (PathBuf, PathBuf);

impl Site {
    /// None where a program is missing; the test is skipped.
    async fn open() -> Option<Self> {
        for program in ["curl", "openssl"] {
            let mut asked = Command::new(program);
            if let Err(error) = asked.arg("version").output() {
                return sanctum_tests::skipped(&format!("{program}: {error}"));
            }
        }
        #[cfg(target_os = "linux")]
        let outside = sanctum_tests::Outside::new();
        #[cfg(target_os = "linux")]
        let here = outside
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, |outside| outside.here());
        #[cfg(not(target_os = "linux"))]
        let here = Ipv4Addr::LOCALHOST;
        let at = SocketAddr::new(IpAddr::V4(here), 0);
        let fleet = Fleet::set_up(&format!("tls_listen = [\"{at}\"]"));
        let server = fleet.serve().await;
        let address = server.tls_address().await;
        Some(Self {
            fleet,
            server,
            address,
            #[cfg(target_os = "linux")]
            outside,
        })
    }

    /// A client of this name.
    fn client(&self, name: &str) -> CertificateFiles {
        self.fleet.pki(&format!("client {name}"));
        self.fleet.pair(&format!("clients/{name}"))
    }

    /// A program in the clients' namespace.
    fn command(&self, program: &str) -> Command {
        #[cfg(target_os = "linux")]
        if let Some(outside) = &self.outside {
            return outside.command(program);
        }
        Command::new(program)
    }

    /// `curl` for a path, with headers shown.
    fn curl(&self, pair: Option<&CertificateFiles>, more: &[&str], path: &str) -> Output {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--include", "--max-time", "30"])
            .arg("--cacert")
            .arg(self.fleet.path("home/certs/ca.crt"))
            .args(more)
            .arg(format!("https://{}{path}", self.address));
        if let Some((certificate, key)) = pair {
            curl.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        curl.output().expect("curl runs")
    }

    /// `openssl s_client`, which sends its standard input and prints the responses until the server disconnects.
    fn s_client(&self, pair: Option<&CertificateFiles>, more: &[&str]) -> Command {
        let mut client = self.command("openssl");
        client
            .args(["s_client", "-quiet", "-verify_return_error", "-connect"])
            .arg(self.address.to_string())
            .arg("-CAfile")
            .arg(self.fleet.path("home/certs/ca.crt"))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((certificate, key)) = pair {
            client.arg("-cert").arg(certificate).arg("-key").arg(key);
        }
        client
    }

    /// One request over `openssl s_client`.
    async fn ask(&self, pair: Option<&CertificateFiles>, more: &[&str]) -> Output {
        let client = self.s_client(pair, more);
        let mut client = tokio::process::Command::from(client)
            .spawn()
            .expect("openssl runs");
        let mut stdin = client.stdin.take().expect("it is piped");
        // It may be refused before it reads this.
        let _ = stdin
            .write_all(b"GET /v1/models HTTP/1.1\r\nhost: mini\r\nconnection: close\r\n\r\n")
            .await;
        let output = within("openssl's end", client.wait_with_output()).await;
        output.expect("it can be waited for")
    }

    /// A connection of `openssl s_client` that stays open.
    fn connect(&self, pair: &CertificateFiles) -> Wire {
        let client = self.s_client(Some(pair), &[]);
        let mut client = tokio::process::Command::from(client)
            .kill_on_drop(true)
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        Wire {
            stdin: client.stdin.take().expect("it is piped"),
            stdout: client.stdout.take().expect("it is piped"),
            seen: Vec::new(),
            _client: client,
        }
    }

    /// The server's current certificate, in PEM.
    async fn shown(&self, pair: &CertificateFiles) -> String {
        let mut client = self.command("openssl");
        client
            .args(["s_client", "-connect", &self.address.to_string()])
            .arg("-cert")
            .arg(&pair.0)
            .arg("-key")
            .arg(&pair.1)
            .stdin(Stdio::null());
        let output = tokio::process::Command::from(client).output().await;
        pem(&output.expect("openssl runs").stdout)
    }

    async fn audit(&self, lines: usize) -> Vec<Value> {
        let file = self.fleet.path("home/logs/server.audit.jsonl");
        within("the audit log", async {
            loop {
                let text = fs::read_to_string(&file).unwrap_or_default();
                if text.lines().count() >= lines {
                    let parse = |line| serde_json::from_str(line).expect("a line is JSON");
                    return text.lines().map(parse).collect();
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// The first block of PEM in a text.
fn pem(text: &[u8]) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(text);
    let begin = text.find("-----BEGIN CERTIFICATE-----");
    let block = begin.and_then(|begin| {
        let end = text[begin..].find(END)?;
        Some(text[begin..begin + end + END.len()].to_owned())
    });
    block.unwrap_or_else(|| panic!("no certificate in {text}"))
}

/// One connection, over which requests are sent as text.
struct Wire {
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// Received bytes that were not read yet.
    seen: Vec<u8>,
    _client: Child,
}

impl Wire {
    /// Sends a GET and reads the response: status and body.
    async fn get(&mut self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: mini\r\n\r\n"))
            .await;
        let (status, head) = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.trim().parse().ok());
        let body = self.take(length.expect("it has a length")).await;
        (status, body)
    }

    /// Starts a long stream, whose events are read later.
    async fn stream(&mut self) {
        let body = json!({
            "prompt": "Count from 1 to 99.", "temperature": 0, "max_tokens": 2000, "ignore_eos": true, "stream": true,
        })
        .to_string();
        let length = body.len();
        self.send(&format!(
            "POST /v1/completions HTTP/1.1\r\nhost: mini\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
        .await;
        assert_eq!(self.head().await.0, 200);
    }

    /// The received part of a stream, without waiting.
    async fn so_far(&mut self) -> String {
        while tokio::time::timeout(Duration::from_millis(1), self.more())
            .await
            .is_ok()
        {}
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    async fn send(&mut self, text: &str) {
        let sent = self.stdin.write_all(text.as_bytes()).await;
        sent.expect("openssl reads it");
    }

    async fn head(&mut self) -> (u16, String) {
        let head = self.until("\r\n\r\n").await;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {head}")), head)
    }

    /// Reads up to and including `end`.
    async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self
                .seen
                .windows(end.len())
                .position(|at| at == end.as_bytes());
            match found {
                Some(at) => return self.take(at + end.len()).await,
                None => self.more().await,
            }
        }
    }

    async fn take(&mut self, length: usize) -> String {
        while self.seen.len() < length {
            self.more().await;
        }
        let text: Vec<u8> = self.seen.drain(..length).collect();
        String::from_utf8(text).expect("it is text")
    }

    async fn more(&mut self) {
        let mut bytes = [0; 16 << 10];
        let read = within("more from the server", self.stdout.read(&mut bytes)).await;
        let read = read.expect("a pipe can be read");
        let so_far = String::from_utf8_lossy(&self.seen);
        assert!(read > 0, "the connection ended after: {so_far}");
        self.seen.extend(&bytes[..read]);
    }
}

/// Days from now, in the format of `sanctum-pki`.
fn day(from_now: i64) -> String {
    let moment = time::OffsetDateTime::now_utc() + time::Duration::days(from_now);
    moment.date().to_string()
}

#[tokio::test]
async fn browser_with_a_certificate_uses_the_console_and_no_other_website_does() {
    let Some(site) = Site::open().await else {
        return;
    };
    let pair = site.client("ada");
    let asked = |headers: &[&str], path: &str| {
        let headers = headers.iter().flat_map(|header| ["--header", header]);
        let output = site.curl(Some(&pair), &headers.collect::<Vec<_>>(), path);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let page = asked(&[], "/");
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    assert!(page.contains("/console.js"));
    let own = format!("Origin: https://{}", site.address);
    for (origin, status) in [
        (own.as_str(), "200"),
        ("Origin: https://evil.example", "403"),
        ("Origin: null", "403"),
    ] {
        let answer = asked(&[origin], "/status");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{origin}: {answer}"
        );
    }
    let status = asked(&[], "/status");
    assert!(
        status.contains(r#""client":"ada","auth":"mtls""#),
        "{status}"
    );
    assert!(status.contains(r#""code":"origin""#), "{status}");

    // A connection without a certificate is refused, and listed.
    site.curl(None, &[], "/");
    let status = asked(&[], "/status");
    let refused = r#""method":null,"route":null,"status":null,"code":"no_certificate""#;
    assert!(status.contains(refused), "{status}");
}

#[tokio::test]
async fn other_certificates_are_refused_with_their_alert() {
    let Some(site) = Site::open().await else {
        return;
    };
    let fleet = &site.fleet;
    let stranger = Fleet::set_up("");
    fleet.pki(&format!("client late --not-before {} --days 1", day(-9)));
    fleet.pki(&format!("client early --not-before {} --days 9", day(2)));
    let right = fleet.pair("clients/canary");
    let (late, early) = (fleet.pair("clients/late"), fleet.pair("clients/early"));
    let foreign = stranger.pair("clients/canary");
    let server = fleet.pair("server");
    let revoked = site.client("revoked");
    fleet.pki("revoke revoked");
    within("the list to be read", async {
        while site
            .ask(Some(&revoked), &[])
            .await
            .stdout
            .starts_with(b"HTTP")
        {}
    })
    .await;
    let before = site.server.metrics().await;

    // The reasons and alerts of docs/tls.md.
    let old = (&["-tls1_2"][..], &["--tls-max", "1.2"][..]);
    let new = (&[][..], &[][..]);
    for (pair, (openssl, curl), number, words, reason) in [
        (None, new, 116, "certificate required", "no_certificate"),
        (Some(&late), new, 45, "certificate expired", "expired"),
        (
            Some(&early),
            new,
            45,
            "certificate expired",
            "not_yet_valid",
        ),
        (Some(&foreign), new, 48, "unknown ca", "unknown_ca"),
        (Some(&revoked), new, 44, "certificate revoked", "revoked"),
        (
            Some(&server),
            new,
            43,
            "unsupported certificate",
            "wrong_purpose",
        ),
        (Some(&right), old, 70, "protocol version", "incompatible"),
    ] {
        let said = site.ask(pair, openssl).await;
        let heard = String::from_utf8_lossy(&said.stderr);
        assert!(
            heard.contains(&format!("alert {words}")),
            "{reason}: {heard}"
        );
        assert!(
            heard.contains(&format!("SSL alert number {number}")),
            "{reason}: {heard}"
        );
        assert!(said.stdout.is_empty() && !said.status.success(), "{reason}");

        let said = site.curl(pair, curl, "/health");
        let heard = String::from_utf8_lossy(&said.stderr);
        // curl may be built with another library, which has other messages.
        assert!(said.stdout.is_empty() && !said.status.success(), "{reason}");
        assert!(
            heard.contains(words) || !heard.contains("OpenSSL"),
            "{reason}: {heard}"
        );

        let counted = |page: &sanctum_tests::Metrics| {
            page.sum("sanctum_connections_refused_total", &[("reason", reason)])
        };
        // The alert is sent before it is counted.
        let twice = counted(&before) + 2.0;
        site.server
            .metrics_show(reason, |page| counted(page) == twice)
            .await;
    }

    let said = site.ask(Some(&right), &[]).await;
    let answer = String::from_utf8_lossy(&said.stdout);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for path in ["/health", "/metrics", "/v1/models"] {
        let answer = site.curl(Some(&right), &[], path).stdout;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    // None of the refused clients reached a request.
    let after = site.server.metrics().await;
    let asked =
        |page: &sanctum_tests::Metrics| page.sum("sanctum_auth_total", &[("method", "mtls")]);
    assert_eq!(asked(&after) - asked(&before), 4.0);
}

#[tokio::test]
async fn client_is_identified_by_its_certificate_without_a_token() {
    let Some(site) = Site::open().await else {
        return;
    };
    let ada = site.client("ada");
    let question = json!({ "messages": [{ "role": "user", "content": SUM }], "temperature": 0 });
    let question = question.to_string();
    let ask = |pair: &CertificateFiles, more: &[&str]| {
        let post = ["-H", "content-type: application/json", "-d", &question];
        let said = site.curl(Some(pair), &[&post, more].concat(), "/v1/chat/completions");
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("200 OK"), "{text}");
    };
    ask(&ada, &[]);
    ask(&site.fleet.pair("clients/canary"), &[]);
    // A wrong token is ignored there.
    ask(&ada, &["-H", "authorization: Bearer wrong"]);

    // The other two methods, which are counted separately.
    let plain = site.server.http().base().strip_prefix("http://").unwrap();
    let token = bearer(&site.fleet.token());
    for (headers, status) in [
        (&["host: localhost"][..], 200),
        (&["host: mini.example", &token], 200),
        (&["host: mini.example"], 403),
    ] {
        let stream = std::net::TcpStream::connect(plain).unwrap();
        let answer = Raw::ask(stream, "GET /v1/models", headers, "");
        assert_eq!(answer.status, status, "{headers:?}");
    }
    let metrics = site.server.metrics().await;
    let clients = |name| metrics.sum("sanctum_client_requests_total", &[("client", name)]);
    assert_eq!((clients("ada"), clients("canary")), (2.0, 1.0));
    let auth = |method, outcome| {
        let labels = [("method", method), ("outcome", outcome)];
        metrics.sum("sanctum_auth_total", &labels)
    };
    assert_eq!(
        (auth("mtls", "granted"), auth("mtls", "refused")),
        (3.0, 0.0)
    );
    assert_eq!(auth("bearer", "granted"), 1.0);
    // The plain request above, and this page itself.
    assert_eq!(auth("loopback", "granted"), 2.0);
    assert_eq!(auth("loopback", "refused"), 1.0);

    let lines = site.audit(4).await;
    let who: Vec<_> = lines
        .iter()
        .map(|line| (&line["auth"], &line["who"]))
        .collect();
    let (mtls, loopback) = (&json!("mtls"), &json!("loopback"));
    let (ada, canary) = (&json!("ada"), &json!("canary"));
    assert_eq!(
        who,
        [
            (mtls, ada),
            (mtls, canary),
            (mtls, ada),
            (loopback, loopback)
        ]
    );
    #[cfg(target_os = "linux")]
    if let Some(outside) = &site.outside {
        let peer = lines[0]["peer"].as_str().unwrap();
        assert!(peer.starts_with(&format!("{}:", outside.there())), "{peer}");
    }
}

#[tokio::test]
async fn revoked_client_reads_its_stream_to_the_end_and_no_more() {
    let Some(site) = Site::open().await else {
        return;
    };
    let canary = site.fleet.pair("clients/canary");
    let ada = site.client("ada");
    let (mut reader, mut asker, mut other) = (
        site.connect(&canary),
        site.connect(&canary),
        site.connect(&ada),
    );
    for wire in [&mut asker, &mut other] {
        assert_eq!(wire.get("/v1/models").await.0, 200);
    }
    let _others = other_streams(&site).await;
    reader.stream().await;

    site.fleet.pki("revoke canary");
    let began = Instant::now();
    let refusal = within("the next request to be refused", async {
        loop {
            match asker.get("/health").await {
                (200, _) => {}
                (status, body) => return (status, body),
            }
        }
    })
    .await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(refusal.0, 401);
    assert!(
        refusal.1.contains("certificate is not accepted"),
        "{}",
        refusal.1
    );
    let late = site.ask(Some(&canary), &[]).await;
    let heard = String::from_utf8_lossy(&late.stderr);
    assert!(heard.contains("SSL alert number 44"), "{heard}");
    let so_far = reader.so_far().await;
    assert!(
        !so_far.contains("[DONE]"),
        "the stream was too short for this"
    );

    let stream = reader.until("data: [DONE]").await;
    assert!(stream.contains("\"finish_reason\":\"length\""));
    reader.until("0\r\n\r\n").await;
    assert_eq!(reader.get("/health").await.0, 401);
    assert_eq!(other.get("/health").await.0, 200);
    let metrics = site.server.metrics().await;
    let refused = [("method", "mtls"), ("reason", "certificate")];
    assert_eq!(metrics.sum("sanctum_auth_total", &refused), 2.0);
    site.server.signal(Signal::TERM);
}

#[tokio::test]
async fn renewed_certificate_does_not_affect_open_connections() {
    let Some(site) = Site::open().await else {
        return;
    };
    let canary = site.fleet.pair("clients/canary");
    let file = site.fleet.pair("server").0;
    let former = pem(&fs::read(&file).unwrap());
    assert_eq!(site.shown(&canary).await, former);
    let mut reader = site.connect(&canary);
    let _others = other_streams(&site).await;
    reader.stream().await;

    site.fleet.pki("renew server canary");
    let began = Instant::now();
    let renewed = pem(&fs::read(&file).unwrap());
    assert_ne!(renewed, former);
    within("the new certificate", async {
        while site.shown(&canary).await != renewed {}
    })
    .await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let so_far = reader.so_far().await;
    assert!(
        !so_far.contains("[DONE]"),
        "the stream was too short for this"
    );

    let stream = reader.until("data: [DONE]").await;
    assert!(stream.contains("\"finish_reason\":\"length\""));
    reader.until("0\r\n\r\n").await;
    // The client's former certificate, replaced but not revoked, is still valid.
    assert_eq!(reader.get("/health").await.0, 200);
    let said = site.ask(Some(&canary), &[]).await;
    assert!(said.stdout.starts_with(b"HTTP/1.1 200"));
}

/// Other running requests, so that a fast build does not end a stream too soon.
async fn other_streams(site: &Site) -> Vec<sanctum_tests::Chunks> {
    let others = if cfg!(debug_assertions) { 0 } else { 15 };
    let mut all = Vec::new();
    for _ in 0..others {
        all.push(site.server.stream_of(2000).await);
    }
    all
}
