//! The API as a client sees it, in front of an engine that follows a script.

mod chat;
mod completions;
mod connections;
mod constraints;
mod continuation;
mod errors;
pub(crate) mod fixture;
mod messages;
mod names;
mod operators;
mod reasoning_effort;
mod request_fields;
mod stop_strings;
mod tokens;
