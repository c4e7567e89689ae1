//! The report of one run: questions, expectations and answers. The reports of the last runs are kept as evidence.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use sanctum_config::{Home, Label, RecordError, atomic, record};
use sanctum_watch::Verdict;
use serde::{Deserialize, Serialize};

use crate::ask::PromptReply;
use crate::excerpt::{excerpt, folder};
use crate::recorded_answers::AnswerDifference;
use crate::spec::Prompt;

/// The number of reports that are kept: a month of nights.
pub const KEPT: usize = 30;

/// One run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RunReport {
    /// The watchdog.
    pub agent: Label,
    /// The server that was asked.
    pub server: Label,
    /// The server's host.
    pub host: Label,
    /// When.
    pub time: DateTime<Utc>,
    /// The verdict.
    pub verdict: Verdict,
    /// The build that answered, if the server sends it.
    pub system_fingerprint: Option<String>,
    /// The outcome of each prompt, in the spec's order.
    pub prompts: Vec<PromptOutcome>,
}

/// The outcome of one prompt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PromptOutcome {
    /// The prompt's name.
    pub name: String,
    /// Whether the answer is as expected.
    pub passed: bool,
    /// What is expected.
    pub expected: String,
    /// The whole answer; none if the server rejected the request.
    pub answer: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// `stop`, `length` or another.
    pub finish_reason: String,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// Tokens of the prompt that the server reused, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_tokens: Option<u64>,
    /// The answer without reuse, or why there is none, if it is not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_answer: Option<String>,
}

impl PromptOutcome {
    /// Both answers must be as expected: the one that may begin with a reused prefix, and the one that does not. Where a
    /// sequence does not depend on what is computed beside it, they must be the same.
    pub(crate) fn against_spec(prompt: &Prompt, reply: &PromptReply) -> Self {
        let matches = |answer: &Result<String, String>| {
            answer
                .as_ref()
                .is_ok_and(|text| prompt.expect.matches(text))
        };
        let differs = reply.cold.as_ref().filter(|cold| **cold != reply.text);
        let is_exact = (reply.fingerprint.as_ref()).is_some_and(|build| build.starts_with("cpu"));
        Self {
            name: prompt.name.clone(),
            passed: matches(&reply.text) && differs.is_none_or(|cold| matches(cold) && !is_exact),
            reused_tokens: reply.reused_tokens,
            cold_answer: differs.map(|cold| match cold {
                Ok(text) | Err(text) => text.clone(),
            }),
            expected: prompt.expect.to_string(),
            answer: reply.text.clone().ok(),
            refused: reply.text.clone().err(),
            finish_reason: reply.finish_reason.clone(),
            latency_ms: u64::try_from(reply.latency.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The same, compared with the recorded answer.
    pub(crate) fn against_recorded(self, difference: Option<&AnswerDifference>) -> Self {
        Self {
            passed: difference.is_none() && self.refused.is_none() && self.cold_answer.is_none(),
            expected: match difference {
                Some(difference) => difference.expected(),
                None => "as recorded".to_owned(),
            },
            ..self
        }
    }

    /// A line of `--once`.
    pub(crate) fn line(&self) -> String {
        match self.passed {
            true => format!("  ok    {self}"),
            false => format!("  FAIL  {self}"),
        }
    }
}

impl fmt::Display for PromptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expected, .. } = self;
        let answer = match (&self.answer, &self.refused) {
            (Some(answer), _) if self.passed => {
                return write!(f, "`{name}`: `{}`", excerpt(answer));
            }
            (Some(answer), _) if self.finish_reason == "length" => {
                format!("answered `{}` and was cut off", excerpt(answer))
            }
            (Some(answer), _) => format!("answered `{}`", excerpt(answer)),
            (None, why) => why.clone().unwrap_or_default(),
        };
        write!(f, "`{name}` expected {}, {answer}", excerpt(expected))?;
        match &self.cold_answer {
            Some(cold) => write!(f, ", and without a reused prefix `{}`", excerpt(cold)),
            None => Ok(()),
        }
    }
}

impl RunReport {
    /// Writes the report as `TIME.json`, whole or not at all, and removes all but the last [`KEPT`].
    ///
    /// # Errors
    /// If a file cannot be written or removed.
    pub fn keep(&self, home: &Home) -> io::Result<PathBuf> {
        let folder = folder(home, &self.agent);
        let path = folder.join(format!("{}.json", self.time.format("%Y%m%dT%H%M%S%.3fZ")));
        let failed = |path: PathBuf| {
            move |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            }
        };
        record::write(&path, self).map_err(|error| match error {
            RecordError::Write { source, .. } => failed(path.clone())(source),
            other => io::Error::other(other),
        })?;
        let mut kept: Vec<PathBuf> = fs::read_dir(&folder)
            .map_err(failed(folder.clone()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_report(path))
            .collect();
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT);
        for old in kept.drain(..surplus) {
            atomic::remove(&old).map_err(failed(old.clone()))?;
        }
        Ok(path)
    }
}

/// Recorded answers are in the same folder, and stay.
fn is_report(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("Z.json") && name.starts_with(|first: char| first.is_ascii_digit())
}
