//! A stand-in for launchd and its `launchctl`, for tests: real processes, supervised as launchd supervises them, without
//! a Mac.
//!
//! `launchctl` (the binary of this package) passes its arguments to a daemon that listens on a socket in the folder that
//! `SIM_LAUNCHD_DIR` names, and starts it if there is none. The daemon ends with `launchctl sim-shutdown`, or when
//! that folder is gone. Only one domain exists, `gui/<uid>`.
//!
//! What is as in launchd, and where that is written:
//!
//! - `launchd.plist(5)`: `Label`, `Program`, `ProgramArguments`, `RunAtLoad`, `KeepAlive` (as a boolean, or with
//!   `SuccessfulExit` and `Crashed`), `ThrottleInterval` (10 s unless said otherwise), `ExitTimeOut` (20 s),
//!   `StandardOutPath`, `StandardErrorPath`, `WorkingDirectory`, `EnvironmentVariables`, `SoftResourceLimits` and
//!   `HardResourceLimits` (`NumberOfFiles`; on Linux only). Other keys are taken without a word, as launchd does, and kept
//!   for `sim-unknown-keys` where the manual page does not know them.
//! - `launchctl(1)`: `bootstrap`, `bootout`, `kickstart [-kp]`, `kill`, `print`, `print-disabled`, `list`, `enable`,
//!   `disable`, `setenv`, `unsetenv`, `getenv`.
//! - What a plist said at bootstrap holds until bootout, whatever becomes of the file: a kickstart keeps the old
//!   arguments.
//! - Error numbers are those of `launchctl error`: 3 (no such process), 5 (input/output error: bootstrap of what is
//!   loaded, or still on its way out), 36 (operation now in progress: bootout returns before the process has gone),
//!   113 (could not find the service), 119 (the service is disabled).
//! - The text of `print` follows transcripts of macOS 13 to 15 in public issue threads. Apple says that it is no
//!   interface, so whoever reads it must bear with changes.
//!
//! What only tests have: `sim-login` (a login: the session's agents end, then everything in `~/Library/LaunchAgents`
//! that is not disabled is bootstrapped), `sim-watch` (a line of JSON with every change), `sim-unknown-keys`,
//! `sim-shutdown`; and `SIM_LAUNCHD_TIME_SCALE`, a factor on all of the daemon's times, so that a throttle of half a
//! minute need not take one.

pub mod daemon;
mod fixture;
pub mod job;
mod service;
pub mod text;
pub mod wire;

pub use fixture::Launchd;
