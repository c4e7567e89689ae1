//! The loop with a scripted check, and a channel that can be down.

mod actions;
mod beside_checks;
mod conditions;
mod delivery;
mod first_cause;
mod maintenance;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::{Json, Router, routing::post};
use serde_json::Value;

use super::*;
use crate::alert::{Alert, Channel, History, Mute, Mutes};
use crate::check::Notice;

/// Returns one verdict after the other.
#[derive(Debug, Default)]
struct Script(VecDeque<VerdictKind>, VecDeque<&'static str>, MissCause);

impl Check for Script {
    type Action = Infallible;

    async fn check(&mut self, round: &Round<'_>) -> CheckReport<Infallible> {
        let kind = self.0.pop_front().unwrap_or(VerdictKind::Ok);
        let problems = self.1.pop_front().unwrap_or_default();
        let verdict = Verdict {
            miss: self.2,
            ..Verdict::new(kind, format!("it is {kind}")).next("do this")
        };
        CheckReport {
            problems: problems.split_whitespace().map(str::to_owned).collect(),
            memory: Some(Value::from(round.memory.as_u64().unwrap_or(0) + 1)),
            ..verdict.into()
        }
    }

    async fn execute(&mut self, action: Infallible) -> Vec<Notice> {
        match action {}
    }

    fn subject(&self) -> String {
        "server on mini".into()
    }
}

/// Force Flow: keeps what it receives, and answers 503 while it is down.
#[derive(Clone, Default)]
struct Flow {
    got: Arc<Mutex<Vec<Alert>>>,
    down: Arc<Mutex<bool>>,
}

async fn notify(Shared(flow): Shared<Flow>, Json(alert): Json<Alert>) -> StatusCode {
    if *flow.down.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    flow.got.lock().unwrap().push(alert);
    StatusCode::OK
}

async fn flow() -> (Flow, SocketAddr) {
    let flow = Flow::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/notify", post(notify))
        .with_state(flow.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (flow, address)
}

fn watchdog(folder: &Path, address: SocketAddr, script: &[VerdictKind]) -> Watchdog<Script> {
    let channel = Channel::http(&format!("http://{address}/notify"));
    let agent: Label = "canary".parse().unwrap();
    let state_file = folder.join("watch/canary.json");
    let state = WatchdogState::read(&state_file).unwrap();
    Watchdog {
        check: Script(
            script.iter().copied().collect(),
            VecDeque::new(),
            MissCause::Failed,
        ),
        host: "mini".parse().unwrap(),
        policy: Policy {
            misses: 2,
            cooldown: Duration::from_secs(1800),
            busy_for: Duration::from_secs(7200),
        },
        schedule: Schedule::Every(Duration::from_secs(600)),
        state: state.unwrap_or_else(|| WatchdogState::new(agent, start())),
        state_file,
        lease_file: folder.join("lease.json"),
        window_file: folder.join("window.json"),
        quiet_until: None,
        first_cause: FirstCause::default(),
        outbox: Outbox::new(folder.join("spool"), [("flow".parse().unwrap(), channel)])
            .recorded_in(&home(folder), &"canary".parse().unwrap()),
        resolve_folder: home(folder).resolve_requests(),
        server_log: None,
        heartbeat_url: None,
        commands: TypedCommands::default(),
        wake: Arc::default(),
    }
}

fn home(folder: &Path) -> sanctum_config::Home {
    sanctum_config::Home::new(folder.to_owned(), folder.to_owned())
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_776_000_000, 0).unwrap()
}

/// Rounds ten minutes apart, starting with the `first`.
async fn rounds(dog: &mut Watchdog<Script>, first: i32, count: i32) {
    for number in first..first + count {
        dog.round(start() + TimeDelta::minutes(10) * number)
            .await
            .unwrap();
        let _ = dog.outbox.deliver().await.unwrap();
    }
}

fn titles(flow: &Flow) -> Vec<String> {
    let got = flow.got.lock().unwrap();
    got.iter().map(|alert| alert.title.clone()).collect()
}

fn with_check<C>(dog: Watchdog<Script>, check: C) -> Watchdog<C> {
    Watchdog {
        check,
        host: dog.host,
        policy: dog.policy,
        schedule: dog.schedule,
        state: dog.state,
        state_file: dog.state_file,
        lease_file: dog.lease_file,
        window_file: dog.window_file,
        quiet_until: None,
        first_cause: dog.first_cause,
        outbox: dog.outbox,
        resolve_folder: dog.resolve_folder,
        server_log: dog.server_log,
        heartbeat_url: dog.heartbeat_url,
        commands: dog.commands,
        wake: dog.wake,
    }
}
