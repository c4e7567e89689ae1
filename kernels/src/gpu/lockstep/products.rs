//! Products with 4-bit matrices in tiles, and the matrices that tiles stand for.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, Machine, run};
use crate::gpu::{self, ProductCut, tiles};
use crate::testing::{assert_close, noise};

/// A matrix `[rows, cols]`: its codes, its scales and biases, as the checkpoint has them.
struct Matrix {
    rows: usize,
    cols: usize,
    packed: Vec<u8>,
    steps: [Vec<f32>; 2],
}

impl Matrix {
    fn new(rows: usize, cols: usize, seed: u64) -> Self {
        let byte = |x: f32| ((x + 1.0) * 127.9) as u8;
        let groups = rows * cols / 64;
        let steps = [10, 20].map(|more| noise(seed + more, groups));
        Self {
            rows,
            cols,
            packed: noise(seed, rows * cols / 2).into_iter().map(byte).collect(),
            // Rounded to what every type of scales holds.
            steps: steps.map(|s| s.iter().map(|x| (x * 64.0).round() / 256.0).collect()),
        }
    }

    /// Its number at a place.
    fn at(&self, row: usize, col: usize) -> f32 {
        let code = self.packed[(row * self.cols + col) / 2] >> (col % 2 * 4) & 15;
        let group = row * (self.cols / 64) + col / 64;
        self.steps[0][group] * f32::from(code) + self.steps[1][group]
    }

    /// Its tiles as the kernels take them: words, then scales and biases as `number`.
    fn tiles(&self, number: Number) -> [Operand; 2] {
        let words = tiles::words(&self.packed, self.rows, self.cols, 1);
        let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
        let pairs = self.steps.each_ref().map(Vec::as_slice);
        let pairs = tiles::steps(pairs, self.rows, self.cols / 64, 1);
        [
            Operand {
                number: Number::U32,
                ..Operand::ints(&[words.len()], &words)
            },
            Operand::real(number, &[pairs.len()], &pairs),
        ]
    }
}

#[test]
fn tiles_are_unpacked_where_they_belong() {
    let cases = [(16, 64, Number::F32), (37, 192, Number::Bf16)];
    let matrices = cases.map(|(rows, cols, _)| Matrix::new(rows, cols, 7));
    let calls: Vec<_> = cases
        .iter()
        .zip(&matrices)
        .map(|(&(rows, cols, number), matrix)| {
            let inputs = matrix.tiles(number).to_vec();
            let launch = Launch::elements(inputs[0].shape[0] / 128, 128);
            let launch = launch.expect("128 words are a multiple of 32");
            Call {
                template: vec![
                    ("ROWS", Int(rows)),
                    ("COLS", Int(cols)),
                    ("GROUP", Int(launch.group[0])),
                    ("S", Type(number)),
                    ("T", Type(number)),
                ],
                launch,
                inputs,
                outputs: vec![Operand::out(number, &[rows, cols])],
            }
        })
        .collect();
    let Some(results) = run(&gpu::unpack(), &calls) else {
        return;
    };
    for ((matrix, outputs), (.., number)) in matrices.iter().zip(results).zip(cases) {
        let all = (0..matrix.rows).flat_map(|row| (0..matrix.cols).map(move |col| (row, col)));
        let expected: Vec<f32> = all.map(|(row, col)| matrix.at(row, col)).collect();
        assert_close(&outputs[0].values(), &expected, number.tolerance());
    }
}

/// Tensor cores are what the kernel is made for: nothing stands in for them.
#[test]
fn products_are_those_of_the_unpacked_matrices() {
    if Machine::here() != Machine::Cuda {
        eprintln!(
            "products on tensor cores: not checked, which needs an NVIDIA GPU (SANCTUM_NVCC=nvcc)"
        );
        return;
    }
    // Rows of activations, of each matrix, columns.
    let cases: [(usize, &[usize], usize); 9] = [
        (1, &[16], 64),
        (2, &[16 * 700 + 5], 128),
        (1, &[48, 37], 512),
        (3, &[100], 832),
        (8, &[640, 64, 17, 16], 320),
        (9, &[33], 1088),
        (16, &[256, 16, 16], 64),
        (17, &[48], 2048),
        (32, &[130, 31], 704),
    ];
    for matrices in 1..=4 {
        let mut calls = Vec::new();
        let mut expected = Vec::new();
        let own = cases.iter().filter(|(_, rows, _)| rows.len() == matrices);
        for (&(n, rows, cols), number) in
            own.flat_map(|case| [Number::Bf16, Number::F32].map(|number| (case, number)))
        {
            let seeds = (1..).map(|m| 100 * m);
            let all: Vec<_> = rows
                .iter()
                .zip(seeds)
                .map(|(&rows, seed)| Matrix::new(rows, cols, seed))
                .collect();
            let x = Operand::real(Number::Bf16, &[n, cols], &noise(5, n * cols));
            let cut = ProductCut::new(n);
            let values = x.values();
            let product = |matrix: &Matrix| {
                let dot = |row: usize, of: usize| {
                    let terms = (0..cols).map(|col| {
                        f64::from(matrix.at(of, col)) * f64::from(values[row * cols + col])
                    });
                    terms.sum::<f64>() as f32
                };
                let places = (0..n).flat_map(|row| (0..matrix.rows).map(move |of| (row, of)));
                places.map(|(row, of)| dot(row, of)).collect::<Vec<_>>()
            };
            expected.push(all.iter().map(product).collect::<Vec<_>>());
            let launch = Launch::products(rows.iter().copied(), cut);
            let mut sizes = vec![0; 8];
            let own = sizes.iter_mut().zip(rows);
            own.for_each(|(size, &rows)| *size = rows as i32);
            sizes[7] = launch.groups() as i32;
            let mut inputs = vec![x, Operand::ints(&[8], &sizes)];
            inputs.extend(all.iter().flat_map(|matrix| matrix.tiles(number)));
            calls.push(Call {
                template: vec![
                    ("S", Type(number)),
                    ("Y", Type(number)),
                    ("NT", Int(cut.nt)),
                    ("WK", Int(cut.wk)),
                    ("RUN", Int(cut.run)),
                ],
                launch,
                inputs,
                outputs: rows
                    .iter()
                    .map(|&rows| Operand::out(number, &[n, rows]))
                    .collect(),
            });
        }
        let results = run(&gpu::qmv(matrices), &calls).expect("a compiler");
        for ((call, outputs), expected) in calls.iter().zip(results).zip(expected) {
            for (output, expected) in outputs.iter().zip(expected) {
                // Products and sums of exact bf16 numbers, rounded in another order.
                let tolerance = call.outputs[0].number.tolerance().max(1e-4);
                assert_close(&output.values(), &expected, tolerance);
            }
        }
    }
}
