//! The guardian: restarts a server that hangs or is dead, through launchd, and leaves one alone that is busy, starting or
//! crashing at every start.
//!
//! What is to be done is [`decide::decide`]'s to say; this is where it looks and acts.

pub mod decide;
mod memory;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use sanctum_config::fleet::Fleet;
use sanctum_config::{Active, Home, Label};
use sanctum_watch::alert::Severity;
use sanctum_watch::command::aside;
use sanctum_watch::probe::{Client, Liveness, ProbeError};
use sanctum_watch::{
    Check, Kind, Launchctl, Note, Notice, Report, Round, Setting, Verdict, Watched,
};
use serde_json::json;

use decide::{Action, AgentSeen, Answer, Condition, Memory, Patience, Seen, decide};

/// How long an answer may take where fleet.toml says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes at the end of an agent's log in which its last error is looked for.
const TAIL: u64 = 16 << 10;

/// The guardian of one server.
#[derive(Debug)]
pub struct Guardian {
    fleet: Fleet,
    home: Home,
    watched: Watched,
    patience: Patience,
    launchctl: Launchctl,
    /// What the last look found necessary, and why.
    due: Option<(Action, String)>,
}

impl Guardian {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key and its mend.
    pub fn new(setting: &Setting) -> Result<Self, String> {
        let Setting {
            fleet,
            home,
            name,
            watch,
            host,
            ..
        } = setting;
        let watched = Watched::of(setting, TIMEOUT)?;
        if watched.target.host != *host {
            return Err(format!(
                "a guardian runs where its server runs: move `{name}` to [hosts.{}]",
                watched.target.host
            ));
        }
        let time = |given: Option<Duration>, usual| {
            given.map_or(Some(usual), |given| TimeDelta::from_std(given).ok())
        };
        let long = "a time is too long";
        Ok(Self {
            fleet: fleet.clone(),
            home: home.clone(),
            watched,
            patience: Patience {
                misses: watch.misses.unwrap_or(3).max(1),
                stall_after: time(watch.stall_after, TimeDelta::seconds(120)).ok_or(long)?,
                startup_grace: time(watch.startup_grace, TimeDelta::seconds(180)).ok_or(long)?,
                restarts_per_hour: watch.restarts_per_hour.unwrap_or(4) as usize,
            },
            launchctl: Launchctl::here(),
            due: None,
        })
    }

    /// The agent that serves now: the server itself, or its standby after a flip.
    fn agent(&self) -> Result<Label, String> {
        let active = Active::read(&self.home.active()).map_err(|error| error.to_string())?;
        Ok(active.agent_for(&self.watched.target.server).clone())
    }

    async fn ask(&self, client: &Client) -> Answer {
        match client.liveness().await.map(|alive| alive.value) {
            Ok(Liveness::Heartbeat(health)) => {
                let beats = health.beats().into_iter();
                Answer::Health(beats.map(|(id, beat)| (id.to_owned(), beat)).collect())
            }
            // It has no heartbeat: another program, such as a standby.
            Ok(Liveness::Models(_)) => Answer::Alive,
            // A server that refuses is alive.
            Err(ProbeError::Denied { .. } | ProbeError::Busy { .. }) => Answer::Alive,
            Err(error) => Answer::None(error.to_string()),
        }
    }

    fn look_at(&self, label: &str) -> AgentSeen {
        match self.launchctl.print(label) {
            Ok(Some(service)) => AgentSeen::Loaded {
                pid: service.pid,
                runs: service.runs.unwrap_or(0),
            },
            Ok(None) => match self.launchctl.is_disabled(label) {
                Ok(disabled) => AgentSeen::NotLoaded { disabled },
                Err(error) => AgentSeen::Unknown(error.to_string()),
            },
            Err(error) => AgentSeen::Unknown(error.to_string()),
        }
    }

