//! `status`: what is observed of each host, and how it is shown.

mod host_status;
mod observe;
mod screen;
mod summary;

#[cfg(test)]
mod tests;

pub(crate) use host_status::HostStatus;
pub(crate) use observe::this_host;
pub(crate) use screen::{Paint, screen};
pub(crate) use summary::{count, summary};
