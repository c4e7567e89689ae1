//! Asks every question, and retries: a nightly check that fails because the server is busy runs again only tomorrow.

use std::time::{Duration, Instant};

use sanctum_client::ClientError;
use sanctum_watch::{ActiveClient, Verdict, VerdictKind, WatchedServer};

use crate::spec::Spec;

/// The time for retries, for all questions together, in answers' time limits.
const RETRIES: u32 = 3;
/// The pause before a retry if the server sends no `Retry-After`, and the longest pause.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(30);

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
}

/// Asks all questions in their order, one at a time; with the agent that answered.
///
/// # Errors
/// The verdict on a server that gave no answer: busy, offline, or a miss. Nothing is known about the answers.
pub(crate) async fn all(
    watched: &WatchedServer,
    spec: &Spec,
) -> Result<(Vec<PromptReply>, ActiveClient), Verdict> {
    let active = watched.client().await?;
    let mut patience = RETRIES * watched.timeout;
    let mut replies = Vec::new();
    for prompt in &spec.prompts {
        let reply = loop {
            let begun = Instant::now();
            let error = match active.client.chat(&prompt.request).await {
                Ok(answer) => {
                    break PromptReply {
                        text: Ok(answer.value.text),
                        finish_reason: answer.value.finish_reason,
                        fingerprint: answer.value.system_fingerprint,
                        latency: answer.latency,
                    };
                }
                // The server is alive and rejects this request.
                Err(error @ ClientError::Format { .. }) => break rejected(&error),
                Err(error @ ClientError::Status { status, .. }) if status != 503 => {
                    break rejected(&error);
                }
                Err(error) => error,
            };
            let verdict = watched.no_answer(&active, &error).await;
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
                VerdictKind::Ok | VerdictKind::Offline => true,
            };
            if is_final || spent > patience {
                let asked = replies.len();
                let message = format!(
                    "{} (at `{}`, after {asked} of {} answers)",
                    verdict.message,
                    prompt.name,
                    spec.prompts.len()
                );
                return Err(Verdict { message, ..verdict });
            }
            patience -= spent;
            tokio::time::sleep(pause).await;
        };
        replies.push(reply);
    }
    Ok((replies, active))
}

/// The time limit of [`all`].
pub(crate) fn longest(watched: &WatchedServer, prompts: u32) -> Duration {
    let each = watched.timeout.saturating_mul(prompts + RETRIES);
    each + MAX_PAUSE + (1 + RETRIES) * WatchedServer::overhead()
}

fn rejected(error: &ClientError) -> PromptReply {
    PromptReply {
        text: Err(error.to_string()),
        finish_reason: String::new(),
        fingerprint: None,
        latency: Duration::ZERO,
    }
}
