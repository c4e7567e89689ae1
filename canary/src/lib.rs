//! The canary: asks a question with a known answer. It distinguishes a wrong answer, no answer, a busy server, and a host
//! that is offline itself. It alerts; it never restarts anything.
//!
//! [`Canary`] is the check; `sanctum-watch` is the loop around it. It asks through `sanctum-client`, as its host reaches the
//! server: the standby's answer counts while a standby serves.

use std::convert::Infallible;
use std::time::Duration;

use sanctum_client::{ChatRequest, contains_answer};
use sanctum_config::UntrustedText;
use sanctum_watch::{
    Check, CheckReport, Notice, Round, Verdict, VerdictKind, WatchdogConfig, WatchedServer,
};

/// The default of `question`.
pub const QUESTION: &str = "What is 2+2? Respond with only the number.";
/// The default of `expect`: what the answer must contain.
pub const EXPECT: &str = "4";
/// The default of `timeout`: a busy server has a queue.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The largest number of tokens of an answer.
const MAX_TOKENS: u32 = 64;
/// What a message shows of an answer, in characters.
const SHOWN: usize = 200;

/// The canary of one server.
#[derive(Debug)]
pub struct Canary {
    watched: WatchedServer,
    question: String,
    expect: String,
}

impl Canary {
    /// The canary of `[watch.NAME]`.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub fn new(config: &WatchdogConfig) -> Result<Self, String> {
        let watched = WatchedServer::of(config, TIMEOUT)?;
        let (question, expect) = (&config.watch.question, &config.watch.expect);
        Ok(Self {
            watched,
            question: question.clone().unwrap_or_else(|| QUESTION.into()),
            expect: expect.clone().unwrap_or_else(|| EXPECT.into()),
        })
    }

    async fn ask(&self) -> Verdict {
        let active = match self.watched.client().await {
            Ok(active) => active,
            Err(verdict) => return verdict,
        };
        let request = ChatRequest::user(&self.question, MAX_TOKENS);
        let answer = match active.client.chat(&request).await {
            Ok(answer) => answer,
            Err(error) => return self.watched.no_answer(&active, &error).await,
        };
        let text = answer.value.text.trim();
        let shown = UntrustedText::bounded(text, SHOWN);
        let standby = active.standby.map_or_else(String::new, |standby| {
            format!(" (the standby `{standby}` serves)")
        });
        let verdict = match contains_answer(text, &self.expect) {
            true => Verdict::new(VerdictKind::Ok, format!("answered `{shown}`{standby}")),
            false => Verdict::new(
                VerdictKind::Miss,
                format!(
                    "asked `{}`, it answered `{shown}` instead of `{}`{standby}",
                    self.question, self.expect
                ),
            )
            .next(self.verify()),
        };
        verdict.after(answer.latency)
    }

    /// The command that compares the server's host with what was installed there.
    fn verify(&self) -> String {
        let WatchedServer {
            commands, endpoint, ..
        } = &self.watched;
        commands.typed(&format!("verify --host {}", endpoint.host))
    }
}

impl Check for Canary {
    type Action = Infallible;

    async fn check(&mut self, _round: &Round<'_>) -> CheckReport<Infallible> {
        let verdict = self.ask().await;
        let notice = self.watched.answers_while_stopped(&verdict).await;
        CheckReport {
            notices: notice.into_iter().collect(),
            ..verdict.into()
        }
    }

    async fn execute(&mut self, action: Infallible) -> Vec<Notice> {
        match action {}
    }

    fn subject(&self) -> String {
        self.watched.subject()
    }

    fn limit(&self) -> Duration {
        self.watched.timeout + WatchedServer::overhead()
    }
}
