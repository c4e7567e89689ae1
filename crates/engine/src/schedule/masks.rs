//! Masks of constrained sequences, computed beside the pass whose logits they are for.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sanctum_grammar::{Allowed, Constraint, GrammarError, Mask, Progress};

/// A constraint and the tokens that it allows next.
type Masked = (Constraint, Result<Allowed, GrammarError>);

/// Threads that compute masks. They are started with the first constrained sequence.
#[derive(Default)]
pub(crate) struct MaskWorkers {
    tasks: Option<Sender<(Constraint, SyncSender<Masked>)>>,
}

/// The constraint of one sequence, if it has one.
#[derive(Default)]
pub(crate) enum Constrained {
    /// It has none.
    #[default]
    No,
    /// Nothing is computed.
    Idle(Constraint),
    /// A thread computes the mask for the next token.
    Computing(Receiver<Masked>),
    /// The mask for the next token is known.
    Ready(Constraint, Result<Allowed, GrammarError>),
}

impl MaskWorkers {
    fn submit(&mut self, constraint: Constraint) -> Constrained {
        let tasks = self.tasks.get_or_insert_with(start);
        let (reply, receiver) = sync_channel(1);
        match tasks.send((constraint, reply)) {
            Ok(()) => Constrained::Computing(receiver),
            // No thread could be started.
            Err(error) => {
                let mut constraint = error.0.0;
                let allowed = constraint.allowed();
                Constrained::Ready(constraint, allowed)
            }
        }
    }
}

/// Starts the threads: half as many as there are cores, since the pass computes as well.
fn start() -> Sender<(Constraint, SyncSender<Masked>)> {
    let (tasks, inbox) = channel::<(Constraint, SyncSender<Masked>)>();
    let inbox = Arc::new(Mutex::new(inbox));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    for index in 0..(cores / 2).clamp(1, 8) {
        let inbox = Arc::clone(&inbox);
        let run = move || {
            loop {
                let task = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((mut constraint, reply)) = task else {
                    return;
                };
                let allowed = constraint.allowed();
                // Without a receiver the sequence has ended meanwhile.
                let _ = reply.send((constraint, allowed));
            }
        };
        // With fewer threads masks take longer; with none the scheduler's own thread computes them.
        let _ = thread::Builder::new()
            .name(format!("mask-{index}"))
            .spawn(run);
    }
    tasks
}

impl Constrained {
    pub(crate) fn new(constraint: Option<Constraint>) -> Self {
        constraint.map_or(Self::No, Self::Idle)
    }

    /// Whether there is a constraint.
    pub(crate) fn is_constrained(&self) -> bool {
        !matches!(self, Self::No)
    }

    /// Starts to compute the mask for the next token.
    pub(crate) fn prepare(&mut self, workers: &mut MaskWorkers) {
        *self = match std::mem::take(self) {
            Self::Idle(constraint) => workers.submit(constraint),
            other => other,
        };
    }

    /// The mask for the next token, once it is known; none if every token is allowed.
    ///
    /// # Errors
    /// If a limit of the parser was exceeded.
    pub(crate) fn mask(&mut self) -> Result<Option<Mask>, GrammarError> {
        *self = match std::mem::take(self) {
            Self::Idle(mut constraint) => {
                let allowed = constraint.allowed();
                Self::Ready(constraint, allowed)
            }
            Self::Computing(receiver) => match receiver.recv() {
                Ok((constraint, allowed)) => Self::Ready(constraint, allowed),
                Err(_) => {
                    let reason = "the thread that computes masks has ended".to_owned();
                    return Err(GrammarError::Failed(reason));
                }
            },
            other => other,
        };
        match self {
            Self::Ready(_, Ok(Allowed::Only(mask))) => Ok(Some(mask.clone())),
            Self::Ready(_, Err(error)) => Err(error.clone()),
            _ => Ok(None),
        }
    }

    /// Advances by the token that was chosen.
    ///
    /// # Errors
    /// If the constraint does not allow it.
    pub(crate) fn accept(&mut self, token: u32) -> Result<Progress, GrammarError> {
        match std::mem::take(self) {
            Self::Idle(mut constraint) | Self::Ready(mut constraint, _) => {
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