    /// The verdict where it cannot even look: a human is told at once, for nobody else restarts a server that hangs.
    fn blind(&self, why: String) -> Report {
        let next = "sanctum-launchd verify";
        let note = Note {
            severity: Severity::Critical,
            title: format!("the guardian of {} cannot look", self.watched.subject()),
            body: format!("{why}; until that is mended it restarts nothing"),
            next: next.to_owned(),
        };
        Report {
            notices: vec![Notice::Holds { key: "blind", note }],
            ..Verdict::new(Kind::Miss, why).next(next).into()
        }
    }

    /// The verdict on a condition, and what is to be told of it.
    fn report(
        &self,
        agent: &Label,
        seen: &Seen,
        condition: &Condition,
        action: Action,
        shortage: Option<&str>,
    ) -> Report {
        let base = &self.watched.target.base;
        let target = self.launchctl.target(&self.fleet.launchd_label(agent));
        let why = match &seen.answer {
            Answer::None(why) => why.as_str(),
            _ => "",
        };
        let log = self.home.log(agent);
        let tail = format!("tail -n 50 {}", log.display());
        let (kind, said) = match condition {
            Condition::Answering => (Kind::Ok, format!("{agent} answers at {base}")),
            Condition::Busy => (Kind::Ok, format!("{agent} at {base} is busy, and moves")),
            Condition::Hung(still) => (
                Kind::Miss,
                format!(
                    "{agent} at {base} answers, but its engine has work and has not moved for {} s",
                    still.num_seconds()
                ),
            ),
            Condition::Dead(misses) => (
                Kind::Miss,
                format!("{agent} gave no answer {misses} times in a row: {why}"),
            ),
            Condition::Silent(misses) => (
                Kind::Miss,
                format!("{agent} gave no answer ({misses}): {why}"),
            ),
            Condition::Starting if why.is_empty() => {
                (Kind::Busy, format!("{agent} reads its model"))
            }
            Condition::Starting => (Kind::Busy, format!("{agent} is starting: {why}")),
            Condition::CrashLooping(runs) => (
                Kind::Miss,
                format!("{agent} ends at every start: launchd has started it {runs} times lately"),
            ),
            Condition::NotLoaded { disabled } => (
                Kind::Miss,
                match disabled {
                    true => {
                        format!("{agent} is disabled and not loaded, and nothing answers at {base}")
                    }
                    false => {
                        format!("{agent} is not loaded in launchd, and nothing answers at {base}")
                    }
                },
            ),
        };
        let next = match condition {
            Condition::NotLoaded { disabled: true } => {
                format!("launchctl enable {target}; sanctum-launchd install")
            }
            _ => tail.clone(),
        };
        let looping = matches!(condition, Condition::CrashLooping(_));
        // What a server was told of for is over when it answers, not when its next restart is due or has begun.
        let held = |holds: bool, key: &'static str, note: &dyn Fn() -> Note| match (holds, kind) {
            (true, _) => Some(Notice::Holds { key, note: note() }),
            (false, Kind::Ok) => Some(Notice::Over { key }),
            (false, _) => None,
        };
        let of_server = [
            held(looping, "crash-loop", &|| Note {
                severity: Severity::Critical,
                title: format!(
                    "{agent} on {} crashes at every start",
                    self.watched.target.host
                ),
                body: format!(
                    "{said}; it is not kicked, which would not help. Its last word: {}",
                    last_error(&log).unwrap_or_else(|| format!("none in {}", log.display()))
                ),
                next: tail.clone(),
            }),
            held(action == Action::CallHuman, "budget", &|| Note {
                severity: Severity::Critical,
                title: format!("{agent} on {} needs a human", self.watched.target.host),
                body: format!(
                    "{said}. It was restarted {} times within an hour, which did not help; the guardian leaves it alone now",
                    self.patience.restarts_per_hour
                ),
                next: format!("{tail}; launchctl kickstart -k {target}"),
            }),
            held(
                matches!(condition, Condition::NotLoaded { disabled: true }),
                "disabled",
                &|| Note {
                    severity: Severity::Critical,
                    title: format!("{agent} on {} is disabled", self.watched.target.host),
                    body: said.clone(),
                    next: next.clone(),
                },
            ),
        ];
        let mut notices: Vec<Notice> = of_server.into_iter().flatten().collect();
        notices.push(Notice::Over { key: "blind" });
        notices.push(match shortage {
            Some(shortage) => Notice::Holds {
                key: "memory",
                note: Note {
                    severity: Severity::Warning,
                    title: format!("{} is short of memory", self.watched.target.host),
                    body: format!("{shortage}: every answer waits for the disk"),
                    next: "top -o mem".into(),
                },
            },
            None => Notice::Over { key: "memory" },
        });
        notices.push(match &seen.agent {
            AgentSeen::Unknown(why) => Notice::Holds {
                key: "launchd",
                note: Note {
                    severity: Severity::Warning,
                    title: format!("launchd on {} cannot be asked", self.watched.target.host),
                    body: format!("the guardian could restart nothing: {why}"),
                    next: format!("launchctl print {target}"),
                },
            },
            _ => Notice::Over { key: "launchd" },
        });
        Report {
            notices,
            ..Verdict::new(kind, said)
                .next(if kind == Kind::Miss {
                    next
                } else {
                    String::new()
                })
                .into()
        }
    }
}

