//! The guardian: restarts a server that hangs or is dead, through launchd, and leaves one alone that is busy, starting or
//! crashing at every start.
//!
//! [`decide::decide`] says what is to be done; this is where it looks and acts.

pub mod decide;
mod excerpt;
mod memory;
mod panics;
mod report;
mod rotate;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_client::{Client, ClientError, Liveness};
use sanctum_config::fleet::Fleet;
use sanctum_config::{Home, Label, Role, Rotation};
use sanctum_host::{Active, Launchctl, Receipt};
use sanctum_watch::alert::Severity;
use sanctum_watch::{
    BLIND, Background, Check, Kind, Note, Notice, Report, Round, Setting, Verdict, Watched, aside,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use decide::{Action, AgentSeen, Answer, Condition, Memory, Patience, Seen, decide};
use excerpt::Mark;
use report::Subject;

/// How long an answer may take where fleet.toml says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a round waits for the folder with the reports of kernel panics.
const PANICS_LIMIT: Duration = Duration::from_secs(10);
/// How long a round waits for the rotation of the logs.
const ROTATION_LIMIT: Duration = Duration::from_secs(60);

/// The guardian of one server.
#[derive(Debug)]
pub struct Guardian {
    fleet: Fleet,
    home: Home,
    watched: Watched,
    patience: Patience,
    launchctl: Launchctl,
    /// Where this system leaves reports of kernel panics.
    panic_reports: Option<PathBuf>,
    reading_panics: Background,
    /// Whether it was logged that they cannot be read.
    panics_unreadable: bool,
    /// The logs that launchd appends to, if this guardian is the one that rotates them.
    launchd_logs: Vec<PathBuf>,
    rotation: Background,
    /// Of them, those that could not be rotated, which was logged.
    unrotated: BTreeSet<PathBuf>,
    /// What the last round found necessary.
    due: Option<Due>,
}

/// A restart that is due.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Due {
    action: Action,
    agent: Label,
    why: String,
    last_error: String,
}

/// What is remembered from round to round.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Remembered {
    #[serde(flatten)]
    memory: Memory,
    /// Where the active agent's log ended when it was last well.
    log: Mark,
    panics: panics::Known,
    /// The restart that was due, until its outcome is reported.
    due: Option<Due>,
}

impl Guardian {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub fn new(setting: &Setting) -> Result<Self, String> {
        let Setting {
            fleet,
            home,
            name,
            watch,
            host,
            config,
        } = setting;
        let watched = Watched::of(setting, TIMEOUT)?;
        if watched.endpoint.host != *host {
            return Err(format!(
                "a guardian runs where its server runs: move `{name}` to [hosts.{}]",
                watched.endpoint.host
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
            panic_reports: match &watch.panic_reports {
                Some(folder) => Some(folder.beside(config).map_err(|error| error.to_string())?),
                None => panics::default_folder(),
            },
            reading_panics: Background::new("reading the reports of kernel panics"),
            panics_unreadable: false,
            launchd_logs: launchd_logs(setting),
            rotation: Background::new("the rotation of the logs"),
            unrotated: BTreeSet::new(),
            due: None,
        })
    }

    /// The agent that serves now: the server itself, or its standby after a rollback to that.
    fn agent(&self) -> Result<Label, String> {
        let active = Active::read(&self.home.active()).map_err(|error| error.to_string())?;
        Ok(active.agent_for(&self.watched.endpoint.server).clone())
    }

    /// What is deployed, as another text after each deployment, and when it was. None if nothing is, or it cannot be read.
    fn deployment(&self, agent: &Label) -> Option<(String, DateTime<Utc>)> {
        let path = self.home.receipt();
        let receipt = Receipt::read(&path).ok().flatten()?;
        // An install that had nothing to change writes the same receipt again.
        let written = DateTime::<Utc>::from(std::fs::metadata(&path).ok()?.modified().ok()?);
        let installed = receipt.installed.parse().unwrap_or(written);
        let text = format!("{agent} of {}, {}", receipt.release, written.to_rfc3339());
        Some((text, installed))
    }

    async fn ask(&self, client: &Client) -> Answer {
        match client.liveness().await.map(|alive| alive.value) {
            Ok(Liveness::Heartbeat(health)) => {
                let beats = health.heartbeats().into_iter();
                Answer::Health(beats.map(|(id, beat)| (id.to_owned(), beat)).collect())
            }
            // It has no heartbeat: another program, such as a standby.
            Ok(Liveness::Models(_)) => Answer::Alive,
            // A server that refuses is alive.
            Err(ClientError::Denied { .. } | ClientError::Busy { .. }) => Answer::Alive,
            Err(error) => Answer::None(error.to_string()),
        }
    }

