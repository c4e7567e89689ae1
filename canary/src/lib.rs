//! The canary: asks a question whose answer is known, and tells a wrong answer, no answer, a busy server and a host that
//! is itself off the network apart. It never restarts anything.

use std::time::Duration;

use sanctum_client::{ChatRequest, contains_answer};
use sanctum_config::UntrustedText;
use sanctum_watch::{Check, Kind, Miss, Report, Round, Setting, Verdict, Watched};

/// What is asked where fleet.toml says nothing.
pub const QUESTION: &str = "What is 2+2? Respond with only the number.";
/// What the answer must contain where fleet.toml says nothing.
pub const EXPECT: &str = "4";
/// How long an answer may take where fleet.toml says nothing: a busy server has a queue.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Tokens of the answer.
const MAX_TOKENS: u32 = 64;
/// What is shown of an answer, in characters.
const SHOWN: usize = 200;
/// The canary of one server.
#[derive(Debug)]
pub struct Canary {
    watched: Watched,
    question: String,
    expect: String,
}

impl Canary {
    /// What `[watch.NAME]` asks for.
    ///
    /// # Errors
    /// A sentence that names the key and its mend.
    pub fn new(setting: &Setting) -> Result<Self, String> {
        let watched = Watched::of(setting, TIMEOUT)?;
        let (question, expect) = match (&setting.watch.question, &setting.watch.expect) {
            (Some(_), None) => {
                return Err("`question` needs `expect`: what must the answer contain?".into());
            }
            (question, expect) => (
                question.clone().unwrap_or_else(|| QUESTION.into()),
                expect.clone().unwrap_or_else(|| EXPECT.into()),
            ),
        };
        Ok(Self {
            watched,
            question,
            expect,
        })
    }

    async fn ask(&self) -> Report {
        let client = match self.watched.client() {
            Ok(client) => client,
            Err(report) => return *report,
        };
        let request = ChatRequest::user(&self.question, MAX_TOKENS);
        match client.chat(&request).await {
            Ok(answer) => {
                let text = answer.value.text.trim();
                let said = UntrustedText::bounded(text, SHOWN);
                let took = answer.latency;
                let verdict = match contains_answer(text, &self.expect) {
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
                        self.watched.endpoint.host
                    )),
                };
                verdict.into()
            }
            Err(error) => Report {
                miss: Miss::NoAnswer,
                ..self.watched.no_answer(&error).await.into()
            },
        }
    }
}

impl Check for Canary {
    async fn check(&mut self, _round: &mut Round) -> Report {
        self.ask().await
    }

    fn subject(&self) -> String {
        self.watched.subject()
    }

    fn limit(&self) -> Duration {
        self.watched.timeout + Watched::second_look()
    }
}
