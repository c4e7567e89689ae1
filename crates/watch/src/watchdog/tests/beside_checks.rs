//! Checks and deliveries beside each other: a channel that does not answer delays no check, and a check no delivery.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::alert::undelivered;

/// A receiver that holds each request until it is released, and counts both.
#[derive(Default)]
struct HeldReceiver {
    asked: AtomicU32,
    arrived: Notify,
    release: Notify,
    accepted: AtomicU32,
}

async fn hold(Shared(gate): Shared<Arc<HeldReceiver>>) {
    gate.asked.fetch_add(1, Ordering::SeqCst);
    gate.arrived.notify_one();
    gate.release.notified().await;
    gate.accepted.fetch_add(1, Ordering::SeqCst);
}

async fn gate() -> (Arc<HeldReceiver>, std::net::SocketAddr) {
    let gate = Arc::new(HeldReceiver::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/notify", post(hold))
        .with_state(Arc::clone(&gate));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (gate, address)
}

/// Raises one alert for each of its first `alerts` checks; releases the receiver once it has checked ten times.
struct Counts {
    checks: u32,
    gate: Arc<HeldReceiver>,
    alerts: u32,
    /// Releases the receiver in this check, and waits there until all alerts were accepted.
    waits_in: Option<u32>,
}

impl Check for Counts {
    type Action = std::convert::Infallible;

    async fn check(&mut self, _round: &Round<'_>) -> CheckReport<Self::Action> {
        self.checks += 1;
        if self.waits_in == Some(self.checks) {
            while self.gate.accepted.load(Ordering::SeqCst) < self.alerts {
                self.gate.release.notify_one();
                tokio::task::yield_now().await;
            }
        }
        if self.waits_in.is_none() && self.checks >= 10 {
            self.gate.release.notify_one();
        }
        let text = AlertText {
            severity: Severity::Warning,
            title: format!("event {}", self.checks),
            body: String::new(),
            next: String::new(),
        };
        let notice = Notice::Event { key: "event", text };
        let raises = self.checks <= self.alerts;
        CheckReport {
            notices: raises.then_some(notice).into_iter().collect(),
            ..Verdict::new(VerdictKind::Ok, "it is fine").into()
        }
    }

    async fn execute(&mut self, action: Self::Action) -> Vec<Notice> {
        match action {}
    }

    fn subject(&self) -> String {
        "it".into()
    }
}

fn counting(folder: &Path, address: std::net::SocketAddr, check: Counts) -> Watchdog<Counts> {
    let mut dog: Watchdog<Script> = watchdog(folder, address, &[]);
    dog.schedule = Schedule::Every(Duration::from_millis(1));
    with_check(dog, check)
}

async fn delivered(spool: &Path, gate: &HeldReceiver, count: u32) {
    while gate.accepted.load(Ordering::SeqCst) < count || !undelivered(spool).unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn channel_that_does_not_answer_delays_no_check() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, address) = gate().await;
    let check = Counts {
        checks: 0,
        gate: Arc::clone(&gate),
        alerts: 1,
        waits_in: None,
    };
    let mut dog = counting(folder.path(), address, check);
    // The receiver answers its first request after ten checks only.
    let spool = folder.path().join("spool");
    dog.run(delivered(&spool, &gate, 1)).await.unwrap();
    assert_eq!(
        gate.asked.load(Ordering::SeqCst),
        1,
        "the first request was answered"
    );
    assert!(dog.check.checks >= 10);
}

#[tokio::test]
async fn check_that_takes_long_delays_no_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, address) = gate().await;
    let check = Counts {
        checks: 0,
        gate: Arc::clone(&gate),
        alerts: 3,
        waits_in: Some(4),
    };
    let mut dog = counting(folder.path(), address, check);
    // Its fourth check ends when the alerts of the first three were delivered.
    let spool = folder.path().join("spool");
    dog.run(delivered(&spool, &gate, 3)).await.unwrap();
    assert_eq!(gate.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn watchdog_that_is_killed_during_a_delivery_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, address) = gate().await;
    let check = || Counts {
        checks: 0,
        gate: Arc::clone(&gate),
        alerts: 1,
        waits_in: None,
    };
    let mut dog = counting(folder.path(), address, check());
    tokio::select! {
        _ = dog.run(std::future::pending()) => panic!("nothing stops it"),
        () = gate.arrived.notified() => {}
    }
    drop(dog);
    let spool = folder.path().join("spool");
    let [waits] = &undelivered(&spool).unwrap()[..] else {
        panic!("one alert waits");
    };
    // The next process delivers the same alert.
    let id = waits.id.clone();
    let mut dog = counting(folder.path(), address, check());
    dog.check.alerts = 0;
    gate.release.notify_one();
    dog.run(delivered(&spool, &gate, 1)).await.unwrap();
    let past =
        crate::alert::History::read(&home(folder.path()).alert_history(&"canary".parse().unwrap()));
    let past = past.unwrap();
    assert_eq!(
        (past.len(), past[0].id.as_str(), past[0].delivered.len()),
        (1, id.as_str(), 1)
    );
}
