//! Tokens in, tokens out: the inference engine for Qwen3.5 hybrid models.
//!
//! # Concepts
//!
//! - A **model source** ([`load::ModelSource`]) is a checkpoint folder, a folder that must match a signed manifest, the
//!   built-in model, or random weights of a production shape. [`load`] turns it into weights and a text side, and merges a
//!   LoRA adapter if one is named.
//! - A **backend** ([`backend::Backend`]) computes: the CPU's own kernels, or MLX on a GPU. The model's graph ([`graph`]) is
//!   written once, over its dozen operations.
//! - A **pass** runs one batch through the graph. A batch mixes rows of many sequences: one row for each sequence that is
//!   being generated, and chunks of prompts.
//! - A **slot** is the memory of one sequence: its KV cache and recurrent states. Admission ([`schedule::Admission`]) starts a
//!   sequence only if its whole answer fits into memory.
//! - The **engine** ([`schedule::Engine`]) is a handle to the one thread that owns the model. [`schedule`] decides which
//!   sequences take part in the next pass; [`prefix`] keeps what was computed, so that a prompt that begins alike starts behind it; [`sampling`] chooses each token; the heartbeat shows progress without a lock.
//! - The **text side** ([`text`]) is what surrounds the tokens: tokenizer, chat template, stop strings, reasoning, tool calls.
//!
//! [`launch`] does all of it. On the CPU backend a sequence's tokens do not depend on the batch, the chunks, or the number of
//! threads, bit for bit.
//!
//! # Example
//!
//! The built-in model answers a prompt:
//!
//! ```
//! use std::sync::Arc;
//!
//! use sanctum_engine::launch::{BackendChoice, LaunchOptions, launch};
//! use sanctum_engine::load::ModelSource;
//! use sanctum_engine::prefix::Reuse;
//! use sanctum_engine::sampling::Sampling;
//! use sanctum_engine::schedule::{Event, Heartbeat, Request};
//!
//! let options = LaunchOptions {
//!     backend: BackendChoice::Cpu,
//!     ..LaunchOptions::default()
//! };
//! let heartbeat = Arc::new(Heartbeat::new());
//! let engine = launch(&ModelSource::Embedded, None, &options, heartbeat, |_, _| {})?.engine;
//!
//! let mut generation = engine.submit(Request {
//!     prompt: engine.text().tokenizer.encode("Hello")?,
//!     max_tokens: 5,
//!     sampling: Sampling { temperature: 0.0, ..Sampling::default() },
//!     stop: Vec::new(),
//!     logprobs: None,
//!     score_prompt: false,
//!     constraint: None,
//!     ignore_eos: true,
//!     reuse: Reuse::Off,
//! })?;
//! let mut tokens = 0;
//! while let Some(event) = generation.blocking_next() {
//!     match event {
//!         Event::Token { .. } => tokens += 1,
//!         Event::Finished { usage, .. } => assert_eq!(usage.completion_tokens, tokens),
//!         other => panic!("{other:?}"),
//!     }
//! }
//! assert_eq!(tokens, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backend;
mod freeze;
pub mod graph;
mod json;
pub mod launch;
pub mod load;
pub mod prefix;
pub mod sampling;
pub mod schedule;
pub mod text;
