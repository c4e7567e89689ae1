//! Which experts a row has, and what becomes of their results.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, run};
use crate::gpu;
use crate::testing::{assert_close, noise};

const NUMBERS: [Number; 3] = [Number::F32, Number::Bf16, Number::F16];

/// The `k` largest of a row, of equal ones the lower index first.
fn largest(row: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    order.truncate(k);
    order
}

fn routed(rows: usize, experts: usize, k: usize, number: Number, logits: &[f32]) -> Call {
    Call {
        template: vec![("E", Int(experts)), ("K", Int(k)), ("L", Type(number))],
        launch: Launch::heads(rows, 1),
        inputs: vec![Operand::real(number, &[rows, experts], logits)],
        outputs: vec![
            Operand::out(Number::U32, &[rows, k]),
            Operand::out(Number::F32, &[rows, k]),
        ],
    }
}

#[test]
fn experts_of_a_row_are_the_largest_logits() {
    let cases = [(3, 256, 8), (1, 1024, 32), (2, 5, 2), (4, 33, 4), (2, 8, 8)];
    let calls = cases.into_iter().zip(NUMBERS.into_iter().cycle());
    let calls = calls.map(|((rows, experts, k), number)| {
        // Few different values, so that many are equal.
        let coarse = noise(experts as u64, rows * experts);
        let coarse: Vec<f32> = coarse.iter().map(|x| (x * 8.0).round() / 4.0).collect();
        routed(rows, experts, k, number, &coarse)
    });
    let calls: Vec<_> = calls.collect();
    let Some(results) = run(&gpu::route(), &calls) else {
        return;
    };
    for (call, outputs) in calls.iter().zip(results) {
        let (experts, k) = (call.inputs[0].shape[1], call.outputs[0].shape[1]);
        let logits = call.inputs[0].values();
        let expected: Vec<Vec<usize>> = logits.chunks(experts).map(|row| largest(row, k)).collect();
        let chosen: Vec<u32> = expected.iter().flatten().map(|&e| e as u32).collect();
        assert_eq!(outputs[0].bits(), chosen);
        let shares = logits
            .chunks(experts)
            .zip(&expected)
            .flat_map(|(row, chosen)| {
                let weights: Vec<f32> = chosen
                    .iter()
                    .map(|&e| (row[e] - row[chosen[0]]).exp())
                    .collect();
                let sum: f32 = weights.iter().sum();
                weights
                    .into_iter()
                    .map(move |weight| weight / sum)
                    .collect::<Vec<_>>()
            });
        assert_close(&outputs[1].values(), &shares.collect::<Vec<_>>(), 2e-5);
    }
}

/// A row of damaged logits must not name an expert that there is not.
#[test]
fn logits_that_are_no_numbers_choose_experts_that_exist() {
    let mut logits = noise(3, 3 * 40);
    logits[..40].fill(f32::NAN);
    logits[40..80].fill(f32::NEG_INFINITY);
    logits[81] = f32::NAN;
    let call = routed(3, 40, 4, Number::F32, &logits);
    let Some(results) = run(&gpu::route(), &[call]) else {
        return;
    };
    let chosen = results[0][0].bits();
    assert_eq!(chosen[..8], [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(
        chosen[8..],
        largest(&logits[80..], 5)[1..]
            .iter()
            .map(|&e| e as u32)
            .collect::<Vec<_>>()
    );
}

#[test]
fn mixture_is_the_sum_of_what_its_experts_give() {
    let cases = [(3, 64, 2, 1), (2, 96, 8, 0), (1, 2048, 4, 1)];
    let calls = cases.into_iter().zip(NUMBERS.into_iter().cycle());
    let calls = calls.map(|((rows, width, k, shared), number)| {
        let launch = Launch::elements(rows, width).expect("a multiple of 32");
        Call {
            template: vec![
                ("W", Int(width)),
                ("K", Int(k)),
                ("SHARED", Int(shared)),
                ("GROUP", Int(launch.group[0])),
                ("T", Type(number)),
                ("G", Type(Number::Bf16)),
            ],
            launch,
            inputs: vec![
                Operand::real(number, &[rows, k, width], &noise(1, rows * k * width)),
                Operand::real(Number::F32, &[rows, k], &noise(2, rows * k)),
                Operand::real(Number::Bf16, &[rows, 1], &noise(3, rows)),
                Operand::real(number, &[rows, width], &noise(4, rows * width)),
            ],
            outputs: vec![Operand::out(Number::F32, &[rows, width])],
        }
    });
    let calls: Vec<_> = calls.collect();
    let Some(results) = run(&gpu::mix(), &calls) else {
        return;
    };
    for ((call, outputs), (rows, width, k, with_shared)) in calls.iter().zip(results).zip(cases) {
        let [y, shares, gate, shared] = [0, 1, 2, 3].map(|i| call.inputs[i].values());
        let of = |row: usize, column: usize| {
            let own = (0..k).map(|e| shares[row * k + e] * y[(row * k + e) * width + column]);
            let gated = shared[row * width + column] / (1.0 + (-gate[row]).exp());
            own.sum::<f32>() + with_shared as f32 * gated
        };
        let all = (0..rows).flat_map(|row| (0..width).map(move |column| (row, column)));
        let expected: Vec<f32> = all.map(|(row, column)| of(row, column)).collect();
        assert_close(&outputs[0].values(), &expected, 2e-5);
    }
}
