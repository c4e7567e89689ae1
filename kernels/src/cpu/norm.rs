//! Root-mean-square norms, the residual sum that precedes them and the gate that follows them.

use super::simd::{Kernel, LANES, Simd, dispatch, silu};
use super::tasks::{elements_per_task, rows_per_task, run_each};
use super::{Cpu, Isa};

/// `out = x / sqrt(mean(x²) + eps) · weight`, each row of `x: [N, C]` for itself; `weight: [C]`.
///
/// # Panics
/// If the lengths do not agree.
pub fn rms_norm(cpu: &Cpu, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    let run = part_len(cpu, x.len(), weight.len());
    let mut parts: Vec<_> = x.chunks(run).zip(out.chunks_mut(run)).collect();
    run_each(&cpu.pool, &mut parts, |(x, out)| {
        let gate = None;
        dispatch(
            cpu.isa,
            Norm {
                x,
                gate,
                weight,
                eps,
                out,
            },
        );
    });
}

/// `x += y`.
///
/// # Panics
/// If the lengths do not agree.
pub fn add(cpu: &Cpu, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len());
    let run = elements_per_task(&cpu.pool, x.len());
    let mut parts: Vec<_> = x.chunks_mut(run).zip(y.chunks(run)).collect();
    run_each(&cpu.pool, &mut parts, |(x, y)| {
        dispatch(cpu.isa, Add { x, y });
    });
}

/// `x += y`, then `out = rms_norm(x)`: the step from one block to the next in one pass over memory, bit-equal to
/// [`add`] followed by [`rms_norm`].
///
/// # Panics
/// If the lengths do not agree.
pub fn add_rms_norm(
    cpu: &Cpu,
    x: &mut [f32],
    y: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    assert!(x.len() == y.len() && x.len() == out.len());
    let width = weight.len();
    let run = part_len(cpu, x.len(), width);
    let mut parts: Vec<_> = (x.chunks_mut(run).zip(y.chunks(run)))
        .zip(out.chunks_mut(run))
        .collect();
    run_each(&cpu.pool, &mut parts, |((x, y), out)| {
        let rows = x.chunks_mut(width).zip(y.chunks(width));
        for ((x, y), out) in rows.zip(out.chunks_mut(width)) {
            add_then_norm(cpu.isa, x, y, weight, eps, out);
        }
    });
}

/// `out = rms_norm(y) · weight · silu(z)`, each head of `y, z: [N, Hv, Dv]` for itself; `weight: [Dv]`.
///
/// # Panics
/// If the lengths do not agree.
pub fn gated_norm(cpu: &Cpu, y: &[f32], z: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(y.len() == out.len() && z.len() == out.len());
    let run = part_len(cpu, y.len(), weight.len());
    let mut parts: Vec<_> = (y.chunks(run).zip(z.chunks(run)))
        .zip(out.chunks_mut(run))
        .collect();
    run_each(&cpu.pool, &mut parts, |((x, z), out)| {
        let gate = Some(*z);
        dispatch(
            cpu.isa,
            Norm {
                x,
                gate,
                weight,
                eps,
                out,
            },
        );
    });
}

/// Floats to a task: whole rows of `width`.
fn part_len(cpu: &Cpu, len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width));
    rows_per_task(&cpu.pool, len / width, width) * width
}

fn add_then_norm(isa: Isa, x: &mut [f32], y: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    dispatch(isa, Add { x, y });
    let gate = None;
    dispatch(
        isa,
        Norm {
            x,
            gate,
            weight,
            eps,
            out,
        },
    );
}

/// `x += y`.
struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, x_rest) = self.x.as_chunks_mut();
        let (y, y_rest) = self.y.as_chunks();
        for (x, y) in x.iter_mut().zip(y) {
            s.store(s.add(s.load(x), s.load(y)), x);
        }
        for (x, y) in x_rest.iter_mut().zip(y_rest) {
            *x += y;
        }
    }
}

/// The norm of each row of `x`, times `silu(gate)` where there is a gate.
struct Norm<'a> {
    x: &'a [f32],
    gate: Option<&'a [f32]>,
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        let rows = self
            .x
            .chunks_exact(width)
            .zip(self.out.chunks_exact_mut(width));
        for (row, (x, out)) in rows.enumerate() {
            let scale = rms_scale(s, x, self.eps);
            match self.gate {
                None => scaled(s, x, scale, self.weight, out),
                Some(gate) => gated(s, x, scale, self.weight, &gate[row * width..][..width], out),
            }
        }
    }
}

