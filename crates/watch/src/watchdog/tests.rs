//! The loop with a scripted check, and a channel that can be down.

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

#[tokio::test]
async fn misses_in_a_row_alert_once_a_cooldown_and_recover_once() {
    use VerdictKind::{Busy, Miss, Offline, Ok};
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

#[tokio::test]
async fn full_disk_does_not_prevent_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(
        folder.path(),
        address,
        &[VerdictKind::Miss, VerdictKind::Miss, VerdictKind::Ok],
    );
    std::fs::create_dir_all(&dog.state_file).unwrap();
    let spool = folder.path().join("spool");
    std::os::unix::fs::symlink(folder.path().join("no/such/folder"), &spool).unwrap();
    dog.round(start()).await.unwrap();
    assert_eq!(dog.outbox.waiting().unwrap(), 1, "in memory");
    assert_eq!(dog.outbox.deliver().await.unwrap(), None);
    rounds(&mut dog, 1, 1).await;
    let cannot = "canary on mini cannot write its state";
    let fails = "server on mini fails its check";
    assert_eq!(titles(&flow), [cannot, fails]);
    assert_eq!(dog.outbox.waiting().unwrap(), 0);
    std::fs::remove_dir(&dog.state_file).unwrap();
    std::fs::remove_file(&spool).unwrap();
    rounds(&mut dog, 2, 1).await;
    let mut recovered = titles(&flow).split_off(2);
    recovered.sort();
    assert_eq!(
        recovered,
        [cannot, fails].map(|title| format!("recovered: {title}"))
    );
    assert!(WatchdogState::read(&dog.state_file).unwrap().is_some());
}

#[tokio::test]
async fn clock_that_was_set_back_does_not_prevent_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 8]);
    rounds(&mut dog, 100, 2).await;
    assert_eq!(titles(&flow).len(), 1);
    rounds(&mut dog, 0, 1).await;
    assert_eq!(
        titles(&flow).len(),
        2,
        "alerted once more, as after a cooldown"
    );
    rounds(&mut dog, 1, 1).await;
    assert_eq!(titles(&flow).len(), 2);
}

#[tokio::test]
async fn new_problem_alerts_during_the_cooldown_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut script = [VerdictKind::Miss; 8];
    script[7] = VerdictKind::Ok;
    let mut dog = watchdog(folder.path(), address, &script);
    dog.policy.misses = 1;
    // Only the third round's `b` is new, until the cooldown of half an hour is over.
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
async fn busy_alerts_after_hours_and_offline_never() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Busy; 14]);
    rounds(&mut dog, 0, 12).await;
    assert!(titles(&flow).is_empty());
    rounds(&mut dog, 12, 3).await;
    let expected = [
        "server on mini has been busy for hours",
        "recovered: server on mini has been busy for hours",
    ];
    assert_eq!(titles(&flow), expected);
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Offline; 100]);
    rounds(&mut dog, 15, 100).await;
    assert_eq!(titles(&flow).len(), 2);
}

#[tokio::test]
async fn stopped_target_is_never_alerted_about() {
    use VerdictKind::{Miss, Stopped};
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut script = vec![Stopped; 50];
    // Misses before the stop do not count after it.
    script.insert(0, Miss);
    script.push(Miss);
    let mut dog = watchdog(folder.path(), address, &script);
    rounds(&mut dog, 0, 52).await;
    assert!(titles(&flow).is_empty(), "{:?}", titles(&flow));
    assert_eq!(dog.state.misses, 1);
}

