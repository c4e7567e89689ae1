//! The mixture against its formula, and the demand that a row does not see its neighbours.

use super::*;
use crate::cpu::{Affine, AffineParts, Dense, Float};
use crate::naive;
use crate::testing::{assert_close, noise, same_everywhere};

const HIDDEN: usize = 64;

/// A matrix that owns its numbers.
struct OwnedMatrix {
    rows: usize,
    cols: usize,
    /// As they are multiplied.
    values: Vec<f32>,
    /// As they are stored: packed weights, scales and biases; or the numbers alone.
    parts: [Vec<u8>; 3],
    bits: Option<u8>,
}

fn stored(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

impl OwnedMatrix {
    /// Random numbers of about `1 / √cols`, in f32 or with so many bits in groups of 32.
    fn new(seed: u64, rows: usize, cols: usize, bits: Option<u8>) -> Self {
        let size = 2.0 / (cols as f32).sqrt();
        let numbers = noise(seed, rows * cols);
        let Some(bits) = bits else {
            let values: Vec<f32> = numbers.iter().map(|x| x * size).collect();
            let parts = [stored(&values), Vec::new(), Vec::new()];
            return Self {
                rows,
                cols,
                values,
                parts,
                bits: None,
            };
        };
        let top = f32::from((1_u16 << bits) - 1);
        let codes: Vec<u8> = numbers
            .iter()
            .map(|x| ((x + 1.0) / 2.0 * top).round() as u8)
            .collect();
        let packed = match bits {
            4 => codes.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect(),
            _ => codes.clone(),
        };
        let groups = rows * cols / 32;
        let scales: Vec<f32> = noise(seed + 1, groups)
            .iter()
            .map(|x| size * (1.5 + x) / top)
            .collect();
        let biases: Vec<f32> = scales.iter().map(|scale| -0.5 * top * scale).collect();
        let value =
            |(i, &code): (usize, &u8)| f32::from(code).mul_add(scales[i / 32], biases[i / 32]);
        Self {
            rows,
            cols,
            values: codes.iter().enumerate().map(value).collect(),
            parts: [packed, stored(&scales), stored(&biases)],
            bits: Some(bits),
        }
    }

    fn matrix(&self) -> Matrix<'_> {
        let [packed, scales, biases] = &self.parts;
        let Some(bits) = self.bits else {
            return Dense::new(self.rows, self.cols, packed, Float::F32)
                .unwrap()
                .into();
        };
        let parts = AffineParts {
            bits,
            group: 32,
            packed,
            scales,
            biases,
            float: Float::F32,
        };
        Affine::new(self.rows, self.cols, parts).unwrap().into()
    }
}

struct Expert {
    gate: OwnedMatrix,
    up: OwnedMatrix,
    down: OwnedMatrix,
}

impl Expert {
    fn new(seed: u64, intermediate: usize, bits: Option<u8>) -> Self {
        Self {
            gate: OwnedMatrix::new(seed, intermediate, HIDDEN, bits),
            up: OwnedMatrix::new(seed + 10, intermediate, HIDDEN, bits),
            down: OwnedMatrix::new(seed + 20, HIDDEN, intermediate, bits),
        }
    }

    fn matrices(&self) -> GatedMatrices<'_> {
        GatedMatrices {
            gate: self.gate.matrix(),
            up: self.up.matrix(),
            down: self.down.matrix(),
        }
    }

    fn values(&self) -> naive::DenseExpert<'_> {
        [&self.gate.values, &self.up.values, &self.down.values]
    }
}

struct Mixture {
    dims: ExpertDims,
    router: OwnedMatrix,
    experts: Vec<Expert>,
    shared: Option<(OwnedMatrix, Expert)>,
}

impl Mixture {
    fn new(dims: ExpertDims, bits: Option<u8>) -> Self {
        let expert = |e: usize| Expert::new(1000 * (1 + e as u64), dims.intermediate, bits);
        let shared = || {
            let gate = OwnedMatrix::new(3, 1, HIDDEN, bits.map(|_| 8));
            (gate, Expert::new(500, dims.shared, bits))
        };
        Self {
            router: OwnedMatrix::new(1, dims.experts, HIDDEN, bits.map(|_| 8)),
            experts: (0..dims.experts).map(expert).collect(),
            shared: (dims.shared > 0).then(shared),
            dims,
        }
    }

