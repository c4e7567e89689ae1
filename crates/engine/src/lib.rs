//! Tokens in, tokens out: the inference engine of a Qwen3.5 hybrid model.
//!
//! The way in: [`load`] opens a checkpoint ([`checkpoint`], [`model_config`], [`weights`], [`adapter`]), [`graph`] runs it on a
//! [`backend`], and [`engine::Engine`] serves requests from a thread of its own (`scheduler`, `sequence`). The text
//! around the tokens is [`tokenizer`], [`template`], [`stop`], [`tool_calls`] and [`reasoning`].

pub mod adapter;
pub mod admission;
pub mod backend;
pub mod batch;
pub mod checkpoint;
pub mod embedded;
pub mod engine;
mod freeze;
pub mod graph;
pub mod heartbeat;
pub mod launch;
pub mod load;
pub mod machine;
pub mod memory;
pub mod model_config;
mod partial_match;
#[cfg(test)]
mod production;
pub mod random;
pub mod reasoning;
pub mod request;
pub mod sampling;
mod scheduler;
mod sequence;
pub mod stop;
pub mod stream_decoder;
pub mod template;
pub mod text;
pub mod tokenizer;
pub mod tool_calls;
pub mod weights;