#[tokio::test]
async fn maintenance_window_shows_verdicts_and_alerts_about_none() {
    use VerdictKind::{Miss, Ok};
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(
        folder.path(),
        address,
        &[Ok, Miss, Miss, Miss, Ok, Miss, Miss],
    );
    rounds(&mut dog, 0, 1).await;
    let counted = dog.state.clone();
    let ten_minutes = start() + TimeDelta::minutes(10);
    let half_an_hour = Duration::from_secs(1800);
    MaintenanceWindow::open(&dog.window_file, ten_minutes, half_an_hour, None).unwrap();
    rounds(&mut dog, 1, 3).await;
    assert!(titles(&flow).is_empty());
    assert_eq!(dog.state.last.as_ref().unwrap().kind, Miss, "it is shown");
    let WatchdogState {
        misses,
        hours,
        memory,
        ..
    } = &dog.state;
    assert_eq!(
        (*misses, hours, memory),
        (0, &counted.hours, &counted.memory)
    );
    // The window ends by itself: the next check is due then, and counts.
    let end = ten_minutes + TimeDelta::minutes(30);
    assert_eq!(dog.due(start(), end - TimeDelta::minutes(1)), end);
    rounds(&mut dog, 4, 1).await;
    assert_eq!(dog.quiet_until, None);
    rounds(&mut dog, 5, 2).await;
    assert_eq!(titles(&flow), ["server on mini fails its check"]);
}

#[tokio::test]
async fn condition_that_ends_in_a_maintenance_window_recovers_after_it() {
    use VerdictKind::{Miss, Ok};
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[Miss, Miss, Ok, Ok, Ok]);
    rounds(&mut dog, 0, 2).await;
    assert_eq!(titles(&flow).len(), 1);
    let now = start() + TimeDelta::minutes(20);
    let window = Duration::from_secs(1800);
    MaintenanceWindow::open(&dog.window_file, now, window, None).unwrap();
    rounds(&mut dog, 2, 2).await;
    assert_eq!(titles(&flow).len(), 1);
    // `resume` removes the record before the end.
    std::fs::remove_file(&dog.window_file).unwrap();
    rounds(&mut dog, 4, 1).await;
    assert_eq!(
        titles(&flow)[1..],
        ["recovered: server on mini fails its check"]
    );
}

#[tokio::test]
async fn night_asleep_or_offline_does_not_count_as_busy() {
    use VerdictKind::{Busy, Offline};
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
async fn alerts_that_a_channel_did_not_accept_are_delivered_in_order_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    *flow.down.lock().unwrap() = true;
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 4]);
    rounds(&mut dog, 0, 4).await;
    drop(dog);
    // The server recovers before the channel does.
    let mut dog = watchdog(
        folder.path(),
        address,
        &[VerdictKind::Miss, VerdictKind::Ok],
    );
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
async fn run_until(dog: &mut Watchdog<Script>, done: impl Fn(&WatchdogState) -> bool) {
    let file = dog.state_file.clone();
    let stop = async {
        while !WatchdogState::read(&file)
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
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 9]);
    dog.policy.misses = 1;
    let is_open = |state: &WatchdogState| state.due.is_some() && state.open.contains_key(MISSES);
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
async fn lease_pauses_the_watchdog_and_alerts_once_when_it_expires() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 3]);
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
    assert_eq!(all[0], "a deployment on mini did not finish");
    assert_eq!(all.len(), 2, "and the misses: {all:?}");
}

/// Takes the maintenance lease during its check.
struct Overtaken(std::path::PathBuf, Vec<lease::LeaseGuard>);

impl Check for Overtaken {
    type Action = ();

    async fn check(&mut self, _round: &Round<'_>) -> CheckReport<()> {
        let (held, _) = lease::take(&self.0, "test", "now", Duration::from_secs(3600)).unwrap();
        self.1.push(held);
        CheckReport {
            memory: Some(Value::from("half a host")),
            actions: vec![PlannedAction {
                action: (),
                if_interrupted: None,
            }],
            ..Verdict::new(VerdictKind::Miss, "half a host").into()
        }
    }

    async fn execute(&mut self, (): ()) -> Vec<Notice> {
        unreachable!("a deployment has begun");
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
        window_file: dog.window_file,
        quiet_until: None,
        first_cause: dog.first_cause,
        outbox: dog.outbox,
        resolve_folder: dog.resolve_folder,
        server_log: dog.server_log,
        heartbeat_url: dog.heartbeat_url,
        wake: dog.wake,
    }
}

/// Never finishes: its check, or its action.
struct Hangs {
    in_check: bool,
}

