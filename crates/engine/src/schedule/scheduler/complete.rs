//! What follows from the results of a pass: scores, chosen tokens, and sequences that end or begin again.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::Sender;

use super::{PassOutput, PassOwner, PendingPass, Scheduler};
use crate::backend::Backend;
use crate::schedule::request::Event;
use crate::schedule::sequence::{PassResult, SequenceProgress};
use crate::schedule::shared::{LAST, UNREAD};

/// What became of a sequence with a result.
enum ChoiceOutcome {
    /// It waits for its mask.
    Late,
    /// It continues with another token.
    Chosen,
    /// It begins again, without the prefix that it reused.
    Restarted,
    /// It has ended, with these events.
    Ended(Vec<Event>),
}

impl<B: Backend> Scheduler<B> {
    /// Waits for the results of a pass, and applies them to its owners.
    pub(super) fn complete(&mut self, pass: PendingPass<B>) {
        let backend = self.model.backend();
        match pass.outcome {
            PassOutput::Nothing => {}
            PassOutput::Logits(logits) => {
                let mut logits = backend.read(logits);
                self.score(&pass.owners, &logits);
                let mut rows = logits.chunks_exact_mut(self.shared.vocab);
                let last = |owner: &PassOwner| rows.by_ref().take(owner.results()).last();
                let owned = pass.owners.iter().map(last);
                let chosen = pass.owners.iter().zip(owned.collect::<Vec<_>>());
                let chosen = chosen.filter(|(owner, _)| owner.chooses);
                let (owners, rows): (Vec<_>, Vec<_>) = chosen
                    .filter_map(|(owner, row)| Some((owner.number, PassResult::Logits(row?))))
                    .unzip();
                self.choose(&owners, rows);
            }
            PassOutput::Chosen(chosen) => {
                let tokens = backend.tokens(&chosen);
                let owners: Vec<u64> = pass.owners.iter().map(|owner| owner.number).collect();
                let tokens = tokens.into_iter().map(PassResult::Greedy).collect();
                self.choose(&owners, tokens);
            }
        }
        self.report_load();
    }

    /// Gives the logits of prompts' rows to their sequences, and reports what is complete.
    fn score(&mut self, owners: &[PassOwner], mut logits: &[f32]) {
        let pool = self.model.backend().pool();
        for owner in owners {
            let (own, rest) = logits.split_at(owner.results() * self.shared.vocab);
            logits = rest;
            let running = self.running.iter_mut().find(|r| r.number == owner.number);
            let Some(running) = running.filter(|_| !owner.scored.is_empty()) else {
                continue;
            };
            if let Some(event) = running.sequence.score(pool, &owner.scored, own) {
                // Its first event; a client that disconnected is released before the next pass.
                let _ = running.events.try_send(event);
            }
        }
    }

    /// Drops the pass ahead, whose sequences have all ended. Waits for it: its memory is free once it has finished.
    fn cancel_ahead(&mut self) {
        if let Some(PendingPass {
            outcome: PassOutput::Chosen(chosen),
            ..
        }) = self.ahead.take()
        {
            self.model.backend().tokens(&chosen);
        }
    }

    /// Chooses a token for every row, in parallel, and releases the sequences that end with it.
    pub(super) fn choose(&mut self, owners: &[u64], rows: Vec<PassResult<'_>>) {
        let mut work: Vec<_> = Vec::with_capacity(owners.len());
        let mut rows: Vec<_> = rows.into_iter().map(Some).collect();
        for running in &mut self.running {
            let row = owners.iter().position(|&number| number == running.number);
            if let Some(row) = row.and_then(|row| rows[row].take()) {
                work.push(Mutex::new((running, Some(row), ChoiceOutcome::Late)));
            }
        }
        let text = &self.shared.text;
        self.model.backend().pool().run(work.len(), &|index| {
            let mut entry = work[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (running, row, outcome) = &mut *entry;
            let Some(row) = row.take() else { return };
            *outcome = match running.sequence.choose(text, row) {
                // A client that disconnected is released before the next pass; sending to it does no harm.
                SequenceProgress::Continue(event) => {
                    let _ = running.events.try_send(event);
                    if running.events.capacity() <= LAST {
                        let reason = format!(
                            "the client left {UNREAD} tokens unread; read faster, or ask without log probabilities"
                        );
                        ChoiceOutcome::Ended(vec![Event::Failed(reason)])
                    } else {
                        ChoiceOutcome::Chosen
                    }
                }
                SequenceProgress::Late => ChoiceOutcome::Late,
                SequenceProgress::Restart => ChoiceOutcome::Restarted,
                SequenceProgress::End(events) => ChoiceOutcome::Ended(events),
            };
        });
        let chosen: Vec<_> = work
            .into_iter()
            .map(|entry| entry.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect();
        // As `usage` counts them: an end-of-sequence token is chosen too, but is not part of the answer.
        let is_token = |event: &&Event| matches!(event, Event::Token { .. });
        let generated: usize = chosen
            .iter()
            .map(|(_, _, outcome)| match outcome {
                ChoiceOutcome::Late | ChoiceOutcome::Restarted => 0,
                ChoiceOutcome::Chosen => 1,
                ChoiceOutcome::Ended(last) => last.iter().filter(is_token).count(),
            })
            .sum();
        let (mut ended, mut restarted) = (Vec::new(), Vec::new());
        for (running, _, outcome) in chosen {
            match outcome {
                ChoiceOutcome::Ended(last) => {
                    ended.push((running.number, running.events.clone(), last));
                }
                ChoiceOutcome::Restarted => restarted.push(running.number),
                ChoiceOutcome::Late | ChoiceOutcome::Chosen => {}
            }
        }
        self.shared
            .stats
            .generated_tokens
            .fetch_add(generated as u64, Relaxed);
        for number in restarted {
            self.restart(number);
        }
        self.end(ended);
    }

    /// Begins a sequence again without the prefix that it reused, whose logits are not finite.
    fn restart(&mut self, number: u64) {
        let Some(running) = self.running.iter_mut().find(|r| r.number == number) else {
            return;
        };
        // The pass ahead has a row of it: its result belongs to a sequence that is no longer there.
        self.count += 1;
        running.number = self.count;
        running.len = 0;
        running.sequence.restart();
        let (backend, slots) = (self.model.backend(), &mut self.slots);
        backend.clear(slots, running.slot);
        if let (Some(reuse), Some(sequence)) = (&mut self.reuse, &mut running.reuse) {
            reuse.restart(backend, slots, sequence, running.sequence.prompt());
        }
    }

    /// Releases sequences, then reports their last events.
    pub(super) fn end(&mut self, ended: Vec<(u64, Sender<Event>, Vec<Event>)>) {
        if ended.is_empty() {
            return;
        }
        if ended.len() == self.running.len() {
            self.cancel_ahead();
        }
        // What has failed leaves nothing.
        for (number, _, last) in &ended {
            let is_failure = |event: &Event| matches!(event, Event::Refused(_) | Event::Failed(_));
            let failed = last.iter().any(is_failure);
            let running = self.running.iter_mut().find(|r| r.number == *number);
            if let Some(running) = running.filter(|_| failed) {
                running.reuse = None;
            }
        }
        // The slot is free before its client receives the last event, so that the client's next request can use it.
        self.release_where(|running| ended.iter().any(|(number, ..)| *number == running.number));
        self.report_load();
        for (_, events, last) in ended {
            for event in last {
                let _ = events.try_send(event);
            }
        }
    }
}
