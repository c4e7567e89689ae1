//! The words agree on every instruction set, and the functions made of them are as exact as they say.

use half::f16;

use super::*;
use crate::naive;

struct Everything {
    a: [f32; LANES],
    b: [f32; LANES],
    c: [f32; LANES],
}

impl Kernel for Everything {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<u32> {
        let [a, b, c] = [s.load(&self.a), s.load(&self.b), s.load(&self.c)];
        let mut seen = Vec::new();
        let mut see = |v| {
            let mut lanes = [0.0; LANES];
            s.store(v, &mut lanes);
            seen.extend(lanes.map(f32::to_bits));
        };
        see(s.add(a, b));
        see(s.sub(a, b));
        see(s.mul(a, b));
        see(s.div(a, b));
        see(s.mul_add(a, b, c));
        see(s.max(a, b));
        see(s.min(a, b));
        see(s.where_less(a, b, c, s.splat(7.0)));
        see(exp(s, a));
        see(sigmoid(s, b));
        see(silu(s, c));
        see(softplus(s, a));
        see(s.load_part(&self.a[..5], 3.0));
        let mut line = F16Line::ZERO;
        line.store(s, s.mul(a, s.splat(1000.0)));
        see(line.load(s));
        line.store(s, s.mul(b, s.splat(1e-6)));
        see(line.load(s));
        let bytes: [u8; LANES] = std::array::from_fn(|i| self.a[i].to_bits() as u8);
        see(s.load_bytes(&bytes));
        see(s.load_nibbles(bytes.first_chunk().expect("eight of sixteen")));
        let eight = [a, b, c, s.add(a, c), s.add(b, c), a, s.mul(a, b), c];
        seen.extend(s.sums(eight).map(f32::to_bits));
        seen.extend(eight.map(|v| s.sum(v).to_bits()));
        seen.extend(eight.map(|v| s.max_lane(v).to_bits()));
        seen
    }
}

/// Numbers without a pattern.
fn noise(seed: u32) -> [f32; LANES] {
    std::array::from_fn(|i| {
        let hash = (seed + i as u32 * 7919).wrapping_mul(2_654_435_761);
        ((hash >> 8) as f32 / (1 << 24) as f32 - 0.5) * 180.0
    })
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for seed in 0..200 {
        let all = |isa| {
            let [a, b, c] = [noise(seed * 3), noise(seed * 3 + 1), noise(seed * 3 + 2)];
            dispatch(isa, Everything { a, b, c })
        };
        let portable = all(Isa::Portable);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            assert_eq!(all(isa), portable, "{isa}");
        }
    }
}

#[test]
fn sums_follow_the_documented_tree() {
    let x = noise(1);
    let mut tree = x;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            tree[i] += tree[i + half];
        }
    }
    struct Sum([f32; LANES]);
    impl Kernel for Sum {
        type Output = [f32; 2];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; 2] {
            let v = s.load(&self.0);
            [s.sum(v), s.sums([v; 8])[7]]
        }
    }
    assert_eq!(dispatch(Isa::detect(), Sum(x)), [tree[0]; 2]);
}

/// Applies one function to a run of numbers.
struct Map<'a>(u8, &'a mut [[f32; LANES]]);

impl Kernel for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for lanes in self.1 {
            let x = s.load(lanes);
            let y = match self.0 {
                0 => exp(s, x),
                1 => sigmoid(s, x),
                2 => silu(s, x),
                _ => softplus(s, x),
            };
            s.store(y, lanes);
        }
    }
}

#[test]
fn functions_stay_within_two_units_in_the_last_place() {
    type Reference = fn(f64) -> f64;
    let cases: [(u8, Reference, f32, f32); 4] = [
        (0, f64::exp, -87.33, 88.37),
        (1, naive::sigmoid, -85.0, 85.0),
        (2, naive::silu, -80.0, 80.0),
        (3, naive::softplus, -80.0, 80.0),
    ];
    for (which, reference, low, high) in cases {
        let count = 200_000;
        let x: Vec<f32> = (0..count)
            .map(|i| low + (high - low) * (i as f32 + 0.3) / count as f32)
            // Near zero, where differences would cancel.
            .chain((1..16_000).map(|i| (i as f32 - 8_000.5) * 1e-6))
            .collect();
        let mut y: Vec<[f32; LANES]> = x.as_chunks().0.to_vec();
        dispatch(Isa::detect(), Map(which, &mut y));
        let worst = x
            .iter()
            .zip(y.as_flattened())
            .map(|(&x, &y)| (f64::from(y) / reference(x.into()) - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(worst < 2.0 * 1.2e-7, "function {which} is off by {worst:e}");
        assert!(which != 0 || worst < 1e-7, "exp is off by {worst:e}");
    }
}

#[test]
fn exp_has_sane_ends() {
    let mut y = [[0.0; LANES]];
    y[0][..5].copy_from_slice(&[f32::NEG_INFINITY, -100.0, 0.0, 200.0, f32::INFINITY]);
    dispatch(Isa::detect(), Map(0, &mut y));
    assert_eq!(y[0][..3], [0.0, 0.0, 1.0]);
    assert!(y[0][3] > 2e38 && y[0][3].is_finite() && y[0][4] == y[0][3]);
}

#[test]
fn halves_saturate() {
    struct RoundToHalf(f32);
    impl Kernel for RoundToHalf {
        type Output = f16;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f16 {
            let mut line = F16Line::ZERO;
            line.store(s, s.splat(self.0));
            line.items()[3]
        }
    }
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        assert_eq!(dispatch(isa, RoundToHalf(1e9)), f16::MAX);
        assert_eq!(dispatch(isa, RoundToHalf(-1e9)), f16::MIN);
        assert_eq!(dispatch(isa, RoundToHalf(0.1)), f16::from_f32(0.1));
    }
}