fn condition(title: &str, body: String) -> Notice {
    Notice::Open {
        key: crate::BLIND,
        stage: "blind".to_owned(),
        text: AlertText {
            severity: Severity::Critical,
            title: title.to_owned(),
            body,
            next: String::new(),
        },
    }
}

impl Check for Hangs {
    type Action = u32;

    async fn check(&mut self, _round: &Round<'_>) -> CheckReport<u32> {
        if self.in_check {
            std::future::pending::<()>().await;
        }
        CheckReport {
            actions: vec![PlannedAction {
                action: 7,
                if_interrupted: Some(condition("probably done", "it was interrupted".to_owned())),
            }],
            ..Verdict::new(VerdictKind::Ok, "it is fine").into()
        }
    }

    async fn execute(&mut self, _action: u32) -> Vec<Notice> {
        std::future::pending().await
    }

    fn subject(&self) -> String {
        "it".into()
    }

    fn timed_out(&self, message: String) -> CheckReport<u32> {
        CheckReport {
            notices: vec![condition("it cannot check", message.clone())],
            ..Verdict::new(VerdictKind::Miss, message).into()
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
async fn check_that_exceeds_its_limit_keeps_its_memory_and_reports_in_its_own_words() {
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
async fn watchdog_that_is_stopped_during_a_check_or_an_action_keeps_its_memory() {
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

/// Plans the actions 1 and 2 in its first round, and keeps what it executed.
#[derive(Default)]
struct Acts(u32, Vec<u32>);

impl Check for Acts {
    type Action = u32;

    async fn check(&mut self, round: &Round<'_>) -> CheckReport<u32> {
        self.0 += 1;
        let planned = |action| PlannedAction {
            action,
            if_interrupted: Some(condition("probably done", "it was interrupted".to_owned())),
        };
        CheckReport {
            actions: match self.0 {
                1 => vec![planned(1), planned(2)],
                _ => Vec::new(),
            },
            misses: Some(round.misses + 10),
            ..Verdict::new(VerdictKind::Ok, "it is fine").into()
        }
    }

    async fn execute(&mut self, action: u32) -> Vec<Notice> {
        self.1.push(action);
        Vec::new()
    }

    fn subject(&self) -> String {
        "it".into()
    }
}

#[tokio::test]
async fn actions_of_a_report_are_executed_in_order_once_and_leave_no_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = with_check(watchdog(folder.path(), address, &[]), Acts::default());
    for _ in 0..2 {
        dog.round(start()).await.unwrap();
    }
    assert_eq!(dog.check.1, [1, 2]);
    assert_eq!(dog.state.misses, 20, "the check counts its misses itself");
    let _ = dog.outbox.deliver().await.unwrap();
    assert!(titles(&flow).is_empty());
}

#[tokio::test]
async fn action_that_is_interrupted_is_reported_by_the_next_process_once() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let hangs = Hangs { in_check: false };
    let mut dog = with_check(watchdog(folder.path(), address, &[]), hangs);
    let killed = tokio::time::timeout(Duration::from_millis(100), dog.round(start()));
    assert!(killed.await.is_err());
    drop(dog);
    let mut dog = watchdog(folder.path(), address, &[]);
    rounds(&mut dog, 1, 2).await;
    assert_eq!(titles(&flow), ["probably done"]);
    assert!(dog.state.interrupted.is_empty());
}

#[tokio::test]
async fn report_of_a_check_during_which_a_deployment_begins_is_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let (_, address) = flow().await;
    let dog = watchdog(folder.path(), address, &[]);
    let check = Overtaken(dog.lease_file.clone(), Vec::new());
    let mut dog = with_check(dog, check);
    dog.round(Utc::now()).await.unwrap();
    assert_eq!((dog.check.1.len(), dog.state.misses), (1, 0));
    assert_eq!(dog.state.memory, Value::Null, "the report is discarded");
    // It stays due: the result of the deployment is checked when it ends.
    assert_eq!(dog.state.checked, None);
    dog.check.1.clear();
    dog.round(Utc::now()).await.unwrap();
    assert!(dog.state.checked.is_none() && dog.check.1.len() == 1);
}

#[tokio::test]
async fn damaged_lease_alerts_and_does_not_pause() {
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
async fn outage_that_the_guardian_reports_alerts_only_when_it_outlasts_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let label = |name: &str| name.parse::<Label>().unwrap();
    let home = sanctum_config::Home::new(folder.path().to_owned(), folder.path().to_owned());
    let fleet = sanctum_config::Fleet::parse(FLEET, Path::new("fleet.toml")).unwrap();
    let (mini, server) = (label("mini"), label("server"));
    let first_cause = FirstCause::of_server(&fleet, &home, &mini, &server, &[]);
    let guardian = |round: i32, reports: bool| {
        let now = start() + TimeDelta::minutes(10) * round;
        let mut state = WatchdogState::new(label("guardian"), now);
        if reports {
            state.last = Some(Verdict::new(VerdictKind::Miss, "gave no answer"));
            let open = serde_json::json!({ "id": "g", "title": "t", "since": now, "alerted": now, "alerts": 1 });
            let open = serde_json::from_value(open).unwrap();
            state.open.insert(crate::OUTAGE.to_owned(), open);
        }
        state.write(&home.watch_state(&label("guardian"))).unwrap();
    };
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 9]);
    dog.first_cause = first_cause;
    dog.check.2 = MissCause::NoAnswer;
    for round in 0..4 {
        guardian(round, true);
        rounds(&mut dog, round, 1).await;
    }
    assert_eq!((titles(&flow).len(), dog.state.misses), (0, 4));
    // A wrong answer is not an outage.
    guardian(4, true);
    dog.check.2 = MissCause::Failed;
    rounds(&mut dog, 4, 1).await;
    assert_eq!(titles(&flow), ["server on mini fails its check"]);

