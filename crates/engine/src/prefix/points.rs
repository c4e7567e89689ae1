//! Where snapshots of a prompt are taken.
//!
//! A prefix can be reused at snapshots only, so they are where later prompts are expected to part from this one: behind its first
//! message, which is often a system prompt that many share; behind its last message, before what invites the answer; where this
//! prompt parts from others that are known; and, so that little is computed again if it parts elsewhere, behind other messages and
//! within long ones.

use std::collections::BTreeSet;

/// How snapshot points are chosen.
#[derive(Clone, Debug)]
pub(crate) struct PointRules {
    /// Tokens that end a message.
    pub(crate) ends: Vec<u32>,
    /// Tokens between two points that are there only to have one now and then.
    pub(crate) spacing: usize,
    /// Tokens between any two points, at least: fewer are computed sooner than copied.
    pub(crate) least: usize,
}

/// The points of one prompt that are still to come, as lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotPoints {
    /// A chunk of the prompt ends at each.
    exact: BTreeSet<usize>,
    /// A chunk may go beyond one: the snapshot is taken where that chunk ends.
    about: BTreeSet<usize>,
}

impl PointRules {
    /// The points of a prompt whose first `start` tokens are reused, and whose first `known` tokens others have too.
    pub(crate) fn points(&self, prompt: &[u32], start: usize, known: usize) -> SnapshotPoints {
        let ends = (1..=prompt.len()).filter(|&end| self.ends.contains(&prompt[end - 1]));
        let ends: Vec<usize> = ends.collect();
        let parting = Some(known).filter(|&known| known < prompt.len());
        let parting = parting.or(Some(prompt.len().saturating_sub(1)).filter(|_| known > 0));
        let likely = [ends.first().copied(), ends.last().copied(), parting];
        let mut candidates: BTreeSet<usize> = likely.into_iter().flatten().collect();
        candidates.extend(&ends);

        let mut points = SnapshotPoints::default();
        let mut last = start;
        for at in candidates.into_iter().filter(|&at| at > start) {
            let distance = match likely.contains(&Some(at)) {
                true => self.least,
                false => self.spacing,
            };
            if at - last >= distance.max(1) {
                points.exact.insert(at);
                self.divide(last, at, &mut points);
                last = at;
            }
        }
        self.divide(last, prompt.len(), &mut points);
        points
    }

    /// Adds points within a long stretch.
    fn divide(&self, from: usize, to: usize, points: &mut SnapshotPoints) {
        let spacing = self.spacing.max(1);
        let inner = (1..).map(|n| from + n * spacing);
        let inner = inner.take_while(|&at| at.saturating_add(self.least) <= to && at < to);
        points.about.extend(inner);
    }
}

impl SnapshotPoints {
    /// Where the next chunk has to end, if it would reach so far, given how many tokens were computed.
    pub(crate) fn next_end(&self, computed: usize) -> Option<usize> {
        self.exact.range(computed + 1..).next().copied()
    }

    /// Whether a snapshot is due now that so many tokens were computed. Forgets all points up to here.
    pub(crate) fn take(&mut self, computed: usize) -> bool {
        let mut due = self.exact.contains(&computed);
        self.exact = self.exact.split_off(&(computed + 1));
        let later = self.about.split_off(&(computed + 1));
        due |= !std::mem::replace(&mut self.about, later).is_empty();
        due
    }

