//! Other hosts over ssh: a request to their own `sanctum-launchd`, or commands of their system.
//!
//! ssh must connect without a prompt (`BatchMode`). `$SANCTUM_SSH` names a program to use instead of ssh.

mod launchd;
mod quote;
mod session;

pub use launchd::{
    ask_launchd, ask_launchd_for, ask_launchd_within, check_answers, failure, launchd, run_in_time,
    with_shell_code,
};
pub use quote::{by_hand, quoted, quoted_file, quoted_path};
pub use session::{FAILED, LIMIT, RemoteStream, SHORT_LIMIT, run, send, stream};