    let folder = tempfile::tempdir().unwrap();
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 9]);
    dog.first_cause = FirstCause::of_server(&fleet, &home, &mini, &server, &[]);
    dog.check.2 = MissCause::NoAnswer;
    guardian(5, true);
    rounds(&mut dog, 4, 2).await;
    assert_eq!(titles(&flow).len(), 1);
    guardian(6, false);
    rounds(&mut dog, 6, 1).await;
    assert_eq!(titles(&flow).len(), 2);
}

#[tokio::test]
async fn watchdog_that_cannot_check_does_not_report_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 2]);
    dog.check.2 = MissCause::CannotCheck;
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
        let text = AlertText {
            severity: Severity::Info,
            title: key.to_owned(),
            body: String::new(),
            next: String::new(),
        };
        dog.notice(Notice::Event { key, text }, start()).unwrap();
    }
    let _ = dog.outbox.deliver().await.unwrap();
    assert_eq!(titles(&flow), ["panic", "answers-again"]);
}

#[tokio::test]
async fn muted_condition_is_logged_and_listed_and_reaches_no_channel() {
    use VerdictKind::{Miss, Ok};
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let script = [Miss, Miss, Ok, Miss, Miss];
    let mut dog = watchdog(folder.path(), address, &script);
    let mutes = home(folder.path()).mutes();
    let mute = Mute {
        condition: "canary/misses".to_owned(),
        since: Utc::now(),
        until: Utc::now() + TimeDelta::hours(1),
        by: "ada".into(),
        why: "".into(),
    };
    // While the channel is down its alert waits; then it is muted, and the end of the condition too.
    *flow.down.lock().unwrap() = true;
    rounds(&mut dog, 0, 2).await;
    assert_eq!(dog.outbox.waiting().unwrap(), 1);
    Mutes::add(&mutes, mute).unwrap();
    *flow.down.lock().unwrap() = false;
    rounds(&mut dog, 2, 3).await;
    assert_eq!(dog.outbox.waiting().unwrap(), 0);
    assert!(titles(&flow).is_empty() && dog.state.open.contains_key(MISSES));
    assert!(Mutes::remove(&mutes, "canary/misses").unwrap());
    // A new process tries the channel at once.
    let mut dog = watchdog(folder.path(), address, &[Ok]);
    rounds(&mut dog, 5, 1).await;
    assert_eq!(titles(&flow), ["recovered: server on mini fails its check"]);
    let agent = "canary".parse().unwrap();
    let past = History::read(&home(folder.path()).alert_history(&agent)).unwrap();
    let silent: Vec<bool> = past.iter().map(|alert| !alert.muted.is_empty()).collect();
    assert_eq!(silent, [true, true, true, false]);
    assert_eq!(past[3].delivered.len(), 1);
}

