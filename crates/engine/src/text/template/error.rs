//! Why a template gives no prompt.

/// Why there is no prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template itself is at fault.
    #[error("the chat template has a syntax error: {0}")]
    Syntax(String),
    /// The template refused the conversation with `raise_exception`; its own words.
    #[error("{0}")]
    Raised(String),
    /// The template could not make anything of the conversation.
    #[error("the chat template cannot render this conversation: {0}")]
    Render(String),
    /// The template is larger, or more deeply nested, than it may be.
    #[error("the chat template {0}")]
    TooComplex(String),
    /// It takes too many steps, or too much memory.
    #[error(
        "the chat template takes more steps or memory than it may for a conversation of {bytes} bytes; send fewer \
         messages, or correct a template that loops"
    )]
    TooMuchWork {
        /// Bytes of the conversation, its tools and variables.
        bytes: usize,
    },
    /// The prompt is too long to fit any context.
    #[error(
        "the chat template makes a prompt of more than {limit} bytes of this conversation; shorten it"
    )]
    TooLong {
        /// Bytes that a prompt may have.
        limit: usize,
    },
    /// The caller asked for it.
    #[error("rendering was stopped")]
    Stopped,
}
