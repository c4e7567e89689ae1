//! Products with 4-bit matrices in tiles, and the matrices that tiles stand for.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, Machine, run};
use crate::gpu::{self, ProductCut, WideCut, tiles};
use crate::testing::{assert_close, noise};

/// A matrix `[rows, cols]`: its codes, its scales and biases, as the checkpoint has them.
struct QuantizedMatrix {
    rows: usize,
    cols: usize,
    packed: Vec<u8>,
    steps: [Vec<f32>; 2],
}

impl QuantizedMatrix {
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
    let matrices = cases.map(|(rows, cols, _)| QuantizedMatrix::new(rows, cols, 7));
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

/// Tiles of matrices of so many rows.
fn tiles_of(rows: &[usize]) -> usize {
    rows.iter()
        .map(|rows| rows.div_ceil(tiles::TILE_ROWS))
        .sum()
}

fn cut(n: usize, rows: &[usize]) -> ProductCut {
    ProductCut::new(n, tiles_of(rows))
}

fn template(number: Number, cut: ProductCut) -> Vec<(&'static str, super::Argument)> {
    vec![
        ("S", Type(number)),
        ("Y", Type(number)),
        ("NT", Int(cut.nt)),
        ("MT", Int(cut.mt)),
        ("U", Int(cut.unroll)),
        ("WK", Int(cut.wk)),
        ("RUN", Int(cut.run)),
    ]
}

/// `x Wᵀ` in f64.
fn product(matrix: &QuantizedMatrix, x: &[f32], n: usize) -> Vec<f64> {
    let dot = |row: usize, of: usize| {
        let own = &x[row * matrix.cols..][..matrix.cols];
        let terms = own.iter().enumerate();
        let terms = terms.map(|(col, x)| f64::from(matrix.at(of, col)) * f64::from(*x));
        terms.sum::<f64>()
    };
    let places = (0..n).flat_map(|row| (0..matrix.rows).map(move |of| (row, of)));
    places.map(|(row, of)| dot(row, of)).collect()
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
    let cases: [(usize, &[usize], usize); 12] = [
        (1, &[16], 64),
        (2, &[16 * 700 + 5], 128),
        (7, &[16 * 511 + 1, 33], 704),
        (13, &[16 * 600, 17], 320),
        (25, &[16 * 511 + 3, 16], 192),
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
                .map(|(&rows, seed)| QuantizedMatrix::new(rows, cols, seed))
                .collect();
            let x = Operand::real(Number::Bf16, &[n, cols], &noise(5, n * cols));
            let cut = cut(n, rows);
            let values = x.values();
            let product = |matrix: &QuantizedMatrix| {
                let exact = product(matrix, &values, n);
                exact.into_iter().map(|x| x as f32).collect::<Vec<_>>()
            };
            expected.push(all.iter().map(product).collect::<Vec<_>>());
            let mut sizes = vec![0; 8];
            let own = sizes.iter_mut().zip(rows);
            own.for_each(|(size, &rows)| *size = rows as i32);
            let mut inputs = vec![x, Operand::ints(&[8], &sizes)];
            inputs.extend(all.iter().flat_map(|matrix| matrix.tiles(number)));
            calls.push(Call {
                template: template(number, cut),
                launch: Launch::products(tiles_of(rows), cut),
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

#[test]
fn gated_product_is_silu_of_one_product_times_the_other() {
    if Machine::here() != Machine::Cuda {
        eprintln!(
            "gated products on tensor cores: not checked, which needs an NVIDIA GPU (SANCTUM_NVCC=nvcc)"
        );
        return;
    }
    for (n, rows, cols) in [
        (1, 16, 64),
        (5, 16 * 300 + 7, 192),
        (8, 48, 320),
        (16, 40, 704),
        (30, 100, 128),
    ] {
        let matrices = [1, 2].map(|seed| QuantizedMatrix::new(rows, cols, 100 * seed));
        let x = Operand::real(Number::Bf16, &[n, cols], &noise(5, n * cols));
        let [gate, up] = matrices
            .each_ref()
            .map(|matrix| product(matrix, &x.values(), n));
        let both = gate.iter().zip(&up);
        let expected: Vec<f32> = both
            .map(|(g, u)| (g / (1.0 + (-g).exp()) * u) as f32)
            .collect();
        let tiles = tiles_of(&[rows, rows]);
        let cut = ProductCut::gated(n);
        let mut sizes = [0; 8];
        sizes[..2].fill(rows as i32);
        let mut inputs = vec![x, Operand::ints(&[8], &sizes)];
        inputs.extend(
            matrices
                .iter()
                .flat_map(|matrix| matrix.tiles(Number::Bf16)),
        );
        let call = Call {
            template: template(Number::Bf16, cut),
            launch: Launch::products(tiles, cut),
            inputs,
            outputs: vec![Operand::out(Number::Bf16, &[n, rows])],
        };
        let results = run(&gpu::qmv_gated(), &[call]).expect("a compiler");
        assert_close(&results[0][0].values(), &expected, Number::Bf16.tolerance());
    }
}

#[test]
fn products_of_places_are_those_of_their_experts() {
    if Machine::here() != Machine::Cuda {
        eprintln!(
            "products of experts on tensor cores: not checked, which needs an NVIDIA GPU (SANCTUM_NVCC=nvcc)"
        );
        return;
    }
    // Experts, rows and columns of each, places of a row, the places' experts.
    let cases: [(usize, usize, usize, usize, &[usize]); 4] = [
        (3, 16, 64, 1, &[2]),
        (4, 48, 320, 2, &[3, 0, 1, 3]),
        (2, 512, 2048, 3, &[1, 1, 0, 0, 1, 0]),
        (5, 32, 704, 1, &[4, 0, 0, 2, 1, 3, 4]),
    ];
    for (count, rows, cols, share, chosen) in cases {
        let [gate, up] = [1, 2].map(|seed| QuantizedMatrix::new(count * rows, cols, 100 * seed));
        let n = chosen.len() / share;
        let x = Operand::real(Number::Bf16, &[n, cols], &noise(5, n * cols));
        let values = x.values();
        let mut expected = [Vec::new(), Vec::new()];
        for (place, expert) in chosen.iter().enumerate() {
            let own = &values[place / share * cols..][..cols];
            let [g, u] = [&gate, &up].map(|matrix| product(matrix, own, 1));
            for row in expert * rows..(expert + 1) * rows {
                expected[0].push(g[row] as f32);
                expected[1].push((g[row] / (1.0 + (-g[row]).exp()) * u[row]) as f32);
            }
        }
        let mut sizes = [0; 8];
        sizes[0] = rows as i32;
        let experts: Vec<i32> = chosen.iter().map(|&expert| expert as i32).collect();
        let experts = Operand {
            number: Number::U32,
            ..Operand::ints(&[experts.len()], &experts)
        };
        for (matrices, expected) in [vec![&gate], vec![&gate, &up]].into_iter().zip(expected) {
            let (kernel, cut) = match matrices.len() {
                1 => (gpu::qmv_places(), ProductCut::places()),
                _ => (gpu::qmv_places_gated(), ProductCut::gated(1)),
            };
            let mut inputs = vec![x.clone(), Operand::ints(&[8], &sizes), experts.clone()];
            inputs.extend(
                matrices
                    .iter()
                    .flat_map(|matrix| matrix.tiles(Number::Bf16)),
            );
            let mut template = template(Number::Bf16, cut);
            template.push(("SHARE", Int(share)));
            let tiles = matrices.len() * chosen.len() * rows / tiles::TILE_ROWS;
            let call = Call {
                template,
                launch: Launch::products(tiles, cut),
                inputs,
                outputs: vec![Operand::out(Number::Bf16, &[chosen.len(), rows])],
            };
            let results = run(&kernel, &[call]).expect("a compiler");
            assert_close(&results[0][0].values(), &expected, Number::Bf16.tolerance());
        }
    }
}

fn wide_template(output: Number, cut: WideCut) -> Vec<(&'static str, super::Argument)> {
    vec![
        ("S", Type(Number::Bf16)),
        ("Y", Type(output)),
        ("NT", Int(cut.nt)),
        ("MT", Int(cut.mt)),
        ("W", Int(cut.w)),
        ("WK", Int(cut.wk)),
        ("RUN", Int(cut.run)),
        ("PARTS", Int(cut.parts)),
    ]
}

#[test]
fn wide_products_are_those_of_the_unpacked_matrices() {
    if Machine::here() != Machine::Cuda {
        eprintln!(
            "wide products on tensor cores: not checked, which needs an NVIDIA GPU (SANCTUM_NVCC=nvcc)"
        );
        return;
    }
    // Rows of activations, of each matrix, columns, parts.
    let cases: [(usize, &[usize], usize, usize); 7] = [
        (9, &[33], 1088, 3),
        (16, &[16 * 130 + 5], 64, 1),
        (17, &[48], 2048, 3),
        (12, &[256, 37], 192, 1),
        (32, &[130, 31], 704, 1),
        (31, &[64, 17, 100], 832, 1),
        (24, &[640, 64, 17, 16], 320, 1),
    ];
    for (n, rows, cols, parts) in cases {
        let seeds = (1..).map(|m| 100 * m);
        let made = rows.iter().zip(seeds);
        let matrices: Vec<_> = made
            .map(|(&r, seed)| QuantizedMatrix::new(r, cols, seed))
            .collect();
        let x = Operand::real(Number::Bf16, &[n, cols], &noise(5, n * cols));
        let values = x.values();
        let cut = WideCut {
            parts,
            ..WideCut::new(n, 0)
        };
        let output = if parts > 1 { Number::F32 } else { Number::Bf16 };
        let mut sizes = [0; 8];
        let own = sizes.iter_mut().zip(rows);
        own.for_each(|(size, &rows)| *size = rows as i32);
        let mut inputs = vec![x, Operand::ints(&[8], &sizes)];
        inputs.extend(
            matrices
                .iter()
                .flat_map(|matrix| matrix.tiles(Number::Bf16)),
        );
        let call = Call {
            template: wide_template(output, cut),
            launch: Launch::wide_products(tiles_of(rows), cut),
            inputs,
            outputs: rows
                .iter()
                .map(|&rows| Operand::out(output, &[parts, n, rows]))
                .collect(),
        };
        let results = run(&gpu::qmm(rows.len()), &[call]).expect("a compiler");
        for (matrix, got) in matrices.iter().zip(&results[0]) {
            let exact = product(matrix, &values, n);
            let expected: Vec<f32> = exact.into_iter().map(|x| x as f32).collect();
            let mut sum = vec![0.0; expected.len()];
            for part in got.values().chunks(expected.len()) {
                sum.iter_mut().zip(part).for_each(|(sum, y)| *sum += y);
            }
            // Weights are rounded to bf16.
            assert_close(&sum, &expected, Number::Bf16.tolerance());
        }
    }
}

#[test]
fn wide_gated_product_is_silu_of_one_product_times_the_other() {
    if Machine::here() != Machine::Cuda {
        eprintln!(
            "wide gated products on tensor cores: not checked, which needs an NVIDIA GPU (SANCTUM_NVCC=nvcc)"
        );
        return;
    }
    for (n, rows, cols) in [
        (9, 16, 64),
        (16, 16 * 40 + 7, 192),
        (23, 48, 704),
        (32, 100, 128),
    ] {
        let matrices = [1, 2].map(|seed| QuantizedMatrix::new(rows, cols, 100 * seed));
        let x = Operand::real(Number::Bf16, &[n, cols], &noise(5, n * cols));
        let [gate, up] = matrices
            .each_ref()
            .map(|matrix| product(matrix, &x.values(), n));
        let both = gate.iter().zip(&up);
        let expected: Vec<f32> = both
            .map(|(g, u)| (g / (1.0 + (-g).exp()) * u) as f32)
            .collect();
        let mut sizes = [0; 8];
        sizes[..2].fill(rows as i32);
        let mut inputs = vec![x, Operand::ints(&[8], &sizes)];
        inputs.extend(
            matrices
                .iter()
                .flat_map(|matrix| matrix.tiles(Number::Bf16)),
        );
        let cut = WideCut::gated(n);
        let call = Call {
            template: wide_template(Number::Bf16, cut),
            launch: Launch::wide_products(tiles_of(&[rows, rows]), cut),
            inputs,
            outputs: vec![Operand::out(Number::Bf16, &[n, rows])],
        };
        let results = run(&gpu::qmm_gated(), &[call]).expect("a compiler");
        let tolerance = 2.0 * Number::Bf16.tolerance();
        assert_close(&results[0][0].values(), &expected, tolerance);
    }
}
