//! The text side of a model: how it is written to and read from.

mod constraints;
pub mod output;
mod partial_match;
#[cfg(test)]
mod production;
pub(crate) mod stop;
pub(crate) mod stream_decoder;
pub(crate) mod template;
pub(crate) mod tokenizer;

use std::sync::Arc;

use sanctum_grammar::{Constraint, GrammarError, Rules};

use constraints::LazyGrammars;
pub use stop::StopBuffer;
pub use stream_decoder::StreamDecoder;
pub use template::{ChatTemplate, RENDER_STACK, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};

/// A model's tokenizer, chat template and end-of-sequence ids.
#[derive(Clone, Debug)]
pub struct Text {
    /// Text to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Messages to a prompt; base models have none.
    pub template: Option<Arc<ChatTemplate>>,
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
    /// Tokens that end a message of a prompt: the same, also where random weights end no answer.
    pub message_ends: Vec<u32>,
    /// For random weights, whose vocabulary is larger than the tokenizer's: ids are shown modulo this.
    pub wrap: Option<u32>,
    /// Constraints on answers: [`Text::constrain`].
    grammars: LazyGrammars,
}

impl Text {
    /// Puts the parts together.
    pub fn new(tokenizer: Tokenizer, template: Option<ChatTemplate>, eos: Vec<u32>) -> Self {
        Self {
            tokenizer: Arc::new(tokenizer),
            template: template.map(Arc::new),
            message_ends: eos.clone(),
            eos,
            wrap: None,
            grammars: LazyGrammars::default(),
        }
    }

    /// The constraint that `rules` put on an answer; none if they allow everything. With `thinking` the prompt has
    /// opened the reasoning, which is not constrained.
    ///
    /// # Errors
    /// If the rules are invalid, not supported or too complex, or the vocabulary cannot be used.
    pub fn constrain(
        &self,
        rules: &Rules,
        thinking: bool,
    ) -> Result<Option<Constraint>, GrammarError> {
        self.constrain_while(rules, thinking, &|| true)
    }

    /// Like [`Text::constrain`], and ends early once `is_wanted` says no.
    ///
    /// # Errors
    /// As [`Text::constrain`].
    pub fn constrain_while(
        &self,
        rules: &Rules,
        thinking: bool,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Constraint>, GrammarError> {
        let grammars = self.grammars.of(&self.tokenizer, &self.eos, rules)?;
        match grammars {
            Some(grammars) => grammars.compile_while(rules, thinking, is_wanted),
            None => Ok(None),
        }
    }

    /// Starts to build what [`Text::constrain`] needs, on a thread of its own.
    pub fn prepare_constraints(&self) {
        self.grammars
            .prepare(Arc::clone(&self.tokenizer), self.eos.clone());
    }

    /// The id under which a token is shown.
    pub fn shown(&self, id: u32) -> u32 {
        self.wrap.map_or(id, |vocab| id % vocab)
    }
}
