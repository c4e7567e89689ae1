//! One continuation of a request, in the engine.

use sanctum_engine::schedule::{Generation, KeptMemory};

use crate::api::echo::{Echo, EchoPart};
use crate::api::reply::ReplyParser;

/// One continuation.
pub(super) struct RunningChoice {
    pub reply: ReplyParser,
    /// None once it has ended.
    pub events: Option<Generation>,
    pub kept: KeptMemory,
    /// What comes before the first token.
    pub echo: Option<Echo>,
    /// Whether its prompt is counted in the usage: once for all continuations of it.
    pub counts_prompt: bool,
}

impl RunningChoice {
    pub(super) fn new(
        reply: ReplyParser,
        events: Generation,
        echo: Option<Echo>,
        counts_prompt: bool,
    ) -> Self {
        Self {
            reply,
            kept: events.kept(),
            events: Some(events),
            echo,
            counts_prompt,
        }
    }

    /// The next part of the prompt, if it is sent back and there is one now.
    pub(super) fn next_echo(&mut self) -> Option<EchoPart> {
        self.echo.as_mut()?.next_part()
    }
}
