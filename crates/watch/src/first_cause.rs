//! One cause is one alert: while the guardian on this host reports that a server gives no answer, the host's other watchdogs
//! of that server do not; and of those that get wrong answers from a server, the first one alerts.
//!
//! Only state files are read. In doubt the alert is sent: a guardian that is not installed here, has stopped,
//! cannot be read, cannot check, or alerts through fewer channels covers nothing. Watchdogs on other hosts always alert,
//! because this host may be the one that is down.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::fleet::{Fleet, Watch};
use sanctum_config::{FileLock, Home, Label, record};
use serde::{Deserialize, Serialize};

use crate::config::WatchdogConfig;
use crate::state::WatchdogState;
use crate::verdict::VerdictKind;

/// The key of the guardian's condition "the server gives no answer".
pub const OUTAGE: &str = "outage";
/// The key of the guardian's condition "the restart budget is spent": it restarts nothing, and still reports outages.
pub const BUDGET: &str = "budget";
/// The key of the guardian's condition "it cannot check": nothing is known about the server.
pub const BLIND: &str = "blind";

/// How long a guardian may count misses without a decision.
const UNDECIDED: TimeDelta = TimeDelta::minutes(15);
/// A guardian checks every minute and writes its heartbeat every five.
const ALIVE: TimeDelta = TimeDelta::minutes(6);

/// A watchdog that asks a server for answers has checked it within this time, if its alert is about the present.
const RECENT: TimeDelta = TimeDelta::minutes(30);
/// How long a watchdog may take from its claim to the alert.
const CLAIMED: TimeDelta = TimeDelta::minutes(1);
/// How long to wait for the lock of the claim, which a process holds for milliseconds.
const LOCK: Duration = Duration::from_secs(1);

/// The other watchdogs whose alerts cover those of a watchdog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstCause {
    /// The guardians that report outages of its server, and their state files.
    guardians: Vec<(Label, PathBuf)>,
    /// The watchdogs that report wrong answers of its server.
    answers: Option<WrongAnswers>,
}

/// The watchdogs of a host that ask one server for answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WrongAnswers {
    own: Label,
    /// The others, and their state files.
    others: Vec<(Label, PathBuf)>,
    /// The file that says which one alerts.
    claim: PathBuf,
}

/// Which watchdog alerts about the wrong answers of a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Claim {
    by: Label,
    at: DateTime<Utc>,
}

impl FirstCause {
    /// The guardians that cover a watchdog: of its server, on its host.
    pub(crate) fn of(setting: &WatchdogConfig) -> Self {
        let WatchdogConfig {
            fleet,
            home,
            name,
            watch,
            host,
            ..
        } = setting;
        match (watch.check(name).as_str(), fleet.watched_server(watch)) {
            ("guardian", _) => Self::default(),
            // It checks the whole host, and decides itself whether all of its findings are outages of servers.
            ("drift", _) => {
                let servers = fleet.servers.keys();
                let each =
                    servers.map(|server| Self::of_server(fleet, home, host, server, &watch.alert));
                Self {
                    guardians: each.flat_map(|each| each.guardians).collect(),
                    answers: None,
                }
            }
            (check, Some(server)) => Self {
                answers: asks(check).then(|| WrongAnswers::of(setting, server)),
                ..Self::of_server(fleet, home, host, server, &watch.alert)
            },
            (_, None) => Self::default(),
        }
    }

    /// The guardians of `server` on `host` that alert through all of `channels`.
    pub fn of_server(
        fleet: &Fleet,
        home: &Home,
        host: &Label,
        server: &Label,
        channels: &[Label],
    ) -> Self {
        let covers = |(name, watch): &(&Label, &Watch)| {
            watch.check(name).as_str() == "guardian"
                && covers(fleet, host, server, channels, name, watch)
        };
        let guardians = fleet.watch.iter().filter(covers);
        Self {
            guardians: guardians
                .map(|(name, _)| (name.clone(), home.watch_state(name)))
                .collect(),
            answers: None,
        }
    }

    /// Whether a guardian reports at `now` that the server gives no answer, or is about to decide that.
    pub fn is_reported(&self, now: DateTime<Utc>) -> bool {
        self.reported_by(now).is_some()
    }

    /// The guardian that reports at `now` that the server gives no answer, or is about to decide that.
    pub(crate) fn reported_by(&self, now: DateTime<Utc>) -> Option<Label> {
        let mut guardians = self.guardians.iter();
        let first =
            guardians.find(|(_, path)| read(path).is_some_and(|state| reports(&state, now)));
        first.map(|(name, _)| name.clone())
    }

    /// The watchdog that reports at `now` that the server gives wrong answers. If there is none, the one that asks is it
    /// from here on.
    pub(crate) fn wrong_answers_reported_by(&self, now: DateTime<Utc>) -> Option<Label> {
        let answers = self.answers.as_ref()?;
        match answers.reported_by(now) {
            Ok(by) => by,
            Err(error) => {
                tracing::warn!("{}: {error}; this watchdog alerts", answers.claim.display());
                None
            }
        }
    }
}

