//! The loop with a check that says what it is told to, and a channel that can be down.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::{Json, Router, routing::post};
use serde_json::Value;

use super::*;
use crate::alert::Channel;

/// Says one verdict after the other.
#[derive(Debug, Default)]
struct Script(VecDeque<Kind>, VecDeque<&'static str>, Miss);

impl Check for Script {
    async fn check(&mut self, round: &mut Round) -> Report {
        round.memory = Value::from(round.memory.as_u64().unwrap_or(0) + 1);
        let kind = self.0.pop_front().unwrap_or(Kind::Ok);
        let wrongs = self.1.pop_front().unwrap_or_default();
        Report {
            wrongs: wrongs.split_whitespace().map(str::to_owned).collect(),
            miss: self.2,
            ..Verdict::new(kind, format!("it is {kind}"))
                .next("do this")
                .into()
        }
    }

    fn subject(&self) -> String {
        "server on mini".into()
    }
}

/// Force Flow: keeps what it was sent, and refuses while it is down.
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

fn watchdog(folder: &Path, address: SocketAddr, script: &[Kind]) -> Watchdog<Script> {
    let url = format!("http://{address}/notify").parse().unwrap();
    let agent: Label = "canary".parse().unwrap();
    let state_file = folder.join("watch/canary.json");
    let state = State::read(&state_file).unwrap();
    Watchdog {
        check: Script(
            script.iter().copied().collect(),
            VecDeque::new(),
            Miss::Failed,
        ),
        host: "mini".parse().unwrap(),
        policy: Policy {
            misses: 2,
            cooldown: Duration::from_secs(1800),
            busy_for: Duration::from_secs(7200),
        },
        schedule: Schedule::Every(Duration::from_secs(600)),
        state: state.unwrap_or_else(|| State::new(agent, start())),
        state_file,
        lease_file: folder.join("lease.json"),
        first_cause: FirstCause::default(),
        outbox: Outbox::new(
            folder.join("spool"),
            [("flow".parse().unwrap(), Channel::Http(url))],
        ),
    }
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_776_000_000, 0).unwrap()
}

/// Rounds ten minutes apart, from the `first` on.
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

#[tokio::test]
async fn misses_in_a_row_alert_once_a_cooldown_and_recover_once() {
    use Kind::{Busy, Miss, Offline, Ok};
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let script = [
        Miss, Ok, Miss, Offline, Busy, Miss, Miss, Miss, Miss, Miss, Ok, Ok,
    ];
    let mut dog = watchdog(folder.path(), address, &script);
    rounds(&mut dog, 0, 12).await;
    assert_eq!(
        titles(&flow),
        [
            "server on mini fails its check",
            "server on mini fails its check",
            "recovered: server on mini fails its check"
        ]
    );
    let got = flow.got.lock().unwrap();
    assert_eq!(
        got[0].id, "canary-misses-20260412T134000.000Z",
        "since the first miss"
    );
    assert_eq!(got[1].id, format!("{}-2", got[0].id));
    assert_eq!(got[2].id, format!("{}-recovered", got[0].id));
    assert!(
        got[0]
            .body
            .starts_with("it is miss (2 misses in a row since")
    );
    assert!(got[0].body.ends_with("\ndo this"));
    assert_eq!(dog.state.memory, 12);
}

/// A disk that takes neither the state nor a spool.
#[tokio::test]
async fn a_full_disk_silences_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss, Kind::Miss, Kind::Ok]);
    std::fs::create_dir_all(&dog.state_file).unwrap();
    let spool = folder.path().join("spool");
    std::os::unix::fs::symlink(folder.path().join("no/such/folder"), &spool).unwrap();
    dog.round(start()).await.unwrap();
    assert_eq!(dog.outbox.waiting().unwrap(), 1, "in memory");
    assert_eq!(dog.outbox.deliver().await.unwrap(), None);
    rounds(&mut dog, 1, 1).await;
    let cannot = "canary on mini cannot remember";
    let fails = "server on mini fails its check";
    assert_eq!(titles(&flow), [cannot, fails]);
    assert_eq!(dog.outbox.waiting().unwrap(), 0);
    std::fs::remove_dir(&dog.state_file).unwrap();
    std::fs::remove_file(&spool).unwrap();
    rounds(&mut dog, 2, 1).await;
    let mut told = titles(&flow).split_off(2);
    told.sort();
    assert_eq!(
        told,
        [cannot, fails].map(|title| format!("recovered: {title}"))
    );
    assert!(State::read(&dog.state_file).unwrap().is_some());
}

