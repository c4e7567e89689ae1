//! The feed-forward part of a mixture of experts: a router sends each row to a few of many experts, and a shared
//! expert sees every row.
//!
//! Rows are grouped by expert, so that the weights of an expert are read once for all of its rows. A row's result is
//! added up in the order of its experts' indices, so it does not depend on the other rows of the call.

mod router;
#[cfg(test)]
mod tests;

use super::Cpu;
use super::linear::{ActivationRows, ActivationRuns, Matrix, Precision, Product, multiply};
use super::simd::{Kernel, LANES, Simd, dispatch, sigmoid};
use super::swiglu::swiglu;
use super::tasks::{rows_per_task, run_each, with_scratch};
use crate::ExpertDims;
use router::Routing;

/// The weights of [`experts`].
#[derive(Clone, Copy)]
pub struct ExpertsParams<'a> {
    /// `[experts, hidden]`.
    pub router: Matrix<'a>,
    /// The matrices of an expert; only those that a row goes to are asked for.
    pub expert: &'a (dyn Fn(usize) -> GatedMatrices<'a> + Sync),
    /// The expert of all rows.
    pub shared: Option<SharedExpertParams<'a>>,
}

/// The matrices of one expert: `down(silu(gate x) · up x)`.
#[derive(Clone, Copy, Debug)]
pub struct GatedMatrices<'a> {
    /// `[intermediate, hidden]`.
    pub gate: Matrix<'a>,
    /// `[intermediate, hidden]`.
    pub up: Matrix<'a>,
    /// `[hidden, intermediate]`.
    pub down: Matrix<'a>,
}

/// An expert that sees every row.
#[derive(Clone, Copy, Debug)]
pub struct SharedExpertParams<'a> {
    /// `[1, hidden]`: the sigmoid of its product scales the expert's result.
    pub gate: Matrix<'a>,
    /// Its intermediate size may differ from that of the others.
    pub matrices: GatedMatrices<'a>,
}

/// Sends each row of `x`, `[N, hidden]`, through its experts and the shared one; `out: [N, hidden]`.
///
/// The router's logits are products of f32; the `per_token` largest choose, of equal ones the lower index. Their
/// softmax scales the experts' results. Returns how many experts any row went to: those whose weights were read.
///
/// # Panics
/// If the lengths disagree with the shapes.
pub fn experts(
    cpu: &Cpu,
    precision: Precision,
    dims: &ExpertDims,
    weights: &ExpertsParams<'_>,
    x: &[f32],
    out: &mut [f32],
) -> usize {
    let hidden = weights.router.cols();
    assert_eq!(weights.router.rows(), dims.experts, "a router of others");
    assert_eq!(x.len(), out.len(), "the output has the wrong size");
    let rows = x.len() / hidden;
    if rows == 0 {
        return 0;
    }
    let places = rows * dims.per_token;
    assert_eq!(weights.shared.is_some(), dims.shared > 0);
    let lens = BufferLens {
        logits: rows * dims.experts,
        inner: places * dims.intermediate,
        results: places * hidden,
        shared_gate: weights.shared.map_or(0, |_| rows),
        shared_inner: rows * dims.shared,
        shared_result: weights.shared.map_or(0, |_| rows * hidden),
    };
    with_scratch(lens.sum(), |scratch| {
        let mut b = ExpertBuffers::new(scratch, &lens);

        let input = ActivationRuns::new(ActivationRows::all(x, hidden), &[rows]);
        let mut first = vec![product(weights.router, Precision::Exact, b.logits)];
        if let Some(shared) = &weights.shared {
            let [gate, up, _] = &mut b.shared_inner;
            first.push(product(shared.gate, Precision::Exact, b.shared_gate));
            first.push(product(shared.matrices.gate, precision, gate));
            first.push(product(shared.matrices.up, precision, up));
        }
        multiply(cpu, &[input], first);
        let routing = Routing::new(cpu, b.logits, dims);

        let [gate, up, inner] = &mut b.shared_inner;
        swiglu(cpu, gate, up, inner);
        // The experts of a single row share it: it is rounded once, not for each.
        let mut inputs = vec![match rows {
            1 => ActivationRuns::new(ActivationRows::all(x, hidden), &[1]),
            _ => {
                let chosen = ActivationRows::picked(x, hidden, &routing.rows);
                ActivationRuns::new(chosen, &routing.ends)
            }
        }];
        let [gate, up, inner] = &mut b.inner;
        let gates = routing.divided(gate, dims.intermediate);
        let ups = routing.divided(up, dims.intermediate);
        let mut second = Vec::with_capacity(2 * routing.experts.len() + 1);
        for (index, (gate, up)) in gates.into_iter().zip(ups).enumerate() {
            let matrices = (weights.expert)(routing.experts[index] as usize);
            for (matrix, out) in [(matrices.gate, gate), (matrices.up, up)] {
                second.push(Product {
                    run: if rows == 1 { 0 } else { index },
                    ..product(matrix, precision, out)
                });
            }
        }
        if let Some(shared) = &weights.shared {
            let x = ActivationRows::all(b.shared_inner[2], dims.shared);
            inputs.push(ActivationRuns::new(x, &[rows]));
            second.push(Product {
                input: 1,
                ..product(shared.matrices.down, precision, b.shared_result)
            });
        }
        multiply(cpu, &inputs, second);

        swiglu(cpu, gate, up, inner);
        let input =
            ActivationRuns::new(ActivationRows::all(inner, dims.intermediate), &routing.ends);
        let results = routing.divided(b.results, hidden).into_iter().enumerate();
        let third = results.map(|(run, out)| {
            let matrices = (weights.expert)(routing.experts[run] as usize);
            Product {
                run,
                ..product(matrices.down, precision, out)
            }
        });
        multiply(cpu, &[input], third.collect());

        let shared = weights.shared.map(|_| SharedResults {
            gate: b.shared_gate,
            result: b.shared_result,
        });
        combine(cpu, &routing, dims, b.results, shared, hidden, out);
        routing.experts.len()
    })
}

