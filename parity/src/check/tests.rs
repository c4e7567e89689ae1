//! Parity against a scripted server.

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
use sanctum_watch::MissCause;
use serde_json::Value;

use super::*;
use crate::excerpt::folder as reports;
use crate::{Consent, KEPT, record};

/// Answers a question with its last word: `say 4` with `4`.
#[derive(Clone, Default)]
struct FakeServer {
    /// Error statuses for the first requests, one each.
    statuses: Arc<Mutex<VecDeque<u16>>>,
    /// Whether no chat is answered.
    hangs: Arc<Mutex<bool>>,
    /// The age of the engine's last progress, in seconds.
    age: Arc<Mutex<f64>>,
    /// What is answered to a question that was asked before, unless the request declines reuse; none: the same again.
    reused: Arc<Mutex<Option<&'static str>>>,
    /// The build that answers.
    build: Arc<Mutex<&'static str>>,
    /// The questions of the requests that may be answered with a reused prefix, and those of the others.
    questions: Arc<Mutex<[Vec<String>; 2]>>,
}

async fn chat(State(server): State<FakeServer>, Json(body): Json<Value>) -> Response {
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
    let declines = body["cache_prompt"] == false;
    let [reusable, cold] = &mut *server.questions.lock().unwrap();
    let is_warm = !declines && reusable.iter().any(|asked| asked == question);
    match declines {
        true => cold.push(question.to_owned()),
        false => reusable.push(question.to_owned()),
    }
    let answer = match *server.reused.lock().unwrap() {
        Some(answer) if is_warm => answer,
        _ => question.rsplit(' ').next().unwrap(),
    };
    let cached = if is_warm { 20 } else { 0 };
    Json(json!({
        "choices": [{ "message": { "content": answer }, "finish_reason": "stop" }],
        "system_fingerprint": *server.build.lock().unwrap(),
        "usage": { "prompt_tokens_details": { "cached_tokens": cached } },
    }))
    .into_response()
}

async fn health(State(server): State<FakeServer>) -> Json<Value> {
    let age = *server.age.lock().unwrap();
    Json(json!({
        "status": "ok", "phase": "ready", "in_flight": 1, "queued": 3, "progress": 9, "progress_age_seconds": age
    }))
}

async fn serve(server: &FakeServer) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, server);
    address
}

fn serve_on(listener: tokio::net::TcpListener, server: &FakeServer) {
    let router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/health", get(health))
        .with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
}

fn config(folder: &Path, address: SocketAddr, more: &str) -> WatchdogConfig {
    let config = folder.join("fleet.toml");
    let text = format!(
        "[hosts.mini]\naddress = \"127.0.0.1\"\nagents = [\"server\", \"parity\"]\n\
         [servers.server]\nhost = \"mini\"\nlisten = [\"{address}\"]\n\
         [watch.parity]\ntarget = \"server\"\nspec = \"spec.json\"\ntimeout = \"1s\"\n{more}"
    );
    let fleet = Fleet::parse(&text, &config).unwrap();
    let name: sanctum_config::Label = "parity".parse().unwrap();
    WatchdogConfig {
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
    server: FakeServer,
    address: SocketAddr,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = FakeServer::default();
        let address = serve(&server).await;
        spec(folder.path(), 0);
        Self {
            folder,
            server,
            address,
        }
    }

    fn parity(&self, more: &str, compare: Compare) -> Result<Parity, String> {
        Parity::new(&config(self.folder.path(), self.address, more), compare)
    }

    async fn check(&self, more: &str, compare: Compare) -> CheckReport<ParityAction> {
        self.parity(more, compare).unwrap().run(Utc::now()).await
    }

    async fn record(&self, consent: Consent) -> Result<String, String> {
        let mut out = Vec::new();
        let config = config(self.folder.path(), self.address, "");
        record(&config, consent, &mut out, &mut Vec::new()).await?;
        Ok(String::from_utf8(out).unwrap())
    }
}

#[tokio::test]
async fn more_wrong_answers_than_are_tolerated_alert_and_each_is_named() {
    let scene = Scene::new().await;
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, VerdictKind::Ok);
    assert_eq!(report.verdict.message, "3 of 3 answers are as expected");
    assert!(report.verdict.latency.is_some());
    spec(scene.folder.path(), 1);
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, VerdictKind::Ok, "one is tolerated");
    assert!(
        report
            .verdict
            .message
            .contains("`four` expected `4`, answered `nonsense`")
    );
    let report = scene.check("max_failures = 0\n", Compare::Spec).await;
    assert_eq!(report.verdict.kind, VerdictKind::Miss);
    spec(scene.folder.path(), 2);
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, VerdictKind::Miss);
    assert_eq!(
        report.verdict.message,
        "1 of 3 answers are as expected; `four` expected `4`, answered `nonsense`; \
         `city` expected a text with `Tokyo`, answered `nonsense`"
    );
    assert_eq!(report.problems, ["four", "city"]);
    assert!(report.verdict.next.contains("sanctum-parity --config"));
    assert_eq!(report.details.fields["prompts"][2]["passed"], true);
}

