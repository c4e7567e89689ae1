//! Masks of constrained sequences, computed beside the pass whose logits they are for.
//!
//! A client writes the grammar, and a grammar can make a mask take arbitrarily long. So the thread that owns the model
//! waits for the masks of a pass for [`MASK_WAIT`] at most. A sequence whose mask is late keeps its logits and its slot,
//! and skips passes until the mask is known. One that takes longer than [`MASK_LIMIT`] is cancelled, and its sequence
//! fails alone. After a mask that took longer than [`SLOW_MASK`] the next token is also read by a thread, and the masks
//! of such sequences never occupy all threads.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sanctum_grammar::{Allowed, Cancellation, Constraint, GrammarError, Mask, Progress};

use crate::schedule::mask_queue::MaskQueue;

/// How long a pass waits for its masks.
pub(crate) const MASK_WAIT: Duration = Duration::from_millis(10);
/// A mask that takes longer makes its sequence a slow one.
const SLOW_MASK: Duration = Duration::from_millis(10);
/// How long the mask of one token may take.
const MASK_LIMIT: Duration = Duration::from_millis(500);

/// The work for one token of one sequence.
struct MaskTask {
    constraint: Constraint,
    /// A token to read first.
    token: Option<u32>,
    begun: Arc<OnceLock<Instant>>,
    reply: SyncSender<Computed>,
}

/// The result of a task.
struct Computed {
    constraint: Constraint,
    progress: Progress,
    allowed: Result<Allowed, GrammarError>,
    took: Duration,
}

impl MaskTask {
    /// Does the work, unless nothing waits for it any more.
    fn run(self) {
        let Self {
            mut constraint,
            token,
            begun,
            reply,
        } = self;
        if constraint.cancellation().is_cancelled() {
            return;
        }
        let start = *begun.get_or_init(Instant::now);
        let read = token.map_or(Ok(Progress::Continue), |token| constraint.accept(token));
        let (progress, allowed) = match read {
            Ok(Progress::Continue) => (Progress::Continue, constraint.allowed()),
            Ok(Progress::Complete) => (Progress::Complete, Ok(Allowed::All)),
            Err(error) => (Progress::Continue, Err(error)),
        };
        // Without a receiver the sequence has ended meanwhile.
        let _ = reply.send(Computed {
            constraint,
            progress,
            allowed,
            took: start.elapsed(),
        });
    }
}

/// A task that a thread does. Dropping it cancels the work.
pub(crate) struct PendingMask {
    result: Receiver<Computed>,
    begun: Arc<OnceLock<Instant>>,
    cancellation: Cancellation,
    /// The place in the request of what is enforced.
    path: String,
    /// The result was received.
    is_done: bool,
}

impl Drop for PendingMask {
    fn drop(&mut self) {
        if !self.is_done {
            self.cancellation.cancel();
        }
    }
}

/// Threads that compute masks. They are started with the first constrained sequence.
#[derive(Default)]
pub(crate) struct MaskWorkers {
    queue: Option<MaskQueue>,
}

impl MaskWorkers {
    fn submit(&mut self, constraint: Constraint, token: Option<u32>, is_slow: bool) -> PendingMask {
        let (reply, result) = sync_channel(1);
        let begun = Arc::default();
        let pending = PendingMask {
            result,
            begun: Arc::clone(&begun),
            cancellation: constraint.cancellation(),
            path: constraint.path().to_owned(),
            is_done: false,
        };
        let task = MaskTask {
            constraint,
            token,
            begun,
            reply,
        };
        let queue = self.queue.get_or_insert_with(MaskQueue::start);
        queue.push(Box::new(move || task.run()), is_slow);
        pending
    }

    /// Waits until a task ends after the last call of this function, or for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        if let Some(queue) = &mut self.queue {
            queue.wait(timeout);
        }
    }
}