/// The product of the only run of the first input.
fn product<'a>(matrix: Matrix<'a>, precision: Precision, out: &'a mut [f32]) -> Product<'a> {
    Product {
        input: 0,
        run: 0,
        matrix,
        precision,
        out,
    }
}

/// Floats of the buffers.
struct BufferLens {
    logits: usize,
    inner: usize,
    results: usize,
    shared_gate: usize,
    shared_inner: usize,
    shared_result: usize,
}

impl BufferLens {
    fn sum(&self) -> usize {
        let shared = self.shared_gate + 3 * self.shared_inner + self.shared_result;
        self.logits + 3 * self.inner + self.results + shared
    }
}

/// What a call computes on the way.
struct ExpertBuffers<'a> {
    /// `[N, experts]`.
    logits: &'a mut [f32],
    /// Products with gate and up, and what the gate makes of them, `[places, intermediate]`.
    inner: [&'a mut [f32]; 3],
    /// The experts' results, `[places, hidden]`.
    results: &'a mut [f32],
    /// Logits of the shared expert's gate, `[N]`.
    shared_gate: &'a mut [f32],
    /// As `inner`, `[N, shared]`.
    shared_inner: [&'a mut [f32]; 3],
    /// `[N, hidden]`.
    shared_result: &'a mut [f32],
}

impl<'a> ExpertBuffers<'a> {
    fn new(mut scratch: &'a mut [f32], lens: &BufferLens) -> Self {
        let mut take = |len: usize| scratch.split_off_mut(..len).unwrap_or_default();
        Self {
            logits: take(lens.logits),
            inner: [take(lens.inner), take(lens.inner), take(lens.inner)],
            results: take(lens.results),
            shared_gate: take(lens.shared_gate),
            shared_inner: [
                take(lens.shared_inner),
                take(lens.shared_inner),
                take(lens.shared_inner),
            ],
            shared_result: take(lens.shared_result),
        }
    }
}

/// What the shared expert made of each row, `[N, hidden]`, and the logits of its gate, `[N]`.
#[derive(Clone, Copy)]
struct SharedResults<'a> {
    gate: &'a [f32],
    result: &'a [f32],
}

/// Adds up the results of each row, `[N, hidden]`.
fn combine(
    cpu: &Cpu,
    routing: &Routing,
    dims: &ExpertDims,
    results: &[f32],
    shared: Option<SharedResults<'_>>,
    hidden: usize,
    out: &mut [f32],
) {
    let rows = out.len() / hidden;
    let run = rows_per_task(&cpu.pool, rows, hidden * (dims.per_token + 1));
    let mut parts: Vec<_> = out.chunks_mut(run * hidden).enumerate().collect();
    run_each(&cpu.pool, &mut parts, |(part, out)| {
        for (row, out) in out.chunks_mut(hidden).enumerate() {
            let row = *part * run + row;
            let own = row * dims.per_token..(row + 1) * dims.per_token;
            dispatch(
                cpu.isa,
                CombinedRow {
                    results,
                    places: &routing.places[own.clone()],
                    weights: &routing.weights[own],
                    shared: shared.map(|shared| {
                        let result = &shared.result[row * hidden..][..hidden];
                        (shared.gate[row], result)
                    }),
                    out,
                },
            );
        }
    });
}

/// `Σ weight · result` over the experts of a row, in the order of their indices, and the shared expert's at the end.
struct CombinedRow<'a> {
    /// Of all rows, `[places, hidden]`.
    results: &'a [f32],
    places: &'a [u32],
    weights: &'a [f32],
    /// The gate's logit and the result.
    shared: Option<(f32, &'a [f32])>,
    out: &'a mut [f32],
}

impl Kernel for CombinedRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.out.len();
        self.out.fill(0.0);
        for (&place, &weight) in self.places.iter().zip(self.weights) {
            let result = &self.results[place as usize * width..][..width];
            add_scaled(s, self.out, s.splat(weight), result);
        }
        if let Some((gate, result)) = self.shared {
            add_scaled(s, self.out, sigmoid(s, s.splat(gate)), result);
        }
    }
}

/// `out += scale · x`, rounded once.
#[inline(always)]
fn add_scaled<S: Simd>(s: S, out: &mut [f32], scale: S::V, x: &[f32]) {
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    let (x, x_rest) = x.as_chunks::<LANES>();
    for (out, x) in out.iter_mut().zip(x) {
        s.store(s.mul_add(scale, s.load(x), s.load(out)), out);
    }
    let sum = s.mul_add(scale, s.load_part(x_rest, 0.0), s.load_part(out_rest, 0.0));
    s.store_part(sum, out_rest);
}
