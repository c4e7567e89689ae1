//! Which watchdog alerts, where several find one cause.

use super::*;

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
