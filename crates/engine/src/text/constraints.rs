//! Constraints on a model's answers.
//!
//! The trie of a vocabulary takes a fraction of a second to build, so it is built beside the load of the weights; a request
//! that comes earlier waits for it.

use std::sync::{Arc, OnceLock};
use std::thread;

use sanctum_grammar::{GrammarError, Grammars, Rules, TokenBytes, Vocabulary};

use crate::text::tokenizer::Tokenizer;

/// The grammars of a model, once they are needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct LazyGrammars(Arc<OnceLock<Result<Grammars, GrammarError>>>);

/// The end of a turn in Qwen's format, for models that name no end of a sequence.
const END_OF_TURN: &str = "<|im_end|>";

impl LazyGrammars {
    /// The grammars that `rules` need; none if they allow everything.
    pub(crate) fn of(
        &self,
        tokenizer: &Tokenizer,
        eos: &[u32],
        rules: &Rules,
    ) -> Result<Option<&Grammars>, GrammarError> {
        if !rules.constrain() {
            return Ok(None);
        }
        let built = self.0.get_or_init(|| build(tokenizer, eos));
        built.as_ref().map(Some).map_err(Clone::clone)
    }

    /// Starts to build them, on a thread of its own.
    pub(crate) fn prepare(&self, tokenizer: Arc<Tokenizer>, eos: Vec<u32>) {
        let grammars = self.clone();
        // Without the thread the first constrained request builds them.
        let _ = thread::Builder::new()
            .name("grammars".into())
            .spawn(move || {
                grammars.0.get_or_init(|| build(&tokenizer, &eos));
            });
    }
}

fn build(tokenizer: &Tokenizer, eos: &[u32]) -> Result<Grammars, GrammarError> {
    let tokens = (0..tokenizer.vocab_size() as u32).map(|id| TokenBytes {
        bytes: tokenizer.token_bytes(id).to_vec(),
        added: tokenizer.is_added(id),
    });
    let ends = match eos {
        [] => tokenizer.token_id(END_OF_TURN).into_iter().collect(),
        eos => eos.to_vec(),
    };
    Grammars::new(&Vocabulary {
        tokens: tokens.collect(),
        ends,
    })
}
