//! The products against naive loops, on every instruction set of this machine.

use proptest::prelude::*;

use super::*;
use crate::cpu::Isa;

/// Deterministic noise: the same numbers on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Uniform in -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Roughly normal, with standard deviation 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() * 0.5
    }

    fn normals(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }
}

fn stored(values: &[f32], float: Float) -> Vec<u8> {
    let bytes = values.iter().map(|&v| match float {
        Float::F32 => v.to_le_bytes().to_vec(),
        Float::F16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
        Float::Bf16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
    });
    bytes.flatten().collect()
}

/// A quantised matrix that owns its bytes.
#[derive(Debug)]
struct Quantised {
    rows: usize,
    cols: usize,
    bits: u8,
    group: usize,
    float: Float,
    packed: Vec<u8>,
    scales: Vec<u8>,
    biases: Vec<u8>,
}

impl Quantised {
    fn random(
        noise: &mut Noise,
        (rows, cols): (usize, usize),
        bits: u8,
        group: usize,
        float: Float,
    ) -> Self {
        let groups = rows * cols / group;
        let scales: Vec<f32> = (0..groups).map(|_| noise.unit() / 100.0).collect();
        let biases: Vec<f32> = (0..groups).map(|_| noise.unit() / 10.0).collect();
        Self {
            rows,
            cols,
            bits,
            group,
            float,
            packed: noise.bytes(rows * cols / 8 * usize::from(bits)),
            scales: stored(&scales, float),
            biases: stored(&biases, float),
        }
    }

    /// Weights as a checkpoint has them: normal, then each group mapped to the range of its integers.
    fn of_normal_weights(noise: &mut Noise, (rows, cols): (usize, usize), bits: u8) -> Self {
        let (group, top) = (64, f32::from((1_u16 << bits) - 1));
        let (mut scales, mut biases, mut packed) = (vec![], vec![], vec![]);
        for _ in 0..rows * cols / group {
            let weights = noise.normals(group);
            let low = weights.iter().copied().fold(f32::INFINITY, f32::min);
            let high = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let scale = (high - low) / top;
            let q: Vec<u8> = weights
                .iter()
                .map(|w| ((w - low) / scale).round() as u8)
                .collect();
            match bits {
                4 => packed.extend(q.chunks(2).map(|pair| pair[0] | pair[1] << 4)),
                _ => packed.extend(q),
            }
            scales.push(scale);
            biases.push(low);
        }
        Self {
            rows,
            cols,
            bits,
            group,
            float: Float::Bf16,
            packed,
            scales: stored(&scales, Float::Bf16),
            biases: stored(&biases, Float::Bf16),
        }
    }

    fn matrix(&self) -> Affine<'_> {
        let parts = AffineParts {
            bits: self.bits,
            group: self.group,
            packed: &self.packed,
            scales: &self.scales,
            biases: &self.biases,
            float: self.float,
        };
        Affine::new(self.rows, self.cols, parts).expect("the parts were made to fit")
    }

    /// The integer that stands for a weight.
    fn q(&self, row: usize, col: usize) -> i32 {
        let index = row * self.cols + col;
        i32::from(match self.bits {
            4 => self.packed[index / 2] >> (4 * (index % 2)) & 15,
            _ => self.packed[index],
        })
    }
}

/// [`Precision::Fast`], word for word.
fn specified_fast(matrix: &Quantised, x: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for x in x.chunks(matrix.cols) {
        for row in 0..matrix.rows {
            let mut parts = [0.0; 8];
            for (g, x) in x.chunks(matrix.group).enumerate() {
                let (scale, bias) = matrix.matrix().group_parameters(row, g);
                let largest = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
                let (mut products, mut sum) = (0, 0);
                if largest > 0.0 {
                    for (k, x) in x.iter().enumerate() {
                        let a = (x * (127.0 / largest)).round_ties_even() as i32;
                        products += a * matrix.q(row, g * matrix.group + k);
                        sum += a;
                    }
                }
                let step = largest / 127.0;
                let part = &mut parts[g % 8];
                *part = (products as f32).mul_add(scale * step, *part);
                *part = bias.mul_add(step * sum as f32, *part);
            }
            let [a, b, c, d, e, f, g, h] = parts;
            out.push(((a + e) + (c + g)) + ((b + f) + (d + h)));
        }
    }
    out
}

/// The product in f64, and in the order of [`dense`] in f32.
fn specified_f32(weights: &[f32], cols: usize, x: &[f32]) -> (Vec<f64>, Vec<f32>) {
    let (mut doubles, mut singles) = (Vec::new(), Vec::new());
    for x in x.chunks(cols) {
        for w in weights.chunks(cols) {
            let products = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
            doubles.push(products.sum());
            let part = |l: usize| {
                let pairs = w.iter().zip(x).skip(l).step_by(16);
                pairs.fold(0.0, |y, (w, x)| w.mul_add(*x, y))
            };
            let mut parts: Vec<f32> = (0..16).map(part).collect();
            while parts.len() > 1 {
                let (low, high) = parts.split_at(parts.len() / 2);
                parts = low.iter().zip(high).map(|(a, b)| a + b).collect();
            }
            singles.push(parts[0]);
        }
    }
    (doubles, singles)
}

