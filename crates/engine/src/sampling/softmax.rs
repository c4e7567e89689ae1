//! Passes over a whole vocabulary of logits: maximum, exponentials, sums.
//!
//! Written in lanes so that the compiler vectorises them, and without the platform's `expf`, whose last bit differs
//! between platforms. A vocabulary of 248,320 logits costs a few hundred microseconds a pass.

const LANES: usize = 16;
/// Sums run in f32 within a block, in f64 over the blocks.
pub(super) const BLOCK: usize = 1024;

/// `exp(x)` for `x ≤ 0`, to within 2 units in the last place; 0 where that would be subnormal.
///
/// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`; Taylor's series to the seventh power gives `exp(r)`, the exponent bits 2ⁿ.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer, which is then found in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the product of the first with any n here is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -87.0;
    let clamped = if x < LOWEST { LOWEST } else { x };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut sum = 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x < LOWEST { 0.0 } else { sum * power }
}

/// The largest logit; `None` when a logit is NaN, the largest is not finite, or there is none.
pub(super) fn max(logits: &[f32]) -> Option<f32> {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut unordered = [0u32; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
            unordered[lane] |= u32::from(x.is_nan());
        }
    }
    for &x in rest {
        lanes[0] = if x > lanes[0] { x } else { lanes[0] };
        unordered[0] |= u32::from(x.is_nan());
    }
    let largest = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (unordered == [0; LANES] && largest.is_finite()).then_some(largest)
}

/// The first token that has this logit; 0 if none has.
pub(super) fn first(logits: &[f32], logit: f32) -> u32 {
    let mut start = 0;
    for block in logits.chunks(BLOCK) {
        // Looking at the whole block without a way out is quicker than stopping early.
        if block.iter().fold(false, |found, &x| found | (x == logit)) {
            break;
        }
        start += block.len();
    }
    let within = logits.get(start..).unwrap_or_default();
    let at = within.iter().position(|&x| x == logit).unwrap_or(0);
    (start + at) as u32
}

/// The sum of what some numbers count for, at most [`BLOCK`] of them for full precision.
#[inline(always)]
pub(super) fn sum_block(block: &[f32], counted: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = block.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += counted(chunk[lane]);
        }
    }
    for &x in rest {
        lanes[0] += counted(x);
    }
    lanes.into_iter().map(f64::from).sum()
}

/// `Σ exp(logit - max)`.
pub(super) fn sum_exp(logits: &[f32], max: f32) -> f64 {
    logits
        .chunks(BLOCK)
        .map(|block| sum_block(block, |logit| exp(logit - max)))
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exp_is_close_to_the_true_value() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        let mut worst = 0f64;
        for i in 0..870_000 {
            let x = -(i as f32) * 1e-4;
            let truth = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - truth) / truth).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
    }

    #[test]
    fn logits_that_are_no_numbers_have_no_maximum() {
        assert_eq!(max(&[]), None);
        assert_eq!(max(&[1.0, f32::NAN]), None);
        let mut many = vec![0.0; 100];
        many[37] = f32::NAN;
        assert_eq!(max(&many), None);
        assert_eq!(max(&[0.0, f32::INFINITY]), None);
        assert_eq!(max(&[f32::NEG_INFINITY; 20]), None);
        assert_eq!(max(&[f32::NEG_INFINITY, -3.0]), Some(-3.0));
    }

    proptest! {
        #[test]
        fn the_first_of_the_largest_is_found(logits in prop::collection::vec(-5i8..5, 1..3000)) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let largest = max(&logits).unwrap();
            let at = first(&logits, largest) as usize;
            prop_assert_eq!(logits[at], largest);
            prop_assert!(logits[..at].iter().all(|&x| x < largest));
            let truth: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
            prop_assert!((sum_exp(&logits, largest) / truth - 1.0).abs() < 1e-6);
        }
    }
}
