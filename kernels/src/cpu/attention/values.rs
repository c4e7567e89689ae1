//! A page's values: as lines, or as codes of a few bits that are unpacked where attention reads them.
//!
//! Packed values lie in groups of [`KvMode::GROUP`]: the scale and the zero, f16 each, then the codes, in the order of
//! the GPU's words. A page is unpacked into working memory that stays in the core's own cache, once for all queries of
//! a tile: what travels from memory are the codes.

use half::f16;

use crate::KvMode;
use crate::cpu::simd::{LANES, Line, Simd, prefetch};

/// Values, plain (`P`: lines) or packed (`C`: bytes); owned by a page or borrowed from one.
#[derive(Clone, Debug)]
pub(super) enum Values<P, C> {
    Plain(P),
    Packed(Codes, C),
}

/// How wide codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    Eight,
    Four,
}

/// Bytes of a scale and a zero.
const STEPS: usize = 4;
/// Bytes of a group.
const EIGHT: usize = STEPS + KvMode::GROUP;
const FOUR: usize = STEPS + KvMode::GROUP / 2;

/// Lines that a group unpacks to.
const LINES: usize = KvMode::GROUP / LANES;

impl Codes {
    /// Those of a mode; none where values are plain.
    pub(super) fn of(mode: KvMode) -> Option<Self> {
        match mode {
            KvMode::Plain => None,
            KvMode::V8 => Some(Self::Eight),
            KvMode::V4 => Some(Self::Four),
        }
    }

    /// Bytes of so many numbers, which are whole groups.
    pub(super) fn bytes(self, numbers: usize) -> usize {
        let group = match self {
            Self::Eight => EIGHT,
            Self::Four => FOUR,
        };
        numbers / KvMode::GROUP * group
    }

    /// Packs whole groups. See [`packed`](crate::naive::packed) for the formula.
    pub(super) fn pack(self, values: &[f32], to: &mut [u8]) {
        let groups = values.as_chunks().0.iter();
        match self {
            Self::Eight => {
                for (group, to) in groups.zip(to.as_chunks_mut::<EIGHT>().0) {
                    let (steps, codes) = to.split_at_mut(STEPS);
                    codes.copy_from_slice(&quantized(group, 255.0, steps));
                }
            }
            Self::Four => {
                for (group, to) in groups.zip(to.as_chunks_mut::<FOUR>().0) {
                    let (steps, codes) = to.split_at_mut(STEPS);
                    let nibbles = quantized(group, 15.0, steps);
                    for (to, [low, high]) in codes.iter_mut().zip(nibbles.as_chunks().0) {
                        *to = low | high << 4;
                    }
                }
            }
        }
    }

    /// Unpacks whole groups; `ahead` is what will be read next, fetched meanwhile.
    #[inline(always)]
    pub(super) fn unpack<S: Simd, L: Line>(
        self,
        s: S,
        from: &[u8],
        to: &mut [[f32; LANES]],
        ahead: &[L],
    ) {
        let groups = to.as_chunks_mut::<LINES>().0.iter_mut().enumerate();
        match self {
            Self::Eight => {
                for ((i, lines), group) in groups.zip(from.as_chunks::<EIGHT>().0) {
                    fetch(ahead, i);
                    let ([scale, zero], codes) = steps(s, group);
                    for (line, codes) in lines.iter_mut().zip(codes.as_chunks::<LANES>().0) {
                        s.store(s.mul_add(scale, s.load_bytes(codes), zero), line);
                    }
                }
            }
            Self::Four => {
                for ((i, lines), group) in groups.zip(from.as_chunks::<FOUR>().0) {
                    fetch(ahead, i);
                    let ([scale, zero], codes) = steps(s, group);
                    for (line, codes) in lines.iter_mut().zip(codes.as_chunks().0) {
                        s.store(s.mul_add(scale, s.load_nibbles(codes), zero), line);
                    }
                }
            }
        }
    }
}

/// A group's codes; its scale and zero go to `steps`.
fn quantized(group: &[f32; KvMode::GROUP], top: f32, steps: &mut [u8]) -> [u8; KvMode::GROUP] {
    let half = |x: f32| {
        let largest = f16::MAX.to_f32_const();
        f16::from_f32(x.clamp(-largest, largest))
    };
    let least = group.iter().copied().fold(f32::INFINITY, f32::min);
    let most = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let zero = half(least);
    let scale = half((most - zero.to_f32()) / top);
    steps.copy_from_slice([scale.to_le_bytes(), zero.to_le_bytes()].as_flattened());
    let (scale, zero) = (scale.to_f32(), zero.to_f32());
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    // The conversion cuts the fraction off.
    group.map(|value| ((value - zero) * inverse + 0.5).clamp(0.0, top) as u8)
}

/// A group's scale and zero in every lane, and its codes.
#[inline(always)]
fn steps<S: Simd>(s: S, group: &[u8]) -> ([S::V; 2], &[u8]) {
    let (steps, codes) = group.split_at(STEPS);
    let scale = s.load_half(&[f16::from_le_bytes([steps[0], steps[1]]); LANES]);
    let zero = s.load_half(&[f16::from_le_bytes([steps[2], steps[3]]); LANES]);
    ([scale, zero], codes)
}

/// Fetches the `i`-th share of what comes next: as many keys as a group has values.
#[inline(always)]
fn fetch<L: Line>(ahead: &[L], i: usize) {
    if let Some(ahead) = ahead.get(i * LINES..(i + 1) * LINES) {
        for line in ahead.iter().step_by(64 / size_of::<L>()) {
            prefetch(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::simd::{F32Line, Kernel, dispatch};
    use crate::naive;
    use crate::testing::noise;

    struct Unpack<'a>(Codes, &'a [u8], &'a mut [[f32; LANES]]);

    impl Kernel for Unpack<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            self.0.unpack(s, self.1, self.2, &[] as &[F32Line]);
        }
    }

    #[test]
    fn what_is_packed_comes_back_as_the_formula_says() {
        for (scale, mode) in [1e-9, 0.3, 40.0, 1e6, 1e30]
            .into_iter()
            .flat_map(|scale| [(scale, KvMode::V8), (scale, KvMode::V4)])
        {
            let codes = Codes::of(mode).unwrap();
            let mut values: Vec<f32> = noise(5, 5 * 64).iter().map(|x| x * scale).collect();
            values[..64].fill(scale);
            let mut packed = vec![0; codes.bytes(values.len())];
            codes.pack(&values, &mut packed);
            let expected = naive::packed(&values, mode);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let mut got = vec![[f32::NAN; LANES]; values.len() / LANES];
                dispatch(isa, Unpack(codes, &packed, &mut got));
                assert_eq!(got.as_flattened(), expected, "{mode}, {isa}");
            }
        }
    }
}