#[tokio::test]
async fn a_clock_that_was_set_back_silences_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss; 8]);
    rounds(&mut dog, 100, 2).await;
    assert_eq!(titles(&flow).len(), 1);
    rounds(&mut dog, 0, 1).await;
    assert_eq!(
        titles(&flow).len(),
        2,
        "told once more, as after a cooldown"
    );
    rounds(&mut dog, 1, 1).await;
    assert_eq!(titles(&flow).len(), 2);
}

#[tokio::test]
async fn a_new_thing_that_is_wrong_does_not_wait_for_the_cooldown_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut script = [Kind::Miss; 8];
    script[7] = Kind::Ok;
    let mut dog = watchdog(folder.path(), address, &script);
    dog.policy.misses = 1;
    // The third round's is new, and so is nothing that follows until the cooldown of half an hour is over.
    dog.check.1 = ["a", "a", "a b", "b", "a b", "a", "a"].into();
    rounds(&mut dog, 0, 3).await;
    assert_eq!(titles(&flow).len(), 2);
    rounds(&mut dog, 3, 2).await;
    assert_eq!(titles(&flow).len(), 2);
    rounds(&mut dog, 5, 3).await;
    let got = flow.got.lock().unwrap();
    let ids: Vec<&str> = got.iter().map(|alert| alert.id.as_str()).collect();
    let first = "canary-misses-20260412T132000.000Z";
    assert_eq!(
        ids,
        [
            first.to_owned(),
            format!("{first}-2"),
            format!("{first}-3"),
            format!("{first}-recovered")
        ]
    );
}

#[tokio::test]
async fn being_busy_alerts_after_hours_and_being_offline_never() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[Kind::Busy; 14]);
    rounds(&mut dog, 0, 12).await;
    assert!(titles(&flow).is_empty());
    rounds(&mut dog, 12, 3).await;
    let expected = [
        "server on mini has been busy for hours",
        "recovered: server on mini has been busy for hours",
    ];
    assert_eq!(titles(&flow), expected);
    let mut dog = watchdog(folder.path(), address, &[Kind::Offline; 100]);
    rounds(&mut dog, 15, 100).await;
    assert_eq!(titles(&flow).len(), 2);
}

#[tokio::test]
async fn a_night_asleep_or_offline_is_no_busy_night() {
    use Kind::{Busy, Offline};
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[Busy, Busy, Offline, Busy]);
    // Busy once, a night's sleep, busy once; then a train without a network, and busy once more.
    for number in [0, 60, 61, 73] {
        rounds(&mut dog, number, 1).await;
    }
    assert!(titles(&flow).is_empty(), "{:?}", titles(&flow));
}

#[tokio::test]
async fn what_a_channel_did_not_take_comes_later_in_order_though_the_watchdog_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    *flow.down.lock().unwrap() = true;
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss; 4]);
    rounds(&mut dog, 0, 4).await;
    drop(dog);
    // It is well again before the channel is.
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss, Kind::Ok]);
    assert_eq!(dog.state.misses, 4, "a restart forgets nothing");
    rounds(&mut dog, 4, 2).await;
    assert!(titles(&flow).is_empty());
    *flow.down.lock().unwrap() = false;
    drop(dog);
    let mut dog = watchdog(folder.path(), address, &[]);
    assert_eq!(dog.outbox.deliver().await.unwrap(), None, "nothing is left");
    let ids: Vec<String> = flow
        .got
        .lock()
        .unwrap()
        .iter()
        .map(|alert| alert.id.clone())
        .collect();
    let first = "canary-misses-20260412T132000.000Z";
    assert_eq!(
        ids,
        [
            first.to_owned(),
            format!("{first}-2"),
            format!("{first}-recovered")
        ]
    );
}

