//! What is reported about a condition: the verdict, and the alerts that are open and over.

use sanctum_config::Label;
use sanctum_watch::alert::Severity;
use sanctum_watch::{BLIND, BUDGET, Kind, Note, Notice, OUTAGE, Report, Verdict};

use crate::decide::{Action, AgentSeen, Answer, Condition, Memory, Patience, Seen};

/// What the words are about.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'a> {
    /// The agent that serves.
    pub agent: &'a Label,
    /// Its host.
    pub host: &'a Label,
    /// Where it is asked.
    pub base: &'a str,
    /// As launchctl names it: `gui/501/com.sanctum.server`.
    pub target: &'a str,
    /// The command that shows its log.
    pub tail: &'a str,
    /// The last error in its log since it was last well, as the end of a sentence.
    pub last_error: &'a str,
}

/// Keys of conditions that older versions opened. They are closed when the server is healthy.
const OLD_KEYS: [&str; 2] = ["crash-loop", "disabled"];

/// Where an outage has come to; a new stage alerts at once.
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
        seen: &Seen,
        condition: &Condition,
        action: Action,
        memory: &Memory,
        patience: &Patience,
    ) -> Report {
        let (kind, said) = self.verdict(seen, condition, memory);
        let next = match (kind, condition) {
            (Kind::Miss, Condition::NotLoaded { disabled: true }) => {
                format!("launchctl enable {}; sanctum-launchd install", self.target)
            }
            (Kind::Miss, _) => self.tail.to_owned(),
            _ => String::new(),
        };
        let has_recovered = memory.has_recovered(seen.now, patience);
        let outage = self.outage(condition, has_recovered, &said, &next);
        let budget = self.budget(action, memory, patience, &said);
        let mut notices: Vec<Notice> = outage.into_iter().chain(budget).collect();
        if has_recovered {
            notices.extend(OLD_KEYS.map(|key| Notice::Over {
                key,
                said: said.clone(),
            }));
        }
        notices.push(Notice::Over {
            key: BLIND,
            said: "the guardian can look again".to_owned(),
        });
        notices.push(self.shortage(memory));
        notices.push(self.launchd(seen));
        Report {
            notices,
            ..Verdict::new(kind, said).next(next).into()
        }
    }

    fn verdict(&self, seen: &Seen, condition: &Condition, memory: &Memory) -> (Kind, String) {
        let Self { agent, base, .. } = self;
        let why = match &seen.answer {
            Answer::None(why) => why.as_str(),
            _ => "",
        };
        let (kind, mut said) = match condition {
            Condition::Answering => (Kind::Ok, format!("{agent} answers at {base}")),
            Condition::Busy => (Kind::Ok, format!("{agent} at {base} is busy, and moves")),
            Condition::Hung(still) => (
                Kind::Miss,
                format!(
                    "{agent} at {base} answers, but {} has work and has not moved for {} s",
                    match memory.stuck_preparation(seen, *still) {
                        true => "the preparation of its requests",
                        false => "its engine",
                    },
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
                (Kind::Busy, format!("{agent} is loading its model"))
            }
            Condition::Starting => (Kind::Busy, format!("{agent} is starting: {why}")),
            Condition::CrashLooping(runs) => (
                Kind::Miss,
                format!("{agent} exits at every start: launchd has started it {runs} times lately"),
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
        if let (Kind::Ok, Some(since)) = (kind, memory.spent) {
            said.push_str(&format!(
                "; its restart budget is spent since {}: the guardian does not restart it",
                since.format("%Y-%m-%d %H:%M UTC")
            ));
        }
        (kind, said)
    }

    /// The outage, if this round has something to say about it. A restart reports itself, when it has been done; an outage
    /// without restarts is the budget's.
    fn outage(
        &self,
        condition: &Condition,
        has_recovered: bool,
        said: &str,
        next: &str,
    ) -> Option<Notice> {
        let Self { agent, host, .. } = self;
        match condition {
            _ if has_recovered => Some(Notice::Over {
                key: OUTAGE,
                said: said.to_owned(),
            }),
            Condition::CrashLooping(_) => Some(self.open_outage(
                Stage::CrashLoop,
                format!("{agent} on {host} crashes at every start"),
                format!("{said}; the guardian does not restart it, which would not help"),
                self.tail,
            )),
            Condition::NotLoaded { disabled: true } => Some(self.open_outage(
                Stage::Disabled,
                format!("{agent} on {host} is disabled"),
                said.to_owned(),
                next,
            )),
            _ => None,
        }
    }

    /// The restart budget: open from the moment in which a restart was due and none was left, until it is restored. Every
    /// outage in between alerts, and is reported when it ends.
    fn budget(
        &self,
        action: Action,
        memory: &Memory,
        patience: &Patience,
        said: &str,
    ) -> Option<Notice> {
        let Self { agent, host, .. } = self;
        let Some(since) = memory.spent else {
            return Some(Notice::Over {
                key: BUDGET,
                said: "the restart budget is restored".to_owned(),
            });
        };
        if memory.answers_again {
            return Some(Notice::Event {
                key: "answers-again",
                note: Note {
                    severity: Severity::Info,
                    title: format!("{agent} on {host} answers again"),
                    body: said.to_owned(),
                    next: String::new(),
                },
            });
        }
        let outage = memory.outage.filter(|_| action == Action::CallHuman)?;
        Some(Notice::Holds {
            key: BUDGET,
            stage: format!("outage since {outage}"),
            note: Note {
                severity: Severity::Critical,
                title: format!("{agent} on {host} needs attention"),
                body: format!(
                    "{said}. {} restarts did not help, so its restart budget is spent since {}: the guardian \
                     does not restart it until sanctum-launchd install, upgrade or rollback, or a day of health{}",
                    patience.restarts_per_hour,
                    since.format("%Y-%m-%d %H:%M UTC"),
                    self.last_error
                ),
                next: format!("{}; launchctl kickstart -k {}", self.tail, self.target),
            },
        })
    }

    fn shortage(&self, memory: &Memory) -> Notice {
        let key = "memory";
        match &memory.shortage {
            Some(shortage) => Notice::Holds {
                key,
                stage: "short".to_owned(),
                note: Note {
                    severity: Severity::Warning,
                    title: format!("{} is short of memory", self.host),
                    body: format!("{shortage}: every answer waits for the disk"),
                    next: "top -o mem".into(),
                },
            },
            None => Notice::Over {
                key,
                said: "there is memory again".to_owned(),
            },
        }
    }

    fn launchd(&self, seen: &Seen) -> Notice {
        let key = "launchd";
        match &seen.agent {
            AgentSeen::Unknown(why) => Notice::Holds {
                key,
                stage: "silent".to_owned(),
                note: Note {
                    severity: Severity::Warning,
                    title: format!("launchd on {} cannot be asked", self.host),
                    body: format!("the guardian could restart nothing: {why}"),
                    next: format!("launchctl print {}", self.target),
                },
            },
            _ => Notice::Over {
                key,
                said: "launchd answers again".to_owned(),
            },
        }
    }

    /// What a restart came to.
    pub(crate) fn restart(&self, why: &str, command: &str, done: Result<(), String>) -> Notice {
        let Self { agent, host, .. } = self;
        match done {
            Ok(()) => self.open_outage(
                Stage::Restarted,
                format!("{agent} on {host} was restarted"),
                format!("{why}. Done: {command}"),
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

    /// A restart whose outcome is not known.
    pub(crate) fn interrupted(&self, why: &str, command: &str) -> Notice {
        let Self { agent, host, .. } = self;
        self.open_outage(
            Stage::RestartUnknown,
            format!("{agent} on {host} was probably restarted"),
            format!("{why}. The guardian was interrupted before `{command}` had ended"),
            self.tail,
        )
    }

    fn open_outage(&self, stage: Stage, title: String, body: String, next: &str) -> Notice {
        Notice::Holds {
            key: OUTAGE,
            stage: stage.key().to_owned(),
            note: Note {
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
