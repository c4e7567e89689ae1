//! The guardian of one server: what it observes, and what it reports.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_client::{ClientError, FailedPrefixCheck, Liveness};
use sanctum_config::fleet::Fleet;
use sanctum_config::{Home, Label, Role, Rotation, quoted_file};
use sanctum_host::{Launchctl, Receipt, StoppedAgents};
use sanctum_watch::alert::{AlertText, Severity};
use sanctum_watch::{
    ActiveClient, BLIND, BlockingTask, Check, CheckReport, Notice, PlannedAction, Round, Verdict,
    VerdictKind, WatchdogConfig, WatchedServer,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::action::{GuardianAction, Restart, RestartCommand};
use crate::decide::{Condition, Remedy, decide};
use crate::excerpt::LogMark;
use crate::history::ServerHistory;
use crate::memory;
use crate::observation::{ActiveAgent, Observation, ServerAnswer};
use crate::panics;
use crate::policy::RestartPolicy;
use crate::report::Subject;
use crate::rotate;

/// The default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of reading this host's files, and of each command that only reads.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// The time limit of asking launchd: two calls of `launchctl`.
const LAUNCHD_LIMIT: Duration = Duration::from_secs(45);
/// The time limit of rotating one log.
const ROTATION_LIMIT: Duration = Duration::from_secs(60);

/// The guardian of one server.
#[derive(Debug)]
pub struct Guardian {
    fleet: Fleet,
    home: Home,
    pub(crate) watched: WatchedServer,
    pub(crate) policy: RestartPolicy,
    launchctl: Launchctl,
    /// Where this system writes reports of kernel panics.
    pub(crate) panic_reports: Option<PathBuf>,
    /// The logs that launchd appends to, if this guardian is the one that rotates them.
    pub(crate) launchd_logs: Vec<PathBuf>,
    tasks: Tasks,
    /// Failures that were logged once, and are not logged again until they end.
    pub(crate) logged: BTreeSet<PathBuf>,
}

/// The guardian's blocking work, each kind with its own thread.
#[derive(Debug)]
struct Tasks {
    files: BlockingTask,
    panics: BlockingTask,
    memory: BlockingTask,
    launchd: BlockingTask,
    restart: BlockingTask,
    logs: BlockingTask,
}

/// What is remembered from round to round.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct GuardianMemory {
    #[serde(flatten)]
    history: ServerHistory,
    /// The end of the active agent's logs when the server was last healthy.
    log: LogMark,
    panics: panics::Known,
}

/// What is read from this host's files.
struct HostFiles {
    deployment: Option<String>,
    /// The mark in the logs after which errors are about the present outage.
    mark: LogMark,
    /// The end of the logs now.
    end: LogMark,
    /// The last error after that mark, as the end of a sentence.
    last_error: String,
}

