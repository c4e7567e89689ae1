//! The stages of a server's end: running, then draining, then cancelled, never back.
//!
//! *Draining*: no new connection or request is accepted; running ones may finish. *Cancelled*: the drain limit has passed
//! (or the engine is dead), and running requests end with an error.

use tokio::sync::watch;

/// The stage of a server, shared by all that must know when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    /// Every clone can advance it and wait for it.
    stage: watch::Sender<ShutdownStage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownStage {
    Running,
    Draining,
    Cancelled,
}

impl Shutdown {
    /// A running server.
    #[allow(clippy::new_without_default)] // a default shutdown would read like one that has happened
    pub(crate) fn new() -> Self {
        Self {
            stage: watch::Sender::new(ShutdownStage::Running),
        }
    }

    /// Starts to drain.
    pub(crate) fn drain(&self) {
        self.advance(ShutdownStage::Draining);
    }

    /// Cancels running requests.
    pub(crate) fn cancel(&self) {
        self.advance(ShutdownStage::Cancelled);
    }

    /// Whether the server drains, or has been cancelled.
    pub(crate) fn is_draining(&self) -> bool {
        *self.stage.borrow() >= ShutdownStage::Draining
    }

    /// Waits until the server drains.
    pub(crate) async fn draining(&self) {
        self.reached(ShutdownStage::Draining).await;
    }

    /// Waits until running requests are cancelled.
    pub(crate) async fn cancelled(&self) {
        self.reached(ShutdownStage::Cancelled).await;
    }

    fn advance(&self, to: ShutdownStage) {
        self.stage.send_if_modified(|stage| {
            let moves = *stage < to;
            *stage = to.max(*stage);
            moves
        });
    }

    async fn reached(&self, stage: ShutdownStage) {
        // The sender lives as long as `self` does, so waiting cannot fail.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stage_only_advances_for_all_clones() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert!(!other.is_draining());
        shutdown.cancel();
        shutdown.drain();
        other.draining().await;
        other.cancelled().await;
        assert!(other.is_draining());
    }
}