    /// Makes sure that there is a point at `at`, or less than `least` tokens before it and not computed yet.
    pub(crate) fn require(&mut self, at: usize, computed: usize, least: usize) {
        let from = at.saturating_sub(least.saturating_sub(1)).max(computed + 1);
        if from <= at && self.exact.range(from..=at).next().is_none() {
            self.exact.insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const END: u32 = 9;

    fn rules() -> PointRules {
        PointRules {
            ends: vec![END],
            spacing: 20,
            least: 4,
        }
    }

    /// A prompt with messages that end at these lengths.
    fn prompt(ends: &[usize], len: usize) -> Vec<u32> {
        (1..=len)
            .map(|at| if ends.contains(&at) { END } else { 0 })
            .collect()
    }

    fn exact(ends: &[usize], len: usize, start: usize, known: usize) -> Vec<usize> {
        let points = rules().points(&prompt(ends, len), start, known);
        points.exact.into_iter().collect()
    }

    #[test]
    fn first_and_last_message_end_with_a_point() {
        assert_eq!(exact(&[6, 12, 17, 25], 29, 0, 0), [6, 25]);
        // Those between only with some distance.
        assert_eq!(exact(&[6, 12, 30, 41], 44, 0, 0), [6, 30, 41]);
        assert_eq!(exact(&[6], 9, 0, 0), [6]);
        assert_eq!(exact(&[], 9, 0, 0), [0; 0]);
    }

    #[test]
    fn points_are_behind_what_is_reused_and_not_too_near() {
        assert_eq!(exact(&[6, 12, 17, 25], 29, 12, 12), [25]);
        assert_eq!(exact(&[3, 6], 9, 0, 0), [6]);
        assert_eq!(exact(&[6, 9], 12, 0, 0), [6]);
    }

    #[test]
    fn prompt_gets_a_point_where_it_parts_from_others() {
        assert_eq!(exact(&[6, 25], 29, 6, 15), [15, 25]);
        assert_eq!(exact(&[6, 25], 29, 6, 8), [25]);
        // The last token is always computed.
        assert_eq!(exact(&[], 29, 6, 29), [28]);
        assert_eq!(exact(&[], 29, 0, 29), [28]);
    }

    #[test]
    fn long_stretches_have_points_within() {
        let points = rules().points(&prompt(&[50], 120), 0, 0);
        let about: Vec<usize> = points.about.iter().copied().collect();
        assert_eq!(about, [20, 40, 70, 90, 110]);
    }

    #[test]
    fn snapshot_is_due_at_exact_points_and_behind_others() {
        let mut points = rules().points(&prompt(&[50], 120), 0, 0);
        assert_eq!(points.next_end(0), Some(50));
        assert!(!points.take(16));
        assert!(points.take(32));
        assert!(!points.take(39));
        assert_eq!(points.next_end(48), Some(50));
        assert!(points.take(50));
        assert_eq!(points.next_end(50), None);
        assert!(points.take(120));
        assert_eq!(points, SnapshotPoints::default());
    }

    #[test]
    fn required_point_is_added_unless_one_is_near() {
        let mut points = rules().points(&prompt(&[50], 120), 0, 0);
        points.require(53, 0, 4);
        assert_eq!(points.exact, [50].into());
        points.require(54, 0, 4);
        points.require(30, 0, 4);
        assert_eq!(points.exact, [30, 50, 54].into());
        // What was computed already has no point any more.
        points.require(54, 54, 4);
        points.require(60, 57, 4);
        assert_eq!(points.exact, [30, 50, 54, 60].into());
    }

    proptest! {
        #[test]
        fn points_are_in_the_prompt_and_apart(
            prompt in vec(0..12_u32, 1..200),
            start in 0..100_usize,
            known in 0..100_usize,
        ) {
            let start = start.min(prompt.len() - 1);
            let known = known.clamp(start, prompt.len());
            let points = rules().points(&prompt, start, known);
            let mut last = start;
            for &at in &points.exact {
                prop_assert!(at >= last + 4 && at <= prompt.len());
                last = at;
            }
            prop_assert!(points.about.iter().all(|&at| at > start && at < prompt.len()));
            // Wherever another prompt parts from this one, less than two spacings are computed again.
            let all: BTreeSet<usize> = points.exact.union(&points.about).copied().collect();
            let mut last = start;
            for at in all.into_iter().chain([prompt.len()]) {
                prop_assert!(at - last <= 2 * 20, "{last} to {at}");
                last = at;
            }
        }
    }
}