    fn run(&self, cpu: &Cpu, precision: Precision, x: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len()];
        let weights = ExpertsParams {
            router: self.router.matrix(),
            expert: &|e| self.experts[e].matrices(),
            shared: self
                .shared
                .as_ref()
                .map(|(gate, expert)| SharedExpertParams {
                    gate: gate.matrix(),
                    matrices: expert.matrices(),
                }),
        };
        let read = experts(cpu, precision, &self.dims, &weights, x, &mut out);
        let rows = x.len() / HIDDEN;
        let least = self.dims.per_token.min(rows * self.dims.per_token);
        assert!((least..=self.dims.experts.min(rows * self.dims.per_token)).contains(&read));
        out
    }

    fn expected(&self, x: &[f32]) -> Vec<f32> {
        let experts: Vec<_> = self.experts.iter().map(Expert::values).collect();
        let shared = self.shared.as_ref();
        let shared = shared.map(|(gate, expert)| (&gate.values[..], expert.values()));
        naive::experts(&self.dims, &self.router.values, &experts, shared, x)
    }
}

/// Experts, experts of a token, their width, the shared one's.
const SHAPES: [[usize; 4]; 5] = [
    [7, 3, 32, 96],
    [12, 1, 64, 0],
    [5, 5, 32, 32],
    [1, 1, 96, 64],
    [33, 8, 32, 0],
];

fn shapes() -> impl Iterator<Item = ExpertDims> {
    SHAPES
        .into_iter()
        .map(|[e, k, i, s]| ExpertDims::new(e, k, i, s).unwrap())
}

fn bits_of(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn mixture_matches_its_formula_at_any_number_of_rows() {
    for dims in shapes() {
        for bits in [None, Some(4), Some(8)] {
            let mixture = Mixture::new(dims, bits);
            for rows in [1, 2, 9, 150] {
                let x = noise(rows as u64, rows * HIDDEN);
                let out = same_everywhere(|cpu| mixture.run(cpu, Precision::Exact, &x));
                assert_close(&out, &mixture.expected(&x), 2e-6);
                let fast = same_everywhere(|cpu| mixture.run(cpu, Precision::Fast, &x));
                // Rounded activations of an expert, not of the router: no row changes its experts.
                assert_close(&fast, &out, 0.05);
            }
        }
    }
}

#[test]
fn a_row_does_not_see_its_neighbours() {
    let dims = ExpertDims::new(9, 4, 32, 64).unwrap();
    for (bits, precision) in [
        (None, Precision::Fast),
        (Some(4), Precision::Fast),
        (Some(4), Precision::Exact),
    ] {
        let mixture = Mixture::new(dims, bits);
        let x = noise(8, 200 * HIDDEN);
        let alone: Vec<f32> = x
            .chunks(HIDDEN)
            .flat_map(|row| mixture.run(&Cpu::new(1), precision, row))
            .collect();
        for rows in [2, 3, 5, 64, 200] {
            let together: Vec<f32> = x
                .chunks(rows * HIDDEN)
                .flat_map(|rows| mixture.run(&Cpu::new(3), precision, rows))
                .collect();
            assert_eq!(bits_of(&together), bits_of(&alone), "{rows} rows at a time");
        }
    }
}

/// All experts have the same logits: whatever the batch, every row goes to the first ones.
#[test]
fn ties_are_won_by_the_lower_index() {
    let dims = ExpertDims::new(6, 2, 32, 0).unwrap();
    let mut mixture = Mixture::new(dims, None);
    mixture.router = OwnedMatrix {
        values: vec![0.5; 6 * HIDDEN],
        parts: [stored(&[0.5; 6 * HIDDEN]), Vec::new(), Vec::new()],
        ..mixture.router
    };
    let x = noise(4, 70 * HIDDEN);
    let all = same_everywhere(|cpu| mixture.run(cpu, Precision::Exact, &x));
    mixture.experts.drain(2..);
    mixture.dims = ExpertDims::new(2, 2, 32, 0).unwrap();
    mixture.router = OwnedMatrix {
        rows: 2,
        values: vec![0.5; 2 * HIDDEN],
        parts: [stored(&[0.5; 2 * HIDDEN]), Vec::new(), Vec::new()],
        ..mixture.router
    };
    let first = mixture.run(&Cpu::new(2), Precision::Exact, &x);
    assert_eq!(bits_of(&all), bits_of(&first));
}

#[test]
fn a_broken_row_stays_alone() {
    let dims = ExpertDims::new(7, 3, 32, 32).unwrap();
    for bits in [None, Some(4)] {
        let mixture = Mixture::new(dims, bits);
        for broken in [f32::NAN, f32::INFINITY] {
            let mut x = noise(5, 20 * HIDDEN);
            x[3 * HIDDEN + 7] = broken;
            let out = mixture.run(&Cpu::new(2), Precision::Fast, &x);
            for (row, out) in out.chunks(HIDDEN).enumerate() {
                let finite = out.iter().filter(|x| x.is_finite()).count();
                assert_eq!(finite, if row == 3 { 0 } else { HIDDEN }, "row {row}");
            }
        }
    }
}

#[test]
fn nothing_to_do_is_no_error() {
    let mixture = Mixture::new(shapes().next().unwrap(), None);
    assert!(mixture.run(&Cpu::new(2), Precision::Fast, &[]).is_empty());
}
