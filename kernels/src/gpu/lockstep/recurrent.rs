//! The kernels that carry a state from row to row, over ragged batches.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, run};
use crate::gpu;
use crate::naive;
use crate::testing::{assert_close, noise};
use crate::{ConvDims, DeltaDims};

/// A sequence's rows in the batch: how many, and which old state they continue.
type SequencePart = (usize, Option<usize>);

/// Heads of keys and values, their widths, the batch's parts, how many states there were.
type Case = (usize, usize, usize, usize, &'static [SequencePart], usize);

/// Each part's first row.
fn starts(parts: &[SequencePart]) -> Vec<usize> {
    let ends = parts.iter().scan(0, |end, (len, _)| {
        *end += len;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

#[test]
fn gated_delta_follows_the_formula() {
    let cases: &[Case] = &[
        (1, 1, 32, 8, &[(300, None)], 1),
        (2, 4, 64, 64, &[(1, Some(1)), (17, None), (5, Some(0))], 2),
        (1, 3, 128, 8, &[(130, Some(0)), (1, None)], 1),
        (2, 2, 256, 4, &[(33, None), (8, Some(3)), (9, Some(1))], 4),
        (1, 4, 96, 24, &[(40, Some(0))], 1),
        (
            2,
            6,
            128,
            16,
            &[(1, Some(2)), (1, Some(0)), (1, Some(1))],
            3,
        ),
        (1, 2, 160, 2, &[(64, None), (65, Some(0))], 1),
    ];
    let numbers = [Number::F32, Number::Bf16, Number::F16];
    let numbers = numbers.into_iter().cycle();
    let calls = cases.iter().zip(numbers).zip(1..).map(
        |((&(hk, hv, dk, dv, parts, old), number), seed)| {
            let starts = starts(parts);
            let n = starts[parts.len()];
            let width = 2 * hk * dk + hv * dv;
            let [lines, tile] = Launch::delta_tile(dk, dv);
            let segments: Vec<i32> = parts
                .iter()
                .zip(&starts)
                .flat_map(|(&(len, old), &start)| {
                    [start as i32, len as i32, old.map_or(-1, |row| row as i32)]
                })
                .chain([0; 8])
                .take((3 * parts.len()).max(8))
                .collect();
            let times = |x: Vec<f32>, factor: f32| x.iter().map(|x| x * factor).collect::<Vec<_>>();
            Call {
                template: vec![
                    ("HK", Int(hk)),
                    ("HV", Int(hv)),
                    ("DK", Int(dk)),
                    ("DV", Int(dv)),
                    ("LINES", Int(lines)),
                    ("TILE", Int(tile)),
                    ("T", Type(number)),
                ],
                launch: Launch::delta(parts.len(), hv, dv, lines),
                inputs: vec![
                    Operand::real(number, &[n, width], &noise(seed, n * width)),
                    Operand::real(number, &[n, hv], &times(noise(seed + 10, n * hv), 3.0)),
                    Operand::real(number, &[n, hv], &times(noise(seed + 20, n * hv), 3.0)),
                    Operand::real(Number::F32, &[hv], &noise(seed + 30, hv)),
                    Operand::real(Number::F32, &[hv], &noise(seed + 40, hv)),
                    Operand::real(
                        Number::F32,
                        &[old, hv, dv, dk],
                        &noise(seed + 50, old * hv * dv * dk),
                    ),
                    Operand::ints(&[segments.len()], &segments),
                ],
                outputs: vec![
                    Operand::out(Number::F32, &[n, hv, dv]),
                    Operand::out(Number::F32, &[parts.len(), hv, dv, dk]),
                ],
            }
        },
    );
    let calls: Vec<_> = calls.collect();
    let Some(results) = run(&gpu::gated_delta(), &calls) else {
        return;
    };
    for ((call, outputs), &(hk, hv, dk, dv, parts, _)) in calls.iter().zip(results).zip(cases) {
        let dims = DeltaDims::new(hk, hv, dk, dv.next_multiple_of(8)).expect("a valid shape");
        let dims = DeltaDims {
            value_dim: dv,
            ..dims
        };
        let [qkv, a, b, a_log, dt_bias, states] =
            [0, 1, 2, 3, 4, 5].map(|i| call.inputs[i].values());
        let starts = starts(parts);
        let (mut y, mut after) = (vec![], vec![]);
        for (i, &(_, old)) in parts.iter().enumerate() {
            let rows = starts[i]..starts[i + 1];
            let of = |x: &[f32]| {
                let width = x.len() / starts[parts.len()];
                x[rows.start * width..rows.end * width].to_vec()
            };
            let len = dims.state_len();
            let mut state: Vec<f64> = match old {
                Some(row) => states[row * len..][..len]
                    .iter()
                    .map(|&s| s.into())
                    .collect(),
                None => vec![0.0; len],
            };
            let gates = [&of(&a)[..], &of(&b)];
            y.extend(naive::gated_delta(
                &dims,
                &of(&qkv),
                gates,
                [&a_log, &dt_bias],
                &mut state,
            ));
            after.extend(state.iter().map(|&s| s as f32));
        }
        assert_close(&outputs[0].values(), &y, 1e-5);
        assert_close(&outputs[1].values(), &after, 1e-5);
    }
}

#[test]
fn short_conv_sees_the_rows_before_and_leaves_a_tail() {
    // Channels, taps, the batch's parts, how many old sequences there were.
    let cases: &[(usize, usize, &[SequencePart], usize)] = &[
        (64, 4, &[(5, None), (1, Some(1)), (2, Some(0))], 2),
        (32, 2, &[(1, Some(0)), (1, None)], 1),
        (96, 3, &[(7, Some(2))], 3),
    ];
    let numbers = [Number::F32, Number::Bf16, Number::F16];
    let calls = cases.iter().zip(numbers).zip(1..).map(
        |((&(channels, taps, parts, old), number), seed)| {
            let starts = starts(parts);
            let n = starts[parts.len()];
            let kept = taps - 1;
            // Rows are counted in a zero row, the old tails, then the batch.
            let place = |part: usize, row: isize| match (parts[part].1, row) {
                (_, row) if row >= 0 => 1 + old * kept + starts[part] + row as usize,
                (Some(old), row) => (1 + (old + 1) * kept).wrapping_add_signed(row),
                (None, _) => 0,
            };
            let seen = (0..taps).flat_map(|tap| {
                let part = move |i: usize| {
                    (0..parts[i].0).map(move |t| place(i, (t + tap) as isize - kept as isize))
                };
                (0..parts.len()).flat_map(part)
            });
            let left = (0..parts.len()).flat_map(|i| {
                (0..kept).map(move |row| place(i, (parts[i].0 + row) as isize - kept as isize))
            });
            let padded = |rows: Vec<usize>| {
                let rows: Vec<i32> = rows.into_iter().map(|row| row as i32).collect();
                let zeros = 8_usize.saturating_sub(rows.len());
                let rows = [rows, vec![0; zeros]].concat();
                Operand::ints(&[rows.len()], &rows)
            };
            let last = parts.len() * kept;
            Call {
                template: vec![
                    ("C", Int(channels)),
                    ("TAPS", Int(taps)),
                    ("GROUP", Int(32)),
                    ("T", Type(number)),
                ],
                launch: Launch {
                    grid: [channels, n + last, 1],
                    group: [32, 1, 1],
                },
                inputs: vec![
                    Operand::real(number, &[n, channels], &noise(seed, n * channels)),
                    Operand::real(
                        Number::F32,
                        &[channels, taps],
                        &noise(seed + 10, channels * taps),
                    ),
                    Operand::real(
                        number,
                        &[old * kept, channels],
                        &noise(seed + 20, old * kept * channels),
                    ),
                    padded(seen.collect()),
                    padded(left.collect()),
                    padded(vec![n, old * kept]),
                ],
                outputs: vec![
                    Operand::out(number, &[n, channels]),
                    Operand::out(number, &[last, channels]),
                ],
            }
        },
    );
    let calls: Vec<_> = calls.collect();
    let Some(results) = run(&gpu::short_conv(), &calls) else {
        return;
    };
    for ((call, outputs), &(channels, taps, parts, _)) in calls.iter().zip(results).zip(cases) {
        let dims = ConvDims::new(channels, taps).expect("a valid shape");
        let [x, weight, tails] = [0, 1, 2].map(|i| call.inputs[i].values());
        let starts = starts(parts);
        let (mut out, mut after) = (vec![], vec![]);
        for (i, &(_, old)) in parts.iter().enumerate() {
            let len = dims.tail_len();
            let mut tail = old.map_or(vec![0.0; len], |row| tails[row * len..][..len].to_vec());
            let rows = &x[starts[i] * channels..starts[i + 1] * channels];
            out.extend(naive::short_conv(&dims, rows, &weight, &mut tail));
            after.extend(tail);
        }
        let tolerance = outputs[0].number.tolerance();
        assert_close(&outputs[0].values(), &out, tolerance);
        assert_close(&outputs[1].values(), &after, 0.0);
    }
}
