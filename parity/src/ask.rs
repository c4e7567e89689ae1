//! Asking every question, with patience: a nightly check that gave up because somebody else was being served would look
//! again only tomorrow.

use std::time::{Duration, Instant};

use sanctum_client::ClientError;
use sanctum_watch::{Kind, Miss, Report, Verdict, Watched};

use crate::spec::Spec;

/// So many answers' worth of time is waited for a server that is busy or away, for all questions together.
const PATIENCE: u32 = 3;
/// The pause where a server names none, and the longest that is kept where a busy one does.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a server said to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The message; why there is none, where the server refused this question alone.
    pub text: Result<String, String>,
    /// `stop`, `length` or another.
    pub finish_reason: String,
    /// Which build answered, where the server says.
    pub fingerprint: Option<String>,
    /// How long it took.
    pub latency: Duration,
}

/// Asks all questions in their order, one at a time.
///
/// # Errors
/// The report on a server that cannot be asked: busy, offline, or a miss. That says nothing about its answers.
pub async fn all(watched: &Watched, spec: &Spec) -> Result<Vec<Reply>, Box<Report>> {
    let client = watched.client()?;
    let mut patience = PATIENCE * watched.timeout;
    let mut replies = Vec::new();
    for prompt in &spec.prompts {
        let reply = loop {
            let begun = Instant::now();
            let error = match client.chat(&prompt.question).await {
                Ok(answer) => {
                    break Reply {
                        text: Ok(answer.value.text),
                        finish_reason: answer.value.finish_reason,
                        fingerprint: answer.value.system_fingerprint,
                        latency: answer.latency,
                    };
                }
                // The server lives and will have none of this question.
                Err(error @ ClientError::Format { .. }) => break refused(&error),
                Err(error @ ClientError::Status { status, .. }) if status != 503 => {
                    break refused(&error);
                }
                Err(error) => error,
            };
            let verdict = watched.no_answer(&error).await;
            let is_final = matches!(
                error,
                ClientError::Denied { .. } | ClientError::Credentials(_)
            );
            let (spent, pause) = match error {
                ClientError::Busy { retry_after, .. } => {
                    let pause = retry_after.unwrap_or(PAUSE).min(LONGEST_PAUSE);
                    // However soon it wants to be asked again, it will not be asked for ever.
                    (pause.max(watched.timeout / 20), pause)
                }
                ClientError::Timeout { limit, .. } => (limit, Duration::ZERO),
                _ => {
                    let pause = PAUSE.min(watched.timeout / 12);
                    (begun.elapsed() + pause, pause)
                }
            };
            // A server that restarts refuses connections for a while; one that refuses credentials goes on refusing.
            let is_final = match verdict.kind {
                Kind::Busy => false,
                Kind::Miss => is_final,
                Kind::Ok | Kind::Offline => true,
            };
            if is_final || spent > patience {
                let asked = replies.len();
                let said = format!(
                    "{} (at `{}`, after {asked} of {} answers)",
                    verdict.said,
                    prompt.name,
                    spec.prompts.len()
                );
                return Err(Box::new(Report {
                    miss: Miss::NoAnswer,
                    ..Verdict { said, ..verdict }.into()
                }));
            }
            patience -= spent;
            tokio::time::sleep(pause).await;
        };
        replies.push(reply);
    }
    Ok(replies)
}

/// How long [`all`] may take, and a little more.
pub fn longest(watched: &Watched, prompts: u32) -> Duration {
    let each = watched.timeout.saturating_mul(prompts + PATIENCE);
    each + LONGEST_PAUSE + (1 + PATIENCE) * Watched::second_look()
}

fn refused(error: &ClientError) -> Reply {
    Reply {
        text: Err(error.to_string()),
        finish_reason: String::new(),
        fingerprint: None,
        latency: Duration::ZERO,
    }
}
