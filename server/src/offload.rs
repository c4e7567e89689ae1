//! File work off the runtime's threads: a volume that does not respond must not block a listener.

use std::time::Duration;

/// How long a file may take to be read before that is reported.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs `work` on a thread for blocking work and waits for its result; none if it panicked. If that takes longer than
/// [`LIMIT`], an error is logged, and `what` stays as it was meanwhile. The caller waits, so that there is never a second
/// thread.
pub(crate) async fn file_work<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let overdue = || {
        tracing::error!(
            "{what} could not be read for {} s, what was read before stays in use; check the volume that holds the files",
            LIMIT.as_secs()
        );
    };
    awaited(what, LIMIT, work, overdue).await
}

/// [`file_work`] that calls `overdue` when `limit` has passed.
async fn awaited<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
    overdue: impl FnOnce(),
) -> Option<T> {
    let mut working = tokio::task::spawn_blocking(work);
    if let Ok(done) = tokio::time::timeout(limit, &mut working).await {
        return done.ok();
    }
    overdue();
    let done = working.await;
    tracing::info!("{what}: the volume answers again");
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::sync::oneshot;

    /// On one thread, which a blocking call would stop.
    #[tokio::test]
    async fn work_that_hangs_stops_no_other_task_and_is_awaited() {
        const DEADLINE: Duration = Duration::from_secs(30);
        let (answer, hangs) = mpsc::channel();
        let (passed, limit_passed) = oneshot::channel();
        let hanging = tokio::spawn(awaited(
            "a file",
            Duration::from_millis(5),
            move || hangs.recv_timeout(DEADLINE),
            move || passed.send(()).unwrap(),
        ));
        // This task continues while the work hangs past the limit, and ends the wait.
        limit_passed.await.unwrap();
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
