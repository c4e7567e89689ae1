//! Tokens in, tokens out: the inference engine of a Qwen3.5 hybrid model.
//!
//! The way in: [`load`] opens a checkpoint ([`checkpoint`], [`model_config`], [`weights`], [`adapter`]), [`graph`] runs it on a
//! [`backend`], and [`engine::Engine`] serves requests from a thread of its own (`scheduler`, `sequence`). The text
//! around the tokens is [`tokenizer`], [`template`], [`stop`], [`tool_calls`] and [`reasoning`].

pub mod backend;
mod freeze;
pub mod graph;
mod json;
pub mod launch;
pub mod load;
pub mod sampling;
pub mod schedule;
pub mod text;
