//! Alerts that cannot be delivered at once, and muted ones.

use super::*;

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