/// Runs the loop itself until `done` is satisfied with its state file.
async fn run_until(dog: &mut Watchdog<Script>, done: impl Fn(&State) -> bool) {
    let file = dog.state_file.clone();
    let stop = async {
        while !State::read(&file)
            .unwrap()
            .is_some_and(|state| done(&state))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    dog.run(stop).await.unwrap();
}

#[tokio::test]
async fn state_says_notified_only_after_a_channel_accepted_the_alert() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    *flow.down.lock().unwrap() = true;
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss; 9]);
    dog.policy.misses = 1;
    let is_open = |state: &State| state.due.is_some() && state.open.contains_key(MISSES);
    run_until(&mut dog, is_open).await;
    assert_eq!(dog.state.open[MISSES].notified, None);
    let spool = folder.path().join("spool");
    let [waits] = &crate::alert::undelivered(&spool).unwrap()[..] else {
        panic!("one alert waits");
    };
    let error = waits.error.as_deref().unwrap();
    assert!(error.contains("503"), "{error}");
    // A restart tries the channel at once.
    *flow.down.lock().unwrap() = false;
    let mut dog = watchdog(folder.path(), address, &[]);
    dog.state.checked = Some(Utc::now());
    run_until(&mut dog, |state| state.open[MISSES].notified.is_some()).await;
    assert_eq!(crate::alert::undelivered(&spool).unwrap(), []);
}

#[tokio::test]
async fn under_a_lease_nothing_is_counted_and_an_expired_one_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss; 3]);
    let hour = Duration::from_secs(3600);
    let (held, _) =
        lease::take(&dog.lease_file, "sanctum-launchd upgrade", "to 1.2.0", hour).unwrap();
    let now = Utc::now();
    dog.round(now).await.unwrap();
    assert_eq!((dog.state.misses, dog.check.0.len()), (0, 3));
    assert_eq!(dog.state.checked, None, "it is still due");
    // Its holder was killed, and an hour passes.
    std::mem::forget(held);
    for minutes in [61, 71] {
        dog.round(now + TimeDelta::minutes(minutes)).await.unwrap();
    }
    let _ = dog.outbox.deliver().await.unwrap();
    let all = titles(&flow);
    assert_eq!(all[0], "a deployment on mini has not come to its end");
    assert_eq!(all.len(), 2, "and the misses: {all:?}");
}

/// Takes the maintenance lease while it looks.
struct Overtaken(std::path::PathBuf, Vec<lease::LeaseGuard>);

impl Check for Overtaken {
    async fn check(&mut self, round: &mut Round) -> Report {
        round.memory = Value::from("half a host");
        let (held, _) = lease::take(&self.0, "test", "now", Duration::from_secs(3600)).unwrap();
        self.1.push(held);
        Verdict::new(Kind::Miss, "half a host").into()
    }

    fn subject(&self) -> String {
        "it".into()
    }
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
        first_cause: dog.first_cause,
        outbox: dog.outbox,
    }
}

/// Takes its memory and never comes to its end: in its check, or in its action.
struct Hangs {
    in_check: bool,
}

impl Check for Hangs {
    async fn check(&mut self, round: &mut Round) -> Report {
        if self.in_check {
            round.memory.take();
            std::future::pending::<()>().await;
        }
        Verdict::new(Kind::Ok, "it looks").into()
    }

    async fn act(&mut self, round: &mut Round) -> Vec<Notice> {
        if !self.in_check {
            round.memory.take();
            std::future::pending::<()>().await;
        }
        Vec::new()
    }

    fn subject(&self) -> String {
        "it".into()
    }

    fn timed_out(&mut self, said: String) -> Report {
        let note = Note {
            severity: Severity::Critical,
            title: "it cannot look".to_owned(),
            body: said.clone(),
            next: String::new(),
        };
        let stage = "blind".to_owned();
        let key = crate::BLIND;
        Report {
            notices: vec![Notice::Holds { key, stage, note }],
            ..Verdict::new(Kind::Miss, said).into()
        }
    }

    fn limit(&self) -> Duration {
        match self.in_check {
            true => Duration::from_millis(10),
            false => Duration::from_secs(60),
        }
    }
}

#[tokio::test]
async fn check_that_exceeds_its_limit_keeps_its_memory_and_reports_as_the_check_says() {
    let folder = tempfile::tempdir().unwrap();
    let (_, address) = flow().await;
    let dog = watchdog(folder.path(), address, &[]);
    let mut dog = with_check(dog, Hangs { in_check: true });
    dog.state.memory = Value::from(7);
    dog.round(start()).await.unwrap();
    assert_eq!(dog.state.memory, 7);
    assert!(dog.state.open.contains_key(crate::BLIND));
}

#[tokio::test]
async fn watchdog_that_is_stopped_while_it_checks_or_acts_keeps_its_memory() {
    for in_check in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (_, address) = flow().await;
        let dog = watchdog(folder.path(), address, &[]);
        let mut dog = with_check(dog, Hangs { in_check });
        dog.state.memory = Value::from(7);
        let moment = Duration::from_millis(if in_check { 1 } else { 100 });
        let stop = tokio::time::sleep(moment);
        dog.run(stop).await.unwrap();
        assert_eq!(dog.state.memory, 7);
    }
}

