//! Notifications on this host's screen: over D-Bus, and on macOS through `osascript`.
//!
//! One delivery runs at a time, within its limit. A service that hangs leaves nothing behind: D-Bus uses no thread, and
//! `osascript` is killed.

#[cfg(not(target_os = "macos"))]
mod bus;
#[cfg(any(target_os = "macos", test))]
mod script;

/// What to do if a notification cannot be shown.
#[cfg(not(target_os = "macos"))]
pub(super) const FIX: &str =
    "run the agents in a graphical session with a notification service, or use another channel";
/// What to do if a notification cannot be shown.
#[cfg(target_os = "macos")]
pub(super) const FIX: &str =
    "allow Script Editor's notifications: docs/watching.md, \"How an alert is delivered\"";

#[cfg(not(target_os = "macos"))]
pub(super) use bus::show;
#[cfg(target_os = "macos")]
pub(super) use script::show;