/// `1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
pub(super) fn rms_scale<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_squares(s, x) / x.len() as f32 + eps).sqrt()
}

/// `Σ x²`, in four chains and a rest.
#[inline(always)]
pub(super) fn sum_of_squares<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (lines, tail) = x.as_chunks::<LANES>();
    let (fours, rest) = lines.as_chunks::<4>();
    let mut sums = [s.splat(0.0); 4];
    for four in fours {
        for (sum, line) in sums.iter_mut().zip(four) {
            let v = s.load(line);
            *sum = s.mul_add(v, v, *sum);
        }
    }
    for line in rest {
        let v = s.load(line);
        sums[0] = s.mul_add(v, v, sums[0]);
    }
    let v = s.load_part(tail, 0.0);
    sums[1] = s.mul_add(v, v, sums[1]);
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// `out = x · scale · weight`.
#[inline(always)]
pub(super) fn scaled<S: Simd>(s: S, x: &[f32], scale: f32, weight: &[f32], out: &mut [f32]) {
    let (x, x_tail) = x.as_chunks::<LANES>();
    let (weight, weight_tail) = weight.as_chunks();
    let (out, out_tail) = out.as_chunks_mut();
    for ((x, weight), out) in x.iter().zip(weight).zip(out) {
        let v = s.mul(s.mul(s.load(x), s.splat(scale)), s.load(weight));
        s.store(v, out);
    }
    for ((x, weight), out) in x_tail.iter().zip(weight_tail).zip(out_tail) {
        *out = x * scale * weight;
    }
}

/// `out = x · scale · weight · silu(gate)`.
#[inline(always)]
fn gated<S: Simd>(s: S, x: &[f32], scale: f32, weight: &[f32], gate: &[f32], out: &mut [f32]) {
    scaled(s, x, scale, weight, out);
    let (gate, gate_tail) = gate.as_chunks::<LANES>();
    let (out, out_tail) = out.as_chunks_mut();
    for (out, gate) in out.iter_mut().zip(gate) {
        s.store(s.mul(s.load(out), silu(s, s.load(gate))), out);
    }
    let v = silu(s, s.load_part(gate_tail, 0.0));
    s.store_part(s.mul(s.load_part(out_tail, 0.0), v), out_tail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{assert_close, noise, same_everywhere};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn norms_match_their_formulas(rows in 1..40_usize, width in 1..700_usize, seed: u64) {
            let [x, y] = [noise(seed, rows * width), noise(seed ^ 1, rows * width)];
            let weight = noise(seed ^ 2, width);
            let plain = same_everywhere(|cpu| {
                let mut out = vec![0.0; x.len()];
                rms_norm(cpu, &x, &weight, 1e-6, &mut out);
                out
            });
            assert_close(&plain, &naive::rms_norm(&x, &weight, 1e-6), 1e-6);
            let gated = same_everywhere(|cpu| {
                let mut out = vec![0.0; x.len()];
                gated_norm(cpu, &x, &y, &weight, 1e-6, &mut out);
                out
            });
            assert_close(&gated, &naive::gated_norm(&x, &y, &weight, 1e-6), 1e-6);
            let fused = same_everywhere(|cpu| {
                let mut sum = x.clone();
                let mut out = vec![0.0; x.len()];
                add_rms_norm(cpu, &mut sum, &y, &weight, 1e-6, &mut out);
                [sum, out].concat()
            });
            let cpu = Cpu::new(1);
            let mut sum = x.clone();
            let mut out = vec![0.0; x.len()];
            add(&cpu, &mut sum, &y);
            rms_norm(&cpu, &sum, &weight, 1e-6, &mut out);
            prop_assert_eq!(fused, [sum, out].concat());
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (x, weight) = (noise(3, 300 * 96), noise(4, 96));
        let cpu = Cpu::new(2);
        let mut all = vec![0.0; x.len()];
        rms_norm(&cpu, &x, &weight, 1e-6, &mut all);
        for (x, together) in x.chunks(96).zip(all.chunks(96)) {
            let mut alone = [0.0; 96];
            rms_norm(&cpu, x, &weight, 1e-6, &mut alone);
            assert_eq!(alone, together);
        }
    }
}
