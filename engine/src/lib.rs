//! Tokens in, tokens out: the inference engine of a Qwen3.5 hybrid model.

pub mod heartbeat;
pub mod request;
pub mod sampling;