impl Check for Guardian {
    async fn check(&mut self, round: &mut Round) -> Report {
        self.due = None;
        // That it cannot look says nothing of the server, which is not to be restarted for it.
        let agent = match self.agent() {
            Ok(agent) => agent,
            Err(why) => return self.blind(why),
        };
        let client = match self.watched.client() {
            Ok(client) => client,
            Err(verdict) => return self.blind(verdict.said),
        };
        let seen = Seen {
            answer: self.ask(&client).await,
            agent: self.look_at(&self.fleet.launchd_label(&agent)),
            now: round.now,
        };
        let mut memory: Memory = serde_json::from_value(round.memory.take()).unwrap_or_default();
        let (condition, action) = decide(&seen, &mut memory, &self.patience);
        memory.shortage = memory::shortage(memory.shortage.is_some());
        let report = self.report(
            &agent,
            &seen,
            &condition,
            action,
            memory.shortage.as_deref(),
        );
        if matches!(action, Action::Kickstart | Action::Bootstrap) {
            self.due = Some((action, report.verdict.said.clone()));
            memory.restarted(round.now);
        }
        round.memory = json!(memory);
        report
    }

    async fn act(&mut self, _round: &mut Round) -> Vec<Notice> {
        let Some((action, why)) = self.due.take() else {
            return Vec::new();
        };
        let agent = match self.agent() {
            Ok(agent) => agent,
            Err(_) => return Vec::new(),
        };
        let label = self.fleet.launchd_label(&agent);
        let launchctl = self.launchctl.clone();
        // A restart may block until the process has exited; SIGTERM ends the guardian meanwhile.
        let (done, command) = match action {
            Action::Bootstrap => {
                let plist = self.home.plist(&label);
                let command = format!(
                    "launchctl bootstrap {} {}",
                    self.launchctl.domain(),
                    plist.display()
                );
                (aside(move || launchctl.bootstrap(&plist)).await, command)
            }
            _ => {
                let command = format!("launchctl kickstart -k {}", self.launchctl.target(&label));
                (aside(move || launchctl.restart(&label)).await, command)
            }
        };
        let done = done.map_or_else(
            || Err("the call ended unexpectedly".to_owned()),
            |done| done.map_err(|error| error.to_string()),
        );
        let host = &self.watched.target.host;
        let log = self.home.log(&agent);
        vec![Notice::Event(match done {
            Ok(()) => Note {
                severity: Severity::Warning,
                title: format!("{agent} on {host} was restarted"),
                body: format!("{why}. Done: {command}"),
                next: format!("tail -n 50 {}", log.display()),
            },
            Err(error) => Note {
                severity: Severity::Critical,
                title: format!("{agent} on {host} could not be restarted"),
                body: format!("{why}. {error}"),
                next: command,
            },
        })]
    }