impl Guardian {
    /// The guardian of `[watch.NAME]`.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub fn new(config: &WatchdogConfig) -> Result<Self, String> {
        let WatchdogConfig {
            fleet,
            home,
            name,
            watch,
            host,
            ..
        } = config;
        let watched = WatchedServer::of(config, TIMEOUT)?;
        if watched.endpoint.host != *host {
            return Err(format!(
                "a guardian runs on its server's host; move `{name}` to the agents of [hosts.{}]",
                watched.endpoint.host
            ));
        }
        Ok(Self {
            fleet: fleet.clone(),
            home: home.clone(),
            watched,
            policy: RestartPolicy::of(watch)?,
            launchctl: Launchctl::here(),
            panic_reports: match &watch.panic_reports {
                Some(folder) => {
                    let folder = folder.beside(&config.config);
                    Some(folder.map_err(|error| error.to_string())?)
                }
                None => panics::default_folder(),
            },
            launchd_logs: launchd_logs(config),
            tasks: Tasks {
                files: BlockingTask::new("reading the receipt and the server's logs"),
                panics: BlockingTask::new("reading the reports of kernel panics"),
                memory: BlockingTask::new("reading the use of memory"),
                launchd: BlockingTask::new("launchctl print"),
                restart: BlockingTask::new("the restart"),
                logs: BlockingTask::new("the rotation of the logs"),
            },
            logged: BTreeSet::new(),
        })
    }

    /// Observes the server and decides.
    async fn judge(
        &self,
        memory: &mut GuardianMemory,
        round: &Round<'_>,
    ) -> Result<CheckReport<GuardianAction>, String> {
        // If the check cannot be made, nothing is known about the server, and it is not restarted.
        let active = self.watched.client().await;
        let active = active.map_err(|verdict| verdict.message)?;
        let agent = active.standby.as_ref();
        let agent = agent.unwrap_or(&self.watched.endpoint.server).clone();
        let ((answer, failed_prefix_checks, models_without_server), status, files, shortage) = tokio::join!(
            ask(&active),
            self.ask_launchd(self.fleet.launchd_label(&agent)),
            self.read_files(agent.clone(), memory, round.now),
            self.shortage(memory.history.shortage.is_some()),
        );
        let files = files?;
        let seen = Observation {
            now: round.now,
            answer,
            failed_prefix_checks,
            models_without_server,
            agent: self.stopped_on_purpose(&agent, status).await,
            deployment: files.deployment,
            misses: round.misses,
        };
        memory.log = files.mark;
        let history = &mut memory.history;
        let decision = decide(&seen, history, &self.policy);
        if history.healthy_since.is_some() && history.outage.is_none() {
            memory.log = files.end;
        }
        history.shortage = shortage;
        let last_error = match decision.condition {
            Condition::Answering | Condition::Busy | Condition::Starting => String::new(),
            _ => files.last_error,
        };
        let report = self.describe(&agent, &active.base, &last_error, |subject| {
            subject.report(&seen, &decision, history, &self.policy)
        });
        let label = self.fleet.launchd_label(&agent);
        let command = match decision.remedy {
            Remedy::Kickstart => RestartCommand::Kickstart(label),
            Remedy::Bootstrap => RestartCommand::Bootstrap(self.home.plist(&label)),
            Remedy::Nothing | Remedy::Escalate => return Ok(report),
        };
        let restart = Restart {
            line: command.line(&self.launchctl),
            command,
            agent,
            why: report.verdict.message.clone(),
            last_error,
        };
        Ok(CheckReport {
            actions: vec![PlannedAction {
                if_interrupted: Some(self.interrupted(&restart)),
                action: GuardianAction::Restart(restart),
            }],
            ..report
        })
    }

    async fn ask_launchd(&self, label: String) -> ActiveAgent {
        let launchctl = self.launchctl.clone();
        let ask = move || match launchctl.print(&label) {
            Ok(Some(service)) => ActiveAgent::Loaded {
                pid: service.pid,
                runs: service.runs.unwrap_or(0),
            },
            Ok(None) => match launchctl.is_disabled(&label) {
                Ok(disabled) => ActiveAgent::NotLoaded { disabled },
                Err(error) => ActiveAgent::Unknown(error.to_string()),
            },
            Err(error) => ActiveAgent::Unknown(error.to_string()),
        };
        let status = self.tasks.launchd.run(LAUNCHD_LIMIT, ask).await;
        status.unwrap_or_else(|error| ActiveAgent::Unknown(error.to_string()))
    }

    /// The status of an agent that is not loaded, if an operator has stopped it. This is read after launchd was asked: `stop`
    /// writes the record before it unloads the agent.
    async fn stopped_on_purpose(&self, agent: &Label, status: ActiveAgent) -> ActiveAgent {
        if !matches!(status, ActiveAgent::NotLoaded { .. }) {
            return status;
        }
        let (path, name) = (self.home.stopped(), agent.clone());
        let read = move || StoppedAgents::read(&path).map(|all| all.get(&name).cloned());
        match self.tasks.files.run(READ_LIMIT, read).await {
            Ok(Ok(Some(stopped))) => ActiveAgent::Stopped(stopped.describe()),
            Ok(Ok(None)) | Err(_) => status,
            Ok(Err(error)) => {
                tracing::warn!("{error}. The guardian continues as if no agent were stopped");
                status
            }
        }
    }

    async fn read_files(
        &self,
        agent: Label,
        memory: &GuardianMemory,
        now: DateTime<Utc>,
    ) -> Result<HostFiles, String> {
        let home = self.home.clone();
        let known = memory.history.deployment.clone();
        let mark = memory.log.clone();
        let read = move || HostFiles::read(&home, &agent, known.as_deref(), mark, now);
        let files = self.tasks.files.run(READ_LIMIT, read).await;
        files.map_err(|error| error.to_string())
    }

    async fn shortage(&self, before: bool) -> Option<String> {
        let read = move || memory::shortage(before);
        self.tasks.memory.run(READ_LIMIT, read).await.ok().flatten()
    }

    /// The report of a guardian that cannot check: it alerts at once, for nothing else restarts a server that hangs.
    fn blind(&self, why: String) -> CheckReport<GuardianAction> {
        let next = self.watched.commands.typed("verify");
        let text = AlertText {
            severity: Severity::Critical,
            title: format!("the guardian of {} cannot check it", self.watched.subject()),
            body: format!("{why}. Until that is fixed, nothing restarts the server"),
            next: next.clone(),
        };
        CheckReport {
            notices: vec![Notice::Open {
                key: BLIND,
                stage: "blind".to_owned(),
                text,
            }],
            ..Verdict::new(VerdictKind::Miss, why).next(next).into()
        }
    }

    /// Calls `work` with the subject of messages about `agent`.
    pub(crate) fn describe<T>(
        &self,
        agent: &Label,
        base: &str,
        last_error: &str,
        work: impl FnOnce(&Subject<'_>) -> T,
    ) -> T {
        work(&Subject {
            agent,
            host: &self.watched.endpoint.host,
            base,
            commands: &self.watched.commands,
            target: &self.launchctl.target(&self.fleet.launchd_label(agent)),
            tail: &format!("tail -n 50 {}", quoted_file(&self.home.log(agent))),
            last_error,
        })
    }

    /// The alert about a restart whose outcome was not reported.
    fn interrupted(&self, restart: &Restart) -> Notice {
        let Restart {
            agent, last_error, ..
        } = restart;
        self.describe(agent, &self.watched.endpoint.base, last_error, |subject| {
            subject.interrupted(&restart.why, &restart.line)
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
        let (after, found) = self.tasks.panics.run(READ_LIMIT, read).await.ok()?;
        *known = after;
        match found {
            Ok(notice) => {
                self.logged.remove(&folder);
                notice
            }
            Err(error) => {
                if self.logged.insert(folder.clone()) {
                    tracing::warn!(
                        "cannot read {}: {error}; kernel panics are not reported",
                        folder.display()
                    );
                }
                None
            }
        }
    }

    /// The logs that have reached their size.
    async fn rotations(&self) -> Vec<PlannedAction<GuardianAction>> {
        let rotation = self.fleet.logs.rotation();
        let logs = self.launchd_logs.clone();
        let measure = move || {
            let is_full = |log: &PathBuf| rotate::is_full(log, rotation.max_bytes.get());
            logs.into_iter().filter(is_full).collect::<Vec<_>>()
        };
        let full = self.tasks.logs.run(READ_LIMIT, measure).await;
        let planned = |log| PlannedAction {
            action: GuardianAction::Rotate { log, rotation },
            if_interrupted: None,
        };
        full.unwrap_or_default().into_iter().map(planned).collect()
    }

    async fn rotate(&mut self, log: PathBuf, rotation: Rotation) {
        let Rotation { max_bytes, keep } = rotation;
        let work = {
            let log = log.clone();
            move || rotate::rotate(&log, max_bytes.get(), keep)
        };
        match self.tasks.logs.run(ROTATION_LIMIT, work).await {
            Ok(Ok(is_rotated)) => {
                self.logged.remove(&log);
                if is_rotated {
                    tracing::info!("rotated {}", log.display());
                }
            }
            Ok(Err(error)) => {
                if self.logged.insert(log.clone()) {
                    let log = log.display();
                    tracing::error!(
                        "cannot rotate the log {log}, which grows beyond its limit: {error}"
                    );
                }
            }
            // The task has logged its timeout.
            Err(_) => {}
        }
    }
}

impl Check for Guardian {
    type Action = GuardianAction;

    async fn check(&mut self, round: &Round<'_>) -> CheckReport<GuardianAction> {
        let mut memory: GuardianMemory =
            serde_json::from_value(round.memory.clone()).unwrap_or_default();
        let mut report = match self.judge(&mut memory, round).await {
            Ok(report) => report,
            Err(why) => self.blind(why),
        };
        let panics = self.panics(&mut memory.panics).await;
        report.notices.extend(panics);
        report.actions.extend(self.rotations().await);
        report.memory = Some(json!(memory));
        report
    }

    async fn execute(&mut self, action: GuardianAction) -> Vec<Notice> {
        match action {
            GuardianAction::Restart(restart) => {
                let Restart {
                    agent,
                    command,
                    line,
                    why,
                    last_error,
                } = restart;
                tracing::warn!(why, "restart: {line}");
                let done = command.run(&self.launchctl, &self.tasks.restart).await;
                let base = &self.watched.endpoint.base;
                vec![self.describe(&agent, base, &last_error, |subject| {
                    subject.restart(&why, &line, done)
                })]
            }
            GuardianAction::Rotate { log, rotation } => {
                self.rotate(log, rotation).await;
                Vec::new()
            }
        }
    }

    fn timed_out(&self, message: String) -> CheckReport<GuardianAction> {
        self.blind(message)
    }

    fn subject(&self) -> String {
        self.watched.subject()
    }

    fn alerts_on_misses(&self) -> bool {
        false
    }

    fn limit(&self) -> Duration {
        2 * self.watched.timeout + Duration::from_secs(90)
    }
}

/// The server's answer, whatever program it is, the models whose reused prefixes failed a check, and those that no server has.
pub(crate) async fn ask(
    active: &ActiveClient,
) -> (ServerAnswer, Vec<FailedPrefixCheck>, Vec<String>) {
    let answer = match active.client.liveness().await.map(|alive| alive.value) {
        Ok(Liveness::Heartbeat(health)) => {
            let heartbeats = health.heartbeats().into_iter();
            let heartbeats = heartbeats.map(|(id, one)| (id.to_owned(), one)).collect();
            let failed = health.failed_prefix_checks();
            let gone = health.models_without_server();
            return (ServerAnswer::Health(heartbeats), failed, gone);
        }
        // Another program without a heartbeat, such as a standby.
        Ok(Liveness::Models(_)) => ServerAnswer::Alive,
        // A server that rejects requests is alive.
        Err(ClientError::Denied { .. } | ClientError::Busy { .. }) => ServerAnswer::Alive,
        Err(error) => ServerAnswer::None(error.to_string()),
    };
    (answer, Vec::new(), Vec::new())
}

impl HostFiles {
    /// `known` is the deployment of the last round, `mark` the end of the logs when the server was last healthy.
    fn read(
        home: &Home,
        agent: &Label,
        known: Option<&str>,
        mark: LogMark,
        now: DateTime<Utc>,
    ) -> Self {
        let logs = [home.log(agent), home.launchd_log(agent)];
        let (deployment, installed) = deployment(home, agent).unzip();
        let mark = match deployment.is_some() && deployment.as_deref() != known {
            true => LogMark::at_end(&logs, installed.unwrap_or(now)),
            false => mark,
        };
        let last_error = match mark.last_error(&logs) {
            Some(error) => format!(". The last error in its log: {error}"),
            None => ". There is no error in its log since".to_owned(),
        };
        Self {
            deployment,
            mark,
            end: LogMark::at_end(&logs, now),
            last_error,
        }
    }
}

/// The deployment, as another text after each install, upgrade and rollback, and when it was. None if there is none, or its
/// receipt cannot be read.
pub(crate) fn deployment(home: &Home, agent: &Label) -> Option<(String, DateTime<Utc>)> {
    let path = home.receipt();
    let receipt = Receipt::read(&path).ok().flatten()?;
    // An install that had nothing to change writes the same receipt again.
    let written = DateTime::<Utc>::from(std::fs::metadata(&path).ok()?.modified().ok()?);
    let installed = receipt.installed.parse().unwrap_or(written);
    let text = format!("{agent} of {}, {}", receipt.release, written.to_rfc3339());
    Some((text, installed))
}

/// The logs of this host that launchd appends to: the output of foreign programs, and what ours print before they log. Of
/// several guardians the first by name rotates them.
fn launchd_logs(config: &WatchdogConfig) -> Vec<PathBuf> {
    let WatchdogConfig {
        fleet,
        home,
        name,
        host,
        ..
    } = config;
    let mut guardians = fleet.watch.iter().filter(|(name, watch)| {
        watch.check(name).as_str() == "guardian" && fleet.host_of(name) == Some(host)
    });
    if guardians.next().is_none_or(|(first, _)| first != name) {
        return Vec::new();
    }
    let log = |(agent, role): (&Label, Role<'_>)| match role {
        Role::Agent(_) => home.log(agent),
        Role::Server(_) | Role::Watch(_) | Role::Page(_) => home.launchd_log(agent),
    };
    fleet.agents_of(host).into_iter().map(log).collect()
}

#[cfg(test)]
mod tests;
