//! Answers that somebody has blessed, with what was asked for each: what `--exact` compares with, byte for byte.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sanctum_config::{Home, Label, atomic, files};
use sanctum_watch::Watched;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ask::Reply;
use crate::run::{Run, shown};
use crate::spec::Spec;

/// Recorded answers of thousands of questions are smaller.
const LARGEST: u64 = 64 << 20;

/// Recorded answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Recorded {
    /// When they were given.
    pub time: DateTime<Utc>,
    /// By whom.
    pub server: Label,
    /// By which build, where the server says.
    pub system_fingerprint: Option<String>,
    /// By the prompt's name.
    pub answers: BTreeMap<String, Transcript>,
}

/// A question and its answer.
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
pub enum Difference {
    /// It was not asked then.
    New {
        /// The prompt.
        name: String,
        /// Today's answer.
        answer: String,
    },
    /// It is asked no longer.
    Gone {
        /// The prompt.
        name: String,
    },
    /// The question is another one.
    Question {
        /// The prompt.
        name: String,
        /// Today's answer.
        answer: String,
    },
    /// The answer is another one.
    Answer {
        /// The prompt.
        name: String,
        /// The recorded answer.
        before: String,
        /// Today's.
        after: String,
    },
}

/// Recorded answers that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; move it away and record again", path.display())]
pub struct RecordedError {
    path: PathBuf,
    source: io::Error,
}

impl Recorded {
    /// `state/parity/NAME/recorded.json`.
    pub fn path(home: &Home, agent: &Label) -> PathBuf {
        Run::folder(home, agent).join("recorded.json")
    }

    /// Today's; prompts that the server refused are left out.
    pub(crate) fn of(
        watched: &Watched,
        spec: &Spec,
        replies: &[Reply],
        time: DateTime<Utc>,
    ) -> Self {
        let pairs = spec.prompts.iter().zip(replies);
        let answers = pairs.filter_map(|(prompt, reply)| {
            let transcript = Transcript {
                request: prompt.question.body(),
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
    pub fn read(path: &Path) -> Result<Option<Self>, RecordedError> {
        let failed = |source| RecordedError {
            path: path.to_owned(),
            source,
        };
        match files::read(path, LARGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| failed(error.into())),
        }
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), RecordedError> {
        let failed = |source| RecordedError {
            path: path.to_owned(),
            source,
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        atomic::write(path, &text, 0o600).map_err(failed)
    }

    /// How `today` differs, in the order of the names.
    pub fn differences(&self, today: &Self) -> Vec<Difference> {
        let mut all = Vec::new();
        for (name, now) in &today.answers {
            let (name, answer) = (name.clone(), now.answer.clone());
            match self.answers.get(&name) {
                None => all.push(Difference::New { name, answer }),
                Some(then) if then.request != now.request => {
                    all.push(Difference::Question { name, answer });
                }
                Some(then) if then.answer != now.answer => all.push(Difference::Answer {
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
                .map(|name| Difference::Gone { name: name.clone() }),
        );
        all
    }
}

impl Difference {
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
            Self::New { .. } => "an answer that was recorded, and none was (--record)".to_owned(),
            Self::Gone { .. } => "an answer".to_owned(),
            Self::Question { .. } => {
                "the question that was recorded, which the spec has changed (--record)".to_owned()
            }
            Self::Answer { before, after, .. } => {
                let at = before
                    .bytes()
                    .zip(after.bytes())
                    .take_while(|(a, b)| a == b);
                format!("`{}` (they part at byte {})", shown(before), at.count())
            }
        }
    }
}

impl fmt::Display for Difference {
    /// As a person compares it: `-` was recorded, `+` is today's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New { name, answer } => write!(f, "{name} (new)\n  + {answer:?}"),
            Self::Gone { name } => write!(f, "{name} (asked no longer)"),
            Self::Question { name, answer } => {
                write!(f, "{name} (the question was changed)\n  + {answer:?}")
            }
            Self::Answer {
                name,
                before,
                after,
            } => write!(f, "{name}\n  - {before:?}\n  + {after:?}"),
        }
    }
}
