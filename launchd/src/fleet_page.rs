//! `status --serve`: what `status` shows, for all hosts, as a page for a browser on this machine.
//!
//! Each host has a thread that observes it at the page's interval, over ssh if it is another one ([`observer`]); what it finds
//! is in the [`view`], with the time and the last error. One more thread reads the view at the same interval, decides how
//! available each server is ([`availability`]), and appends that to the [`history`] on disk. HTTP requests only read the
//! view: neither a host that hangs nor a slow disk delays the page. Nothing here changes a host.

mod availability;
mod history;
mod http;
mod observer;
mod request_check;
mod serve;
mod settings;
mod view;

pub(crate) use serve::serve;
pub(crate) use settings::PageSettings;
