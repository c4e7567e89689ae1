//! Parity against a server that answers as it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::TimeDelta;
use sanctum_config::{Fleet, Home};
use sanctum_watch::Miss;
use serde_json::Value;

use super::*;

/// What it answers to a question; by default what stands behind the last space, so that `say 4` is answered with `4`.
#[derive(Clone, Default)]
struct Server {
    /// Statuses that come first, one for each request.
    statuses: Arc<Mutex<VecDeque<u16>>>,
    /// Whether nobody is ever answered.
    hangs: Arc<Mutex<bool>>,
    /// How old the engine's last move is, in seconds.
    age: Arc<Mutex<f64>>,
}

async fn chat(State(server): State<Server>, Json(body): Json<Value>) -> Response {
    assert_eq!(body["temperature"], 0);
    if *server.hangs.lock().unwrap() {
        std::future::pending::<()>().await;
    }
    if let Some(status) = server.statuses.lock().unwrap().pop_front() {
        let status = StatusCode::from_u16(status).unwrap();
        return (status, [("Retry-After", "0")], "no").into_response();
    }
    let messages = body["messages"].as_array().unwrap();
    let question = messages.last().unwrap()["content"].as_str().unwrap();
    let answer = question.rsplit(' ').next().unwrap();
    Json(json!({ "choices": [{ "message": { "content": answer }, "finish_reason": "stop" }] }))
        .into_response()
}

async fn health(State(server): State<Server>) -> Json<Value> {
    let age = *server.age.lock().unwrap();
    Json(json!({
        "status": "ok", "phase": "ready", "in_flight": 1, "queued": 3, "progress": 9, "progress_age_seconds": age
    }))
}

async fn serve(server: &Server) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, server);
    address
}

fn serve_on(listener: tokio::net::TcpListener, server: &Server) {
    let router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/health", get(health))
        .with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
}

fn setting(folder: &Path, address: SocketAddr, more: &str) -> Setting {
    let config = folder.join("fleet.toml");
    let text = format!(
        "[hosts.mini]\naddress = \"127.0.0.1\"\nagents = [\"server\", \"parity\"]\n\
         [servers.server]\nhost = \"mini\"\nlisten = [\"{address}\"]\n\
         [watch.parity]\ntarget = \"server\"\nspec = \"spec.json\"\ntimeout = \"1s\"\n{more}"
    );
    let fleet = Fleet::parse(&text, &config).unwrap();
    let name: sanctum_config::Label = "parity".parse().unwrap();
    Setting {
        watch: fleet.watch[&name].clone(),
        host: "mini".parse().unwrap(),
        home: Home::new(folder.join("home"), folder.to_owned()),
        fleet,
        config,
        name,
    }
}

/// Three questions: the answers are as expected but for the first `wrong` of them.
fn spec(folder: &Path, wrong: usize) {
    let say = |at: usize, right: &str| {
        if at < wrong {
            "nonsense".to_owned()
        } else {
            right.to_owned()
        }
    };
    let spec = json!({ "prompts": [
        { "name": "four", "prompt": format!("say {}", say(0, "4")), "exact": "4" },
        { "name": "city", "prompt": format!("say {}", say(1, "Tokyo!")), "substring": "Tokyo" },
        { "name": "number", "prompt": format!("say {}", say(2, "no.85")), "regex": "\\b85$" },
    ] });
    std::fs::write(folder.join("spec.json"), spec.to_string()).unwrap();
}

struct Scene {
    folder: tempfile::TempDir,
    server: Server,
    address: SocketAddr,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::default();
        let address = serve(&server).await;
        spec(folder.path(), 0);
        Self {
            folder,
            server,
            address,
        }
    }

    fn parity(&self, more: &str, compare: Compare) -> Result<Parity, String> {
        Parity::new(&setting(self.folder.path(), self.address, more), compare)
    }

    async fn look(&self, more: &str, compare: Compare) -> Report {
        self.parity(more, compare).unwrap().look(Utc::now()).await
    }

    async fn record(&self, consent: Consent) -> Result<String, String> {
        let mut out = Vec::new();
        let setting = setting(self.folder.path(), self.address, "");
        record(&setting, consent, &mut out, &mut Vec::new()).await?;
        Ok(String::from_utf8(out).unwrap())
    }
}

