//! Attention over pages, with plain and with packed values.

use super::Argument::{Int, Type};
use super::operand::{Number, Operand};
use super::{Call, Launch, run};
use crate::gpu;
use crate::testing::{assert_close, noise};

const PAGE: usize = 8;
const SPAN: usize = 64;
const WARPS: usize = 2;

/// Rows of two sequences of 150 and 21 keys, in pages that lie apart.
struct Case {
    kv_heads: usize,
    group: usize,
    width: usize,
    number: Number,
    /// Of a packed value; 0: plain.
    bits: usize,
}

const ROWS: [[i32; 2]; 5] = [[0, 1], [0, 64], [0, 65], [1, 21], [0, 150]];
const LINES: [usize; 2] = [19, 3];

impl Case {
    fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    fn places(&self) -> usize {
        (LINES[0] + LINES[1] + 1) * PAGE
    }

    /// Pages are taken from the end, every other line in turn.
    fn table(&self) -> Vec<i32> {
        let last = (LINES[0] + LINES[1]) as i32;
        let own = (0..LINES[0] as i32).map(|page| last - page);
        let other = (0..LINES[0]).map(|page| if page < LINES[1] { page as i32 } else { 0 });
        own.chain(other).collect()
    }

    fn values(&self) -> Vec<f32> {
        noise(3, self.places() * self.kv_heads * self.width)
    }

