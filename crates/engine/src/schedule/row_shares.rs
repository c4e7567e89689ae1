//! Even shares of the rows of a pass.

/// Rows that are divided among prompts, each of which gets at least one. Ask for the shortest prompt first: what it leaves
/// is divided among the others.
#[derive(Debug)]
pub(crate) struct RowShares {
    rows: usize,
    sharers: usize,
}

impl RowShares {
    /// So many rows for so many prompts; a row for each if there are fewer rows than prompts.
    pub(crate) fn new(rows: usize, sharers: usize) -> Self {
        Self {
            rows: rows.max(sharers),
            sharers,
        }
    }

    /// The share of the next prompt, which has `wanted` rows left.
    pub(crate) fn take(&mut self, wanted: usize) -> usize {
        let share = self.rows.div_ceil(self.sharers.max(1));
        let share = share.min(wanted).min(self.rows);
        self.rows -= share;
        self.sharers = self.sharers.saturating_sub(1);
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(rows: usize, wanted: &[usize]) -> Vec<usize> {
        let mut shares = RowShares::new(rows, wanted.len());
        wanted.iter().map(|&wanted| shares.take(wanted)).collect()
    }

    #[test]
    fn rows_are_divided_evenly_and_all_are_used() {
        assert_eq!(shares(16, &[3, 100, 100]), [3, 7, 6]);
        assert_eq!(shares(16, &[4]), [4]);
        assert_eq!(shares(16, &[100]), [16]);
    }

    #[test]
    fn each_prompt_gets_a_row() {
        assert_eq!(shares(2, &[5, 5, 5, 5]), [1, 1, 1, 1]);
        assert_eq!(shares(5, &[5, 5, 5, 5]), [2, 1, 1, 1]);
    }
}
