//! fleet.toml in types. Every program reads all of it, so that one error is found by the first program that starts.

mod daemons;
mod parse;
mod role;
mod sections;
mod server;

pub use daemons::{Agent, Channel, Watch};
pub use role::Role;
pub use sections::{Fleet, General, Host, Logs};
pub use server::{Audit, Auth, Backend, KvCache, Limits, Loopback, Memory, Model, Server, Tls};

#[cfg(test)]
mod tests;
