//! Parity: does a server still say what it said? Ten questions at temperature 0, whose answers must fit a spec that anybody
//! can edit, or be what was recorded, byte for byte. It only tells; it never restarts anything.
//!
//! [`Spec`] is what is asked. [`Parity`] asks and judges. [`record`] blesses today's answers, and [`Recorded`] is where they
//! lie. Each run's report is kept by [`Run`].

mod ask;
mod record;
mod recorded;
mod run;
mod spec;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_watch::alert::Severity;
use sanctum_watch::{Check, Details, Kind, Note, Notice, Report, Round, Setting, Verdict, Watched};
use serde_json::json;

pub use record::{Consent, record};
pub use recorded::{Difference, Recorded, Transcript};
pub use run::{KEPT, Outcome, Run};
pub use spec::{Expect, Prompt, Spec, SpecError};

use ask::Reply;

/// How long an answer may take where fleet.toml says nothing.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many wrong answers are no reason to alert where fleet.toml says nothing.
const MAX_FAILURES: usize = 1;

/// What answers are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// What the spec expects; some may fail.
    Spec,
    /// What was recorded, byte for byte; none may differ.
    Recorded,
}

/// The parity check of one server.
#[derive(Debug)]
pub struct Parity {
    setting: Setting,
    watched: Watched,
    spec: PathBuf,
    compare: Compare,
    max_failures: usize,
    /// The report of the last look, until it is kept.
    run: Option<Run>,
}

impl Parity {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key, or the part of the spec, and its mend.
    pub fn new(setting: &Setting, compare: Compare) -> Result<Self, String> {
        let Some(spec) = &setting.watch.spec else {
            return Err("`spec` is missing; write `spec = \"parity-smoke.json\"`, the file with the questions".into());
        };
        let parity = Self {
            watched: Watched::of(setting, TIMEOUT)?,
            spec: spec
                .beside(&setting.config)
                .map_err(|error| error.to_string())?,
            setting: setting.clone(),
            compare,
            max_failures: match setting.watch.max_failures {
                Some(some) => usize::try_from(some).unwrap_or(usize::MAX),
                None => MAX_FAILURES,
            },
            run: None,
        };
        // A mistake is found now, not at three in the morning.
        Spec::read(&parity.spec).map_err(|error| error.to_string())?;
        if compare == Compare::Recorded {
            parity.recorded()?;
        }
        Ok(parity)
    }

    /// What was recorded.
    fn recorded(&self) -> Result<Recorded, String> {
        let path = Recorded::path(&self.setting.home, &self.setting.name);
        Recorded::read(&path)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| {
                format!(
                    "nothing has been recorded yet ({} is missing); type: {} --record",
                    path.display(),
                    self.command()
                )
            })
    }

    /// This watchdog by hand.
    fn command(&self) -> String {
        let Setting { config, name, .. } = &self.setting;
        format!("sanctum-parity --config {} --name {name}", config.display())
    }

    /// Compares replies with what they should be, prompt by prompt.
    fn judge(&self, spec: &Spec, replies: &[Reply]) -> Result<Vec<Outcome>, String> {
        let pairs = spec.prompts.iter().zip(replies);
        let outcomes = pairs.map(|(prompt, reply)| Outcome::against_spec(prompt, reply));
        if self.compare == Compare::Spec {
            return Ok(outcomes.collect());
        }
        let today = Recorded::of(&self.watched, spec, replies, Utc::now());
        let differences = self.recorded()?.differences(&today);
        let outcomes = outcomes.map(|outcome| {
            let difference = differences
                .iter()
                .find(|difference| difference.name() == outcome.name);
            outcome.against_recorded(difference)
        });
        Ok(outcomes.collect())
    }

    async fn look(&mut self, now: DateTime<Utc>) -> Report {
        let miss = |why: String| Verdict::new(Kind::Miss, why).next(self.command() + " --once");
        // An edited spec counts at once.
        let spec = match Spec::read(&self.spec) {
            Ok(spec) => spec,
            Err(error) => return miss(error.to_string()).into(),
        };
        let replies = match ask::all(&self.watched, &spec).await {
            Ok(replies) => replies,
            Err(report) => return *report,
        };
        let outcomes = match self.judge(&spec, &replies) {
            Ok(outcomes) => outcomes,
            Err(why) => return miss(why).into(),
        };
        let tolerated = match self.compare {
            Compare::Spec => self.max_failures,
            Compare::Recorded => 0,
        };
        let failed: Vec<&Outcome> = outcomes.iter().filter(|one| !one.passed).collect();
        let count = format!(
            "{} of {} answers are {}",
            outcomes.len() - failed.len(),
            outcomes.len(),
            match self.compare {
                Compare::Spec => "as expected",
                Compare::Recorded => "as recorded",
            }
        );
        let each: Vec<String> = failed.iter().map(ToString::to_string).collect();
        let said = match each.is_empty() {
            true => count,
            false => format!("{count}; {}", each.join("; ")),
        };
        let took = replies.iter().map(|reply| reply.latency).sum();
        let verdict = match failed.len() > tolerated {
            true => Verdict::new(Kind::Miss, said).next(format!(
                "sanctum-launchd verify --host {}; {} --once",
                self.watched.endpoint.host,
                self.command()
            )),
            false => Verdict::new(Kind::Ok, said),
        }
        .after(took);
        let report = Report {
            wrongs: failed.iter().map(|outcome| outcome.name.clone()).collect(),
            details: Details {
                fields: json!({ "prompts": outcomes }),
                lines: outcomes.iter().map(Outcome::line).collect(),
            },
            ..verdict.clone().into()
        };
        self.run = Some(Run {
            agent: self.setting.name.clone(),
            server: self.watched.endpoint.server.clone(),
            host: self.watched.endpoint.host.clone(),
            time: now,
            verdict,
            system_fingerprint: replies.iter().find_map(|reply| reply.fingerprint.clone()),
            prompts: outcomes,
        });
        report
    }
}

impl Check for Parity {
    async fn check(&mut self, round: &mut Round) -> Report {
        self.run = None;
        self.look(round.now).await
    }

    /// Keeps the run's report.
    async fn act(&mut self, _round: &mut Round) -> Vec<Notice> {
        let Some(run) = self.run.take() else {
            return Vec::new();
        };
        vec![match run.keep(&self.setting.home) {
            Ok(_) => Notice::Over {
                key: "report",
                said: "this run's report was kept".to_owned(),
            },
            Err(error) => Notice::Holds {
                key: "report",
                stage: "lost".to_owned(),
                note: Note {
                    severity: Severity::Warning,
                    title: format!("parity reports on {} cannot be kept", self.setting.host),
                    body: error.to_string(),
                    next: format!("df -h {}", self.setting.home.path().display()),
                },
            },
        }]
    }

    fn subject(&self) -> String {
        format!("the answers of {}", self.watched.subject())
    }

    /// That it could not ask is no judgement of the answers.
    fn unanswered(&self) -> (Severity, String) {
        let title = format!("{} could not be checked", self.subject());
        (Severity::Warning, title)
    }

    fn busy(&self) -> &'static str {
        "could not be checked"
    }

    fn limit(&self) -> Duration {
        let prompts = Spec::read(&self.spec).map_or(0, |spec| spec.prompts.len());
        let each = u32::try_from(prompts).unwrap_or(u32::MAX);
        ask::longest(&self.watched, each)
    }
}

#[cfg(test)]
mod tests;
