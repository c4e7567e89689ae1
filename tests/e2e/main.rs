//! End-to-end tests: real processes, real sockets, a real client library, the built-in model.
//!
//! Each file has the tests of one subject. Every test starts its own server, so that each can be read and run alone.

mod adapters;
mod agents;
mod alerts;
mod audit;
mod auth;
mod browsers;
mod cache;
mod chat;
mod completions;
mod concurrency;
mod console;
mod constraints;
mod demo;
mod doctor;
mod drift;
mod everyday;
#[cfg(target_os = "linux")]
mod failover;
mod files;
mod fleet;
mod fleet_page;
mod folders;
mod hostile;
mod incidents;
mod laptop;
mod logprobs;
mod manifest;
mod monitoring;
#[cfg(target_os = "linux")]
mod offbox;
mod openai;
mod operators;
#[cfg(target_os = "linux")]
mod outside;
mod parity;
mod plists;
mod prefix;
mod push;
mod refusals;
mod secrets;
mod shutdown;
mod sshd;
mod start;
mod stop;
mod stream;
mod tls;
mod tools;
#[cfg(target_os = "linux")]
mod walk;

use sanctum_tests::{host, receiver};
