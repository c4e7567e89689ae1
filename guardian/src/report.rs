//! What is reported about a condition: the verdict, and the alerts that are open and over.

use sanctum_config::Label;
use sanctum_host::TypedCommands;
use sanctum_watch::alert::{AlertText, Severity};
use sanctum_watch::{BLIND, BUDGET, CheckReport, Notice, OUTAGE, Verdict, VerdictKind};

use crate::action::GuardianAction;
use crate::decide::{Condition, Decision, Remedy};
use crate::history::ServerHistory;
use crate::observation::{ActiveAgent, Observation, ServerAnswer};
use crate::policy::RestartPolicy;

/// The subject of messages: the agent that serves.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'a> {
    /// The agent that serves.
    pub agent: &'a Label,
    /// Its host.
    pub host: &'a Label,
    /// Its base URL.
    pub base: &'a str,
    /// As launchctl names it: `gui/501/com.sanctum.server`.
    pub target: &'a str,
    /// The other commands that messages print.
    pub commands: &'a TypedCommands,
    /// The command that shows its log.
    pub tail: &'a str,
    /// The last error in its log since it was last healthy, as the end of a sentence.
    pub last_error: &'a str,
}

/// How far an outage has progressed; a new stage alerts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Restarted,
    RestartFailed,
    RestartUnknown,
    CrashLoop,
    Disabled,
}

impl Stage {
    fn key(self) -> &'static str {
        match self {
            Self::Restarted => "restarted",
            Self::RestartFailed => "restart-failed",
            Self::RestartUnknown => "restart-unknown",
            Self::CrashLoop => "crash-loop",
            Self::Disabled => "disabled",
        }
    }
}

