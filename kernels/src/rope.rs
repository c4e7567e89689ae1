//! Rotary position embedding: the angles by which queries and keys are turned.

/// The frequencies of a partial rotary embedding.
///
/// The first `rotary_dim` dimensions of a head are rotated, in pairs `(i, i + rotary_dim / 2)` (the "NeoX" halves,
/// not interleaved), by `position × theta^(-2i / rotary_dim)`; the rest pass through.
/// Source: Su et al., *RoFormer*, arXiv 2104.09864, in the layout of GPT-NeoX.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    inverse_frequencies: Vec<f32>,
}

impl Rope {
    /// Frequencies for `rotary_dim` rotated dimensions (an even number) over base `theta`.
    pub fn new(rotary_dim: usize, theta: f64) -> Self {
        let inverse_frequencies = (0..rotary_dim / 2)
            .map(|i| theta.powf(-2.0 * i as f64 / rotary_dim as f64) as f32)
            .collect();
        Self {
            inverse_frequencies,
        }
    }

    /// How many dimensions of a head are rotated.
    pub fn rotary_dim(&self) -> usize {
        2 * self.inverse_frequencies.len()
    }

    /// Writes a position's cosines, then its sines: `[2, rotary_dim / 2]`.
    ///
    /// The angle is rounded to f32 before the functions are taken, as the reference implementations do.
    pub fn angles(&self, position: usize, out: &mut [f32]) {
        let (cos, sin) = out.split_at_mut(self.inverse_frequencies.len());
        for (i, frequency) in self.inverse_frequencies.iter().enumerate() {
            (sin[i], cos[i]) = (position as f32 * frequency).sin_cos();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one_to_nearly_the_inverse_of_theta() {
        let rope = Rope::new(64, 10_000_000.0);
        assert_eq!(rope.rotary_dim(), 64);
        let mut angles = [0.0; 64];
        rope.angles(1, &mut angles);
        assert_eq!(angles[0], 1.0_f32.cos());
        assert_eq!(angles[32], 1.0_f32.sin());
        let slowest = 10_000_000.0_f64.powf(-62.0 / 64.0) as f32;
        assert_eq!(angles[63], slowest.sin());
    }
}