    fn call(&self, packed: &[Operand]) -> Call {
        let (rows, heads, d) = (ROWS.len(), self.heads(), self.width);
        let pool = [self.places(), self.kv_heads, d];
        let spans = 150_usize.div_ceil(SPAN);
        let mut template = vec![
            ("G", Int(self.group)),
            ("HKV", Int(self.kv_heads)),
            ("D", Int(d)),
            ("PAGE", Int(PAGE)),
            ("KEYS", Int(4)),
            ("SPAN", Int(SPAN)),
            ("WARPS", Int(WARPS)),
            ("T", Type(self.number)),
        ];
        let mut inputs = vec![
            Operand::real(self.number, &[rows, heads, d], &noise(1, rows * heads * d)),
            Operand::real(self.number, &pool, &noise(2, pool.iter().product())),
        ];
        match self.bits {
            0 => inputs.push(Operand::real(self.number, &pool, &self.values())),
            bits => {
                template.push(("BITS", Int(bits)));
                inputs.extend_from_slice(packed);
            }
        }
        inputs.extend([
            Operand::ints(&[rows, 2], ROWS.as_flattened()),
            Operand::ints(&[2, LINES[0]], &self.table()),
            Operand::real(Number::F32, &[8], &[1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ]);
        Call {
            template,
            launch: Launch::attention(rows, self.kv_heads, spans, WARPS),
            inputs,
            outputs: vec![
                Operand::out(Number::F32, &[spans, rows, heads, d]),
                Operand::out(Number::F32, &[spans, rows, heads, 2]),
            ],
        }
    }

    /// Softmax in f64 over the keys that a row sees, times the sigmoid of its gate.
    fn expected(&self, q: &[f32], keys: &[f32], values: &[f32], gated: &[f32]) -> Vec<f32> {
        let (d, table) = (self.width, self.table());
        let mut out = Vec::new();
        for (row, [line, visible]) in ROWS.iter().enumerate() {
            for head in 0..self.heads() {
                let start = (row * self.heads() + head) * d;
                let at = |position: usize| {
                    let page = table[*line as usize * LINES[0] + position / PAGE] as usize;
                    let place = page * PAGE + position % PAGE;
                    (place * self.kv_heads + head / self.group) * d
                };
                let score = |position: usize| {
                    let key = &keys[at(position)..][..d];
                    let dot = key
                        .iter()
                        .zip(&q[start..])
                        .map(|(k, q)| f64::from(*k) * f64::from(*q));
                    1.5 * dot.sum::<f64>()
                };
                let scores: Vec<f64> = (0..*visible as usize).map(score).collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..d {
                    let mixed = weights.iter().enumerate();
                    let mixed = mixed.map(|(p, w)| w / sum * f64::from(values[at(p) + i]));
                    let gate = f64::from(gated[2 * start + d + i]);
                    out.push((mixed.sum::<f64>() / (1.0 + (-gate).exp())) as f32);
                }
            }
        }
        out
    }
}

/// Values as codes, and what the codes stand for.
fn quantized(case: &Case) -> Option<(Vec<Operand>, Vec<f32>)> {
    let values = case.values();
    let groups = values.len() / 64;
    let call = Call {
        template: vec![("BITS", Int(case.bits)), ("T", Type(case.number))],
        launch: Launch::heads(groups, 1),
        inputs: vec![Operand::real(case.number, &[groups, 64], &values)],
        outputs: vec![
            Operand::out(Number::U32, &[groups, 2 * case.bits]),
            Operand::out(Number::F16, &[groups]),
            Operand::out(Number::F16, &[groups]),
        ],
    };
    let stored = call.inputs[0].values();
    let packed = run(&gpu::quantize_v(), &[call])?.remove(0);
    let (words, scales, zeros) = (packed[0].bits(), packed[1].values(), packed[2].values());
    let per_word = 32 / case.bits;
    let unpacked: Vec<f32> = (0..values.len())
        .map(|i| {
            let code = words[i / per_word] >> (i % per_word * case.bits) & ((1 << case.bits) - 1);
            scales[i / 64] * code as f32 + zeros[i / 64]
        })
        .collect();
    for (i, (got, value)) in unpacked.iter().zip(&stored).enumerate() {
        let limit = 0.51 * scales[i / 64] + 2e-3;
        assert!(
            (got - value).abs() <= limit,
            "{i}: {got} for {value}, step {}",
            scales[i / 64]
        );
    }
    Some((packed, unpacked))
}

#[test]
fn attention_reads_pages_of_plain_and_of_packed_values() {
    let shapes = [
        ((2, 1, 64), Number::F32, 0),
        ((2, 1, 64), Number::F32, 8),
        ((1, 3, 128), Number::Bf16, 0),
        ((1, 3, 128), Number::Bf16, 4),
        ((2, 2, 256), Number::Bf16, 8),
        ((2, 2, 256), Number::F32, 4),
    ];
    let cases = shapes.map(|((kv_heads, group, width), number, bits)| Case {
        kv_heads,
        group,
        width,
        number,
        bits,
    });
    for case in cases {
        let (packed, values) = match case.bits {
            0 => (Vec::new(), case.values()),
            _ => match quantized(&case) {
                Some(made) => made,
                None => return,
            },
        };
        let call = case.call(&packed);
        let kernel = gpu::sdpa_dequant_v(case.bits > 0);
        let Some(mut parts) = run(&kernel, std::slice::from_ref(&call)) else {
            return;
        };
        let (rows, heads, d) = (ROWS.len(), case.heads(), case.width);
        let gated = Operand::real(
            case.number,
            &[rows, 2 * heads * d],
            &noise(4, 2 * rows * heads * d),
        );
        let mut inputs = parts.remove(0);
        inputs.push(gated);
        let end = Call {
            template: vec![("D", Int(d)), ("T", Type(case.number))],
            launch: Launch::rows(rows * heads, d),
            inputs: inputs.clone(),
            outputs: vec![Operand::out(case.number, &[rows, heads * d])],
        };
        let Some(joined) = run(&gpu::attention_end(), &[end]) else {
            return;
        };
        let rounded: Vec<f32> = match case.bits {
            0 => call.inputs[2].values(),
            _ => values,
        };
        let [q, keys] = [0, 1].map(|i| call.inputs[i].values());
        let expected = case.expected(&q, &keys, &rounded, &inputs[2].values());
        assert_close(
            &joined[0][0].values(),
            &expected,
            4.0 * case.number.tolerance(),
        );
    }
}