impl Subject<'_> {
    /// The whole report of a round.
    pub(crate) fn report(
        &self,
        seen: &Observation,
        decision: &Decision,
        history: &ServerHistory,
        policy: &RestartPolicy,
    ) -> CheckReport<GuardianAction> {
        let condition = &decision.condition;
        let (kind, message) = self.verdict(seen, condition, history);
        let next = match (kind, condition) {
            (VerdictKind::Miss, Condition::NotLoaded { disabled: true }) => {
                let install = self.commands.typed("install");
                format!("launchctl enable {}; {install}", self.target)
            }
            (VerdictKind::Miss, _) => self.tail.to_owned(),
            (VerdictKind::Stopped, _) => self.commands.typed(&format!("start {}", self.agent)),
            _ => String::new(),
        };
        let has_recovered = history.has_recovered(seen.now, policy);
        let outage = self.outage(condition, has_recovered, &message, &next);
        let budget = self.budget(decision, history, policy, &message);
        let mut notices: Vec<Notice> = outage.into_iter().chain(budget).collect();
        notices.push(Notice::Closed {
            key: BLIND,
            message: "the guardian can check the server again".to_owned(),
        });
        notices.extend(self.prefix_check(seen));
        notices.extend(self.upstreams(seen));
        notices.push(self.shortage(history));
        notices.push(self.launchd(seen));
        CheckReport {
            notices,
            misses: Some(decision.misses),
            ..Verdict::new(kind, message).next(next).into()
        }
    }

    fn verdict(
        &self,
        seen: &Observation,
        condition: &Condition,
        history: &ServerHistory,
    ) -> (VerdictKind, String) {
        let Self { agent, base, .. } = self;
        let why = match &seen.answer {
            ServerAnswer::None(why) => why.as_str(),
            _ => "",
        };
        let (kind, mut message) = match condition {
            Condition::Answering => (VerdictKind::Ok, format!("{agent} answers at {base}")),
            Condition::Busy => (
                VerdictKind::Ok,
                format!("{agent} at {base} is busy, and its work moves"),
            ),
            Condition::Hung {
                stalled,
                preparation,
            } => (
                VerdictKind::Miss,
                format!(
                    "{agent} at {base} answers, but {} has work and has made no progress for {} s",
                    match preparation {
                        true => "the preparation of its requests",
                        false => "its engine",
                    },
                    stalled.num_seconds()
                ),
            ),
            Condition::Dead(misses) => (
                VerdictKind::Miss,
                format!("{agent} gave no answer {misses} times in a row: {why}"),
            ),
            Condition::Silent(misses) => (
                VerdictKind::Miss,
                format!("{agent} gave no answer ({misses}): {why}"),
            ),
            Condition::Starting if why.is_empty() => {
                (VerdictKind::Busy, format!("{agent} is loading its model"))
            }
            Condition::Starting => (VerdictKind::Busy, format!("{agent} is starting: {why}")),
            Condition::Stopped => (
                VerdictKind::Stopped,
                match &seen.agent {
                    ActiveAgent::Stopped(since) => format!("{agent} is {since}"),
                    _ => format!("{agent} is stopped on purpose"),
                },
            ),
            Condition::CrashLooping(runs) => (
                VerdictKind::Miss,
                format!("{agent} exits at every start: launchd has started it {runs} times lately"),
            ),
            Condition::NotLoaded { disabled } => (
                VerdictKind::Miss,
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
        if let (VerdictKind::Ok, Some(since)) = (kind, history.spent) {
            message.push_str(&format!(
                "; its restart budget is spent since {}, so the guardian does not restart it",
                since.format("%Y-%m-%d %H:%M UTC")
            ));
        }
        (kind, message)
    }

    /// The condition of the outage, if this round changes it. A restart reports itself, when it has been executed; an outage
    /// without restarts is reported by the budget's condition.
    fn outage(
        &self,
        condition: &Condition,
        has_recovered: bool,
        message: &str,
        next: &str,
    ) -> Option<Notice> {
        let Self { agent, host, .. } = self;
        match condition {
            _ if has_recovered => Some(Notice::Closed {
                key: OUTAGE,
                message: message.to_owned(),
            }),
            Condition::CrashLooping(_) => Some(self.open_outage(
                Stage::CrashLoop,
                format!("{agent} on {host} crashes at every start"),
                format!("{message}. A restart would not help, so the guardian does not restart it"),
                self.tail,
            )),
            Condition::NotLoaded { disabled: true } => Some(self.open_outage(
                Stage::Disabled,
                format!("{agent} on {host} is disabled"),
                message.to_owned(),
                next,
            )),
            _ => None,
        }
    }

    /// The condition of the restart budget: open from the time when a restart was necessary and none was left, until the
    /// budget is restored. Every outage in between alerts, and is reported when it ends.
    fn budget(
        &self,
        decision: &Decision,
        history: &ServerHistory,
        policy: &RestartPolicy,
        message: &str,
    ) -> Option<Notice> {
        let Self { agent, host, .. } = self;
        let Some(since) = history.spent else {
            return Some(Notice::Closed {
                key: BUDGET,
                message: "the restart budget is restored".to_owned(),
            });
        };
        if decision.answers_again {
            return Some(Notice::Event {
                key: "answers-again",
                text: AlertText {
                    severity: Severity::Info,
                    title: format!("{agent} on {host} answers again"),
                    body: message.to_owned(),
                    next: String::new(),
                },
            });
        }
        let is_due = decision.remedy == Remedy::Escalate;
        let outage = history.outage.filter(|_| is_due)?;
        Some(Notice::Open {
            key: BUDGET,
            stage: format!("outage since {outage}"),
            text: AlertText {
                severity: Severity::Critical,
                title: format!("{agent} on {host} needs attention"),
                body: format!(
                    "{message}. {} restarts did not help, so its restart budget is spent since {}: the guardian does not \
                     restart it until sanctum-launchd install, upgrade or rollback, or a day of health{}",
                    policy.restarts_per_hour,
                    since.format("%Y-%m-%d %H:%M UTC"),
                    self.last_error
                ),
                next: format!("{}; launchctl kickstart -k {}", self.tail, self.target),
            },
        })
    }

    /// The condition of reused prefixes that failed a check. Only the server's own page ends it: it reuses nothing until it
    /// is restarted.
    fn prefix_check(&self, seen: &Observation) -> Option<Notice> {
        /// Drift and humans see this name in the state's file.
        const KEY: &str = "prefix-check";
        let Self {
            agent,
            host,
            tail,
            target,
            ..
        } = self;
        let ServerAnswer::Health(_) = seen.answer else {
            return None;
        };
        let failed = &seen.failed_prefix_checks;
        if failed.is_empty() {
            return Some(Notice::Closed {
                key: KEY,
                message: "no check of reused prefixes has failed since the server was started"
                    .to_owned(),
            });
        }
        let reasons: Vec<String> = failed
            .iter()
            .map(|check| match check.model.as_str() {
                "" => check.reason.clone(),
                model => format!("{model}: {}", check.reason),
            })
            .collect();
        Some(Notice::Open {
            key: KEY,
            stage: reasons.join("; "),
            text: AlertText {
                severity: Severity::Critical,
                title: format!("a check of reused prefixes failed in {agent} on {host}"),
                body: format!(
                    "{}. A prompt that began with a reused prefix was computed again, and the result was another one: memory, \
                     disk or the program is faulty, and answers of the last hours may be wrong. {agent} has discarded all \
                     prefixes and reuses none until it is restarted; prompts take longer meanwhile",
                    reasons.join("; ")
                ),
                next: format!(
                    "{tail}; write prefix_cache = \"off\" in fleet.toml, or launchctl kickstart -k {target} to reuse again"
                ),
            },
        })
    }

    /// The condition of models that the server passes requests on for, and that no server has. A restart would not help.
    fn upstreams(&self, seen: &Observation) -> Option<Notice> {
        const KEY: &str = "upstreams";
        let ServerAnswer::Health(_) = seen.answer else {
            return None;
        };
        let gone = &seen.models_without_server;
        if gone.is_empty() {
            return Some(Notice::Closed {
                key: KEY,
                message: "every model has a server again".to_owned(),
            });
        }
        let Self {
            agent, host, base, ..
        } = self;
        Some(Notice::Open {
            key: KEY,
            stage: "gone".to_owned(),
            text: AlertText {
                severity: Severity::Critical,
                title: format!(
                    "no server has a model that {agent} on {host} passes requests on for"
                ),
                body: format!(
                    "{}. {agent} itself is well, and answers requests for it with 503; it is not restarted",
                    gone.join("; ")
                ),
                next: format!("curl -s {base}/health; then look at the servers that it names"),
            },
        })
    }

    fn shortage(&self, history: &ServerHistory) -> Notice {
        let key = "memory";
        match &history.shortage {
            Some(shortage) => Notice::Open {
                key,
                stage: "short".to_owned(),
                text: AlertText {
                    severity: Severity::Warning,
                    title: format!("{} is short of memory", self.host),
                    body: format!("{shortage}, so answers are slow"),
                    next: "top -o mem".into(),
                },
            },
            None => Notice::Closed {
                key,
                message: "enough memory is free again".to_owned(),
            },
        }
    }

    fn launchd(&self, seen: &Observation) -> Notice {
        let key = "launchd";
        match &seen.agent {
            ActiveAgent::Unknown(why) => Notice::Open {
                key,
                stage: "silent".to_owned(),
                text: AlertText {
                    severity: Severity::Warning,
                    title: format!("launchd on {} does not answer", self.host),
                    body: format!("{why}. The guardian can restart nothing until it does"),
                    next: format!("launchctl print {}", self.target),
                },
            },
            _ => Notice::Closed {
                key,
                message: "launchd answers again".to_owned(),
            },
        }
    }

    /// The outcome of a restart.
    pub(crate) fn restart(&self, why: &str, command: &str, done: Result<(), String>) -> Notice {
        let Self { agent, host, .. } = self;
        match done {
            Ok(()) => self.open_outage(
                Stage::Restarted,
                format!("{agent} on {host} was restarted"),
                format!("{why}. Executed: {command}"),
                self.tail,
            ),
            Err(error) => self.open_outage(
                Stage::RestartFailed,
                format!("{agent} on {host} could not be restarted"),
                format!("{why}. {error}"),
                command,
            ),
        }
    }

    /// A restart whose outcome is unknown.
    pub(crate) fn interrupted(&self, why: &str, command: &str) -> Notice {
        let Self { agent, host, .. } = self;
        self.open_outage(
            Stage::RestartUnknown,
            format!("{agent} on {host} was probably restarted"),
            format!("{why}. The guardian ended before `{command}` did"),
            self.tail,
        )
    }

    fn open_outage(&self, stage: Stage, title: String, body: String, next: &str) -> Notice {
        Notice::Open {
            key: OUTAGE,
            stage: stage.key().to_owned(),
            text: AlertText {
                severity: match stage {
                    Stage::Restarted | Stage::RestartUnknown => Severity::Warning,
                    _ => Severity::Critical,
                },
                title,
                body: format!("{body}{}", self.last_error),
                next: next.to_owned(),
            },
        }
    }
}
