//! A server that runs as a trial ends with the process that started it.
//!
//! `sanctum-launchd upgrade` starts the new program beside the one that serves, with a pipe as its standard input and the
//! environment variable [`EXIT_WITH_STDIN`]. However that process ends, `kill -9` included, the system closes the pipe. A
//! second copy of the model would otherwise stay in memory.

use std::io::{ErrorKind, Read};

/// Set to `1`, the server ends when its standard input is closed.
const EXIT_WITH_STDIN: &str = "SANCTUM_EXIT_WITH_STDIN";

/// Ends this process when standard input is closed, if its environment asks for that.
pub(crate) fn exit_with_parent() {
    if std::env::var_os(EXIT_WITH_STDIN).is_none_or(|value| value != "1") {
        return;
    }
    std::thread::spawn(|| {
        let mut ignored = [0; 64];
        loop {
            match std::io::stdin().read(&mut ignored) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        tracing::warn!("the process that started this server has ended, and this server with it");
        sanctum_config::logging::finish();
        std::process::exit(0);
    });
}
