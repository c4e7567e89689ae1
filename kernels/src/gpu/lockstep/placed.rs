//! Norm and rotation of queries and keys, and the pools that they are stored in.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, run};
use crate::gpu::{self, GpuKernel};
use crate::naive;
use crate::testing::{assert_close, noise};

const POSITIONS: [i32; 3] = [0, 5, 1000];
const PLACES: [i32; 3] = [7, 0, 3];
const POOL: usize = 8;
const EPS: f32 = 1e-6;
const THETA: f32 = 1e4;

/// Sizes of a layer.
struct Case {
    heads: usize,
    kv_heads: usize,
    width: usize,
    rotary: usize,
    number: Number,
}

impl Case {
    fn all() -> [Self; 3] {
        [
            (2, 1, 32, 16, Number::F32),
            (6, 2, 64, 64, Number::Bf16),
            (3, 3, 256, 64, Number::F16),
        ]
        .map(|(heads, kv_heads, width, rotary, number)| Self {
            heads,
            kv_heads,
            width,
            rotary,
            number,
        })
    }

    fn real(&self, seed: u64, shape: &[usize]) -> Operand {
        Operand::real(self.number, shape, &noise(seed, shape.iter().product()))
    }

    fn query(&self) -> Operand {
        self.real(1, &[POSITIONS.len(), self.heads, 2 * self.width])
    }

    fn key(&self) -> Operand {
        self.real(2, &[POSITIONS.len(), self.kv_heads, self.width])
    }

    fn value(&self) -> Operand {
        self.real(3, &[POSITIONS.len(), self.kv_heads, self.width])
    }

    fn norm(&self, seed: u64) -> Operand {
        self.real(seed, &[self.width])
    }

    /// A call of `placed` for queries (`stride` 2 D) or keys (`stride` D).
    fn placed(&self, x: Operand, norm: Operand, [heads, stride]: [usize; 2]) -> Call {
        let rows = POSITIONS.len();
        Call {
            template: vec![
                ("H", Int(heads)),
                ("D", Int(self.width)),
                ("STRIDE", Int(stride)),
                ("ROTARY", Int(self.rotary)),
                ("T", Type(self.number)),
            ],
            launch: Launch::heads(rows, heads),
            inputs: vec![x, norm, Operand::ints(&[rows], &POSITIONS), numbers()],
            outputs: vec![Operand::out(self.number, &[rows, heads, self.width])],
        }
    }

    /// Query and key by `placed`; none without a compiler.
    fn separate(&self) -> Option<[Operand; 2]> {
        let calls = [
            self.placed(self.query(), self.norm(4), [self.heads, 2 * self.width]),
            self.placed(self.key(), self.norm(5), [self.kv_heads, self.width]),
        ];
        let mut results = run(&gpu::placed(), &calls)?.into_iter().flatten();
        Some([(); 2].map(|()| results.next().expect("an output of each call")))
    }
}

fn numbers() -> Operand {
    let mut numbers = [0.0; 8];
    numbers[..2].copy_from_slice(&[EPS, THETA.ln()]);
    Operand::real(Number::F32, &[8], &numbers)
}

#[test]
fn placed_rows_are_normed_and_rotated_by_their_positions() {
    for case in Case::all() {
        let Some([_, key]) = case.separate() else {
            return;
        };
        let (d, half) = (case.width, case.rotary / 2);
        let normed = naive::rms_norm(&case.key().values(), &case.norm(5).values(), EPS);
        let mut expected = normed.clone();
        for (index, head) in normed.chunks(d).enumerate() {
            let position = f64::from(POSITIONS[index / case.kv_heads]);
            for i in 0..half {
                let angle = position * f64::from(THETA).powf(-(i as f64) / half as f64);
                let [a, b] = [head[i], head[i + half]].map(f64::from);
                expected[index * d + i] = (a * angle.cos() - b * angle.sin()) as f32;
                expected[index * d + i + half] = (b * angle.cos() + a * angle.sin()) as f32;
            }
        }
        // An angle of 1,000 is exact to 6e-5 in f32.
        let tolerance = case.number.tolerance().max(2e-4);
        assert_close(&key.values(), &expected, tolerance);
    }
}

#[test]
fn placed_store_writes_the_bits_of_placed_to_the_rows_places() {
    for case in Case::all() {
        let Some([query, key]) = case.separate() else {
            return;
        };
        let rows = POSITIONS.len();
        let pool = [POOL, case.kv_heads, case.width];
        // Operands that are written are outputs here, whatever MLX is given them as.
        let kernel = gpu::placed_store();
        let written = |name: &&String| ["keys", "values"].contains(&name.as_str());
        let (pools, inputs): (Vec<_>, Vec<_>) = kernel.inputs.iter().partition(written);
        let kernel = GpuKernel {
            inputs: inputs.into_iter().cloned().collect(),
            outputs: kernel.outputs.iter().chain(pools).cloned().collect(),
            ..kernel.clone()
        };
        let call = Call {
            template: vec![
                ("H", Int(case.heads)),
                ("HKV", Int(case.kv_heads)),
                ("D", Int(case.width)),
                ("ROTARY", Int(case.rotary)),
                ("T", Type(case.number)),
            ],
            launch: Launch::heads(rows, case.heads + 2 * case.kv_heads),
            inputs: vec![
                case.query(),
                case.key(),
                case.value(),
                case.norm(4),
                case.norm(5),
                Operand::ints(&[rows], &POSITIONS),
                Operand::ints(&[rows], &PLACES),
                numbers(),
            ],
            outputs: vec![
                Operand::out(case.number, &[rows, case.heads, case.width]),
                Operand::out(case.number, &pool),
                Operand::out(case.number, &pool),
            ],
        };
        let untouched = call.outputs[1].values();
        let Some(results) = run(&kernel, &[call]) else {
            return;
        };
        let [got_query, keys, values] = &results[0][..] else {
            panic!("three outputs");
        };
        assert!(got_query.bytes == query.bytes, "other queries");
        let len = case.kv_heads * case.width;
        for (pool, rows) in [(keys, key), (values, case.value())] {
            let mut expected = untouched.clone();
            for (row, place) in PLACES.into_iter().enumerate() {
                expected[place as usize * len..][..len]
                    .copy_from_slice(&rows.values()[row * len..][..len]);
            }
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&pool.values()), bits(&expected));
        }
    }
}
