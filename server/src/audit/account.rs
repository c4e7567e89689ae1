//! What becomes of a request, told by those who work on it.

use std::sync::{Arc, Mutex, PoisonError};

use sanctum_engine::schedule::Usage;

/// One request's account: in its extensions, for the handlers to write into.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<Mutex<Facts>>);

/// What is known of a request's generation so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub model: Option<String>,
    pub usage: Option<Usage>,
    /// The end, once it is there.
    pub end: Option<End>,
}

/// How a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is complete; why.
    Finished(&'static str),
    /// The server gave it up: its drain limit has passed.
    Cancelled,
    /// The engine could not go on.
    Failed,
}

impl Account {
    /// The request is for this model.
    pub fn model(&self, id: &str) {
        self.write(|facts| facts.model = Some(id.to_owned()));
    }

    /// The engine has it, with a prompt of so many tokens.
    pub fn submitted(&self, prompt_tokens: usize) {
        self.write(|facts| {
            facts.usage = Some(Usage {
                prompt_tokens,
                completion_tokens: 0,
            });
        });
    }

    /// One more token was generated.
    pub fn token(&self) {
        self.write(|facts| {
            if let Some(usage) = &mut facts.usage {
                usage.completion_tokens += 1;
            }
        });
    }

    /// It is complete.
    pub fn finished(&self, reason: &'static str, usage: Usage) {
        self.write(|facts| {
            facts.usage = Some(usage);
            facts.end = Some(End::Finished(reason));
        });
    }

    /// The server gave it up.
    pub fn cancelled(&self) {
        self.write(|facts| facts.end = Some(End::Cancelled));
    }

    /// The engine could not go on with it.
    pub fn failed(&self) {
        self.write(|facts| facts.end = Some(End::Failed));
    }

    pub(super) fn facts(&self) -> Facts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn write(&self, act: impl FnOnce(&mut Facts)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
