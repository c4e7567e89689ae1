//! What the kernels' tests share: numbers without a pattern, and the demand that nothing but the input decides a
//! result.

use crate::cpu::{Cpu, Isa};

/// `len` numbers between -1 and 1, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..len)
        .map(|_| {
            // SplitMix64 (Steele et al., 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Runs `operation` on every instruction set of this machine and on 1, 2 and 3 threads, demands the same bits
/// from all, and returns them.
pub(crate) fn same_everywhere(operation: impl Fn(&Cpu) -> Vec<f32>) -> Vec<f32> {
    let expected = operation(&Cpu::new(1));
    let others = Isa::ALL
        .into_iter()
        .filter(|isa| isa.available())
        .map(|isa| (1, isa))
        .chain([2, 3].map(|threads| (threads, Isa::detect())));
    for (threads, isa) in others {
        let got = operation(&Cpu::with_isa(threads, isa));
        assert_eq!(got.len(), expected.len());
        for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(
                a.to_bits(),
                b.to_bits(),
                "element {i} on {threads} threads of {isa}: {a} is not {b}"
            );
        }
    }
    expected
}

/// Demands that `got` differ from `expected` by no more than `tolerance` of the largest expected magnitude near it.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * (b.abs() + largest),
            "element {i} is {a}, not {b} (largest {largest})"
        );
    }
}