#[tokio::test]
async fn more_wrong_answers_than_are_tolerated_alert_and_each_is_named() {
    let scene = Scene::new().await;
    let report = scene.look("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, Kind::Ok);
    assert_eq!(report.verdict.said, "3 of 3 answers are as expected");
    assert!(report.verdict.latency.is_some());
    spec(scene.folder.path(), 1);
    let report = scene.look("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, Kind::Ok, "one is tolerated");
    assert!(
        report
            .verdict
            .said
            .contains("`four` expected `4`, answered `nonsense`")
    );
    let report = scene.look("max_failures = 0\n", Compare::Spec).await;
    assert_eq!(report.verdict.kind, Kind::Miss);
    spec(scene.folder.path(), 2);
    let report = scene.look("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, Kind::Miss);
    assert_eq!(
        report.verdict.said,
        "1 of 3 answers are as expected; `four` expected `4`, answered `nonsense`; \
         `city` expected something with `Tokyo`, answered `nonsense`"
    );
    assert_eq!(report.wrongs, ["four", "city"]);
    assert!(report.verdict.next.contains("sanctum-parity --config"));
    assert_eq!(report.details.fields["prompts"][2]["passed"], true);
}

#[tokio::test]
async fn a_busy_server_is_waited_for_and_is_busy_when_it_stays_so() {
    let scene = Scene::new().await;
    let answers = |statuses: &[u16]| {
        *scene.server.statuses.lock().unwrap() = statuses.iter().copied().collect()
    };
    answers(&[429, 429]);
    assert_eq!(scene.look("", Compare::Spec).await.verdict.kind, Kind::Ok);
    answers(&[429; 1000]);
    let verdict = scene.look("", Compare::Spec).await.verdict;
    assert_eq!(verdict.kind, Kind::Busy);
    assert!(
        verdict.said.ends_with("(at `four`, after 0 of 3 answers)"),
        "{}",
        verdict.said
    );
    // It refuses one question and answers the others.
    answers(&[400]);
    let report = scene.look("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, Kind::Ok);
    assert!(
        report.verdict.said.contains("`four` expected `4`, http"),
        "{}",
        report.verdict.said
    );
}

#[tokio::test]
async fn silence_is_busy_while_the_engine_moves_and_a_miss_when_it_does_not() {
    let scene = Scene::new().await;
    *scene.server.hangs.lock().unwrap() = true;
    let soon = "misses = 1\n";
    let verdict = scene.look(soon, Compare::Spec).await.verdict;
    assert_eq!(verdict.kind, Kind::Busy);
    assert!(
        verdict
            .said
            .contains("its engine works on 1 requests with 3 waiting")
    );
    *scene.server.age.lock().unwrap() = 600.0;
    let verdict = scene.look(soon, Compare::Spec).await.verdict;
    assert_eq!(verdict.kind, Kind::Miss);
    let offline = scene
        .look("reference = \"https://reference.invalid\"\n", Compare::Spec)
        .await;
    assert_eq!(offline.verdict.kind, Kind::Offline);
}

#[tokio::test]
async fn refused_connection_is_retried_while_the_server_restarts() {
    let folder = tempfile::tempdir().unwrap();
    spec(folder.path(), 0);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let mut parity = Parity::new(&setting(folder.path(), address, ""), Compare::Spec).unwrap();
    let half = parity.watched.timeout / 2;
    let restart = async {
        // By then the first question has been refused.
        tokio::time::sleep(half).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        serve_on(listener, &Server::default());
    };
    let (report, ()) = tokio::join!(parity.look(Utc::now()), restart);
    assert_eq!(report.verdict.kind, Kind::Ok, "{}", report.verdict.said);
}

#[test]
fn spec_or_record_that_is_a_fifo_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let error = Spec::read(&fifo).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert!(
        format!("{error} {cause:?}").contains("a FIFO"),
        "{error} {cause:?}"
    );
    let error = Recorded::read(&fifo).unwrap_err().to_string();
    assert!(error.contains("a FIFO"), "{error}");
}

#[tokio::test]
async fn server_that_cannot_be_asked_is_no_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    spec(folder.path(), 0);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let mut parity = Parity::new(&setting(folder.path(), address, ""), Compare::Spec).unwrap();
    let report = parity.look(Utc::now()).await;
    assert_eq!(
        (report.verdict.kind, report.miss),
        (Kind::Miss, Miss::NoAnswer)
    );
    let said = &report.verdict.said;
    assert!(
        said.ends_with("(at `four`, after 0 of 3 answers)"),
        "{said}"
    );
    let title = "the answers of server on mini could not be checked";
    assert_eq!(parity.unanswered(), (Severity::Warning, title.to_owned()));
    // Credentials that are refused are not asked with again.
    let scene = Scene::new().await;
    *scene.server.statuses.lock().unwrap() = [401, 401].into();
    let report = scene.look("", Compare::Spec).await;
    assert_eq!(
        (report.verdict.kind, report.miss),
        (Kind::Miss, Miss::NoAnswer)
    );
    assert_eq!(scene.server.statuses.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_last_reports_are_kept_and_what_was_recorded_stays() {
    let scene = Scene::new().await;
    scene.record(Consent::Given).await.unwrap();
    let mut parity = scene.parity("", Compare::Spec).unwrap();
    let home = parity.setting.home.clone();
    let begin = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
    for night in 0..3 + KEPT as i64 {
        let mut round = Round {
            now: begin + TimeDelta::days(night),
            memory: Value::Null,
        };
        parity.check(&mut round).await;
        assert_eq!(
            parity.act(&mut round).await,
            [Notice::Over {
                key: "report",
                said: "this run's report was kept".to_owned()
            }]
        );
    }
    let folder = Run::folder(&home, &parity.setting.name);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), KEPT + 1);
    assert_eq!(names[0], "20260415T132000.000Z.json");
    assert_eq!(names[KEPT], "recorded.json");
    let run: Run = serde_json::from_slice(&std::fs::read(folder.join(&names[0])).unwrap()).unwrap();
    assert_eq!((run.prompts.len(), run.verdict.kind), (3, Kind::Ok));
    // Where nothing can be written, a human is told.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    let mut round = Round {
        now: begin,
        memory: Value::Null,
    };
    parity.check(&mut round).await;
    assert!(matches!(
        parity.act(&mut round).await[..],
        [Notice::Holds { key: "report", .. }]
    ));
}

#[tokio::test]
async fn answers_are_recorded_when_somebody_agrees_and_compared_byte_for_byte() {
    let scene = Scene::new().await;
    let error = scene.parity("", Compare::Recorded).unwrap_err();
    assert!(error.contains("--record"), "{error}");
    let ask = |answer: &'static str| Consent::Ask(Box::new(answer.as_bytes()));
    assert!(
        scene
            .record(Consent::Impossible)
            .await
            .unwrap_err()
            .contains("--yes")
    );
    assert_eq!(
        scene.record(ask("n\n")).await.unwrap_err(),
        "nothing is recorded"
    );
    let said = scene.record(ask("y\n")).await.unwrap();
    assert!(said.contains("four (new)\n  + \"4\""), "{said}");
    let said = scene.record(Consent::Impossible).await.unwrap();
    assert!(
        said.starts_with("nothing to record: all 3 answers"),
        "{said}"
    );
    assert_eq!(
        scene.look("", Compare::Recorded).await.verdict.kind,
        Kind::Ok
    );

    // The spec is content with both; the record is not.
    let setting = setting(scene.folder.path(), scene.address, "");
    let path = Recorded::path(&setting.home, &setting.name);
    let mut recorded = Recorded::read(&path).unwrap().unwrap();
    recorded.answers.get_mut("city").unwrap().answer = "Tokyo.".into();
    recorded.write(&path).unwrap();
    let report = scene.look("", Compare::Recorded).await;
    assert_eq!(report.verdict.kind, Kind::Miss);
    assert!(
        report
            .verdict
            .said
            .contains("`city` expected `Tokyo.` (they part at byte 5), answered `Tokyo!`"),
        "{}",
        report.verdict.said
    );
    let said = scene.record(Consent::Given).await.unwrap();
    assert!(
        said.contains("city\n  - \"Tokyo.\"\n  + \"Tokyo!\""),
        "{said}"
    );

    // Another question cannot have the recorded answer, and wrong answers are not blessed.
    spec(scene.folder.path(), 1);
    let report = scene.look("", Compare::Recorded).await;
    assert!(
        report.verdict.said.contains("which the spec has changed"),
        "{}",
        report.verdict.said
    );
    spec(scene.folder.path(), 2);
    let error = scene.record(Consent::Given).await.unwrap_err();
    assert!(error.contains("2 of 3 answers are not what"), "{error}");
}
