//! A request that the engine works on, as both endpoints see it.

use std::time::Instant;

use sanctum_engine::schedule::Generation;
use sanctum_engine::schedule::KeptMemory;
use sanctum_engine::schedule::{Event, FinishReason, Request, TokenLogprob, Usage};

use super::error::ApiError;
use super::{App, wire};
use crate::audit::Account;
use crate::metrics::GenerationClock;
use crate::models::{Ready, Served};
use crate::shutdown::Shutdown;

/// A generation in progress. Dropping it, as the HTTP layer does when the client has gone, cancels it.
pub struct Running {
    generation: Generation,
    clock: GenerationClock,
    shutdown: Shutdown,
    account: Account,
}

/// What has become of it.
#[derive(Debug)]
pub enum Step {
    /// One more token.
    Token {
        /// The text that became certain with it; often none.
        text: String,
        /// If it was asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The end.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Text that was held back until now.
        text: String,
        /// What it cost.
        usage: Usage,
    },
}

impl Running {
    /// Hands a request to the engine; `prompt` is the field that errors about the prompt name.
    pub fn submit(
        app: &App,
        served: &Served,
        ready: &Ready,
        request: Request,
        prompt: &str,
        began: Instant,
        account: Account,
    ) -> Result<Self, ApiError> {
        let tokens = request.prompt.len();
        let generation = ready
            .engine
            .submit(request)
            .map_err(|error| ApiError::from_submit(error, prompt))?;
        account.submitted(tokens);
        Ok(Self {
            generation,
            clock: app.metrics.generation(served, began),
            shutdown: app.shutdown.clone(),
            account,
        })
    }

    /// The memory of its log probabilities, to be held as long as they are.
    pub fn kept(&self) -> KeptMemory {
        self.generation.kept()
    }

    /// What happens next. After [`Step::Finished`] or an error nothing does.
    pub async fn next(&mut self) -> Result<Step, ApiError> {
        let event = tokio::select! {
            biased;
            event = self.generation.next() => event,
            () = self.shutdown.cancelled() => {
                self.account.cancelled();
                return Err(ApiError::ShuttingDown);
            }
        };
        match event {
            Some(Event::Token { text, logprob, .. }) => {
                self.clock.token();
                self.account.token();
                Ok(Step::Token { text, logprob })
            }
            Some(Event::Finished {
                reason,
                text,
                usage,
            }) => {
                self.clock.ended(wire::finish_reason(reason));
                self.account.finished(wire::finish_reason(reason), usage);
                Ok(Step::Finished {
                    reason,
                    text,
                    usage,
                })
            }
            Some(Event::Failed(reason)) => {
                self.clock.ended("failed");
                self.account.failed();
                Err(ApiError::Engine(reason))
            }
            None => {
                self.clock.ended("failed");
                self.account.failed();
                Err(ApiError::Engine(
                    "the engine has stopped; see the server's log for the reason".into(),
                ))
            }
        }
    }
}
