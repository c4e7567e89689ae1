//! Asks every question, and retries: a nightly check that fails because the server is busy runs again only tomorrow.
//!
//! A server may reuse what it computed of an earlier prompt with the same beginning. Every question is therefore asked with
//! and without reuse: an answer that depends on what was computed before is a wrong one.

use std::time::{Duration, Instant};

use sanctum_client::{ChatRequest, ClientError};
use sanctum_watch::{ActiveClient, Verdict, VerdictKind, WatchedServer};

use crate::spec::Spec;

/// The time for retries, for all questions together, in answers' time limits.
const RETRIES: u32 = 3;
/// Requests for one question: the first leaves its prefix, the second reuses it, the third reuses nothing.
const REQUESTS: u32 = 3;
/// The pause before a retry if the server sends no `Retry-After`, and the longest pause.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The field that turns reuse off for one request; servers without reuse ignore it.
const REUSE: &str = "cache_prompt";

/// The reply to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PromptReply {
    /// The answer, or why the server rejected this request.
    pub text: Result<String, String>,
    /// `stop`, `length` or another.
    pub finish_reason: String,
    /// The build that answered, if the server sends it.
    pub fingerprint: Option<String>,
    /// How long it took.
    pub latency: Duration,
    /// Tokens of the prompt that the server reused, if it says so.
    pub reused_tokens: Option<u64>,
    /// The answer to the same question without reuse, or why the server rejected that request. None if the question was
    /// not asked a second time.
    pub cold: Option<Result<String, String>>,
}

/// Asks questions, one at a time.
struct Asking<'a> {
    watched: &'a WatchedServer,
    active: ActiveClient,
    /// The time that is left for retries.
    patience: Duration,
}

/// Asks all questions in their order, one at a time; with the agent that answered.
///
/// # Errors
/// The verdict on a server that gave no answer: busy, offline, or a miss. Nothing is known about the answers.
pub(crate) async fn all(
    watched: &WatchedServer,
    spec: &Spec,
) -> Result<(Vec<PromptReply>, ActiveClient), Verdict> {
    let mut asking = Asking {
        watched,
        active: watched.client().await?,
        patience: RETRIES * watched.timeout,
    };
    let mut replies = Vec::new();
    for prompt in &spec.prompts {
        let reply = asking.question(&prompt.request).await;
        replies.push(reply.map_err(|verdict| {
            let message = format!(
                "{} (at `{}`, after {} of {} answers)",
                verdict.message,
                prompt.name,
                replies.len(),
                spec.prompts.len()
            );
            Verdict { message, ..verdict }
        })?);
    }
    Ok((replies, asking.active))
}

impl Asking<'_> {
    /// Asks one question with what the server has computed before, and once more without.
    async fn question(&mut self, request: &ChatRequest) -> Result<PromptReply, Verdict> {
        let mut reply = self.request(request).await?;
        if reply.text.is_err() || request.more.contains_key(REUSE) {
            return Ok(reply);
        }
        if reply.reused_tokens == Some(0) {
            // Now the server has computed its prefix.
            let latency = reply.latency;
            reply = self.request(request).await?;
            reply.latency += latency;
        }
        let mut cold = request.clone();
        cold.more.insert(REUSE.to_owned(), false.into());
        let cold = self.request(&cold).await?;
        Ok(PromptReply {
            latency: reply.latency + cold.latency,
            cold: Some(cold.text),
            ..reply
        })
    }

    async fn request(&mut self, request: &ChatRequest) -> Result<PromptReply, Verdict> {
        let watched = self.watched;
        loop {
            let begun = Instant::now();
            let error = match self.active.client.chat(request).await {
                Ok(answer) => {
                    return Ok(PromptReply {
                        text: Ok(answer.value.text),
                        finish_reason: answer.value.finish_reason,
                        fingerprint: answer.value.system_fingerprint,
                        latency: answer.latency,
                        reused_tokens: answer.value.cached_tokens,
                        cold: None,
                    });
                }
                // The server is alive and rejects this request.
                Err(error @ ClientError::Format { .. }) => return Ok(rejected(&error)),
                Err(error @ ClientError::Status { status, .. }) if status != 503 => {
                    return Ok(rejected(&error));
                }
                Err(error) => error,
            };
            let verdict = watched.no_answer(&self.active, &error).await;
            let is_final = matches!(
                error,
                ClientError::Denied { .. } | ClientError::Credentials(_)
            );
            let (spent, pause) = match error {
                ClientError::Busy { retry_after, .. } => {
                    let pause = retry_after.unwrap_or(PAUSE).min(MAX_PAUSE);
                    // A short `Retry-After` does not mean retries without end.
                    (pause.max(watched.timeout / 20), pause)
                }
                ClientError::Timeout { limit, .. } => (limit, Duration::ZERO),
                _ => {
                    let pause = PAUSE.min(watched.timeout / 12);
                    (begun.elapsed() + pause, pause)
                }
            };
            // A server that restarts refuses connections temporarily; one that rejects credentials does not accept them later.
            let is_final = match verdict.kind {
                VerdictKind::Busy => false,
                VerdictKind::Miss => is_final,
                VerdictKind::Ok | VerdictKind::Offline | VerdictKind::Stopped => true,
            };
            if is_final || spent > self.patience {
                return Err(verdict);
            }
            self.patience -= spent;
            tokio::time::sleep(pause).await;
        }
    }
}

/// The time limit of [`all`].
pub(crate) fn longest(watched: &WatchedServer, prompts: u32) -> Duration {
    let requests = prompts.saturating_mul(REQUESTS).saturating_add(RETRIES);
    let each = watched.timeout.saturating_mul(requests);
    each + MAX_PAUSE + (1 + RETRIES) * WatchedServer::overhead()
}

fn rejected(error: &ClientError) -> PromptReply {
    PromptReply {
        text: Err(error.to_string()),
        finish_reason: String::new(),
        fingerprint: None,
        latency: Duration::ZERO,
        reused_tokens: None,
        cold: None,
    }
}
