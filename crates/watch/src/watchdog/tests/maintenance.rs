//! Deployments and maintenance windows pause the watchdog.

use super::*;

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
    let file = Path::new("/x/my fleet.toml");
    dog.commands = TypedCommands::of(&Default::default(), &home(folder.path()), file);
    std::fs::write(&dog.lease_file, "{").unwrap();
    rounds(&mut dog, 0, 2).await;
    assert_eq!(dog.state.memory, 2);
    assert_eq!(
        titles(&flow),
        ["the maintenance lease on mini cannot be read"]
    );
    let body = flow.got.lock().unwrap()[0].body.clone();
    assert!(
        body.ends_with("\nsanctum-launchd verify --config '/x/my fleet.toml'"),
        "{body}"
    );
}