#[tokio::test]
async fn question_is_asked_with_and_without_a_reused_prefix() {
    let scene = Scene::new().await;
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, VerdictKind::Ok);
    assert_eq!(report.details.fields["prompts"][0]["reused_tokens"], 20);
    {
        let [reusable, cold] = &*scene.server.questions.lock().unwrap();
        let asked = |questions: &[String]| {
            let four = |question: &&String| *question == "say 4";
            (questions.len(), questions.iter().filter(four).count())
        };
        // The first leaves the prefix that the second reuses.
        assert_eq!((asked(reusable), asked(cold)), ((6, 2), (3, 1)));
    }
    // Both have it now.
    scene.check("", Compare::Spec).await;
    assert_eq!(scene.server.questions.lock().unwrap()[0].len(), 9);

    *scene.server.reused.lock().unwrap() = Some("Tokyo no.85");
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(
        report.verdict.message,
        "2 of 3 answers are as expected; `four` expected `4`, answered `Tokyo no.85`, and without a reused prefix `4`"
    );
    // Where nothing but the prefix can make a difference, none is accepted.
    *scene.server.build.lock().unwrap() = "cpu-0123456789";
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(report.problems, ["four", "city", "number"]);
}

#[tokio::test]
async fn busy_server_is_retried_and_is_busy_when_it_stays_so() {
    let scene = Scene::new().await;
    let answers = |statuses: &[u16]| {
        *scene.server.statuses.lock().unwrap() = statuses.iter().copied().collect()
    };
    answers(&[429, 429]);
    assert_eq!(
        scene.check("", Compare::Spec).await.verdict.kind,
        VerdictKind::Ok
    );
    answers(&[429; 1000]);
    let verdict = scene.check("", Compare::Spec).await.verdict;
    assert_eq!(verdict.kind, VerdictKind::Busy);
    assert!(
        verdict
            .message
            .ends_with("(at `four`, after 0 of 3 answers)"),
        "{}",
        verdict.message
    );
    // It rejects one request and answers the others.
    answers(&[400]);
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(report.verdict.kind, VerdictKind::Ok);
    assert!(
        report.verdict.message.contains("`four` expected `4`, http"),
        "{}",
        report.verdict.message
    );
}

#[tokio::test]
async fn timeout_is_busy_while_the_engine_moves_and_a_miss_when_it_does_not() {
    let scene = Scene::new().await;
    *scene.server.hangs.lock().unwrap() = true;
    let soon = "misses = 1\n";
    let verdict = scene.check(soon, Compare::Spec).await.verdict;
    assert_eq!(verdict.kind, VerdictKind::Busy);
    assert!(
        verdict
            .message
            .contains("its engine has 1 requests, 3 more wait")
    );
    *scene.server.age.lock().unwrap() = 600.0;
    let verdict = scene.check(soon, Compare::Spec).await.verdict;
    assert_eq!(verdict.kind, VerdictKind::Miss);
    let offline = scene
        .check("reference = \"https://reference.invalid\"\n", Compare::Spec)
        .await;
    assert_eq!(offline.verdict.kind, VerdictKind::Offline);
}

#[tokio::test]
async fn refused_connection_is_retried_while_the_server_restarts() {
    let folder = tempfile::tempdir().unwrap();
    spec(folder.path(), 0);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let parity = Parity::new(&config(folder.path(), address, ""), Compare::Spec).unwrap();
    let half = parity.watched.timeout / 2;
    let restart = async {
        // By then the first connection has been refused.
        tokio::time::sleep(half).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        serve_on(listener, &FakeServer::default());
    };
    let (report, ()) = tokio::join!(parity.run(Utc::now()), restart);
    assert_eq!(
        report.verdict.kind,
        VerdictKind::Ok,
        "{}",
        report.verdict.message
    );
}

#[test]
fn spec_or_recorded_answers_that_are_a_fifo_are_an_error_at_once() {
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
    let error = RecordedAnswers::read(&fifo).unwrap_err().to_string();
    assert!(error.contains("a FIFO"), "{error}");
}