impl WrongAnswers {
    fn of(setting: &WatchdogConfig, server: &Label) -> Self {
        let WatchdogConfig {
            fleet,
            home,
            name: own,
            watch,
            host,
            ..
        } = setting;
        let others = fleet.watch.iter().filter(|(name, other)| {
            *name != own
                && asks(other.check(name).as_str())
                && covers(fleet, host, server, &watch.alert, name, other)
        });
        Self {
            own: own.clone(),
            others: others
                .map(|(name, _)| (name.clone(), home.watch_state(name)))
                .collect(),
            claim: home.first_alert(server),
        }
    }

    /// Two watchdogs that find wrong answers at the same time must not both wait for the other's alert, nor both alert: the
    /// first to write the claim alerts.
    fn reported_by(&self, now: DateTime<Utc>) -> Result<Option<Label>, String> {
        if self.others.is_empty() {
            return Ok(None);
        }
        let lock = FileLock::take(&self.claim.with_extension("lock"), LOCK);
        let lock = lock.map_err(|error| error.to_string())?;
        let _lock = lock.ok_or("its lock is held by another process")?;
        let claim: Option<Claim> = record::read(&self.claim).unwrap_or_default();
        let others = || self.others.iter();
        let claimed = claim.filter(|claim| {
            let age = now - claim.at;
            age >= -CLAIMED && age <= CLAIMED && others().any(|(name, _)| *name == claim.by)
        });
        if let Some(claim) = claimed {
            return Ok(Some(claim.by));
        }
        let mut alerted = others()
            .filter(|(_, path)| read(path).is_some_and(|state| reports_wrong_answers(&state, now)));
        if let Some((name, _)) = alerted.next() {
            return Ok(Some(name.clone()));
        }
        let by = self.own.clone();
        record::write(&self.claim, &Claim { by, at: now }).map_err(|error| error.to_string())?;
        Ok(None)
    }
}

/// Whether a check asks a server for answers.
fn asks(check: &str) -> bool {
    matches!(check, "canary" | "parity")
}

/// Whether a watchdog watches `server` on `host` and alerts through all of `channels`.
fn covers(
    fleet: &Fleet,
    host: &Label,
    server: &Label,
    channels: &[Label],
    name: &Label,
    watch: &Watch,
) -> bool {
    fleet.host_of(name) == Some(host)
        && fleet.watched_server(watch) == Some(server)
        && channels.iter().all(|channel| watch.alert.contains(channel))
}

fn read(path: &Path) -> Option<WatchdogState> {
    WatchdogState::read(path).ok().flatten()
}

/// Whether a watchdog has alerted about wrong answers that it still gets.
fn reports_wrong_answers(state: &WatchdogState, now: DateTime<Utc>) -> bool {
    let is_recent = |time: DateTime<Utc>| (now - time).abs() <= RECENT;
    state.checked.is_some_and(is_recent)
        && state.last.as_ref().map(|last| last.kind) == Some(VerdictKind::Miss)
        && state.open.values().any(|open| open.is_wrong_answer)
}

