//! The HTTP API: OpenAI's, three pages for operators, and the console, a web page.
//!
//! [`router`] has the routes and puts the gate around them. A protocol (`chat`, `completions`) is a thin translation: it
//! parses a body into a [`generation::GenerationRequest`], and an encoder turns the outputs of the [`generation::ActiveGeneration`]
//! into its responses and chunks. Everything between is shared: [`body`] reads the bytes, [`fields`] takes JSON apart,
//! [`conversation`] and [`parameters`] are what a generation is made of, [`sse`] streams. Every failure is an
//! [`error::ApiError`].

mod adapters;
mod answer_rules;
mod anthropic;
pub(crate) mod body;
mod chat;
mod client_path;
mod completions;
mod console;
mod conversation;
mod cors;
mod echo;
mod error;
mod fields;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod generation;
mod health;
mod json;
mod logprobs;
mod models;
mod names;
mod openai;
mod parameters;
mod path_id;
mod prefix_scope;
mod protocol;
mod reasoning_effort;
mod refusal;
mod reply;
mod response_store;
mod responses;
mod router;
mod sse;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use response_store::ResponseStore;
#[cfg(test)]
pub(crate) use router::guard;
pub(crate) use router::router;
pub(crate) use state::AppState;