/// The constraint of one sequence, if it has one.
#[derive(Default)]
pub(crate) enum Constrained {
    /// It has none.
    #[default]
    No,
    /// Nothing is computed.
    Idle(Constraint),
    /// A token was chosen that a thread must read, because the last mask took long.
    Unread(Constraint, u32),
    /// A thread computes the mask for the next token.
    Computing(PendingMask),
    /// The mask for the next token is known.
    Ready {
        /// Without the next token.
        constraint: Constraint,
        /// The tokens that may follow.
        allowed: Result<Allowed, GrammarError>,
        /// Whether it took long.
        is_slow: bool,
    },
    /// A thread has read the last token, and nothing may follow.
    Complete,
    /// It cannot continue.
    Failed(GrammarError),
}

/// What is known of a mask.
#[derive(Debug, PartialEq)]
pub(crate) enum MaskStatus {
    /// It is not known yet.
    Late,
    /// Every token may follow.
    All,
    /// These may follow.
    Only(Mask),
    /// None may follow: the answer is complete.
    Complete,
    /// The answer cannot continue.
    Failed(GrammarError),
}

impl Constrained {
    pub(crate) fn new(constraint: Option<Constraint>) -> Self {
        constraint.map_or(Self::No, Self::Idle)
    }

    /// Whether there is a constraint.
    pub(crate) fn is_constrained(&self) -> bool {
        !matches!(self, Self::No)
    }

    /// Whether the next pass cannot have a row of the sequence, because it is not known how it continues.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(
            self,
            Self::Unread(..) | Self::Computing(_) | Self::Complete | Self::Failed(_)
        )
    }

    /// Starts to compute the mask for the next token.
    pub(crate) fn prepare(&mut self, workers: &mut MaskWorkers) {
        *self = match std::mem::take(self) {
            Self::Idle(constraint) => Self::Computing(workers.submit(constraint, None, false)),
            Self::Unread(constraint, token) => {
                Self::Computing(workers.submit(constraint, Some(token), true))
            }
            other => other,
        };
    }

    /// The mask for the next token, if it is known by `deadline`.
    pub(crate) fn mask(&mut self, deadline: Option<Instant>) -> MaskStatus {
        if let Self::Computing(pending) = self {
            match pending.poll(deadline, MASK_LIMIT) {
                None => return MaskStatus::Late,
                Some(settled) => *self = settled,
            }
        }
        match self {
            Self::No => MaskStatus::All,
            Self::Idle(_) | Self::Unread(..) | Self::Computing(_) => MaskStatus::Late,
            Self::Ready { allowed, .. } => match allowed {
                Ok(Allowed::All) => MaskStatus::All,
                Ok(Allowed::Only(mask)) => MaskStatus::Only(mask.clone()),
                Err(error) => MaskStatus::Failed(error.clone()),
            },
            Self::Complete => MaskStatus::Complete,
            Self::Failed(error) => MaskStatus::Failed(error.clone()),
        }
    }

    /// Advances by the token that was chosen. After a slow mask it is read with [`Constrained::prepare`] instead, which
    /// shows whether the answer is complete.
    ///
    /// # Errors
    /// If the constraint does not allow it.
    pub(crate) fn accept(&mut self, token: u32) -> Result<Progress, GrammarError> {
        match std::mem::take(self) {
            Self::Ready {
                constraint,
                is_slow: true,
                ..
            } => {
                *self = Self::Unread(constraint, token);
                Ok(Progress::Continue)
            }
            Self::Idle(mut constraint) | Self::Ready { mut constraint, .. } => {
                let progress = constraint.accept(token);
                *self = Self::Idle(constraint);
                progress
            }
            other => {
                *self = other;
                Ok(Progress::Continue)
            }
        }
    }
}