#[tokio::test]
async fn server_without_answers_is_not_reported_as_wrong() {
    let folder = tempfile::tempdir().unwrap();
    spec(folder.path(), 0);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let parity = Parity::new(&config(folder.path(), address, ""), Compare::Spec).unwrap();
    let report = parity.run(Utc::now()).await;
    assert_eq!(
        (report.verdict.kind, report.verdict.miss),
        (VerdictKind::Miss, MissCause::NoAnswer)
    );
    let message = &report.verdict.message;
    assert!(
        message.ends_with("(at `four`, after 0 of 3 answers)"),
        "{message}"
    );
    let title = "the answers of server on mini could not be checked";
    assert_eq!(parity.unanswered(), (Severity::Warning, title.to_owned()));
    // Rejected credentials are not retried.
    let scene = Scene::new().await;
    *scene.server.statuses.lock().unwrap() = [401, 401].into();
    let report = scene.check("", Compare::Spec).await;
    assert_eq!(
        (report.verdict.kind, report.verdict.miss),
        (VerdictKind::Miss, MissCause::NoAnswer)
    );
    assert_eq!(scene.server.statuses.lock().unwrap().len(), 1);
}

/// Runs a check and executes its actions.
async fn run_and_keep(parity: &mut Parity, now: DateTime<Utc>) -> Vec<Notice> {
    let round = Round {
        now,
        memory: &Value::Null,
        misses: 0,
    };
    let [planned] = <[_; 1]>::try_from(parity.check(&round).await.actions).unwrap();
    parity.execute(planned.action).await
}

#[tokio::test]
async fn last_reports_are_kept_and_recorded_answers_stay() {
    let scene = Scene::new().await;
    scene.record(Consent::Given).await.unwrap();
    let mut parity = scene.parity("", Compare::Spec).unwrap();
    let home = parity.config.home.clone();
    let begin = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
    for night in 0..3 + KEPT as i64 {
        let notices = run_and_keep(&mut parity, begin + TimeDelta::days(night)).await;
        assert_eq!(
            notices,
            [Notice::Closed {
                key: "report",
                message: "this run's report was kept".to_owned()
            }]
        );
    }
    let folder = reports(&home, &parity.config.name);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), KEPT + 1);
    assert_eq!(names[0], "20260415T132000.000Z.json");
    assert_eq!(names[KEPT], "recorded.json");
    let run: RunReport =
        serde_json::from_slice(&std::fs::read(folder.join(&names[0])).unwrap()).unwrap();
    assert_eq!((run.prompts.len(), run.verdict.kind), (3, VerdictKind::Ok));
    // A report that cannot be written is an alert.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    assert!(matches!(
        run_and_keep(&mut parity, begin).await[..],
        [Notice::Open { key: "report", .. }]
    ));
}

#[tokio::test]
async fn answers_are_recorded_with_consent_and_compared_byte_for_byte() {
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
    let printed = scene.record(ask("y\n")).await.unwrap();
    assert!(printed.contains("four (new)\n  + \"4\""), "{printed}");
    let printed = scene.record(Consent::Impossible).await.unwrap();
    assert!(
        printed.starts_with("nothing to record: all 3 answers"),
        "{printed}"
    );
    assert_eq!(
        scene.check("", Compare::Recorded).await.verdict.kind,
        VerdictKind::Ok
    );

    // Both satisfy the spec; one differs from the recorded answer.
    let config = config(scene.folder.path(), scene.address, "");
    let path = RecordedAnswers::path(&config.home, &config.name);
    let mut recorded = RecordedAnswers::read(&path).unwrap().unwrap();
    recorded.answers.get_mut("city").unwrap().answer = "Tokyo.".into();
    recorded.write(&path).unwrap();
    let report = scene.check("", Compare::Recorded).await;
    assert_eq!(report.verdict.kind, VerdictKind::Miss);
    assert!(
        report.verdict.message.contains(
            "`city` expected `Tokyo.` (the first difference is at byte 5), answered `Tokyo!`"
        ),
        "{}",
        report.verdict.message
    );
    let printed = scene.record(Consent::Given).await.unwrap();
    assert!(
        printed.contains("city\n  - \"Tokyo.\"\n  + \"Tokyo!\""),
        "{printed}"
    );

    // A changed request cannot have the recorded answer, and wrong answers are not recorded.
    spec(scene.folder.path(), 1);
    let report = scene.check("", Compare::Recorded).await;
    assert!(
        report
            .verdict
            .message
            .contains("which the spec has changed"),
        "{}",
        report.verdict.message
    );
    spec(scene.folder.path(), 2);
    let error = scene.record(Consent::Given).await.unwrap_err();
    assert!(error.contains("2 of 3 answers do not satisfy"), "{error}");
}
