//! The program itself, on a host that is a folder, with a stand-in for `launchctl`.

mod deploy;
mod drift;
mod host;
mod interrupted;
mod look;
mod refusals;
mod sign;
