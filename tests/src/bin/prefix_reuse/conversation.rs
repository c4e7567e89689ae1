//! Conversations without meaning, of any length.

use serde_json::{Value, json};

/// Short words that most tokenizers know whole.
const WORDS: [&str; 32] = [
    "the", "of", "and", "to", "in", "is", "for", "on", "that", "with", "as", "was", "at", "by",
    "an", "be", "this", "from", "or", "are", "not", "but", "all", "can", "one", "time", "has",
    "more", "out", "new", "now", "way",
];

/// Text of so many words; another one for another seed, from its first word on.
pub(crate) fn text(words: usize, seed: usize) -> String {
    let mut state = (seed as u32).wrapping_mul(0x9E37_79B9) | 1;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        WORDS[state as usize % WORDS.len()]
    };
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

pub(crate) fn message(role: &str, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

/// A request for an answer of at most so many tokens.
pub(crate) fn chat(messages: &[Value], tokens: usize) -> Value {
    json!({
        "messages": messages,
        "max_tokens": tokens,
        "temperature": 0,
        "chat_template_kwargs": { "enable_thinking": false },
    })
}
