//! Attention on tensor cores: of rows of their own, and of segments.

use super::Argument::Int;
use super::operand::{Number, Operand};
use super::{Call, Launch, Machine, run};
use crate::gpu::{self, SEGMENT_QUERIES};
use crate::testing::{assert_close, noise};

const PAGE: usize = 64;

/// Pages of each line; they lie apart.
const TABLE: [[i32; 4]; 2] = [[4, 1, 3, 0], [2, 0, 0, 0]];
const PAGES: usize = 5;

/// Rows of a batch, and how they are cut.
struct Case {
    kv_heads: usize,
    group: usize,
    width: usize,
    /// Each row's line and the keys that it sees.
    rows: Vec<[i32; 2]>,
    /// First row and rows of each segment; none: each row is alone.
    segments: Vec<[usize; 2]>,
    /// Pages a span.
    pages: usize,
}

impl Case {
    fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    fn spans(&self) -> usize {
        let seen = self.rows.iter().map(|row| row[1] as usize).max();
        match self.segments.is_empty() {
            true => seen.unwrap_or_default().div_ceil(PAGE * self.pages),
            false => 1,
        }
    }

    fn call(&self) -> Call {
        let (rows, heads, d) = (self.rows.len(), self.heads(), self.width);
        let pool = [PAGES * PAGE, self.kv_heads, d];
        let real = |seed, shape: &[usize]| {
            Operand::real(
                Number::Bf16,
                shape,
                &noise(seed, shape.iter().product::<usize>()),
            )
        };
        let units: Vec<[i32; 4]> = self
            .segments
            .iter()
            .flat_map(|&[start, len]| {
                let first = (0..len * self.group).step_by(SEGMENT_QUERIES).rev();
                first.map(move |query| [start as i32, len as i32, query as i32, 0])
            })
            .chain(self.segments.is_empty().then_some([0; 4]))
            .collect();
        let groups = match self.segments.is_empty() {
            true => rows,
            false => units.len(),
        };
        Call {
            template: vec![
                ("G", Int(self.group)),
                ("HKV", Int(self.kv_heads)),
                ("D", Int(d)),
            ],
            launch: Launch::attention(groups, self.kv_heads, self.spans(), 4),
            inputs: vec![
                real(1, &[rows, heads, d]),
                real(2, &pool),
                real(3, &pool),
                Operand::ints(&[rows, 2], self.rows.as_flattened()),
                Operand::ints(&[2, 4], TABLE.as_flattened()),
                Operand::ints(&[units.len(), 4], units.as_flattened()),
                Operand::ints(&[8], &[self.pages as i32, 0, 0, 0, 0, 0, 0, 0]),
                Operand::real(Number::F32, &[8], &[0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            ],
            outputs: vec![
                Operand::out(Number::F32, &[self.spans(), rows, heads, d]),
                Operand::out(Number::F32, &[self.spans(), rows, heads, 2]),
            ],
        }
    }

    /// The spans joined.
    fn joined(&self, outputs: &[Operand]) -> Vec<f32> {
        let (heads, d) = (self.rows.len() * self.heads(), self.width);
        let [acc, stats] = [0, 1].map(|i| outputs[i].values());
        let mut out = Vec::new();
        for head in 0..heads {
            let at = |span: usize| (span * heads + head) * 2;
            let spans = 0..self.spans();
            let top = spans.clone().map(|s| stats[at(s)]).fold(f32::MIN, f32::max);
            let share = |s: usize| (stats[at(s)] - top).exp();
            let sum: f32 = spans.clone().map(|s| share(s) * stats[at(s) + 1]).sum();
            out.extend((0..d).map(|i| {
                let parts = spans.clone().map(|s| share(s) * acc[at(s) / 2 * d + i]);
                parts.sum::<f32>() / sum
            }));
        }
        out
    }

    /// Softmax in f64 over the keys that a row sees.
    fn expected(&self, q: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let d = self.width;
        let mut out = Vec::new();
        for (row, [line, seen]) in self.rows.iter().enumerate() {
            for head in 0..self.heads() {
                let q = &q[(row * self.heads() + head) * d..][..d];
                let at = |position: usize| {
                    let page = TABLE[*line as usize][position / PAGE] as usize;
                    ((page * PAGE + position % PAGE) * self.kv_heads + head / self.group) * d
                };
                let score = |position: usize| {
                    let key = &keys[at(position)..][..d];
                    let terms = key
                        .iter()
                        .zip(q)
                        .map(|(k, q)| f64::from(*k) * f64::from(*q));
                    0.7 * terms.sum::<f64>()
                };
                let scores: Vec<f64> = (0..*seen as usize).map(score).collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = weights.iter().sum();
                out.extend((0..d).map(|i| {
                    let mixed = weights.iter().enumerate();
                    let mixed = mixed.map(|(p, w)| w / sum * f64::from(values[at(p) + i]));
                    mixed.sum::<f64>() as f32
                }));
            }
        }
        out
    }
}

/// A segment's rows: they see ever more, the last one `seen` keys.
fn segment(line: i32, len: i32, seen: i32) -> Vec<[i32; 2]> {
    (seen - len + 1..=seen).map(|seen| [line, seen]).collect()
}

#[test]
fn attention_on_tensor_cores_is_softmax_over_the_keys_a_row_sees() {
    if Machine::here() != Machine::Cuda {
        eprintln!(
            "attention on tensor cores: not checked, which needs an NVIDIA GPU (SANCTUM_NVCC=nvcc)"
        );
        return;
    }
    let alone = vec![[0, 1], [1, 21], [0, 64], [0, 65], [0, 250]];
    let both = [segment(0, 100, 250), segment(1, 21, 21), segment(1, 1, 7)].concat();
    for (kv_heads, group, width) in [(4, 6, 256), (2, 8, 128), (3, 1, 64)] {
        let rows_alone = [1, 3].map(|pages| Case {
            kv_heads,
            group,
            width,
            rows: alone.clone(),
            segments: Vec::new(),
            pages,
        });
        let segments = Case {
            kv_heads,
            group,
            width,
            rows: both.clone(),
            segments: vec![[0, 100], [100, 21], [121, 1]],
            pages: 0,
        };
        for case in rows_alone.into_iter().chain([segments]) {
            let call = case.call();
            let kernel = gpu::sdpa_tensor(case.segments.is_empty());
            let results = run(&kernel, std::slice::from_ref(&call)).expect("a compiler");
            let [q, keys, values] = [0, 1, 2].map(|i| call.inputs[i].values());
            let expected = case.expected(&q, &keys, &values);
            // The weights of values are rounded to bf16.
            let tolerance = Number::Bf16.tolerance();
            assert_close(&case.joined(&results[0]), &expected, tolerance);
        }
    }
}
