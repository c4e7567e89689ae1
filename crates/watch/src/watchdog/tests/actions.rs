//! A check and its actions: limits, order, interruption.

use super::*;

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
