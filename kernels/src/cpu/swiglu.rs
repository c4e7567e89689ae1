//! The gate of the feed-forward block.

use super::Cpu;
use super::simd::{Kernel, LANES, Simd, dispatch, silu};
use super::tasks::{elements_per_task, run_each};

/// `out = silu(gate) · up`, element by element.
///
/// # Panics
/// If the lengths do not agree.
pub fn swiglu(cpu: &Cpu, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len());
    let run = elements_per_task(&cpu.pool, out.len());
    let mut parts: Vec<_> = (gate.chunks(run).zip(up.chunks(run)))
        .zip(out.chunks_mut(run))
        .collect();
    run_each(&cpu.pool, &mut parts, |((gate, up), out)| {
        dispatch(cpu.isa, Swiglu { gate, up, out });
    });
}

struct Swiglu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Swiglu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, gate_tail) = self.gate.as_chunks::<LANES>();
        let (up, up_tail) = self.up.as_chunks();
        let (out, out_tail) = self.out.as_chunks_mut();
        for ((gate, up), out) in gate.iter().zip(up).zip(out) {
            s.store(s.mul(silu(s, s.load(gate)), s.load(up)), out);
        }
        let v = silu(s, s.load_part(gate_tail, 0.0));
        s.store_part(s.mul(v, s.load_part(up_tail, 0.0)), out_tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{assert_close, noise, same_everywhere};

    #[test]
    fn swiglu_matches_its_formula_at_any_length() {
        for len in [0, 1, 15, 16, 17, 1_000, 100_003] {
            let [gate, up] = [noise(1, len), noise(2, len)];
            let gate: Vec<f32> = gate.iter().map(|x| x * 20.0).collect();
            let out = same_everywhere(|cpu| {
                let mut out = vec![0.0; len];
                swiglu(cpu, &gate, &up, &mut out);
                out
            });
            assert_close(&out, &naive::swiglu(&gate, &up), 1e-6);
        }
    }
}
