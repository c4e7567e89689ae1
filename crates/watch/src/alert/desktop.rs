//! Notifications on this host's own screen: over D-Bus, and on macOS through `osascript`.
//!
//! One delivery at a time, within its limit, and nothing is left behind by a service that hangs: over D-Bus no thread is
//! used, and `osascript` is killed.

#[cfg(not(target_os = "macos"))]
mod bus;
#[cfg(any(target_os = "macos", test))]
mod script;

#[cfg(not(target_os = "macos"))]
pub(super) use bus::show;
#[cfg(target_os = "macos")]
pub(super) use script::show;
