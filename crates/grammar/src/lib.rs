//! Which tokens may follow: constraints on an answer, as one bit for each token of the vocabulary.
//!
//! - [`Grammars`] belongs to a model. It knows the bytes of every token and compiles [`Rules`].
//! - [`Rules`] say what a request wants: an answer of a [`Format`] (a JSON schema, a regular expression, a choice, a
//!   grammar), tool calls of a [`CallRules`], or both.
//! - [`Constraint`] belongs to a sequence. [`Constraint::allowed`] gives the [`Mask`] for the next token,
//!   [`Constraint::accept`] advances by the token that was chosen.
//!
//! The parsing is done by the crate `llguidance`: an Earley parser over a lexer of regular-expression derivatives,
//! walked along a trie of the vocabulary. This crate adds what depends on the model and on the API:
//!
//! - Reasoning is not constrained: the rules apply after `</think>`, or from a `<tool_call>` inside the reasoning, which
//!   ends it. Only the end of the sequence is forbidden there.
//! - Tool calls are a grammar over Qwen's XML form (`calls`). Where calls are optional, a matcher runs only from
//!   `<tool_call>` to `</tool_call>`; text between them is free.
//! - A schema is checked before it is compiled (`schema`), and an error names the place in it (`locate`).
//!
//! All work is bounded: the size of a schema, the fuel of the lexer, the states and items of a step.

mod bounds;
mod calls;
mod cancellation;
mod constraint;
mod error;
mod format;
mod grammars;
mod literal;
mod locate;
mod mask;
mod parameters;
mod patterns;
mod reading;
mod references;
mod rules;
mod schema;
mod spelled;
mod strings;
#[cfg(test)]
mod tests;
mod values;
mod vocabulary;

pub use calls::{CallRules, Tool};
pub use cancellation::Cancellation;
pub use constraint::{Allowed, Constraint, Progress};
pub use error::GrammarError;
pub use format::Format;
pub use grammars::Grammars;
pub use mask::Mask;
pub use rules::Rules;
pub use vocabulary::{TokenBytes, Vocabulary};
