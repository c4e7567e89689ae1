//! Rotary position embedding: the angles by which queries and keys are turned.

use std::f64::consts::PI;

/// How the frequencies are stretched, so that a model reads contexts beyond those of its training.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Positions count `1 / factor` each.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// YaRN (Peng et al., arXiv 2309.00071, section 3.3) as transformers and mlx-lm compute it: dimensions that turn
    /// often within the original context are left as they are, those that turn seldom are stretched by `factor`, and
    /// between the two lies a linear ramp.
    Yarn {
        /// At least 1.
        factor: f64,
        /// Positions of the context before it was extended.
        original: usize,
        /// Dimensions with at least so many turns within `original` positions keep their frequency (`beta_fast`).
        fast: f64,
        /// Dimensions with at most so many are stretched in full (`beta_slow`).
        slow: f64,
        /// What cosines and sines are multiplied with (`attention_factor`).
        attention: f64,
    },
}

/// The frequencies of a partial rotary embedding.
///
/// The first `rotary_dim` dimensions of a head are rotated, in pairs `(i, i + rotary_dim / 2)` (the "NeoX" halves,
/// not interleaved), by `position × theta^(-2i / rotary_dim)`; the rest pass through.
/// Source: Su et al., *RoFormer*, arXiv 2104.09864, in the layout of GPT-NeoX.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    inverse_frequencies: Vec<f32>,
    amplitude: f32,
}

impl Rope {
    /// Frequencies for `rotary_dim` rotated dimensions (an even number) over base `theta`.
    pub fn new(rotary_dim: usize, theta: f64) -> Self {
        Self::scaled(rotary_dim, theta, &RopeScaling::None)
    }

    /// The same, stretched.
    pub fn scaled(rotary_dim: usize, theta: f64, scaling: &RopeScaling) -> Self {
        let frequency = |i: usize| theta.powf(-2.0 * i as f64 / rotary_dim as f64);
        let stretched = |i: usize| match *scaling {
            RopeScaling::None => frequency(i),
            RopeScaling::Linear { factor } => frequency(i) / factor,
            RopeScaling::Yarn {
                factor,
                original,
                fast,
                slow,
                ..
            } => {
                // The dimension that turns so often within the original context.
                let dimension = |turns: f64| {
                    rotary_dim as f64 * (original as f64 / (turns * 2.0 * PI)).ln()
                        / (2.0 * theta.ln())
                };
                let low = dimension(fast).floor().max(0.0);
                let high = dimension(slow).ceil().min(rotary_dim as f64 - 1.0);
                let width = if high == low { 1e-3 } else { high - low };
                let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
                frequency(i) * (1.0 - ramp) + frequency(i) / factor * ramp
            }
        };
        Self {
            inverse_frequencies: (0..rotary_dim / 2).map(|i| stretched(i) as f32).collect(),
            amplitude: match *scaling {
                RopeScaling::Yarn { attention, .. } => attention as f32,
                RopeScaling::None | RopeScaling::Linear { .. } => 1.0,
            },
        }
    }

    /// How many dimensions of a head are rotated.
    pub fn rotary_dim(&self) -> usize {
        2 * self.inverse_frequencies.len()
    }

    /// Radians a position by which each pair is turned, `[rotary_dim / 2]`.
    pub fn inverse_frequencies(&self) -> &[f32] {
        &self.inverse_frequencies
    }

    /// What cosines and sines are multiplied with.
    pub fn amplitude(&self) -> f32 {
        self.amplitude
    }

    /// Writes a position's cosines, then its sines: `[2, rotary_dim / 2]`.
    ///
    /// The angle is rounded to f32 before the functions are taken, as the reference implementations do.
    pub fn angles(&self, position: usize, out: &mut [f32]) {
        let (cos, sin) = out.split_at_mut(self.inverse_frequencies.len());
        for (i, frequency) in self.inverse_frequencies.iter().enumerate() {
            let (s, c) = (position as f32 * frequency).sin_cos();
            (sin[i], cos[i]) = (s * self.amplitude, c * self.amplitude);
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

    #[test]
    fn linear_scaling_divides_positions() {
        let (plain, linear) = (
            Rope::new(16, 10_000.0),
            Rope::scaled(16, 10_000.0, &RopeScaling::Linear { factor: 4.0 }),
        );
        let (mut expected, mut found) = ([0.0; 16], [0.0; 16]);
        plain.angles(25, &mut expected);
        linear.angles(100, &mut found);
        assert_eq!(found, expected);
    }

    #[test]
    fn yarn_keeps_fast_dimensions_and_stretches_slow_ones() {
        let yarn = RopeScaling::Yarn {
            factor: 4.0,
            original: 262_144,
            fast: 32.0,
            slow: 1.0,
            attention: 1.25,
        };
        let (plain, yarn) = (Rope::new(64, 1e7), Rope::scaled(64, 1e7, &yarn));
        let ratio = |i: usize| plain.inverse_frequencies[i] / yarn.inverse_frequencies[i];
        // 262,144 positions are 32 turns of dimension 14.2 and one turn of dimension 21.1.
        assert_eq!([0, 14].map(ratio), [1.0, 1.0]);
        assert!(ratio(15) > 1.0 && ratio(21) < 4.0);
        assert_eq!([22, 31].map(ratio), [4.0, 4.0]);
        let mut angles = [0.0; 64];
        yarn.angles(0, &mut angles);
        assert_eq!((angles[0], angles[32]), (1.25, 0.0));
    }
}
