//! How the server ends: running, then draining, then cancelled, never back.
//!
//! *Draining*: no new connection and no new request is taken; what runs may finish. *Cancelled*: the drain limit has
//! passed (or the engine is dead), and what still runs says goodbye to its client and stops.

use tokio::sync::watch;

/// The stage of the server's life, shared by all that must know when it ends.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Every clone can move it on, and every clone can wait for it.
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Draining,
    Cancelled,
}

impl Shutdown {
    /// A server that runs.
    #[allow(clippy::new_without_default)] // a default shutdown would read like one that has happened
    pub fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Running),
        }
    }

    /// Takes nothing new from now on.
    pub fn drain(&self) {
        self.advance(Stage::Draining);
    }

    /// Gives up what still runs.
    pub fn cancel(&self) {
        self.advance(Stage::Cancelled);
    }

    /// Whether nothing new is taken any more.
    pub fn is_draining(&self) -> bool {
        *self.stage.borrow() >= Stage::Draining
    }

    /// Waits until nothing new is taken.
    pub async fn draining(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Waits until what still runs is given up.
    pub async fn cancelled(&self) {
        self.reached(Stage::Cancelled).await;
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let moves = *stage < to;
            *stage = to.max(*stage);
            moves
        });
    }

    async fn reached(&self, stage: Stage) {
        // The sender lives as long as `self` does, so waiting cannot fail.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_only_goes_forward_and_everybody_sees_it() {
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
