//! The parity check: asks the questions of the spec and judges the answers.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_config::quoted_file;
use sanctum_watch::alert::{AlertText, Severity};
use sanctum_watch::{
    Check, CheckReport, Details, Notice, PlannedAction, Round, Verdict, VerdictKind,
    WatchdogConfig, WatchedServer,
};
use serde_json::json;

use crate::ask::{self, PromptReply};
use crate::recorded_answers::RecordedAnswers;
use crate::run_report::{PromptOutcome, RunReport};
use crate::spec::Spec;

/// The default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The default of `max_failures`.
const MAX_FAILURES: usize = 1;

/// What answers are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The spec; some answers may fail.
    Spec,
    /// The recorded answers, byte for byte; none may differ.
    Recorded,
}

/// The parity check of one server.
#[derive(Debug)]
pub struct Parity {
    pub(crate) config: WatchdogConfig,
    pub(crate) watched: WatchedServer,
    pub(crate) spec: PathBuf,
    compare: Compare,
    pub(crate) max_failures: usize,
}

/// What parity does.
#[derive(Clone, Debug, PartialEq)]
pub enum ParityAction {
    /// Keep the report of a run.
    Keep(Box<RunReport>),
}

impl Parity {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key, or the part of the spec, and its fix.
    pub fn new(config: &WatchdogConfig, compare: Compare) -> Result<Self, String> {
        let Some(spec) = &config.watch.spec else {
            return Err("`spec` is missing; add `spec = \"parity-smoke.json\"`, the file with the questions".into());
        };
        let parity = Self {
            watched: WatchedServer::of(config, TIMEOUT)?,
            spec: spec
                .beside(&config.config)
                .map_err(|error| error.to_string())?,
            config: config.clone(),
            compare,
            max_failures: match config.watch.max_failures {
                Some(some) => usize::try_from(some).unwrap_or(usize::MAX),
                None => MAX_FAILURES,
            },
        };
        // An error is reported now, not at three in the morning.
        Spec::read(&parity.spec).map_err(|error| error.to_string())?;
        if compare == Compare::Recorded {
            parity.recorded()?;
        }
        Ok(parity)
    }

    /// The recorded answers.
    fn recorded(&self) -> Result<RecordedAnswers, String> {
        let path = RecordedAnswers::path(&self.config.home, &self.config.name);
        RecordedAnswers::read(&path)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| {
                format!(
                    "there are no recorded answers ({} is missing); run: {} --record",
                    path.display(),
                    self.command()
                )
            })
    }

    /// The command line of this check.
    fn command(&self) -> String {
        let WatchdogConfig { config, name, .. } = &self.config;
        format!(
            "sanctum-parity --config {} --name {name}",
            quoted_file(config)
        )
    }

    /// Compares the replies with what is expected, prompt by prompt.
    pub(crate) fn judge(
        &self,
        spec: &Spec,
        replies: &[PromptReply],
    ) -> Result<Vec<PromptOutcome>, String> {
        let pairs = spec.prompts.iter().zip(replies);
        let outcomes = pairs.map(|(prompt, reply)| PromptOutcome::against_spec(prompt, reply));
        if self.compare == Compare::Spec {
            return Ok(outcomes.collect());
        }
        let today = RecordedAnswers::of(&self.watched, spec, replies, Utc::now());
        let differences = self.recorded()?.differences(&today);
        let outcomes = outcomes.map(|outcome| {
            let difference = differences
                .iter()
                .find(|difference| difference.name() == outcome.name);
            outcome.against_recorded(difference)
        });
        Ok(outcomes.collect())
    }

    async fn run(&self, now: DateTime<Utc>) -> CheckReport<ParityAction> {
        let miss =
            |why: String| Verdict::new(VerdictKind::Miss, why).next(self.command() + " --once");
        // An edit of the spec counts at once.
        let spec = match Spec::read(&self.spec) {
            Ok(spec) => spec,
            Err(error) => return miss(error.to_string()).into(),
        };
        let (replies, active) = match ask::all(&self.watched, &spec).await {
            Ok(replies) => replies,
            Err(verdict) => return verdict.into(),
        };
        let outcomes = match self.judge(&spec, &replies) {
            Ok(outcomes) => outcomes,
            Err(why) => return miss(why).into(),
        };
        let tolerated = match self.compare {
            Compare::Spec => self.max_failures,
            Compare::Recorded => 0,
        };
        let failed: Vec<&PromptOutcome> = outcomes.iter().filter(|one| !one.passed).collect();
        let standby = active.standby.map_or_else(String::new, |standby| {
            format!(" (the standby `{standby}` serves)")
        });
        let count = format!(
            "{} of {} answers are {}{standby}",
            outcomes.len() - failed.len(),
            outcomes.len(),
            match self.compare {
                Compare::Spec => "as expected",
                Compare::Recorded => "as recorded",
            }
        );
        let each: Vec<String> = failed.iter().map(ToString::to_string).collect();
        let message = match each.is_empty() {
            true => count,
            false => format!("{count}; {}", each.join("; ")),
        };
        let took = replies.iter().map(|reply| reply.latency).sum();
        let verdict = match failed.len() > tolerated {
            true => Verdict::new(VerdictKind::Miss, message).next(format!(
                "{}; {} --once",
                self.watched
                    .commands
                    .typed(&format!("verify --host {}", self.watched.endpoint.host)),
                self.command()
            )),
            false => Verdict::new(VerdictKind::Ok, message),
        }
        .after(took);
        let details = Details {
            fields: json!({ "prompts": outcomes }),
            lines: outcomes.iter().map(PromptOutcome::line).collect(),
        };
        let problems = failed.iter().map(|outcome| outcome.name.clone()).collect();
        let run = RunReport {
            agent: self.config.name.clone(),
            server: self.watched.endpoint.server.clone(),
            host: self.watched.endpoint.host.clone(),
            time: now,
            verdict: verdict.clone(),
            system_fingerprint: replies.iter().find_map(|reply| reply.fingerprint.clone()),
            prompts: outcomes,
        };
        CheckReport {
            problems,
            details,
            actions: vec![PlannedAction {
                action: ParityAction::Keep(Box::new(run)),
                if_interrupted: None,
            }],
            ..verdict.into()
        }
    }
}

/// Keeps a run's report. Returns the condition of reports that cannot be kept.
fn keep(run: &RunReport, config: &WatchdogConfig) -> Notice {
    const KEY: &str = "report";
    match run.keep(&config.home) {
        Ok(_) => Notice::Closed {
            key: KEY,
            message: "this run's report was kept".to_owned(),
        },
        Err(error) => Notice::Open {
            key: KEY,
            stage: "lost".to_owned(),
            text: AlertText {
                severity: Severity::Warning,
                title: format!("{} on {} cannot keep its reports", config.name, config.host),
                body: error.to_string(),
                next: format!("df -h {}", quoted_file(config.home.path())),
            },
        },
    }
}

impl Check for Parity {
    type Action = ParityAction;

    async fn check(&mut self, round: &Round<'_>) -> CheckReport<ParityAction> {
        self.run(round.now).await
    }

    async fn execute(&mut self, action: ParityAction) -> Vec<Notice> {
        let ParityAction::Keep(run) = action;
        vec![keep(&run, &self.config)]
    }

    fn subject(&self) -> String {
        format!("the answers of {}", self.watched.subject())
    }

    /// Without answers, nothing is known about them.
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
