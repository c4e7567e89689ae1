//! Files for another host: which ones, how they are sent, and how they are put in place.
//!
//! They are sent as one archive into a folder beside their places, hashed there, and renamed into place only if every digest is
//! the one that was computed here. Whatever ends the command, each file there is the old one or the new one.

mod archive;
mod files;
mod transfer;

pub(crate) use files::{PUSHED, PushFile, bundle_files, config_files, release_files};
pub(crate) use transfer::push;
