//! Recorded answers, each with its request. `--exact` compares with them, byte for byte.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sanctum_config::{Home, Label, RecordError, record};
use sanctum_watch::WatchedServer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ask::PromptReply;
use crate::excerpt::{excerpt, folder};
use crate::spec::Spec;

/// Recorded answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RecordedAnswers {
    /// When they were recorded.
    pub time: DateTime<Utc>,
    /// The server that gave them.
    pub server: Label,
    /// The build that gave them, if the server sends it.
    pub system_fingerprint: Option<String>,
    /// By prompt name.
    pub answers: BTreeMap<String, Transcript>,
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Transcript {
    /// The whole request.
    pub request: Value,
    /// The whole answer.
    pub answer: String,
    /// `stop`, `length` or another.
    pub finish_reason: String,
}

/// How one prompt differs from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerDifference {
    /// It was not recorded.
    New {
        /// The prompt.
        name: String,
        /// Today's answer.
        answer: String,
    },
    /// It is no longer in the spec.
    Gone {
        /// The prompt.
        name: String,
    },
    /// Its request has changed.
    Question {
        /// The prompt.
        name: String,
        /// Today's answer.
        answer: String,
    },
    /// Its answer has changed.
    Answer {
        /// The prompt.
        name: String,
        /// The recorded answer.
        before: String,
        /// Today's answer.
        after: String,
    },
}

impl RecordedAnswers {
    /// `state/parity/NAME/recorded.json`.
    pub fn path(home: &Home, agent: &Label) -> PathBuf {
        folder(home, agent).join("recorded.json")
    }

    /// Today's answers, without the prompts that the server rejected.
    pub(crate) fn of(
        watched: &WatchedServer,
        spec: &Spec,
        replies: &[PromptReply],
        time: DateTime<Utc>,
    ) -> Self {
        let pairs = spec.prompts.iter().zip(replies);
        let answers = pairs.filter_map(|(prompt, reply)| {
            let transcript = Transcript {
                request: prompt.request.body(),
                answer: reply.text.clone().ok()?,
                finish_reason: reply.finish_reason.clone(),
            };
            Some((prompt.name.clone(), transcript))
        });
        Self {
            time,
            server: watched.endpoint.server.clone(),
            system_fingerprint: replies.iter().find_map(|reply| reply.fingerprint.clone()),
            answers: answers.collect(),
        }
    }

    /// Reads them; none if nothing was recorded.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        record::read(path)
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        record::write(path, self)
    }

    /// How `today` differs, in the order of the names.
    pub fn differences(&self, today: &Self) -> Vec<AnswerDifference> {
        let mut all = Vec::new();
        for (name, now) in &today.answers {
            let (name, answer) = (name.clone(), now.answer.clone());
            match self.answers.get(&name) {
                None => all.push(AnswerDifference::New { name, answer }),
                Some(then) if then.request != now.request => {
                    all.push(AnswerDifference::Question { name, answer });
                }
                Some(then) if then.answer != now.answer => all.push(AnswerDifference::Answer {
                    name,
                    before: then.answer.clone(),
                    after: answer,
                }),
                Some(_) => {}
            }
        }
        let gone = self.answers.keys();
        all.extend(
            gone.filter(|name| !today.answers.contains_key(*name))
                .map(|name| AnswerDifference::Gone { name: name.clone() }),
        );
        all
    }
}

impl AnswerDifference {
    /// The prompt.
    pub fn name(&self) -> &str {
        match self {
            Self::New { name, .. }
            | Self::Gone { name }
            | Self::Question { name, .. }
            | Self::Answer { name, .. } => name,
        }
    }

    /// What was recorded instead.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::New { .. } => "a recorded answer, and there is none (--record)".to_owned(),
            Self::Gone { .. } => "an answer".to_owned(),
            Self::Question { .. } => {
                "the recorded request, which the spec has changed (--record)".to_owned()
            }
            Self::Answer { before, after, .. } => {
                let at = before
                    .bytes()
                    .zip(after.bytes())
                    .take_while(|(a, b)| a == b);
                format!(
                    "`{}` (the first difference is at byte {})",
                    excerpt(before),
                    at.count()
                )
            }
        }
    }
}

impl fmt::Display for AnswerDifference {
    /// As a diff: `-` is recorded, `+` is today's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New { name, answer } => write!(f, "{name} (new)\n  + {answer:?}"),
            Self::Gone { name } => write!(f, "{name} (no longer in the spec)"),
            Self::Question { name, answer } => {
                write!(f, "{name} (the request has changed)\n  + {answer:?}")
            }
            Self::Answer {
                name,
                before,
                after,
            } => write!(f, "{name}\n  - {before:?}\n  + {after:?}"),
        }
    }
}
