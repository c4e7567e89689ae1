//! One bit for each token.

use std::sync::Arc;

/// The tokens that may follow. Tokens beyond the vocabulary are forbidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: Arc<[u32]>,
}

impl Mask {
    /// A mask of words of 32 tokens; token `id` is bit `id % 32` of word `id / 32`.
    pub fn new(words: &[u32]) -> Self {
        Self {
            words: words.into(),
        }
    }

    /// The bits, as in [`Mask::allows`]: for a device that applies them itself.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether a token may follow.
    pub fn allows(&self, id: u32) -> bool {
        let word = self.words.get(id as usize / 32);
        word.is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// Sets the logit of every forbidden token to -inf.
    pub fn apply(&self, logits: &mut [f32]) {
        for (index, chunk) in logits.chunks_mut(32).enumerate() {
            match self.words.get(index).copied().unwrap_or(0) {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in chunk.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }

    /// This mask with more tokens.
    pub(crate) fn with(self, ids: &[u32]) -> Self {
        let mut words = self.words.to_vec();
        for &id in ids {
            if let Some(word) = words.get_mut(id as usize / 32) {
                *word |= 1 << (id % 32);
            }
        }
        Self::new(&words)
    }

    /// This mask with fewer tokens.
    pub(crate) fn without(self, ids: &[u32]) -> Self {
        let mut words = self.words.to_vec();
        for &id in ids {
            if let Some(word) = words.get_mut(id as usize / 32) {
                *word &= !(1 << (id % 32));
            }
        }
        Self::new(&words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_applied_leaves_only_allowed_logits() {
        let mask = Mask::new(&[0b101, u32::MAX, 0])
            .with(&[70])
            .without(&[2, 33]);
        let mut logits = vec![1.0; 100];
        mask.apply(&mut logits);
        for (id, logit) in logits.iter().enumerate() {
            let allowed = id == 0 || id == 70 || (32..64).contains(&id) && id != 33;
            assert_eq!(mask.allows(id as u32), allowed, "{id}");
            assert_eq!(*logit == 1.0, allowed, "{id}");
        }
    }
}