    async fn look_at(&self, label: String) -> AgentSeen {
        let launchctl = self.launchctl.clone();
        let asked = aside(move || match launchctl.print(&label) {
            Ok(Some(service)) => AgentSeen::Loaded {
                pid: service.pid,
                runs: service.runs.unwrap_or(0),
            },
            Ok(None) => match launchctl.is_disabled(&label) {
                Ok(disabled) => AgentSeen::NotLoaded { disabled },
                Err(error) => AgentSeen::Unknown(error.to_string()),
            },
            Err(error) => AgentSeen::Unknown(error.to_string()),
        });
        (asked.await).unwrap_or_else(|| AgentSeen::Unknown("the question ended early".to_owned()))
    }

    /// The verdict where it cannot even look: that alerts at once, for nothing else restarts a server that hangs.
    fn blind(&self, why: String) -> Report {
        let next = "sanctum-launchd verify";
        let note = Note {
            severity: Severity::Critical,
            title: format!("the guardian of {} cannot look", self.watched.subject()),
            body: format!("{why}; until that is fixed it restarts nothing"),
            next: next.to_owned(),
        };
        Report {
            notices: vec![Notice::Holds {
                key: BLIND,
                stage: "blind".to_owned(),
                note,
            }],
            ..Verdict::new(Kind::Miss, why).next(next).into()
        }
    }

    /// An agent's logs.
    fn logs(&self, agent: &Label) -> Vec<PathBuf> {
        vec![self.home.log(agent), self.home.launchd_log(agent)]
    }

    /// Calls `work` with what the words are about.
    fn describe<T>(
        &self,
        agent: &Label,
        last_error: &str,
        work: impl FnOnce(&Subject<'_>) -> T,
    ) -> T {
        let target = &self.watched.endpoint;
        work(&Subject {
            agent,
            host: &target.host,
            base: &target.base,
            target: &self.launchctl.target(&self.fleet.launchd_label(agent)),
            tail: &format!("tail -n 50 {}", self.home.log(agent).display()),
            last_error,
        })
    }

    /// The alert about new reports of kernel panics.
    async fn panics(&mut self, known: &mut panics::Known) -> Option<Notice> {
        let folder = self.panic_reports.clone()?;
        let host = self.watched.endpoint.host.clone();
        let mut before = known.clone();
        let read = {
            let folder = folder.clone();
            move || {
                let found = before.new_ones(&folder, &host);
                (before, found)
            }
        };
        let (after, found) = self.reading_panics.run(PANICS_LIMIT, read).await?;
        *known = after;
        match found {
            Ok(notice) => notice,
            Err(error) => {
                if !std::mem::replace(&mut self.panics_unreadable, true) {
                    tracing::warn!(
                        "cannot read {}: {error}; kernel panics are not reported",
                        folder.display()
                    );
                }
                None
            }
        }
    }
}

impl Check for Guardian {
    async fn check(&mut self, round: &mut Round) -> Report {
        self.due = None;
        let now = round.now;
        // This future is dropped if it takes too long: the memory is written at the end, together with what is due.
        let mut remembered: Remembered =
            serde_json::from_value(round.memory.clone()).unwrap_or_default();
        let interrupted = remembered.due.take().map(|due| self.interrupted(&due));
        let mut report = self.look(&mut remembered, now).await;
        report.notices.splice(0..0, interrupted);
        let panics = self.panics(&mut remembered.panics).await;
        report.notices.extend(panics);
        self.due.clone_from(&remembered.due);
        round.memory = json!(remembered);
        report
    }

    async fn act(&mut self, round: &mut Round) -> Vec<Notice> {
        let restarted = match self.due.take() {
            Some(due) => Some(self.restart(due).await),
            None => None,
        };
        // The notice is enqueued before this is written.
        if let Some(memory) = round.memory.as_object_mut() {
            memory.remove("due");
        }
        self.rotate_logs().await;
        restarted.into_iter().collect()
    }

