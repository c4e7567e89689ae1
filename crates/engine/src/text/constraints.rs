//! Constraints on a model's answers.
//!
//! The trie of a vocabulary takes a fraction of a second to build, so it is built beside the load of the weights
//! ([`Text::prepare_constraints`]); a request that comes earlier waits for it.

use std::sync::OnceLock;
use std::thread;

use sanctum_grammar::{Constraint, GrammarError, Rules, TokenBytes, Vocabulary};

use super::Text;

/// The grammars of a model, once they are needed.
#[derive(Debug, Default)]
pub(super) struct Grammars(OnceLock<Result<sanctum_grammar::Grammars, GrammarError>>);

/// The end of a turn in Qwen's format, for models that name no end of a sequence.
const END_OF_TURN: &str = "<|im_end|>";

impl Text {
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
        if !rules.constrain() {
            return Ok(None);
        }
        let built = self.grammars.0.get_or_init(|| self.build());
        built
            .as_ref()
            .map_err(Clone::clone)?
            .compile(rules, thinking)
    }

    /// Starts to build what [`Text::constrain`] needs, on a thread of its own.
    pub fn prepare_constraints(&self) {
        let text = self.clone();
        // Without the thread the first constrained request builds it.
        let _ = thread::Builder::new()
            .name("grammars".into())
            .spawn(move || {
                text.grammars.0.get_or_init(|| text.build());
            });
    }

    fn build(&self) -> Result<sanctum_grammar::Grammars, GrammarError> {
        let tokenizer = &self.tokenizer;
        let tokens = (0..tokenizer.vocab_size() as u32).map(|id| TokenBytes {
            bytes: tokenizer.token_bytes(id).to_vec(),
            added: tokenizer.is_added(id),
        });
        let ends = match self.eos.is_empty() {
            true => tokenizer.token_id(END_OF_TURN).into_iter().collect(),
            false => self.eos.clone(),
        };
        sanctum_grammar::Grammars::new(&Vocabulary {
            tokens: tokens.collect(),
            ends,
        })
    }
}
