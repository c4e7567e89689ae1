//! One run's report: what was asked, expected and answered. It is evidence, so the reports of the last runs are kept.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use sanctum_config::{Home, Label, UntrustedText, atomic};
use sanctum_watch::Verdict;
use serde::{Deserialize, Serialize};

use crate::ask::Reply;
use crate::recorded::Difference;
use crate::spec::Prompt;

/// Reports that are kept: a month of nights.
pub const KEPT: usize = 30;
/// What an alert shows of an expectation or an answer, in characters.
const SHOWN: usize = 120;

/// One run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Run {
    /// The watchdog.
    pub agent: Label,
    /// Who was asked.
    pub server: Label,
    /// Where it runs.
    pub host: Label,
    /// When.
    pub time: DateTime<Utc>,
    /// What came of it.
    pub verdict: Verdict,
    /// Which build answered, where the server says.
    pub system_fingerprint: Option<String>,
    /// Each prompt, in the spec's order.
    pub prompts: Vec<Outcome>,
}

/// What came of one prompt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Outcome {
    /// The prompt's name.
    pub name: String,
    /// Whether the answer is as it should be.
    pub passed: bool,
    /// What it should be.
    pub expected: String,
    /// The answer, whole; none if the server refused the question.
    pub answer: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// `stop`, `length` or another.
    pub finish_reason: String,
    /// How long it took.
    pub latency_ms: u64,
}

impl Outcome {
    pub(crate) fn against_spec(prompt: &Prompt, reply: &Reply) -> Self {
        Self {
            name: prompt.name.clone(),
            passed: reply
                .text
                .as_ref()
                .is_ok_and(|text| prompt.expect.fits(text)),
            expected: prompt.expect.to_string(),
            answer: reply.text.clone().ok(),
            refused: reply.text.clone().err(),
            finish_reason: reply.finish_reason.clone(),
            latency_ms: u64::try_from(reply.latency.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The same where the answer must be the recorded one.
    pub(crate) fn against_recorded(self, difference: Option<&Difference>) -> Self {
        Self {
            passed: difference.is_none() && self.refused.is_none(),
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
            false => format!("  WRONG {self}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expected, .. } = self;
        let answer = match (&self.answer, &self.refused) {
            (Some(answer), _) if self.passed => return write!(f, "`{name}`: `{}`", shown(answer)),
            (Some(answer), _) if self.finish_reason == "length" => {
                format!("answered `{}` and was cut off", shown(answer))
            }
            (Some(answer), _) => format!("answered `{}`", shown(answer)),
            (None, why) => why.clone().unwrap_or_default(),
        };
        write!(f, "`{name}` expected {}, {answer}", shown(expected))
    }
}

impl Run {
    /// Where a watchdog's reports lie: `state/parity/NAME/`.
    pub fn folder(home: &Home, agent: &Label) -> PathBuf {
        home.state().join("parity").join(agent.as_str())
    }

    /// Writes the report as `TIME.json`, whole or not at all, and removes all but the last [`KEPT`].
    ///
    /// # Errors
    /// If the system refuses.
    pub fn keep(&self, home: &Home) -> io::Result<PathBuf> {
        let folder = Self::folder(home, &self.agent);
        let path = folder.join(format!("{}.json", self.time.format("%Y%m%dT%H%M%S%.3fZ")));
        let failed = |path: PathBuf| {
            move |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            }
        };
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        atomic::write(&path, &text, 0o600).map_err(failed(path.clone()))?;
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

/// Recorded answers lie in the same folder, and must stay.
fn is_report(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("Z.json") && name.starts_with(|first: char| first.is_ascii_digit())
}

/// The beginning of a text, on one line that is safe to show.
pub(crate) fn shown(text: &str) -> UntrustedText {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    UntrustedText::bounded(&words, SHOWN)
}
