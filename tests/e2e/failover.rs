//! A server that passes requests on to others: real servers behind it, which are killed, frozen, full and unreachable.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sanctum_tests::{BlackHole, Fleet, Http, Server, Signal, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::openai::SUM;

const CHAT: &str = "/v1/chat/completions";

/// The address of a server, as its own arguments and those of a front name it.
fn url(server: &Server) -> String {
    server.http().base().to_owned()
}

/// A front without an engine, whose model is at these addresses.
async fn front(upstreams: &[String]) -> Server {
    let name = |url: &String| {
        [
            "--upstream".to_owned(),
            format!("{}={url}", Server::BUILT_IN),
        ]
    };
    Server::start(upstreams.iter().flat_map(name)).await
}

fn question() -> Value {
    json!({ "model": Server::BUILT_IN, "messages": [{ "role": "user", "content": SUM }], "temperature": 0 })
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default()
}

/// Another program that answers every POST with one status, and counts them. Its list of models makes it alive.
struct Scripted {
    address: SocketAddr,
    posts: Arc<AtomicUsize>,
}

impl Scripted {
    fn start(status: &'static str, headers: &'static str) -> Self {
        let body = r#"{"error":{"message":"scripted"}}"#;
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
    }

    /// It answers every POST with these bytes, and closes the connection.
    fn raw(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let posts = Arc::<AtomicUsize>::default();
        let count = posts.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = Vec::new();
                let mut piece = [0; 4096];
                // The head is enough: what follows is not read.
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(0) | Err(_) => break,
                        Ok(read) => request.extend_from_slice(&piece[..read]),
                    }
                }
                let answer = match request.starts_with(b"POST") {
                    true => {
                        count.fetch_add(1, Relaxed);
                        answer.as_str()
                    }
                    false => {
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\nconnection: close\r\n\r\n\
                         {\"object\":\"list\",\"data\":[]}"
                    }
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, posts }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn posts(&self) -> usize {
        self.posts.load(Relaxed)
    }
}

#[tokio::test]
async fn front_without_engine_answers_from_its_upstream() {
    let upstream = Server::start([""; 0]).await;
    let front = front(&[url(&upstream)]).await;
    let direct = upstream.http().post(CHAT, &question()).await.json();
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(text(&answer.json()), text(&direct));
    let name = url(&upstream).replace("http://", "");
    assert_eq!(answer.headers["sanctum-served-by"], name.as_str());
    // A request that names no model is for the first one.
    let mut unnamed = question();
    unnamed.as_object_mut().unwrap().remove("model");
    let answer = front.http().post(CHAT, &unnamed).await;
    assert_eq!(text(&answer.json()), text(&direct));
    // A stream passes through event by event.
    let mut streamed = question();
    streamed["stream"] = true.into();
    let chunks = front.http().stream(CHAT, &streamed).await.rest().await;
    assert!(chunks.last().unwrap().is_done());
    assert_eq!(
        chunks.iter().map(|chunk| chunk.text()).collect::<String>(),
        text(&direct)
    );
    // Other protocols are passed on as they are.
    let message = json!({ "model": Server::BUILT_IN, "max_tokens": 20, "messages": [{ "role": "user", "content": SUM }] });
    let answer = front.http().post("/v1/messages", &message).await;
    assert_eq!(answer.json()["type"], "message", "{}", answer.text);

    let models = front.http().get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], Server::BUILT_IN);
    assert_eq!(models["data"][0]["upstreams"], json!([name]));
    let health = front.http().get("/health").await.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["fronts"][0]["available"], true);
    let metrics = front.metrics().await;
    let labels = [("upstream", name.as_str()), ("outcome", "answered")];
    assert_eq!(metrics.sum("sanctum_upstream_requests_total", &labels), 4.0);
    let mut unknown = question();
    unknown["model"] = "nothing".into();
    let refused = front.http().post(CHAT, &unknown).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    assert!(refused.text.contains(Server::BUILT_IN), "{}", refused.text);
}

#[tokio::test]
async fn error_about_the_request_is_returned_at_once() {
    let headers = "sanctum-ignored-fields: a\r\nretry-after: 18446744073709551615\r\n";
    let first = Scripted::start("422 Unprocessable Content", headers);
    let second = Scripted::start("200 OK", "");
    let front = front(&[first.url(), second.url()]).await;
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("scripted"));
    assert_eq!(answer.headers["sanctum-ignored-fields"], "a");
    assert_eq!(answer.headers["retry-after"], "3600");
    assert_eq!((first.posts(), second.posts()), (1, 0));
}

