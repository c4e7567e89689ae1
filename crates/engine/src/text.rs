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

use constraints::Grammars;
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
    /// For random weights, whose vocabulary is larger than the tokenizer's: ids are shown modulo this.
    pub wrap: Option<u32>,
    /// Constraints on answers: [`Text::constrain`].
    grammars: Arc<Grammars>,
}

impl Text {
    /// Puts the parts together.
    pub fn new(tokenizer: Tokenizer, template: Option<ChatTemplate>, eos: Vec<u32>) -> Self {
        Self {
            tokenizer: Arc::new(tokenizer),
            template: template.map(Arc::new),
            eos,
            wrap: None,
            grammars: Arc::default(),
        }
    }

    /// The id under which a token is shown.
    pub fn shown(&self, id: u32) -> u32 {
        self.wrap.map_or(id, |vocab| id % vocab)
    }
}