    fn subject(&self) -> String {
        self.watched.subject()
    }

    fn alerts_on_misses(&self) -> bool {
        false
    }

    fn limit(&self) -> Duration {
        2 * self.watched.timeout + Duration::from_secs(60)
    }
}

/// The last line in a log that speaks of an error, else the last line.
fn last_error(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    let error = lines().find(|line| line.to_lowercase().contains("error"));
    let line = error.or_else(|| lines().next())?;
    Some(line.chars().take(500).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use chrono::Utc;

    use super::*;

    fn guardian(folder: &Path) -> Guardian {
        let text = format!(
            "[fleet]\nhome = \"{0}\"\n[hosts.mini]\naddress = \"a\"\nagents = [\"server\", \"guardian\"]\n\
             [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:9\"]\n\
             auth = {{ token_file = \"{0}/token\", loopback = \"required\" }}\n\
             [watch.guardian]\ntarget = \"server\"\nevery = \"1m\"\n",
            folder.display()
        );
        let config = folder.join("fleet.toml");
        let fleet = Fleet::parse(&text, &config).unwrap();
        let name: Label = "guardian".parse().unwrap();
        let setting = Setting {
            home: Home::new(folder.to_owned(), folder.to_owned()),
            watch: fleet.watch[&name].clone(),
            host: "mini".parse().unwrap(),
            config,
            name,
            fleet,
        };
        Guardian::new(&setting).unwrap()
    }

    /// A server was killed for this once every three minutes, and nothing was wrong with it.
    #[tokio::test]
    async fn who_cannot_look_calls_a_human_and_kills_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, "secret").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
        let mut guardian = guardian(folder.path());
        let mut round = Round {
            now: Utc::now(),
            memory: serde_json::Value::Null,
        };
        for minute in 0..10 {
            round.now += TimeDelta::minutes(minute);
            let report = guardian.check(&mut round).await;
            assert_eq!(report.verdict.kind, Kind::Miss);
            assert_eq!(guardian.due, None, "{}", report.verdict.said);
            let [Notice::Holds { key: "blind", note }] = &report.notices[..] else {
                panic!("{:?}", report.notices);
            };
            assert!(note.body.contains("chmod 600"), "{}", note.body);
        }
        // Nor does a record that nobody can read mean that the server is dead.
        fs::create_dir(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("state/active.json"), "{").unwrap();
        let report = guardian.check(&mut round).await;
        assert!(matches!(
            report.notices[..],
            [Notice::Holds { key: "blind", .. }]
        ));
    }

    #[test]
    fn a_server_has_recovered_when_it_answers_and_not_when_its_next_restart_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let guardian = guardian(folder.path());
        let seen = Seen {
            now: Utc::now(),
            answer: Answer::Alive,
            agent: AgentSeen::Loaded { pid: None, runs: 9 },
        };
        let over = |condition: Condition, action: Action| {
            let agent = "server".parse().unwrap();
            let report = guardian.report(&agent, &seen, &condition, action, None);
            let keys = report.notices.iter().filter_map(|notice| match notice {
                Notice::Over { key } => Some(*key),
                _ => None,
            });
            let of_server = ["crash-loop", "budget", "disabled"];
            keys.filter(|key| of_server.contains(key)).count()
        };
        // Its restarts of the last hour are no longer all of the last hour.
        assert_eq!(
            over(Condition::Hung(TimeDelta::hours(1)), Action::Kickstart),
            0
        );
        assert_eq!(over(Condition::Starting, Action::Leave), 0);
        assert_eq!(over(Condition::Silent(1), Action::Leave), 0);
        assert_eq!(over(Condition::Busy, Action::Leave), 3);
        assert_eq!(over(Condition::Answering, Action::Leave), 3);
    }
}
