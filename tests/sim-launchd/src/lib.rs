//! A simulated launchd and its `launchctl`, for tests: real processes, supervised as launchd supervises them, without
//! a Mac.
//!
//! `launchctl` (the binary of this package) passes its arguments to a daemon that listens on a socket in the folder that
//! `SIM_LAUNCHD_DIR` names, and starts it if it does not run. The daemon ends with `launchctl sim-shutdown`, when
//! that folder is removed, or with the process whose fixture ([`Launchd`]) has started it. Only one domain exists, `gui/<uid>`.
//!
//! What it has in common with launchd, with the source:
//!
//! - `launchd.plist(5)`: `Label`, `Program`, `ProgramArguments`, `RunAtLoad`, `KeepAlive` (as a boolean, or with
//!   `SuccessfulExit` and `Crashed`), `ThrottleInterval` (10 s unless said otherwise), `ExitTimeOut` (20 s unless said otherwise,
//!   which that page gave as the default until macOS 10.9; since then it is system-defined),
//!   `StandardOutPath`, `StandardErrorPath`, `WorkingDirectory`, `EnvironmentVariables`, `SoftResourceLimits` and
//!   `HardResourceLimits` (`NumberOfFiles`; on Linux only). Other keys are accepted silently, as by launchd; those that the
//!   manual page does not have are listed by `sim-unknown-keys`.
//! - `launchctl(1)`: `bootstrap`, `bootout`, `kickstart [-kp]`, `kill`, `print`, `print-disabled`, `list`, `enable`,
//!   `disable`, `setenv`, `unsetenv`, `getenv`.
//! - The content of a plist at bootstrap applies until bootout, even if the file changes: a kickstart keeps the old
//!   arguments.
//! - Error numbers are those of `launchctl error`: 3 (no such process), 5 (input/output error: bootstrap of a service
//!   that is loaded or still exiting), 36 (operation now in progress: a bootout that returns before the process has exited),
//!   113 (could not find the service), 119 (the service is disabled).
//! - `bootout` and `kickstart -k` return when the process has exited, as launchd's do in most reports (29 s were seen);
//!   after `sim-blocking off` they return at once, as in others.
//! - The text of `print` follows transcripts of macOS 13 to 15 in public issue threads. Apple documents that it is not
//!   an interface, so parsers must tolerate changes.
//!
//! Additional commands for tests: `sim-login` (a login: the session's agents end, then everything in `~/Library/LaunchAgents`
//! that is not disabled is bootstrapped), `sim-blocking on|off`, `sim-watch` (a line of JSON with every change), `sim-unknown-keys`,
//! `sim-shutdown`; and `SIM_LAUNCHD_TIME_SCALE`, a factor on all of the daemon's times, so that a throttle of half a
//! minute takes less.

pub mod daemon;
mod fixture;
pub mod job;
mod service;
pub mod text;
pub mod wire;

pub use fixture::Launchd;
