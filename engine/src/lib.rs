//! Tokens in, tokens out: the inference engine of a Qwen3.5 hybrid model.

pub mod heartbeat;
mod partial_match;
pub mod reasoning;
pub mod request;
pub mod sampling;
pub mod stop;
pub mod stream_decoder;
pub mod tokenizer;
pub mod tool_calls;
