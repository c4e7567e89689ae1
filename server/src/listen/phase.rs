//! The phases of a connection, and the time limit of each.
//!
//! ```text
//! Handshake ─> Head ─> Body ─> Response ─> Idle ─> Head …
//! ```

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

/// The time limit of a TLS handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// The time limit of a request's head, from its first byte (of the first request: from the start of the connection).
pub(crate) const HEAD: Duration = Duration::from_secs(10);
/// The time limit of a request's body, from the end of its head.
pub(crate) const BODY: Duration = Duration::from_secs(30);
/// How long a connection may be silent between two requests.
pub(crate) const IDLE: Duration = Duration::from_secs(75);
/// A body that exceeds its limit is answered with an error; after this time more the connection is closed without one.
const GRACE: Duration = Duration::from_secs(5);

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ConnectionPhase {
    /// TLS is negotiated.
    Handshake(Instant),
    /// The head of a request is expected or arrives.
    Head(Instant),
    /// The body of a request arrives.
    Body(Instant),
    /// A request is complete, and its response is made and sent.
    Response,
    /// A response was sent, and nothing has arrived since.
    Idle(Instant),
    /// It is closed to make room for another.
    Evicted,
}

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// It makes room for another.
    Evicted,
    /// The TLS handshake took too long.
    Handshake,
    /// The head of a request took too long.
    Head,
    /// The body of a request took too long.
    Body,
    /// It was silent for too long, which is no error.
    Idle,
}

/// The phase of one connection, shared by all that move it on.
#[derive(Debug)]
pub(crate) struct ConnectionState(watch::Sender<ConnectionPhase>);

impl ConnectionPhase {
    /// When the phase must end at the latest, and why the connection is closed if it does not.
    fn deadline(self) -> Option<(Instant, CloseReason)> {
        match self {
            Self::Handshake(since) => Some((since + HANDSHAKE, CloseReason::Handshake)),
            Self::Head(since) => Some((since + HEAD, CloseReason::Head)),
            Self::Body(since) => Some((since + BODY + GRACE, CloseReason::Body)),
            Self::Idle(since) => Some((since + IDLE, CloseReason::Idle)),
            Self::Response | Self::Evicted => None,
        }
    }

    /// The order of eviction, lowest first: connections without a request, then idle ones, then those whose body arrives;
    /// among equals the one whose phase began first. None: a connection that waits for its response is not evicted.
    pub(crate) fn eviction_rank(self) -> Option<(u8, Instant)> {
        match self {
            Self::Handshake(since) | Self::Head(since) => Some((0, since)),
            Self::Idle(since) => Some((1, since)),
            Self::Body(since) => Some((2, since)),
            Self::Response | Self::Evicted => None,
        }
    }
}

impl CloseReason {
    /// The label in `/metrics`; none where nothing was refused.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Evicted => Some("evicted"),
            Self::Handshake => Some("handshake_timeout"),
            Self::Head => Some("header_timeout"),
            Self::Body => Some("body_timeout"),
            Self::Idle => None,
        }
    }
}

impl ConnectionState {
    /// A connection that was just accepted.
    pub(crate) fn new(secure: bool) -> Self {
        let now = Instant::now();
        Self(watch::Sender::new(match secure {
            true => ConnectionPhase::Handshake(now),
            false => ConnectionPhase::Head(now),
        }))
    }

    /// The current phase.
    pub(crate) fn phase(&self) -> ConnectionPhase {
        *self.0.borrow()
    }

    /// The TLS handshake is done.
    pub(crate) fn handshake_done(&self) {
        self.advance(|_| Some(ConnectionPhase::Head(Instant::now())));
    }

    /// Bytes have arrived.
    pub(crate) fn bytes_received(&self) {
        // Almost always they belong to a request that has begun: a read is cheaper than a change.
        if matches!(self.phase(), ConnectionPhase::Idle(_)) {
            self.advance(|phase| {
                matches!(phase, ConnectionPhase::Idle(_))
                    .then(|| ConnectionPhase::Head(Instant::now()))
            });
        }
    }

    /// The head of a request has arrived; `complete` if nothing follows it.
    pub(crate) fn head_received(&self, complete: bool) {
        self.advance(|_| {
            Some(match complete {
                true => ConnectionPhase::Response,
                false => ConnectionPhase::Body(Instant::now()),
            })
        });
    }

    /// The body of the request has arrived, or is not needed any more.
    pub(crate) fn body_received(&self) {
        self.advance(|phase| {
            matches!(phase, ConnectionPhase::Body(_)).then_some(ConnectionPhase::Response)
        });
    }

    /// The response was sent.
    pub(crate) fn response_sent(&self) {
        self.advance(|_| Some(ConnectionPhase::Idle(Instant::now())));
    }

    /// Evicts it, unless it waits for its response meanwhile. Returns whether it is evicted.
    pub(crate) fn evict(&self) -> bool {
        self.advance(|phase| phase.eviction_rank().map(|_| ConnectionPhase::Evicted))
    }

    /// Waits until the connection must be closed.
    pub(crate) async fn must_close(&self) -> CloseReason {
        let mut phases = self.0.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            if phase == ConnectionPhase::Evicted {
                return CloseReason::Evicted;
            }
            let deadline = async {
                match phase.deadline() {
                    Some((at, reason)) => {
                        sleep_until(at).await;
                        reason
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as `self` does.
                _ = phases.changed() => {}
                reason = deadline => return reason,
            }
        }
    }

    /// Enters the phase that `next` returns, if any. Eviction is final. Returns whether the phase changed.
    fn advance(&self, next: impl FnOnce(ConnectionPhase) -> Option<ConnectionPhase>) -> bool {
        self.0.send_if_modified(|phase| match *phase {
            ConnectionPhase::Evicted => false,
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

    async fn closed_after(state: &ConnectionState) -> (CloseReason, u64) {
        let began = Instant::now();
        (state.must_close().await, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn phases_other_than_the_response_have_a_limit() {
        let state = ConnectionState::new(true);
        assert_eq!(closed_after(&state).await, (CloseReason::Handshake, 10));
        state.handshake_done();
        assert_eq!(closed_after(&state).await, (CloseReason::Head, 10));
        state.head_received(false);
        assert_eq!(closed_after(&state).await, (CloseReason::Body, 35));
        state.body_received();
        let long = Duration::from_secs(86_400);
        let responding = tokio::time::timeout(long, state.must_close()).await;
        assert!(responding.is_err(), "a response has no limit");
        state.response_sent();
        assert_eq!(closed_after(&state).await, (CloseReason::Idle, 75));
        state.bytes_received();
        assert_eq!(closed_after(&state).await, (CloseReason::Head, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_head_do_not_extend_its_limit() {
        let state = ConnectionState::new(false);
        tokio::time::advance(Duration::from_secs(9)).await;
        state.bytes_received();
        assert_eq!(closed_after(&state).await, (CloseReason::Head, 1));
    }

    #[tokio::test]
    async fn connection_that_waits_for_a_response_is_not_evicted_and_eviction_is_final() {
        let state = ConnectionState::new(false);
        state.head_received(true);
        assert!(!state.evict());
        state.response_sent();
        assert!(state.evict());
        state.bytes_received();
        state.head_received(true);
        assert_eq!(state.must_close().await, CloseReason::Evicted);
    }

    #[tokio::test]
    async fn response_before_the_end_of_the_body_ends_the_request() {
        let state = ConnectionState::new(false);
        state.head_received(false);
        state.response_sent();
        state.body_received();
        assert!(matches!(state.phase(), ConnectionPhase::Idle(_)));
    }
}
