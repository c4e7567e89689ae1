//! fleet.toml in types. Every program reads all of it, so that one error is found by the first program that starts.

mod alerts;
mod daemons;
mod page;
mod parse;
mod prefix_cache;
mod role;
mod sections;
mod server;
mod upstream;

pub use alerts::{ChannelKind, ChannelSection, SmtpTls};
pub use daemons::{Agent, Watch};
pub use page::FleetPage;
pub use prefix_cache::{CheckRate, DISK_LIMIT, Gigabytes, PrefixCacheScope};
pub use role::Role;
pub use sections::{Fleet, General, Host, Logs};
pub use server::{
    Audit, Auth, BackendSetting, KvCacheFormat, Limits, Loopback, Memory, ModelSection, Server, Tls,
};
pub use upstream::UpstreamSection;

#[cfg(test)]
mod tests;