    fn timed_out(&mut self, said: String) -> Report {
        self.blind(said)
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

impl Guardian {
    /// The command line of a restart.
    fn command(&self, due: &Due) -> String {
        let label = self.fleet.launchd_label(&due.agent);
        match due.action {
            Action::Bootstrap => format!(
                "launchctl bootstrap {} {}",
                self.launchctl.domain(),
                self.home.plist(&label).display()
            ),
            _ => format!("launchctl kickstart -k {}", self.launchctl.target(&label)),
        }
    }

    /// The alert about a restart whose outcome was not reported, because the guardian ended or was paused meanwhile.
    fn interrupted(&self, due: &Due) -> Notice {
        self.describe(&due.agent, &due.last_error, |subject| {
            subject.interrupted(&due.why, &self.command(due))
        })
    }

    /// Carries out a restart; what it came to.
    async fn restart(&self, due: Due) -> Notice {
        let label = self.fleet.launchd_label(&due.agent);
        let plist = self.home.plist(&label);
        let launchctl = self.launchctl.clone();
        let command = self.command(&due);
        tracing::warn!(why = due.why, "restart: {command}");
        let action = due.action;
        // It may block until the process has exited; SIGTERM ends the guardian meanwhile.
        let done = aside(move || match action {
            Action::Bootstrap => launchctl.bootstrap(&plist),
            _ => launchctl.restart(&label),
        });
        let done = done.await;
        let done = match done {
            Some(done) => done.map_err(|error| error.to_string()),
            None => Err("launchctl's answer was lost".to_owned()),
        };
        self.describe(&due.agent, &due.last_error, |subject| {
            subject.restart(&due.why, &command, done)
        })
    }

    /// Rotates the logs that launchd appends to.
    async fn rotate_logs(&mut self) {
        let Rotation { max_bytes, keep } = self.fleet.logs.rotation();
        let logs = self.launchd_logs.clone();
        // One thread for all of them: a volume that hangs takes no more.
        let rotate = move || {
            let rotate = |log: PathBuf| (rotate::rotate(&log, max_bytes.get(), keep), log);
            logs.into_iter().map(rotate).collect::<Vec<_>>()
        };
        let Some(done) = self.rotation.run(ROTATION_LIMIT, rotate).await else {
            return;
        };
        for (rotated, log) in done {
            match rotated {
                Ok(is_rotated) => {
                    self.unrotated.remove(&log);
                    if is_rotated {
                        tracing::info!("rotated {}", log.display());
                    }
                }
                Err(error) if self.unrotated.insert(log.clone()) => {
                    let log = log.display();
                    tracing::error!(
                        "cannot rotate the log {log}, which grows beyond its size: {error}"
                    );
                }
                _ => {}
            }
        }
    }

    /// Looks at the server and decides.
    async fn look(&mut self, remembered: &mut Remembered, now: DateTime<Utc>) -> Report {
        // That it cannot look says nothing about the server, which is not to be restarted for it.
        let agent = match self.agent() {
            Ok(agent) => agent,
            Err(why) => return self.blind(why),
        };
        let client = match self.watched.client() {
            Ok(client) => client,
            Err(report) => return self.blind(report.verdict.said),
        };
        let (deployment, installed) = self.deployment(&agent).unzip();
        let seen = Seen {
            answer: self.ask(&client).await,
            agent: self.look_at(self.fleet.launchd_label(&agent)).await,
            deployment,
            now,
        };
        let memory = &mut remembered.memory;
        let logs = self.logs(&agent);
        if seen.deployment.is_some() && seen.deployment != memory.deployment {
            remembered.log = Mark::at_end(&logs, installed.unwrap_or(now));
        }
        let (condition, action) = decide(&seen, memory, &self.patience);
        if memory.healthy_since.is_some() && memory.outage.is_none() {
            remembered.log = Mark::at_end(&logs, now);
        }
        let before = memory.shortage.is_some();
        memory.shortage = aside(move || memory::shortage(before)).await.flatten();
        let last_error = match condition {
            Condition::Answering | Condition::Busy | Condition::Starting => String::new(),
            _ => match remembered.log.last_error(&logs) {
                Some(error) => format!(". The last error in its log: {error}"),
                None => ". There is no error in its log since".to_owned(),
            },
        };
        let report = self.describe(&agent, &last_error, |subject| {
            subject.report(&seen, &condition, action, memory, &self.patience)
        });
        if matches!(action, Action::Kickstart | Action::Bootstrap) {
            memory.restarted(now);
            remembered.due = Some(Due {
                action,
                agent,
                why: report.verdict.said.clone(),
                last_error,
            });
        }
        report
    }
}

/// The logs of this host that launchd appends to: what programs of others print, and what ours print before they log. Of
/// several guardians the first one rotates them.
fn launchd_logs(setting: &Setting) -> Vec<PathBuf> {
    let Setting {
        fleet,
        home,
        name,
        host,
        ..
    } = setting;
    let mut guardians = fleet.watch.iter().filter(|(name, watch)| {
        watch.check(name).as_str() == "guardian" && fleet.host_of(name) == Some(host)
    });
    if guardians.next().is_none_or(|(first, _)| first != name) {
        return Vec::new();
    }
    let log = |(agent, role): (&Label, Role<'_>)| match role {
        Role::Agent(_) => home.log(agent),
        Role::Server(_) | Role::Watch(_) => home.launchd_log(agent),
    };
    fleet.agents_of(host).into_iter().map(log).collect()
}

#[cfg(test)]
mod tests;