#[tokio::test]
async fn refused_credentials_are_the_operators_problem() {
    let first = Scripted::start("401 Unauthorized", "");
    let lone = front(&[first.url()]).await;
    let answer = lone.http().post(CHAT, &question()).await;
    assert_eq!(answer.status, 502, "{}", answer.text);
    assert!(answer.text.contains("token_file"), "{}", answer.text);
    // Another upstream answers meanwhile.
    let second = Server::start([""; 0]).await;
    let front = front(&[first.url(), url(&second)]).await;
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn stream_that_ends_before_its_last_event_ends_with_an_error_event() {
    // HTTP/1.0 without a length, as Python's http.server sends it: only the events show the end.
    let head = "HTTP/1.0 200 OK\r\nContent-Type: Text/Event-Stream\r\n\r\n";
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    for (end, is_complete) in [
        ("data: {\"cho", false),
        ("", false),
        ("data: [DONE]\n\n", true),
    ] {
        let upstream = Scripted::raw(format!("{head}{begun}{end}"));
        let front = front(&[upstream.url()]).await;
        let mut streamed = question();
        streamed["stream"] = true.into();
        let chunks = front.http().stream(CHAT, &streamed).await.rest().await;
        let last = chunks.last().unwrap();
        assert_eq!(last.is_done(), is_complete, "{end}: {:?}", last.data);
        assert_eq!(last.data["error"].is_object(), !is_complete, "{end}");
        assert_eq!(chunks.len(), 2, "{end}");
    }
}

#[tokio::test]
async fn answer_that_is_no_whole_answer_is_passed_over() {
    let second = Server::start([""; 0]).await;
    for answer in [
        "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"choices\":[{",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1000\r\n\r\n{",
    ] {
        let first = Scripted::raw(answer.to_owned());
        let front = front(&[first.url(), url(&second)]).await;
        let answered = front.http().post(CHAT, &question()).await;
        assert_eq!(answered.status, 200, "{answer}: {}", answered.text);
        assert!(answered.json()["choices"].is_array(), "{answer}");
        assert_eq!(first.posts(), 1, "{answer}");
    }
}

#[tokio::test]
async fn request_that_comes_back_is_not_passed_on_again() {
    let upstream = Scripted::start("200 OK", "");
    let front = front(&[upstream.url()]).await;
    let via = (1..=4).map(|hop| format!("1.1 sanctum-{hop}"));
    let via = via.collect::<Vec<_>>().join(", ");
    let answer = front.http().post_with(CHAT, &question(), "via", &via).await;
    assert_eq!(answer.status, 508, "{}", answer.text);
    assert_eq!(upstream.posts(), 0);
}

#[tokio::test]
async fn only_what_a_model_answers_is_passed_on() {
    let upstream = Scripted::start("200 OK", "");
    let front = front(&[upstream.url()]).await;
    for path in [
        "/health",
        "/metrics",
        "/v1/models",
        "/v1/models/..%2fadapters",
        "/v1/responses/abc",
        "/v1/tokenizer_info",
    ] {
        let answer = front.http().post(path, &question()).await;
        assert_eq!(answer.status, 405, "{path}: {}", answer.text);
    }
    assert_eq!(upstream.posts(), 0);
}

#[tokio::test]
async fn upstream_that_shuts_down_finishes_what_it_has() {
    let upstream = Server::start(["--drain-seconds", "60"]).await;
    let front = front(&[url(&upstream)]).await;
    let mut stream = front.stream_of(2000).await;
    stream.next().await.unwrap();
    upstream.signal(Signal::TERM);
    let rest = stream.rest().await;
    let last = rest.last().expect("the end of the stream");
    assert!(last.is_done(), "{:?}", last.data);
}

#[tokio::test]
async fn full_and_failing_upstreams_are_passed_over() {
    for status in [
        "429 Too Many Requests",
        "503 Service Unavailable",
        "500 Internal Server Error",
    ] {
        let first = Scripted::start(status, "retry-after: 7\r\n");
        let second = Server::start([""; 0]).await;
        let front = front(&[first.url(), url(&second)]).await;
        let answer = front.http().post(CHAT, &question()).await;
        assert_eq!(answer.status, 200, "{status}: {}", answer.text);
        assert_eq!(first.posts(), 1);
    }
}

#[tokio::test]
async fn full_upstreams_answer_429_with_the_shortest_retry_after() {
    let full = Scripted::start("429 Too Many Requests", "retry-after: 7\r\n");
    let fuller = Scripted::start("429 Too Many Requests", "retry-after: 60\r\n");
    let front = front(&[full.url(), fuller.url()]).await;
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!(
        (answer.status, answer.retry_after()),
        (429, Some(7)),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn front_is_well_while_its_upstreams_are_gone() {
    let upstream = Server::start([""; 0]).await;
    let front = front(&[url(&upstream)]).await;
    upstream.signal(Signal::KILL);
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.text.contains("cannot be reached"), "{}", answer.text);
    assert!(answer.retry_after().is_some());
    let gone = |health: &Value| health["fronts"][0]["available"] == false;
    let health = front.health_shows("the upstream gone", gone).await;
    assert_eq!(health["status"], "ok");
    assert!(health["fronts"][0]["upstreams"][0]["problem"].is_string());
    let metrics = front.metrics().await;
    assert_eq!(metrics.sum("sanctum_upstream_up", &[]), 0.0);
}

/// Sends requests through a front, some streamed, until `during` is done; counts the outcomes.
async fn outcomes(
    front: &Server,
    requests: usize,
    during: impl Future<Output = ()>,
) -> BTreeMap<String, usize> {
    let mut running = JoinSet::new();
    for number in 0..requests {
        let http: Http = front.http().clone();
        running.spawn(async move {
            let mut body = question();
            body["seed"] = number.into();
            if number % 3 != 0 {
                return http.post(CHAT, &body).await.status.to_string();
            }
            body["stream"] = true.into();
            let chunks = http.stream(CHAT, &body).await.rest().await;
            let last = chunks.last().map(|chunk| chunk.data.clone());
            match last {
                Some(Value::Null) => "200".to_owned(),
                Some(data) if data["error"].is_object() => "error event".to_owned(),
                other => format!("broken off after {other:?}"),
            }
        });
    }
    during.await;
    let mut outcomes = BTreeMap::new();
    while let Some(outcome) = within("an outcome", running.join_next()).await {
        *outcomes.entry(outcome.unwrap()).or_default() += 1;
    }
    outcomes
}

#[tokio::test]
async fn every_request_is_answered_while_an_upstream_is_killed_or_frozen() {
    for signal in [Signal::KILL, Signal::STOP] {
        let first = Server::start([""; 0]).await;
        let second = Server::start([""; 0]).await;
        let front = front(&[url(&first), url(&second)]).await;
        let strike = async {
            first
                .health_shows("work", |health| health["in_flight"] != 0)
                .await;
            first.signal(signal);
        };
        let outcomes = outcomes(&front, 60, strike).await;
        assert_eq!(outcomes.values().sum::<usize>(), 60);
        let known = ["200", "error event"];
        let honest: usize = known
            .iter()
            .filter_map(|outcome| outcomes.get(*outcome))
            .sum();
        assert_eq!(honest, 60, "{outcomes:?}");
        assert!(outcomes["200"] >= 40, "{outcomes:?}");
        // From now on the second one answers.
        let answer = front.http().post(CHAT, &question()).await;
        assert_eq!(
            answer.headers["sanctum-served-by"],
            url(&second).replace("http://", "").as_str()
        );
        if signal == Signal::STOP {
            first.signal(Signal::CONT);
            let back = |health: &Value| health["fronts"][0]["upstreams"][0]["circuit"] != "open";
            front.health_shows("the upstream back", back).await;
        }
    }
}

#[tokio::test]
async fn request_that_waits_for_a_frozen_upstream_is_tried_elsewhere_after_its_heartbeat() {
    let first = Server::start([""; 0]).await;
    let second = Scripted::start("503 Service Unavailable", "");
    let front = front(&[url(&first), second.url()]).await;
    // The front's probe has found its heartbeat.
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    first.signal(Signal::STOP);
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!((answer.status, second.posts()), (503, 1), "{}", answer.text);
    let why = "it has not begun to answer, and GET /health was not answered within 1 s";
    assert!(answer.text.contains(why), "{}", answer.text);
}

#[tokio::test]
async fn stream_that_has_begun_ends_with_an_error_and_is_not_repeated() {
    let first = Server::start([""; 0]).await;
    let second = Scripted::start("200 OK", "");
    let front = front(&[url(&first), second.url()]).await;
    let mut stream = front.stream_of(4000).await;
    stream.next().await.unwrap();
    first.signal(Signal::KILL);
    let rest = stream.rest().await;
    let last = &rest.last().expect("an error event").data;
    assert!(
        last["error"]["message"]
            .as_str()
            .unwrap()
            .contains("in the middle"),
        "{last}"
    );
    assert_eq!(second.posts(), 0);
}

#[tokio::test]
async fn unreachable_upstream_is_passed_over_after_the_limit_of_a_connection() {
    let hole = BlackHole::open().unwrap();
    let second = Server::start([""; 0]).await;
    let front = front(&[format!("http://{}", hole.address()), url(&second)]).await;
    let answer = front.http().post(CHAT, &question()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let open = |health: &Value| health["fronts"][0]["upstreams"][0]["circuit"] == "open";
    front.health_shows("the circuit open", open).await;
}

#[tokio::test]
async fn own_model_is_asked_first_and_upstreams_take_what_does_not_fit() {
    let upstream = Server::start([""; 0]).await;
    let model = format!("{}={}", Server::BUILT_IN, upstream_folder().await.display());
    let arguments = [
        "--model",
        &model,
        "--max-slots",
        "1",
        "--queue",
        "0",
        "--upstream",
    ];
    let elsewhere = format!("{}={}", Server::BUILT_IN, url(&upstream));
    let front = Server::start(arguments.into_iter().chain([elsewhere.as_str()])).await;
    let own = front.http().post(CHAT, &question()).await;
    assert_eq!(own.status, 200, "{}", own.text);
    assert!(!own.headers.contains_key("sanctum-served-by"));
    let mut busy = front.stream_of(4000).await;
    busy.next().await.unwrap();
    let passed = front.http().post(CHAT, &question()).await;
    assert_eq!(passed.status, 200, "{}", passed.text);
    assert!(passed.headers.contains_key("sanctum-served-by"));
    assert_eq!(text(&passed.json()), text(&own.json()));
}

/// The built-in model as a folder.
async fn upstream_folder() -> std::path::PathBuf {
    let folder = tempfile::TempDir::new().unwrap().keep();
    let exported = tokio::process::Command::new(sanctum_tests::program("sanctum-server"))
        .arg("export-model")
        .arg(&folder)
        .output()
        .await
        .unwrap();
    assert!(exported.status.success(), "{exported:?}");
    folder
}

#[tokio::test]
async fn front_over_mutual_tls_says_for_whom_it_asks() {
    let fleet = Fleet::set_up("tls_listen = [\"127.0.0.1:0\"]");
    let file = fleet.path("fleet.toml");
    let fleet_toml = fs::read_to_string(&file).unwrap();
    let fronts = fleet_toml.replace(
        "server.token\" }",
        "server.token\", fronts = [\"front-upstream\"] }",
    );
    assert_ne!(fronts, fleet_toml);
    fs::write(&file, fronts).unwrap();
    for client in ["front", "stranger"] {
        fleet.pki(&format!("client {client}-upstream"));
    }
    let upstream = fleet.serve().await;
    let address = upstream.tls_address().await;
    for name in ["front", "stranger"] {
        let config = fleet.path(&format!("{name}.toml"));
        let text = format!(
            "[fleet]\nhome = \"home\"\n[hosts.here]\naddress = \"127.0.0.1\"\nagents = [\"{name}\"]\n\
             [servers.{name}]\nhost = \"here\"\nlisten = [\"127.0.0.1:0\"]\n\
             [[servers.{name}.models]]\nid = \"{}\"\nupstreams = [{{ url = \"https://{address}\" }}]\n",
            Server::BUILT_IN
        );
        fs::write(&config, text).unwrap();
        let front = Server::start(["--config".into(), config]).await;
        let answer = front.http().post(CHAT, &question()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let line = audited(&fleet, &id, &format!("{name}-upstream")).await;
        // A stranger's word is not taken.
        match name {
            "front" => {
                assert_eq!(line["on_behalf_of"], "loopback", "{line}");
                assert_eq!(line["request"], id.as_str(), "{line}");
            }
            _ => assert!(
                line["on_behalf_of"].is_null() && line["request"] != id.as_str(),
                "{line}"
            ),
        }
        let own = fleet.path(&format!("home/logs/{name}.audit.jsonl"));
        let own = within("the front's line", async {
            loop {
                let text = fs::read_to_string(&own).unwrap_or_default();
                if let Some(line) = text.lines().last() {
                    return serde_json::from_str::<Value>(line).unwrap();
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(own["served_by"], address.to_string(), "{own}");
        let usage = &answer.json()["usage"];
        assert_eq!(own["prompt_tokens"], usage["prompt_tokens"], "{own}");
        assert_eq!(own["completion_tokens"], usage["completion_tokens"]);
    }
}

/// The line of the upstream's audit log about the last request of this client.
async fn audited(fleet: &Fleet, id: &str, client: &str) -> Value {
    let file = fleet.path("home/logs/server.audit.jsonl");
    within(&format!("the line about {id}"), async {
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let mut lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            if let Some(line) = lines.rfind(|line| line["who"] == client) {
                return line;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
