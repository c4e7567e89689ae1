//! The unit of work: rows of tokens from any number of sequences, in one pass.
//!
//! Decode is a segment of one row, prefill a segment of many, and both travel together: projections and norms see
//! `[N, hidden]` and know nothing of sequences, so a weight is read once a pass however many there are. Only the
//! three operations with a memory (attention, convolution, gated delta) look at segments.

/// A sequence's place in the caches, held from admission to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// Consecutive rows of a batch that belong to one sequence and continue it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSegment {
    /// The sequence.
    pub slot: SlotId,
    /// Its first row.
    pub start: usize,
    /// How many rows it has; at least one.
    pub len: usize,
}

/// One pass's input.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// A token a row.
    pub tokens: Vec<u32>,
    /// The rows' sequences, in row order; together they cover every row, and no slot has two.
    pub segments: Vec<BatchSegment>,
    /// Rows whose logits are wanted, ascending.
    pub outputs: Vec<usize>,
}

impl Batch {
    /// Adds rows that continue `slot`; with `output`, the last row's logits are wanted.
    pub fn push(&mut self, slot: SlotId, tokens: &[u32], output: bool) {
        debug_assert!(!tokens.is_empty() && self.segments.iter().all(|s| s.slot != slot));
        self.segments.push(BatchSegment {
            slot,
            start: self.tokens.len(),
            len: tokens.len(),
        });
        self.tokens.extend(tokens);
        if output {
            self.outputs.push(self.tokens.len() - 1);
        }
    }

    /// Adds rows that continue `slot`; the logits of all of them are wanted.
    pub fn push_scored(&mut self, slot: SlotId, tokens: &[u32]) {
        let start = self.tokens.len();
        self.push(slot, tokens, false);
        self.outputs.extend(start..self.tokens.len());
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}
