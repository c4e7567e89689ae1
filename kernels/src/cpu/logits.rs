//! What a sampler asks of a row of logits.

use super::Cpu;
use super::simd::{Kernel, LANES, Simd, dispatch, exp};
use super::tasks::run_each;

/// Logits that a task looks at. The same for every thread count, because the order of a sum follows from it.
const PART: usize = 16 * 1024;

/// The index of the largest logit, the first of equals; NaN loses to everything. 0 for an empty row.
pub fn argmax(cpu: &Cpu, logits: &[f32]) -> usize {
    let maxima = maxima(cpu, logits);
    let max = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let part = maxima.iter().position(|&m| m == max).unwrap_or(0);
    let within = logits.iter().skip(part * PART).position(|&x| x == max);
    within.map_or(0, |i| part * PART + i)
}

/// `ln Σ e^x`; negative infinity for an empty row.
pub fn log_sum_exp(cpu: &Cpu, logits: &[f32]) -> f32 {
    let max = maxima(cpu, logits)
        .into_iter()
        .fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return max;
    }
    let mut parts: Vec<_> = logits.chunks(PART).map(|part| (part, 0.0)).collect();
    run_each(&cpu.pool, &mut parts, |(logits, sum)| {
        *sum = dispatch(cpu.isa, SumExp { logits, max });
    });
    let sum: f64 = parts.iter().map(|&(_, sum)| f64::from(sum)).sum();
    (f64::from(max) + sum.ln()) as f32
}

/// The largest logit of each part.
fn maxima(cpu: &Cpu, logits: &[f32]) -> Vec<f32> {
    let mut parts: Vec<_> = logits.chunks(PART).map(|part| (part, f32::NAN)).collect();
    run_each(&cpu.pool, &mut parts, |(logits, max)| {
        *max = dispatch(cpu.isa, Max { logits });
    });
    parts.into_iter().map(|(_, max)| max).collect()
}

struct Max<'a> {
    logits: &'a [f32],
}

impl Kernel for Max<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (lines, tail) = self.logits.as_chunks::<LANES>();
        let mut max = s.load_part(tail, f32::NEG_INFINITY);
        // NaN may sit in the second operand of a maximum only, and must not stay there.
        max = s.max(max, s.splat(f32::NEG_INFINITY));
        for line in lines {
            max = s.max(s.load(line), max);
        }
        s.max_lane(max)
    }
}

/// `Σ e^(x - max)`.
struct SumExp<'a> {
    logits: &'a [f32],
    max: f32,
}

impl Kernel for SumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let max = s.splat(self.max);
        let (lines, tail) = self.logits.as_chunks::<LANES>();
        let mut sum = exp(s, s.sub(s.load_part(tail, f32::NEG_INFINITY), max));
        for line in lines {
            sum = s.add(sum, exp(s, s.sub(s.load(line), max)));
        }
        s.sum(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{noise, same_everywhere};

    #[test]
    fn both_agree_with_their_definitions() {
        for len in [0, 1, 17, 5_000, 100_001] {
            let mut logits: Vec<f32> = noise(len as u64, len).iter().map(|x| x * 30.0).collect();
            if len > 100 {
                // A tie across a part's edge and beyond, and a NaN.
                logits[len / 2] = 31.0;
                logits[len - 1] = 31.0;
                logits[3] = f32::NAN;
            }
            let got = same_everywhere(|cpu| vec![argmax(cpu, &logits) as f32]);
            assert_eq!(got[0] as usize, naive::argmax(&logits), "length {len}");
            logits.retain(|x| !x.is_nan());
            let got = same_everywhere(|cpu| vec![log_sum_exp(cpu, &logits)])[0];
            let expected = naive::log_sum_exp(&logits);
            assert!(
                got == expected || (got - expected).abs() < 1e-5,
                "{got} is not {expected}"
            );
        }
        let cpu = Cpu::new(1);
        assert_eq!(argmax(&cpu, &[f32::NAN, f32::NEG_INFINITY]), 1);
        assert_eq!(argmax(&cpu, &[f32::NAN; 20]), 0);
    }
}
