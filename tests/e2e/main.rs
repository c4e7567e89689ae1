//! The server as its users meet it: real processes, real sockets, a real client library, the model that is built in.
//!
//! Each file tells one side of it. Every test has a server of its own, so that each can be read, and run, alone.

mod adapters;
mod audit;
mod auth;
mod chat;
mod company;
mod completions;
mod drift;
mod files;
mod fleet;
mod folders;
mod host;
mod hostile;
mod incidents;
mod logprobs;
mod manifest;
#[cfg(target_os = "linux")]
mod offbox;
mod openai;
mod operators;
#[cfg(target_os = "linux")]
mod outside;
mod parity;
mod plists;
mod receiver;
mod refusals;
mod secrets;
mod shutdown;
mod start;
mod stop;
mod stream;
mod tls;
mod tools;
