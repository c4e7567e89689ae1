//! The canary: asks a question whose answer is known, and tells a wrong answer, no answer, a busy server and a host that
//! is itself off the network apart. It never restarts anything.

use std::time::Duration;

use sanctum_watch::probe::{Client, Phase, ProbeError, Question, Reference, Target};
use sanctum_watch::{Check, Kind, Report, Round, Setting, Verdict, answers};

/// What is asked where fleet.toml says nothing.
pub const QUESTION: &str = "What is 2+2? Respond with only the number.";
/// What the answer must contain where fleet.toml says nothing.
pub const EXPECT: &str = "4";
/// How long an answer may take where fleet.toml says nothing: a busy server has a queue.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Tokens of the answer.
const MAX_TOKENS: u32 = 64;
/// A heartbeat that moved within this time belongs to a server that works.
const ALIVE: Duration = Duration::from_secs(60);
/// How long health and the reference address may take.
const SECOND_LOOK: Duration = Duration::from_secs(10);

/// The canary of one server.
#[derive(Debug)]
pub struct Canary {
    target: Target,
    question: String,
    expect: String,
    timeout: Duration,
    reference: Option<Reference>,
}

impl Canary {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key and its mend.
    pub fn new(setting: &Setting) -> Result<Self, String> {
        let Setting {
            fleet,
            config,
            home,
            name,
            watch,
            ..
        } = setting;
        let target = Target::of(fleet, config, home, name).map_err(|error| error.to_string())?;
        let reference = watch.reference.as_deref().map(Reference::parse);
        let (question, expect) = match (&watch.question, &watch.expect) {
            (Some(_), None) => {
                return Err("`question` needs `expect`: what must the answer contain?".into());
            }
            (question, expect) => (
                question.clone().unwrap_or_else(|| QUESTION.into()),
                expect.clone().unwrap_or_else(|| EXPECT.into()),
            ),
        };
        Ok(Self {
            target,
            question,
            expect,
            timeout: watch.timeout.unwrap_or(TIMEOUT),
            reference: reference.transpose().map_err(|error| error.to_string())?,
        })
    }

    async fn ask(&self) -> Verdict {
        let client = match Client::new(&self.target, self.timeout) {
            Ok(client) => client,
            Err(error) => return Verdict::new(Kind::Miss, error.to_string()),
        };
        let question = Question {
            text: self.question.clone(),
            model: None,
            max_tokens: MAX_TOKENS,
            more: serde_json::Map::new(),
        };
        match client.chat(&question).await {
            Ok(answer) => {
                let said: String = answer.value.text.trim().chars().take(200).collect();
                let took = answer.latency;
                match answers(&said, &self.expect) {
                    true => Verdict::new(Kind::Ok, format!("answered `{said}`")).after(took),
                    false => Verdict::new(
                        Kind::Miss,
                        format!(
                            "asked `{}`, it answered `{said}`, not `{}`",
                            self.question, self.expect
                        ),
                    )
                    .after(took)
                    .next(format!(
                        "sanctum-launchd verify --host {}",
                        self.target.host
                    )),
                }
            }
            Err(error) => self.no_answer(error).await,
        }
    }

    /// Why there is no answer.
    async fn no_answer(&self, error: ProbeError) -> Verdict {
        let said = error.to_string();
        match &error {
            ProbeError::Busy { .. } => return Verdict::new(Kind::Busy, said),
            ProbeError::Timeout { .. } | ProbeError::Status { status: 503, .. } => {
                if let Some(moves) = self.heartbeat().await {
                    return Verdict::new(Kind::Busy, format!("{said}, but {moves}"));
                }
            }
            _ => {}
        }
        let away = matches!(
            error,
            ProbeError::Unreachable { .. } | ProbeError::Timeout { .. }
        );
        if let Some(reference) = self.reference.as_ref().filter(|_| away)
            && !reference.answers(SECOND_LOOK).await
        {
            return Verdict::new(
                Kind::Offline,
                format!(
                    "{said}, and neither can the reference {reference}: this host is off the network"
                ),
            );
        }
        let next = match self.target.on_box {
            true => format!(
                "curl -s {}/health; sanctum-launchd status",
                self.target.base
            ),
            false => format!("sanctum-launchd status --host {}", self.target.host),
        };
        Verdict::new(Kind::Miss, said).next(next)
    }

    /// What moves in an engine that gives no answer, if something does.
    async fn heartbeat(&self) -> Option<String> {
        let client = Client::new(&self.target, SECOND_LOOK).ok()?;
        let health = client.health().await.ok()?.value;
        health.beats().into_iter().find_map(|(_, beat)| {
            let age = beat.age();
            (beat.has_work() && age < ALIVE).then(|| match beat.phase {
                Phase::Loading => "its model is being loaded".to_owned(),
                _ => format!(
                    "its engine works on {} requests with {} waiting and moved {:.1} s ago",
                    beat.in_flight,
                    beat.queued,
                    age.as_secs_f64()
                ),
            })
        })
    }
}

impl Check for Canary {
    async fn check(&mut self, _round: &mut Round) -> Report {
        self.ask().await.into()
    }

    fn subject(&self) -> String {
        format!("{} on {}", self.target.server, self.target.host)
    }

    fn limit(&self) -> Duration {
        self.timeout + 3 * SECOND_LOOK
    }
}
