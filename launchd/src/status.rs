//! `status`: what is observed of each host, and how it is shown.

mod host_status;
mod observe;
mod screen;
mod shown_hosts;
mod summary;

#[cfg(test)]
mod tests;

pub(crate) use host_status::{AgentStatus, HostStatus, ServerStatus};
pub(crate) use observe::this_host;
pub(crate) use screen::{Paint, StatusScreen};
pub(crate) use shown_hosts::{here, shown_hosts, ssh_destination};
pub(crate) use summary::{count, summary};
