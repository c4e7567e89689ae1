//! What values stand for once they were packed.

use half::f16;

use crate::KvMode;

/// The numbers that a cache of this mode gives back for `values`, whole groups of [`KvMode::GROUP`].
///
/// A group's zero is its least number and its scale the `2^bits - 1`-th part of its range, both rounded to half
/// precision before they are used, and kept within its range; a code is the nearest that there is.
pub fn packed(values: &[f32], mode: KvMode) -> Vec<f32> {
    let Some(bits) = mode.bits() else {
        return values.to_vec();
    };
    let top = ((1 << bits) - 1) as f32;
    let half = |x: f32| {
        let largest = f16::MAX.to_f32();
        f16::from_f32(x.clamp(-largest, largest)).to_f32()
    };
    let mut out = Vec::with_capacity(values.len());
    for group in values.chunks(KvMode::GROUP) {
        let zero = half(group.iter().copied().fold(f32::INFINITY, f32::min));
        let most = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = half((most - zero) / top);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        out.extend(group.iter().map(|value| {
            let code = ((value - zero) * inverse + 0.5).clamp(0.0, top).trunc();
            scale.mul_add(code, zero)
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn a_number_moves_by_half_a_step_and_what_halves_round_off() {
        let values = noise(7, 64 * 50);
        for (mode, steps) in [(KvMode::V8, 255.0), (KvMode::V4, 15.0)] {
            let limit = 2.0 / steps * 0.51 + 2e-3 / 2.0;
            for (got, value) in packed(&values, mode).iter().zip(&values) {
                assert!((got - value).abs() <= limit, "{mode}: {got} for {value}");
            }
        }
    }

    #[test]
    fn a_group_of_equals_and_what_halves_cannot_hold_stay_finite() {
        assert_eq!(packed(&[0.25; 64], KvMode::V4), [0.25; 64]);
        let mut huge = [1e30; 64];
        huge[3] = -1e30;
        for mode in [KvMode::V8, KvMode::V4] {
            assert!(packed(&huge, mode).iter().all(|x| x.is_finite()));
        }
    }
}