#[tokio::test]
async fn condition_that_is_closed_by_hand_opens_again_if_it_recurs() {
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let mut dog = watchdog(folder.path(), address, &[VerdictKind::Miss; 4]);
    rounds(&mut dog, 0, 2).await;
    let id = dog.state.open[MISSES].id.clone();
    let request = |id: &str| ResolveRequest {
        agent: "canary".parse().unwrap(),
        id: id.to_owned(),
        by: "ada".into(),
        why: "the model was replaced".into(),
        at: Utc::now(),
    };
    request(&id).write(&dog.resolve_folder).unwrap();
    request("canary-misses-1")
        .write(&dog.resolve_folder)
        .unwrap();
    let now = start() + TimeDelta::minutes(15);
    dog.resolve_requested(now).unwrap();
    assert!(!request(&id).is_pending(&dog.resolve_folder));
    assert!(!request("canary-misses-1").is_pending(&dog.resolve_folder));
    let written = WatchdogState::read(&dog.state_file).unwrap().unwrap();
    assert!(written.open.is_empty() && written.misses == 0);
    rounds(&mut dog, 2, 2).await;
    let title = "server on mini fails its check";
    assert_eq!(
        titles(&flow),
        [title, &format!("closed by hand: {title}"), title]
    );
    let got = flow.got.lock().unwrap();
    assert_eq!(got[1].id, format!("{id}-resolved"));
    assert!(
        got[1]
            .body
            .starts_with("ada closed it (the model was replaced)"),
        "{}",
        got[1].body
    );
    assert_ne!(got[2].id, id);
}

/// Two watchdogs of one server and host, which find wrong answers.
#[tokio::test]
async fn wrong_answers_alert_through_the_first_watchdog_that_finds_them() {
    use VerdictKind::{Miss, Ok};
    const FLEET: &str = "[hosts.mini]\naddress = \"a\"\nagents = [\"server\", \"canary\", \"parity\"]\n\
        [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1\"]\n\
        [watch.canary]\nalert = [\"flow\"]\n[watch.parity]\nalert = [\"flow\"]\n[alerts.flow]\nurl = \"http://127.0.0.1:9/\"\n";
    let folder = tempfile::tempdir().unwrap();
    let (flow, address) = flow().await;
    let path = Path::new("/etc/fleet.toml");
    let fleet = sanctum_config::Fleet::parse(FLEET, path).unwrap();
    let home = home(folder.path());
    let dog = |name: &str, script: &[VerdictKind]| {
        let label: Label = name.parse().unwrap();
        let mut dog = watchdog(folder.path(), address, script);
        dog.state = WatchdogState::new(label.clone(), start());
        dog.state_file = home.watch_state(&label);
        dog.first_cause = FirstCause::of(&crate::WatchdogConfig {
            home: home.clone(),
            watch: fleet.watch[&label].clone(),
            host: "mini".parse().unwrap(),
            config: path.to_owned(),
            name: label,
            fleet: fleet.clone(),
        });
        dog
    };
    let mut canary = dog("canary", &[Miss, Miss, Miss, Miss, Ok]);
    let mut parity = dog("parity", &[Miss; 6]);
    for round in 0..4 {
        rounds(&mut canary, round, 1).await;
        rounds(&mut parity, round, 1).await;
    }
    assert_eq!(titles(&flow), ["server on mini fails its check"]);
    let covered = parity.state.covered.as_ref().unwrap();
    assert_eq!((covered.by.as_str(), parity.state.misses), ("canary", 4));
    // The canary gets right answers again; what is still wrong alerts.
    rounds(&mut canary, 4, 1).await;
    rounds(&mut parity, 4, 1).await;
    let title = "server on mini fails its check";
    assert_eq!(
        titles(&flow),
        [title, &format!("recovered: {title}"), title]
    );
    assert_eq!(parity.state.covered, None);
}
