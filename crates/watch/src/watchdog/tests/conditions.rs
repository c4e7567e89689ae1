//! When a condition opens, alerts again and closes.

use super::*;

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