#[tokio::test]
async fn what_is_seen_while_a_deployment_begins_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let (_, address) = flow().await;
    let dog = watchdog(folder.path(), address, &[]);
    let check = Overtaken(dog.lease_file.clone(), Vec::new());
    let mut dog = with_check(dog, check);
    dog.round(Utc::now()).await.unwrap();
    assert_eq!((dog.check.1.len(), dog.state.misses), (1, 0));
    assert_eq!(dog.state.memory, Value::Null, "nothing of it is remembered");
    // It stays due: what the deployment leaves behind is not looked at a whole period later.
    assert_eq!(dog.state.checked, None);
    dog.check.1.clear();
    dog.round(Utc::now()).await.unwrap();
    assert!(dog.state.checked.is_none() && dog.check.1.len() == 1);
}

#[tokio::test]
async fn a_damaged_lease_is_told_of_and_watching_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[]);
    std::fs::write(&dog.lease_file, "{").unwrap();
    rounds(&mut dog, 0, 2).await;
    assert_eq!(dog.state.memory, 2);
    assert_eq!(
        titles(&flow),
        ["the maintenance lease on mini cannot be read"]
    );
}

const FLEET: &str = "[hosts.mini]\naddress = \"a\"\nagents = [\"server\", \"guardian\", \"canary\"]\n\
    [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1\"]\n[watch.guardian]\n[watch.canary]\n";

#[tokio::test]
async fn outage_that_the_guardian_reports_alerts_here_only_when_it_outlasts_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let label = |name: &str| name.parse::<Label>().unwrap();
    let home = sanctum_config::Home::new(folder.path().to_owned(), folder.path().to_owned());
    let fleet = sanctum_config::Fleet::parse(FLEET, Path::new("fleet.toml")).unwrap();
    let (mini, server) = (label("mini"), label("server"));
    let first_cause = FirstCause::of_server(&fleet, &home, &mini, &server, &[]);
    let guardian = |round: i32, reports: bool| {
        let now = start() + TimeDelta::minutes(10) * round;
        let mut state = State::new(label("guardian"), now);
        if reports {
            state.last = Some(Verdict::new(Kind::Miss, "gave no answer"));
            let open = serde_json::json!({ "id": "g", "title": "t", "since": now, "told": now, "times": 1 });
            let open = serde_json::from_value(open).unwrap();
            state.open.insert(crate::OUTAGE.to_owned(), open);
        }
        state.write(&home.watch_state(&label("guardian"))).unwrap();
    };
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss; 9]);
    dog.first_cause = first_cause;
    dog.check.2 = Miss::NoAnswer;
    for round in 0..4 {
        guardian(round, true);
        rounds(&mut dog, round, 1).await;
    }
    assert_eq!((titles(&flow).len(), dog.state.misses), (0, 4));
    // A wrong answer is no outage.
    guardian(4, true);
    dog.check.2 = Miss::Failed;
    rounds(&mut dog, 4, 1).await;
    assert_eq!(titles(&flow), ["server on mini fails its check"]);

    let folder = tempfile::tempdir().unwrap();
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss; 9]);
    dog.first_cause = FirstCause::of_server(&fleet, &home, &mini, &server, &[]);
    dog.check.2 = Miss::NoAnswer;
    guardian(5, true);
    rounds(&mut dog, 4, 2).await;
    assert_eq!(titles(&flow).len(), 1);
    guardian(6, false);
    rounds(&mut dog, 6, 1).await;
    assert_eq!(titles(&flow).len(), 2);
}

#[tokio::test]
async fn watchdog_that_cannot_check_says_so_and_not_that_its_server_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[Kind::Miss; 2]);
    dog.check.2 = Miss::CannotCheck;
    rounds(&mut dog, 0, 2).await;
    assert_eq!(
        titles(&flow),
        ["canary on mini cannot check server on mini"]
    );
}

#[tokio::test]
async fn two_events_of_one_round_are_two_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[]);
    for key in ["panic", "answers-again"] {
        let note = Note {
            severity: Severity::Info,
            title: key.to_owned(),
            body: String::new(),
            next: String::new(),
        };
        dog.notice(Notice::Event { key, note }, start()).unwrap();
    }
    let _ = dog.outbox.deliver().await.unwrap();
    assert_eq!(titles(&flow), ["panic", "answers-again"]);
}
