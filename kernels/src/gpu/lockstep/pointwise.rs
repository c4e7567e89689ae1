//! The kernels that look at one row at a time.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, run};
use crate::gpu;
use crate::naive;
use crate::testing::{assert_close, noise};

const NUMBERS: [Number; 3] = [Number::F32, Number::Bf16, Number::F16];

#[test]
fn add_norm_is_a_sum_and_its_rms_norm() {
    let cases = [(3, 64, 1), (2, 96, 3), (1, 1024, 1), (2, 5120, 2)];
    let cases: Vec<_> = cases
        .into_iter()
        .flat_map(|case| NUMBERS.map(|number| (case, number)))
        .collect();
    let calls = cases.iter().map(|&((rows, width, parts), number)| {
        let group = Launch::row_group(width);
        let [x, y] = [(1, 1), (2, parts)].map(|(seed, parts)| noise(seed, parts * rows * width));
        Call {
            template: vec![
                ("W", Int(width)),
                ("GROUP", Int(group)),
                ("Y", Type(number)),
                ("PARTS", Int(parts)),
                ("T", Type(number)),
            ],
            launch: Launch::rows(rows, group),
            inputs: vec![
                Operand::real(Number::F32, &[rows, width], &x),
                Operand::real(number, &[parts, rows, width], &y),
                Operand::real(Number::F32, &[width], &noise(3, width)),
                Operand::real(Number::F32, &[1], &[1e-6]),
            ],
            outputs: vec![
                Operand::out(Number::F32, &[rows, width]),
                Operand::out(number, &[rows, width]),
            ],
        }
    });
    let calls: Vec<_> = calls.collect();
    let Some(results) = run(&gpu::add_norm(), &calls) else {
        return;
    };
    for ((call, outputs), (_, number)) in calls.iter().zip(results).zip(cases) {
        let [x, y, weight] = [0, 1, 2].map(|i| call.inputs[i].values());
        let mut sum = x.clone();
        for part in y.chunks(x.len()) {
            sum.iter_mut().zip(part).for_each(|(sum, y)| *sum += y);
        }
        assert_eq!(outputs[0].values(), sum);
        let normed = naive::rms_norm(&sum, &weight, 1e-6);
        assert_close(&outputs[1].values(), &normed, number.tolerance());
    }
}

#[test]
fn swiglu_is_silu_times_up() {
    let calls: Vec<_> = NUMBERS
        .into_iter()
        .map(|number| Call {
            template: vec![("GROUP", Int(128)), ("T", Type(number))],
            launch: Launch::elements(3, 384).expect("a multiple of 32"),
            inputs: [1, 2]
                .map(|seed| Operand::real(number, &[3, 384], &noise(seed, 3 * 384)))
                .to_vec(),
            outputs: vec![Operand::out(number, &[3, 384])],
        })
        .collect();
    let Some(results) = run(&gpu::swiglu(), &calls) else {
        return;
    };
    for (call, outputs) in calls.iter().zip(results) {
        let expected = naive::swiglu(&call.inputs[0].values(), &call.inputs[1].values());
        let tolerance = call.inputs[0].number.tolerance();
        assert_close(&outputs[0].values(), &expected, tolerance);
    }
}

#[test]
fn gated_norm_is_silu_times_a_norm() {
    let cases = [(2, 3, 32), (3, 2, 64), (1, 4, 128), (2, 1, 160)];
    let calls = cases.into_iter().zip(NUMBERS.into_iter().cycle());
    let calls = calls.map(|((rows, heads, width), number)| {
        let len = rows * heads * width;
        Call {
            template: vec![("D", Int(width)), ("T", Type(number))],
            launch: Launch::heads(rows, heads),
            inputs: vec![
                Operand::real(Number::F32, &[rows, heads, width], &noise(1, len)),
                Operand::real(number, &[rows, heads * width], &noise(2, len)),
                Operand::real(Number::F32, &[width], &noise(3, width)),
                Operand::real(Number::F32, &[1], &[1e-6]),
            ],
            outputs: vec![Operand::out(number, &[rows, heads * width])],
        }
    });
    let calls: Vec<_> = calls.collect();
    let Some(results) = run(&gpu::gated_norm(), &calls) else {
        return;
    };
    for (call, outputs) in calls.iter().zip(results) {
        let [y, z, weight] = [0, 1, 2].map(|i| call.inputs[i].values());
        let expected = naive::gated_norm(&y, &z, &weight, 1e-6);
        let tolerance = outputs[0].number.tolerance();
        assert_close(&outputs[0].values(), &expected, tolerance);
    }
}
