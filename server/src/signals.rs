//! Signals: which end a server, and which must not.

use std::io;
use std::time::Duration;

use sanctum_config::logging;
use tokio::signal::unix::{SignalKind, signal};

use crate::shutdown::Shutdown;

/// How long after the drain limit a server that was stopped by a signal may still run: longer than all that it waits for
/// then, and shorter than launchd waits (`ExitTimeOut`, 15 s after the limit).
const EXIT_LIMIT: Duration = Duration::from_secs(12);

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

/// The first SIGTERM or SIGINT drains, the second ends the process at once. They are handled on a thread and a runtime
/// of their own, so that they take effect whatever the threads that serve are doing. A server that has not ended some time
/// after its drain limit is ended too.
///
/// # Errors
/// If the system refuses a handler or the thread.
pub(crate) fn stop_on_signals(shutdown: Shutdown, drain: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let inside = runtime.enter();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    drop(inside);
    let handle = async move {
        let mut code = tokio::select! {
            _ = term.recv() => 143,
            _ = int.recv() => 130,
        };
        shutdown.drain();
        tokio::select! {
            _ = term.recv() => code = 143,
            _ = int.recv() => code = 130,
            () = tokio::time::sleep(drain + EXIT_LIMIT) => {
                tracing::error!("the server has not ended although its drain limit has passed: stopped at once");
                logging::finish();
                std::process::exit(code);
            }
        }
        tracing::warn!("stopped at once by a second signal");
        logging::finish();
        std::process::exit(code);
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(handle))?;
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
