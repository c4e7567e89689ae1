//! The choices of a request that the engine has no room for yet. A request may have more of them than the queue has places:
//! 64 prompts with 16 answers each.

use std::collections::VecDeque;
use std::sync::Arc;

use sanctum_engine::schedule::{Request, SubmitError};

use super::running::RunningChoice;
use crate::api::echo::Echo;
use crate::api::error::ApiError;
use crate::api::reply::ReplyParser;
use crate::models::Ready;

/// The choices that wait, in order.
pub(super) struct WaitingChoices {
    /// The model that answers; none once no choice waits, so that an engine that was replaced can end.
    ready: Option<Arc<Ready>>,
    prompts: VecDeque<PromptChoices>,
    /// The field of the request that errors about a prompt name.
    field: &'static str,
}

/// The choices of one prompt.
pub(super) struct PromptChoices {
    /// The request of the first; those after it have the seeds after its.
    pub request: Request,
    pub reply: ReplyParser,
    pub echo: Option<Echo>,
    /// How many there are.
    pub count: usize,
    /// How many of them were submitted.
    pub submitted: usize,
}

impl WaitingChoices {
    /// All choices of a request.
    pub(super) fn new(ready: Arc<Ready>, prompts: Vec<PromptChoices>, field: &'static str) -> Self {
        Self {
            ready: Some(ready),
            prompts: prompts.into(),
            field,
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        let counts = self.prompts.iter();
        counts.map(|prompt| prompt.count - prompt.submitted).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// Submits those that the engine has room for, and adds them to `running`.
    ///
    /// # Errors
    /// If one can never be served, or there is no room for the first of all.
    pub(super) fn admit(&mut self, running: &mut Vec<RunningChoice>) -> Result<(), ApiError> {
        while let Some(prompt) = self.prompts.front_mut() {
            let Some(ready) = &self.ready else { break };
            let mut request = prompt.request.clone();
            let seed = &mut request.sampling.seed;
            *seed = seed.wrapping_add(prompt.submitted as u64);
            let events = match ready.engine.submit(request) {
                Ok(events) => events,
                Err(SubmitError::QueueFull { .. }) if !running.is_empty() => return Ok(()),
                Err(error) => return Err(ApiError::from_submit(&error, self.field)),
            };
            running.push(RunningChoice::new(
                prompt.reply.clone(),
                events,
                prompt.echo.clone(),
                prompt.submitted == 0,
            ));
            prompt.submitted += 1;
            if prompt.submitted == prompt.count {
                self.prompts.pop_front();
            }
        }
        self.ready = None;
        Ok(())
    }
}
