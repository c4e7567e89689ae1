//! The signals that must not end a server.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Installs handlers for SIGHUP and SIGUSR1, which end a process by default. They stay until the process ends: a signal
/// has no effect until the server handles it. A server installs them before it reads files, which may hang.
///
/// # Errors
/// If the system refuses a handler.
pub(crate) fn catch_early() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _inside = runtime.enter();
    for kind in [SignalKind::hangup(), SignalKind::user_defined1()] {
        let _ = signal(kind)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    #[test]
    fn hangup_and_user_signal_do_not_end_the_process() {
        catch_early().unwrap();
        for signal in [Signal::HUP, Signal::USR1] {
            kill_process(getpid(), signal).unwrap();
        }
    }
}
