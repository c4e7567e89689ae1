//! The signals that end the demo.

use tokio::signal::unix::{SignalKind, signal};

/// Calls `on_signal` in another thread when the first of SIGINT, SIGTERM and SIGHUP arrives, with the exit code that a shell
/// gives to a process that it has ended.
///
/// # Errors
/// If the signals cannot be received.
pub(crate) fn on_first(on_signal: impl FnOnce(u8) + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut signals = {
        // Receivers belong to a runtime.
        let _entered = runtime.enter();
        [
            (signal(SignalKind::interrupt())?, 130),
            (signal(SignalKind::terminate())?, 143),
            (signal(SignalKind::hangup())?, 129),
        ]
    };
    std::thread::spawn(move || {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut signals;
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => *a,
                _ = terminate.recv() => *b,
                _ = hangup.recv() => *c,
            }
        });
        on_signal(code);
    });
    Ok(())
}
