//! File work away from the threads that serve: a volume that does not answer must not stop a listener.

use std::time::Duration;

/// How long a file may take to be read before that is reported.
const LIMIT: Duration = Duration::from_secs(5);

/// Does `work` on a thread for blocking work and waits for its result; none if it panicked. If that takes longer than
/// some seconds an error is logged, and what `what` names stays as it was for as long as it takes. The caller waits, so
/// that there is never a second thread.
pub async fn file_work<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    limited(what, LIMIT, work).await
}

async fn limited<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let mut working = tokio::task::spawn_blocking(work);
    if let Ok(done) = tokio::time::timeout(limit, &mut working).await {
        return done.ok();
    }
    tracing::error!(
        "{what} could not be read for {} s, what was read before stays in use; check the volume that holds the files",
        limit.as_secs()
    );
    let done = working.await;
    tracing::info!("{what}: the volume answers again");
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// On one thread, where anything that blocks would stop everything.
    #[tokio::test]
    async fn work_that_hangs_stops_no_other_task_and_is_awaited() {
        let (answer, hangs) = mpsc::channel();
        let hanging = tokio::spawn(limited("a file", Duration::from_millis(5), move || {
            hangs.recv()
        }));
        // Another task goes on past the limit, and ends the wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!hanging.is_finished());
        answer.send(7).unwrap();
        assert_eq!(hanging.await.unwrap(), Some(Ok(7)));
    }

    #[tokio::test]
    async fn work_that_panics_is_no_result() {
        let panics = || -> u8 { panic!("as a test of panics") };
        assert_eq!(file_work("a file", panics).await, None);
        assert_eq!(file_work("a file", || 7).await, Some(7));
    }
}
