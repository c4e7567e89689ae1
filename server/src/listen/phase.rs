//! How far a connection is, and how long it may stay there.
//!
//! ```text
//! Handshake ─> Head ─> Receiving ─> Answering ─> Idle ─> Head …
//! ```

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

/// A TLS handshake may take so long.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request's head may take so long, from its first byte (the first one: from the connection's beginning).
pub const HEAD: Duration = Duration::from_secs(10);
/// A request's body may take so long, from the end of its head.
pub const BODY: Duration = Duration::from_secs(30);
/// Between two requests a connection may be silent for so long.
pub const IDLE: Duration = Duration::from_secs(75);
/// A body that is late is answered with an error; after so much longer the connection is closed without.
const GRACE: Duration = Duration::from_secs(5);

/// How far a connection is, and since when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// It negotiates TLS.
    Handshake(Instant),
    /// The head of a request is awaited, or is coming.
    Head(Instant),
    /// The body of a request is coming.
    Receiving(Instant),
    /// A request is whole, and its answer is being made and sent.
    Answering,
    /// A request was answered, and nothing has come since.
    Idle(Instant),
    /// It had to make room for another.
    Evicted,
}

/// Why a connection ends that has not ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It had to make room for another.
    Evicted,
    /// The TLS handshake took too long.
    Handshake,
    /// The head of a request took too long.
    Head,
    /// The body of a request took too long.
    Body,
    /// It was silent for too long, which is no fault.
    Idle,
}

/// The phase of one connection, shared by its parts.
#[derive(Debug)]
pub struct Progress(watch::Sender<Phase>);

impl Phase {
    /// When it must be left at the latest, and what it means if it is not.
    fn deadline(self) -> Option<(Instant, Over)> {
        match self {
            Self::Handshake(since) => Some((since + HANDSHAKE, Over::Handshake)),
            Self::Head(since) => Some((since + HEAD, Over::Head)),
            Self::Receiving(since) => Some((since + BODY + GRACE, Over::Body)),
            Self::Idle(since) => Some((since + IDLE, Over::Idle)),
            Self::Answering | Self::Evicted => None,
        }
    }

    /// Who goes first where somebody must: those who have not asked for anything yet, then those who ask for nothing
    /// now, then those who have not asked fully; among them the one that has been there longest. Whoever waits for an
    /// answer stays.
    pub fn dispensable(self) -> Option<(u8, Instant)> {
        match self {
            Self::Handshake(since) | Self::Head(since) => Some((0, since)),
            Self::Idle(since) => Some((1, since)),
            Self::Receiving(since) => Some((2, since)),
            Self::Answering | Self::Evicted => None,
        }
    }
}

impl Over {
    /// As `/metrics` calls it; none for what is no refusal.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Evicted => Some("evicted"),
            Self::Handshake => Some("handshake_timeout"),
            Self::Head => Some("header_timeout"),
            Self::Body => Some("body_timeout"),
            Self::Idle => None,
        }
    }
}

impl Progress {
    /// A connection that has just been made.
    pub fn new(secure: bool) -> Self {
        let now = Instant::now();
        Self(watch::Sender::new(match secure {
            true => Phase::Handshake(now),
            false => Phase::Head(now),
        }))
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// The TLS handshake is done.
    pub fn shaken(&self) {
        self.advance(|_| Some(Phase::Head(Instant::now())));
    }

    /// Bytes have come.
    pub fn heard(&self) {
        // Almost always they belong to a request that has begun: looking is cheaper than changing.
        if matches!(self.phase(), Phase::Idle(_)) {
            self.advance(|phase| {
                matches!(phase, Phase::Idle(_)).then(|| Phase::Head(Instant::now()))
            });
        }
    }

    /// The head of a request is there; `whole` if nothing follows it.
    pub fn asked(&self, whole: bool) {
        self.advance(|_| {
            Some(match whole {
                true => Phase::Answering,
                false => Phase::Receiving(Instant::now()),
            })
        });
    }

    /// The body of the request is there, or nobody wants it any more.
    pub fn received(&self) {
        self.advance(|phase| matches!(phase, Phase::Receiving(_)).then_some(Phase::Answering));
    }

    /// The answer is made.
    pub fn answered(&self) {
        self.advance(|_| Some(Phase::Idle(Instant::now())));
    }

    /// Ends it, unless it has come to be indispensable; whether it did.
    pub fn evict(&self) -> bool {
        self.advance(|phase| phase.dispensable().map(|_| Phase::Evicted))
    }

    /// Waits until it must end.
    pub async fn over(&self) -> Over {
        let mut phases = self.0.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            if phase == Phase::Evicted {
                return Over::Evicted;
            }
            let deadline = async {
                match phase.deadline() {
                    Some((at, over)) => {
                        sleep_until(at).await;
                        over
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender is ours and lives as long as we do.
                _ = phases.changed() => {}
                over = deadline => return over,
            }
        }
    }

    /// Moves on to what `next` says, if it says anything. Eviction is final. Whether it moved.
    fn advance(&self, next: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        self.0.send_if_modified(|phase| match *phase {
            Phase::Evicted => false,
            now => match next(now) {
                Some(next) => {
                    *phase = next;
                    true
                }
                None => false,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn over_after(progress: &Progress) -> (Over, u64) {
        let began = Instant::now();
        (progress.over().await, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn every_phase_but_the_answer_has_its_limit() {
        let progress = Progress::new(true);
        assert_eq!(over_after(&progress).await, (Over::Handshake, 10));
        progress.shaken();
        assert_eq!(over_after(&progress).await, (Over::Head, 10));
        progress.asked(false);
        assert_eq!(over_after(&progress).await, (Over::Body, 35));
        progress.received();
        let long = Duration::from_secs(86_400);
        let answering = tokio::time::timeout(long, progress.over()).await;
        assert!(answering.is_err(), "an answer may take as long as it takes");
        progress.answered();
        assert_eq!(over_after(&progress).await, (Over::Idle, 75));
        progress.heard();
        assert_eq!(over_after(&progress).await, (Over::Head, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn more_bytes_of_a_head_buy_no_time() {
        let progress = Progress::new(false);
        tokio::time::advance(Duration::from_secs(9)).await;
        progress.heard();
        assert_eq!(over_after(&progress).await, (Over::Head, 1));
    }

    #[tokio::test]
    async fn whoever_waits_for_an_answer_stays_and_eviction_is_final() {
        let progress = Progress::new(false);
        progress.asked(true);
        assert!(!progress.evict());
        progress.answered();
        assert!(progress.evict());
        progress.heard();
        progress.asked(true);
        assert_eq!(progress.over().await, Over::Evicted);
    }

    #[tokio::test]
    async fn an_answer_before_the_body_is_there_ends_the_request() {
        let progress = Progress::new(false);
        progress.asked(false);
        progress.answered();
        progress.received();
        assert!(matches!(progress.phase(), Phase::Idle(_)));
    }
}