fn reports(guardian: &WatchdogState, now: DateTime<Utc>) -> bool {
    let age = now - guardian.heartbeat;
    if age > ALIVE || age < -ALIVE {
        return false;
    }
    let last = guardian.last.as_ref().map(|last| last.kind);
    let is_open = |key| guardian.open.contains_key(key);
    // It could not check, or its last round was ok: an alert that is still open is not about the present.
    if is_open(BLIND) || !matches!(last, Some(VerdictKind::Miss | VerdictKind::Busy)) {
        return false;
    }
    if is_open(OUTAGE) || is_open(BUDGET) && last == Some(VerdictKind::Miss) {
        return true;
    }
    // It counts misses, and has not decided.
    let since = guardian.missing_since.or(guardian.busy_since);
    since.is_some_and(|since| now - since <= UNDECIDED)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::state::OpenCondition;
    use crate::verdict::Verdict;

    const FLEET: &str = "[hosts.mini]\naddress = \"a\"\nagents = [\"server\", \"other\", \"guardian\", \"canary\", \"loud\"]\n\
        [hosts.laptop]\naddress = \"b\"\nagents = [\"offbox\"]\n\
        [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1\"]\n\
        [servers.other]\nhost = \"mini\"\nlisten = [\"127.0.0.1:2\"]\n\
        [watch.guardian]\ntarget = \"server\"\nalert = [\"phone\"]\n\
        [watch.canary]\ntarget = \"server\"\nalert = [\"phone\"]\n\
        [watch.loud]\ncheck = \"canary\"\ntarget = \"server\"\nalert = [\"phone\", \"siren\"]\n\
        [watch.offbox]\ncheck = \"canary\"\ntarget = \"server\"\n\
        [watch.elsewhere]\ncheck = \"canary\"\ntarget = \"other\"\n\
        [alerts.phone]\nurl = \"http://127.0.0.1:9/\"\n[alerts.siren]\nurl = \"http://127.0.0.1:9/\"\n";

    fn label(name: &str) -> Label {
        name.parse().unwrap()
    }

    fn first_cause(home: &Path, watch: &str, host: &str) -> FirstCause {
        let config = Path::new("/etc/fleet.toml");
        let fleet = Fleet::parse(FLEET, config).unwrap();
        FirstCause::of(&WatchdogConfig {
            home: Home::new(home.to_owned(), home.to_owned()),
            watch: fleet.watch[&label(watch)].clone(),
            host: label(host),
            config: config.to_owned(),
            name: label(watch),
            fleet,
        })
    }

    fn guardian(home: &Path, change: impl FnOnce(&mut WatchdogState)) -> DateTime<Utc> {
        let now = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
        let mut state = WatchdogState::new(label("guardian"), now);
        change(&mut state);
        state
            .write(&home.join("state/watch/guardian.json"))
            .unwrap();
        now
    }

    fn outage(state: &mut WatchdogState) {
        state.last = Some(Verdict::new(
            VerdictKind::Miss,
            "gave no answer 3 times in a row",
        ));
        open(state, OUTAGE);
    }

    fn open(state: &mut WatchdogState, key: &str) {
        let open = serde_json::json!({
            "id": "g-1", "title": "t", "since": state.heartbeat, "alerted": state.heartbeat, "alerts": 1
        });
        let open: OpenCondition = serde_json::from_value(open).unwrap();
        state.open.insert(key.to_owned(), open);
    }

    #[test]
    fn outage_that_the_guardian_reports_covers_its_server_on_its_host_and_channels() {
        let home = tempfile::tempdir().unwrap();
        let now = guardian(home.path(), outage);
        let covers = |watch, host| first_cause(home.path(), watch, host).is_reported(now);
        assert!(covers("canary", "mini"));
        // The alert would not reach every channel; the host may be dead; it is another server; it is the guardian itself.
        assert!(!covers("loud", "mini"));
        assert!(!covers("offbox", "laptop"));
        assert!(!covers("elsewhere", "mini"));
        assert!(!covers("guardian", "mini"));
    }

    #[test]
    fn outage_is_not_covered_by_a_guardian_that_is_absent_damaged_or_stopped() {
        let home = tempfile::tempdir().unwrap();
        let canary = first_cause(home.path(), "canary", "mini");
        let path = home.path().join("state/watch/guardian.json");
        let now = guardian(home.path(), |_| {});
        std::fs::remove_file(&path).unwrap();
        assert!(!canary.is_reported(now), "absent");
        guardian(home.path(), outage);
        assert!(!canary.is_reported(now + TimeDelta::minutes(7)), "stopped");
        assert!(
            !canary.is_reported(now - TimeDelta::minutes(7)),
            "in the future"
        );
        std::fs::write(&path, "{").unwrap();
        assert!(!canary.is_reported(now), "damaged");
    }

    #[test]
    fn outage_that_is_open_is_not_covered_by_a_guardian_that_is_blind_or_sees_nothing_wrong() {
        let home = tempfile::tempdir().unwrap();
        let canary = first_cause(home.path(), "canary", "mini");
        let now = guardian(home.path(), |state| {
            outage(state);
            state.last = Some(Verdict::new(VerdictKind::Busy, "is starting"));
        });
        assert!(canary.is_reported(now));
        guardian(home.path(), |state| {
            outage(state);
            open(state, BLIND);
        });
        assert!(!canary.is_reported(now), "it cannot check");
        guardian(home.path(), |state| {
            outage(state);
            state.last = Some(Verdict::new(VerdictKind::Ok, "answers"));
        });
        assert!(!canary.is_reported(now), "its last round saw nothing wrong");
        guardian(home.path(), |state| open(state, OUTAGE));
        assert!(!canary.is_reported(now), "it has no verdict");
    }

    #[test]
    fn outage_is_covered_while_the_guardian_counts_and_not_when_it_is_blind() {
        let home = tempfile::tempdir().unwrap();
        let canary = first_cause(home.path(), "canary", "mini");
        let counting = |state: &mut WatchdogState| {
            state.last = Some(Verdict::new(VerdictKind::Miss, "gave no answer (1)"));
            state.missing_since = Some(state.heartbeat);
        };
        let now = guardian(home.path(), counting);
        assert!(canary.is_reported(now));
        guardian(home.path(), |state| {
            counting(state);
            state.missing_since = Some(state.heartbeat - TimeDelta::minutes(16));
        });
        assert!(!canary.is_reported(now), "it has not decided");
        guardian(home.path(), |state| {
            counting(state);
            open(state, BLIND);
        });
        assert!(!canary.is_reported(now), "it cannot check");
        guardian(home.path(), |state| {
            state.last = Some(Verdict::new(VerdictKind::Ok, "answers"));
        });
        assert!(!canary.is_reported(now), "its last round was ok");
    }
}