impl PendingMask {
    /// What the task has come to; none while it continues.
    fn poll(&mut self, deadline: Option<Instant>, limit: Duration) -> Option<Constrained> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let result = match left {
            Some(left) => self.result.recv_timeout(left),
            None => self.result.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
        };
        self.is_done = result.is_ok();
        match result {
            Ok(computed) => Some(match computed.progress {
                Progress::Complete => Constrained::Complete,
                Progress::Continue => Constrained::Ready {
                    is_slow: computed.took > SLOW_MASK,
                    constraint: computed.constraint,
                    allowed: computed.allowed,
                },
            }),
            Err(RecvTimeoutError::Timeout) => {
                let late = self
                    .begun
                    .get()
                    .is_some_and(|begun| begun.elapsed() >= limit);
                late.then(|| {
                    self.cancellation.cancel();
                    let ms = limit.as_millis();
                    Constrained::Failed(GrammarError::TooComplex {
                        path: self.path.clone(),
                        reason: format!(
                            "it takes longer than {ms} ms a token; remove alternatives that match the same text"
                        ),
                    })
                })
            }
            Err(RecvTimeoutError::Disconnected) => Some(Constrained::Failed(GrammarError::Failed(
                "the thread that computes masks has ended".into(),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use sanctum_grammar::{Format, Grammars, Rules, TokenBytes, Vocabulary};

    use super::*;

    const END: u32 = 256;

    fn constraint(source: &str) -> Constraint {
        let mut tokens: Vec<_> = (0..=255)
            .map(|byte| TokenBytes {
                bytes: vec![byte],
                added: false,
            })
            .collect();
        tokens.push(TokenBytes {
            bytes: b"<end>".to_vec(),
            added: true,
        });
        let grammars = Grammars::new(&Vocabulary {
            tokens,
            ends: vec![END],
        });
        let rules = Rules {
            answer: Some(Format::Regex(source.into())),
            calls: None,
        };
        grammars.unwrap().compile(&rules, false).unwrap().unwrap()
    }

    /// A task of a thread that has begun and does not go on, and the end of its channel.
    fn begun(constraint: &Constraint) -> (PendingMask, SyncSender<Computed>) {
        let (reply, result) = sync_channel(1);
        let pending = PendingMask {
            result,
            begun: Arc::new(OnceLock::from(Instant::now())),
            cancellation: constraint.cancellation(),
            path: constraint.path().to_owned(),
            is_done: false,
        };
        (pending, reply)
    }

    #[test]
    fn mask_that_is_late_is_not_waited_for() {
        let constraint = constraint("a");
        let (mut pending, _reply) = begun(&constraint);
        assert!(pending.poll(None, Duration::MAX).is_none());
        assert!(pending.poll(Some(Instant::now()), Duration::MAX).is_none());
        assert!(!constraint.cancellation().is_cancelled());
    }

    #[test]
    fn mask_over_its_limit_is_cancelled_and_fails_its_sequence() {
        let mut constraint = constraint("a");
        let (mut pending, _reply) = begun(&constraint);
        let Some(Constrained::Failed(error)) = pending.poll(None, Duration::ZERO) else {
            panic!("it continues")
        };
        assert_eq!(error.path(), Some("guided_regex"));
        assert!(constraint.cancellation().is_cancelled());
        constraint.allowed().unwrap_err();
    }

    #[test]
    fn mask_of_a_sequence_that_is_gone_is_cancelled() {
        let constraint = constraint("a");
        let (pending, _reply) = begun(&constraint);
        drop(pending);
        assert!(constraint.cancellation().is_cancelled());
    }

    #[test]
    fn token_after_a_slow_mask_is_read_by_a_thread() {
        let mut workers = MaskWorkers::default();
        let mut constrained = Constrained::new(Some(constraint("ab")));
        for (token, next) in [(b'a', MaskStatus::Late), (b'b', MaskStatus::Late)] {
            constrained.prepare(&mut workers);
            let status = loop {
                match constrained.mask(Some(Instant::now() + MASK_WAIT)) {
                    MaskStatus::Late => {}
                    status => break status,
                }
            };
            assert!(matches!(status, MaskStatus::Only(mask) if mask.allows(token.into())));
            if let Constrained::Ready { is_slow, .. } = &mut constrained {
                *is_slow = true;
            }
            assert_eq!(constrained.accept(token.into()), Ok(Progress::Continue));
            assert!(constrained.is_pending());
            assert_eq!(constrained.mask(None), next);
        }
        constrained.prepare(&mut workers);
        while constrained.mask(None) == MaskStatus::Late {
            workers.wait(MASK_WAIT);
        }
        assert_eq!(constrained.mask(None), MaskStatus::Complete);
    }
}