fn every_cpu() -> impl Iterator<Item = Cpu> {
    let available = Isa::ALL.into_iter().filter(|isa| isa.available());
    available.flat_map(|isa| [1, 2, 3].map(|threads| Cpu::with_isa(threads, isa)))
}

fn multiply(cpu: &Cpu, precision: Precision, matrix: Matrix<'_>, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / matrix.cols() * matrix.rows()];
    project(cpu, precision, x, matrix.cols(), &mut [(matrix, &mut out)]);
    out
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

fn any_float() -> impl Strategy<Value = Float> {
    prop_oneof![Just(Float::F32), Just(Float::F16), Just(Float::Bf16)]
}

fn any_bits() -> impl Strategy<Value = u8> {
    prop_oneof![Just(4), Just(8)]
}

fn any_group() -> impl Strategy<Value = usize> {
    prop_oneof![Just(32_usize), Just(64), Just(128)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn fast_products_are_what_the_specification_says(
        seed: u64,
        shape in (1_usize..70, 1_usize..21),
        (bits_, group, float) in (any_bits(), any_group(), any_float()),
        n in 1_usize..24,
    ) {
        let noise = &mut Noise(seed);
        let shape = (shape.0, shape.1 * group);
        let matrix = Quantised::random(noise, shape, bits_, group, float);
        let x = noise.normals(n * shape.1);
        let expected = specified_fast(&matrix, &x);
        for cpu in every_cpu() {
            let actual = multiply(&cpu, Precision::Fast, matrix.matrix().into(), &x);
            prop_assert_eq!(bits(&actual), bits(&expected), "{}", cpu.isa);
        }
    }

    #[test]
    fn f32_products_are_what_the_specification_says(
        seed: u64,
        rows in 1_usize..40,
        cols in 1_usize..200,
        float in any_float(),
        n in 1_usize..14,
    ) {
        let noise = &mut Noise(seed);
        let (weights, x) = (noise.normals(rows * cols), noise.normals(n * cols));
        let data = stored(&weights, float);
        let weights: Vec<f32> = (0..rows * cols).map(|i| float.read(&data, i)).collect();
        let matrix: Matrix<'_> = Dense::new(rows, cols, &data, float).unwrap().into();
        let (doubles, singles) = specified_f32(&weights, cols, &x);
        for cpu in every_cpu() {
            for precision in [Precision::Exact, Precision::Fast] {
                let actual = multiply(&cpu, precision, matrix, &x);
                prop_assert_eq!(bits(&actual), bits(&singles), "{}", cpu.isa);
                for (actual, exact) in actual.iter().zip(&doubles) {
                    prop_assert!((f64::from(*actual) - exact).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn exact_products_are_those_of_the_dequantised_matrix(
        seed: u64,
        shape in (1_usize..40, 1_usize..8),
        (bits_, group, float) in (any_bits(), any_group(), any_float()),
        n in 1_usize..14,
    ) {
        let noise = &mut Noise(seed);
        let shape = (shape.0, shape.1 * group);
        let matrix = Quantised::random(noise, shape, bits_, group, float);
        let x = noise.normals(n * shape.1);
        let weights: Vec<f32> = (0..shape.0 * shape.1)
            .map(|i| {
                let (row, col) = (i / shape.1, i % shape.1);
                let (scale, bias) = matrix.matrix().group_parameters(row, col / group);
                (matrix.q(row, col) as f32).mul_add(scale, bias)
            })
            .collect();
        let (_, expected) = specified_f32(&weights, shape.1, &x);
        for cpu in every_cpu() {
            let actual = multiply(&cpu, Precision::Exact, matrix.matrix().into(), &x);
            prop_assert_eq!(bits(&actual), bits(&expected), "{}", cpu.isa);
            let tokens: Vec<u32> = (0..shape.0 as u32).rev().collect();
            let mut gathered = vec![0.0; weights.len()];
            gather(&cpu, matrix.matrix().into(), &tokens, &mut gathered);
            let rows = gathered.chunks(shape.1).rev().flatten().copied();
            prop_assert_eq!(bits(&rows.collect::<Vec<_>>()), bits(&weights));
        }
    }

    /// A row's result is the same alone, among others, beside other matrices and on any number of threads.
    #[test]
    fn a_row_does_not_see_its_neighbours(
        seed: u64,
        groups in 1_usize..12,
        (a, b, c) in (1_usize..120, 1_usize..50, 1_usize..20),
        n in 1_usize..300,
        pick: prop::sample::Index,
    ) {
        let noise = &mut Noise(seed);
        let cols = groups * 128;
        let four = Quantised::random(noise, (a, cols), 4, 64, Float::Bf16);
        let eight = Quantised::random(noise, (b, cols), 8, 128, Float::F16);
        let data = stored(&noise.normals(c * cols), Float::Bf16);
        let dense = Dense::new(c, cols, &data, Float::Bf16).unwrap();
        let matrices: [Matrix<'_>; 3] = [four.matrix().into(), eight.matrix().into(), dense.into()];
        let x = noise.normals(n * cols);
        let row = pick.index(n);
        let best = Isa::detect();
        for (threads, precision) in [(1, Precision::Fast), (2, Precision::Fast), (3, Precision::Exact)] {
            let cpu = Cpu::with_isa(threads, best);
            let mut outs: Vec<Vec<f32>> = matrices.iter().map(|m| vec![0.0; n * m.rows()]).collect();
            let mut calls: Vec<_> =
                matrices.into_iter().zip(outs.iter_mut().map(Vec::as_mut_slice)).collect();
            project(&cpu, precision, &x, cols, &mut calls);
            for (matrix, together) in matrices.into_iter().zip(&outs) {
                let alone = multiply(&Cpu::new(1), precision, matrix, &x[row * cols..][..cols]);
                let together = &together[row * matrix.rows()..][..matrix.rows()];
                prop_assert_eq!(bits(together), bits(&alone));
            }
        }
    }
}

#[test]
fn nothing_to_multiply_is_no_error() {
    let cpu = Cpu::new(2);
    let dense = Dense::new(0, 64, &[], Float::F32).unwrap();
    project(
        &cpu,
        Precision::Fast,
        &[1.0; 128],
        64,
        &mut [(dense.into(), &mut [])],
    );
    project(
        &cpu,
        Precision::Fast,
        &[],
        64,
        &mut [(dense.into(), &mut [])],
    );
    project(&cpu, Precision::Fast, &[1.0; 64], 64, &mut []);
    gather(&cpu, dense.into(), &[], &mut []);
}

#[test]
fn a_broken_activation_is_seen_in_the_result() {
    let noise = &mut Noise(1);
    let matrix = Quantised::random(noise, (16, 256), 4, 64, Float::Bf16);
    for broken in [f32::NAN, f32::INFINITY] {
        let mut x = noise.normals(512);
        x[300] = broken;
        for cpu in every_cpu() {
            let y = multiply(&cpu, Precision::Fast, matrix.matrix().into(), &x);
            assert!(y[..16].iter().all(|y| y.is_finite()));
            assert!(y[16..].iter().all(|y| y.is_nan()));
        }
    }
}

#[test]
fn a_broken_activation_is_forgotten_by_the_next_call() {
    let noise = &mut Noise(2);
    // Nine groups, so that the second span of eight is mostly padding.
    let matrix = Quantised::random(noise, (16, 288), 4, 32, Float::Bf16);
    let whole = Quantised::random(noise, (16, 512), 4, 32, Float::Bf16);
    let x = noise.normals(288);
    for cpu in every_cpu() {
        multiply(
            &cpu,
            Precision::Fast,
            whole.matrix().into(),
            &[f32::NAN; 512],
        );
        let y = multiply(&cpu, Precision::Fast, matrix.matrix().into(), &x);
        assert_eq!(bits(&y), bits(&specified_fast(&matrix, &x)));
    }
}

/// Root of the mean squared difference, relative to the root of the mean square.
fn relative_error(fast: &[f32], exact: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = fast.iter().zip(exact).map(|(f, e)| square(f - e)).sum();
    (difference / exact.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
}

/// How much rounding the activations costs: half a percent of a typical output; two percent when most groups hold a
/// channel that is fifty times larger than the rest and sets their step.
#[test]
fn fast_stays_close_to_exact() {
    let cpu = Cpu::new(2);
    for bits in [4, 8] {
        for cols in [1024, 2560, 3584, 9216] {
            let noise = &mut Noise(cols as u64);
            let matrix = Quantised::of_normal_weights(noise, (64, cols), bits);
            for outliers in [false, true] {
                let mut x = noise.normals(8 * cols);
                if outliers {
                    // One channel in a hundred is fifty times larger, the same ones in every row.
                    let mut x = x.iter_mut().enumerate();
                    x.by_ref()
                        .filter(|(i, _)| i % cols % 100 == 17)
                        .for_each(|(_, x)| *x *= 50.0);
                }
                let [exact, fast] = [Precision::Exact, Precision::Fast]
                    .map(|precision| multiply(&cpu, precision, matrix.matrix().into(), &x));
                let error = relative_error(&fast, &exact);
                println!(
                    "{bits} bits, {cols} wide, outliers {outliers}: {:.3}%",
                    error * 100.0
                );
                let bound = if outliers { 0.025 } else { 0.007 };
                assert!(error < bound, "{bits} bits, {cols} wide: {error}");
            }
        }
    }
}
