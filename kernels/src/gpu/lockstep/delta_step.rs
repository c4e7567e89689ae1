//! One row of each sequence in one launch, beside the three that it stands for.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, run};
use crate::gpu;
use crate::testing::noise;

const TAPS: usize = 4;
const KEPT: usize = TAPS - 1;

/// Old states, and what each segment continues; the last one only keeps its state.
const OLD: usize = 3;
const SEGMENTS: [[i32; 3]; 4] = [[0, 1, 2], [1, 1, -1], [2, 1, 0], [0, 0, 1]];
const ROWS: usize = 3;

struct StepShape {
    key_heads: usize,
    value_heads: usize,
    key: usize,
    value: usize,
    number: Number,
}

impl StepShape {
    fn channels(&self) -> usize {
        2 * self.key_heads * self.key + self.value_heads * self.value
    }

    fn real(&self, seed: u64, shape: &[usize]) -> Operand {
        Operand::real(self.number, shape, &noise(seed, shape.iter().product()))
    }
}

fn floats(seed: u64, shape: &[usize]) -> Operand {
    Operand::real(Number::F32, shape, &noise(seed, shape.iter().product()))
}

/// Row `at` of a segment's tail and its own row, counted in a zero row, the old tails, then the batch.
fn place([first, _, old]: [i32; 3], at: usize) -> i32 {
    match (at == KEPT, old) {
        (true, _) => (1 + OLD * KEPT) as i32 + first,
        (false, ..0) => 0,
        (false, old) => 1 + old * KEPT as i32 + at as i32,
    }
}

#[test]
fn delta_step_has_the_bits_of_the_three_kernels_it_stands_for() {
    for (key_heads, value_heads, key, value, number) in [
        (2, 4, 32, 64, Number::F32),
        (1, 3, 128, 96, Number::Bf16),
        (2, 2, 64, 32, Number::F16),
    ] {
        let shape = StepShape {
            key_heads,
            value_heads,
            key,
            value,
            number,
        };
        let Some(expected) = three(&shape) else {
            return;
        };
        let Some(results) = run(&gpu::delta_step(), &[step(&shape)]) else {
            return;
        };
        for (got, expected) in results[0].iter().zip(&expected) {
            let same = got.bytes == expected.bytes;
            assert!(same, "other bits than those of three kernels");
        }
    }
}

/// The inputs of the convolution: rows, weight, tails, and where they are found.
fn convolved(shape: &StepShape) -> Vec<Operand> {
    let channels = shape.channels();
    let rows = SEGMENTS.iter().filter(|segment| segment[1] > 0);
    let seen: Vec<i32> = (0..TAPS)
        .flat_map(|tap| rows.clone().map(move |&segment| place(segment, tap)))
        .collect();
    let left: Vec<i32> = SEGMENTS
        .iter()
        .flat_map(|&segment| (0..KEPT).map(move |at| place(segment, at + segment[1] as usize)))
        .collect();
    vec![
        shape.real(1, &[ROWS, channels]),
        floats(2, &[channels, TAPS]),
        shape.real(3, &[OLD * KEPT, channels]),
        Operand::ints(&[seen.len()], &seen),
        Operand::ints(&[left.len()], &left),
        Operand::ints(&[8], &[ROWS as i32, (OLD * KEPT) as i32, 0, 0, 0, 0, 0, 0]),
    ]
}

/// The delta rule's other inputs.
fn ruled(shape: &StepShape) -> Vec<Operand> {
    let heads = shape.value_heads;
    vec![
        shape.real(4, &[ROWS, heads]),
        shape.real(5, &[ROWS, heads]),
        floats(6, &[heads]),
        floats(7, &[heads]),
        floats(8, &[OLD, heads, shape.value, shape.key]),
        Operand::ints(&[SEGMENTS.len(), 3], SEGMENTS.as_flattened()),
    ]
}

/// The norm's inputs besides the rule's output.
fn normed(shape: &StepShape) -> Vec<Operand> {
    vec![
        shape.real(9, &[ROWS, shape.value_heads * shape.value]),
        floats(10, &[shape.value]),
        Operand::real(
            Number::F32,
            &[8],
            &[1e-6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ),
    ]
}

fn heads(shape: &StepShape) -> Vec<(&'static str, super::Argument)> {
    vec![
        ("HK", Int(shape.key_heads)),
        ("HV", Int(shape.value_heads)),
        ("DK", Int(shape.key)),
        ("DV", Int(shape.value)),
        ("T", Type(shape.number)),
    ]
}

fn outputs(shape: &StepShape) -> [Operand; 3] {
    [
        Operand::out(shape.number, &[ROWS, shape.value_heads * shape.value]),
        Operand::out(shape.number, &[SEGMENTS.len() * KEPT, shape.channels()]),
        Operand::out(
            Number::F32,
            &[SEGMENTS.len(), shape.value_heads, shape.value, shape.key],
        ),
    ]
}

fn step(shape: &StepShape) -> Call {
    let mut template = heads(shape);
    template.extend([("TAPS", Int(TAPS)), ("WARPS", Int(Launch::STEP_WARPS))]);
    Call {
        template,
        launch: Launch::delta_step(SEGMENTS.len(), shape.value_heads),
        inputs: [convolved(shape), ruled(shape), normed(shape)].concat(),
        outputs: outputs(shape).to_vec(),
    }
}

/// Output, tails and states of one kernel after the other.
fn three(shape: &StepShape) -> Option<[Operand; 3]> {
    let [out, later, after] = outputs(shape);
    let channels = shape.channels();
    let conv = Call {
        template: vec![
            ("C", Int(channels)),
            ("TAPS", Int(TAPS)),
            ("GROUP", Int(32)),
            ("T", Type(shape.number)),
        ],
        launch: Launch {
            grid: [channels, ROWS + SEGMENTS.len() * KEPT, 1],
            group: [32, 1, 1],
        },
        inputs: convolved(shape),
        outputs: vec![Operand::out(shape.number, &[ROWS, channels]), later],
    };
    let mut conv = run(&gpu::short_conv(), &[conv])?.remove(0);
    let (later, qkv) = (conv.pop()?, conv.pop()?);
    let [lines, tile] = Launch::delta_tile(shape.key, shape.value);
    let mut template = heads(shape);
    template.extend([("LINES", Int(lines)), ("TILE", Int(tile))]);
    let y = [ROWS, shape.value_heads, shape.value];
    let rule = Call {
        template,
        launch: Launch::delta(SEGMENTS.len(), shape.value_heads, shape.value, lines),
        inputs: [vec![qkv], ruled(shape)].concat(),
        outputs: vec![Operand::out(Number::F32, &y), after],
    };
    let mut rule = run(&gpu::gated_delta(), &[rule])?.remove(0);
    let (after, y) = (rule.pop()?, rule.pop()?);
    let norm = Call {
        template: vec![("D", Int(shape.value)), ("T", Type(shape.number))],
        launch: Launch::heads(ROWS, shape.value_heads),
        inputs: [vec![y], normed(shape)].concat(),
        outputs: vec![out],
    };
    let out = run(&gpu::gated_norm(), &[norm])?.remove(0).pop()?;
    Some([out, later, after])
}
