//! The short convolution and the gated delta rule, from MLX's own operations.
//!
//! This is what runs where there are no custom kernels, and what the kernels are held against. A step of the delta
//! rule is computed for all sequences at once whose segments have the same length.

use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::ops::{broadcast_to, exp, rsqrt, sigmoid, stack};
use mlx_rs::{Array, Dtype};
use sanctum_kernels::{ConvDims, DeltaDims};

use super::ops::{dim, f32, must, range, reshape, rows, silu, softplus, stacked, sum_last, zeros};
use super::plan::{Group, Recurrent};

/// Added to the sum of squares of a query or key.
const UNIT_EPS: f32 = 1e-6;

/// Causal depthwise convolution, then SiLU, in f32. `x`: `[N, channels]`, `weight`: `[channels, kernel]`. Gives the
/// result `[N, channels]` and the new tails.
pub(super) fn short_conv(
    dims: &ConvDims,
    x: &Array,
    weight: &Array,
    tails: Option<&Array>,
    plan: &Recurrent,
) -> (Array, Option<Array>) {
    let zero = zeros(&[1, dim(dims.channels)], x.dtype());
    let parts = [Some(&zero), tails, Some(x)];
    let seen = stacked(parts.into_iter().flatten().cloned().collect());
    let n = x.shape()[0] as usize;
    let taps = (0..dims.kernel).map(|tap| {
        let weight = weight.index((.., dim(tap)));
        let indices = range(&plan.seen, tap * n, (tap + 1) * n);
        f32(&rows(&seen, &indices)) * weight
    });
    let sum = taps
        .reduce(|sum, tap| sum + tap)
        .expect("a kernel has a tap");
    let tails = (dims.kernel > 1).then(|| rows(&seen, &plan.tails));
    (silu(&sum), tails)
}

/// The inputs of the delta rule in f32, heads repeated, queries and keys at unit length.
struct Steps {
    /// `[N, value_heads, key_dim]`, times `key_dim^-1/2`.
    q: Array,
    /// `[N, value_heads, key_dim]`.
    k: Array,
    /// `[N, value_heads, value_dim]`.
    v: Array,
    /// What the state is multiplied by, `[N, value_heads]`.
    decay: Array,
    /// How much of a difference is learnt, `[N, value_heads]`.
    beta: Array,
}

/// The parameters of the delta rule, in f32.
pub(super) struct DeltaParameters<'a> {
    pub dims: &'a DeltaDims,
    /// `[value_heads]`.
    pub a_log: &'a Array,
    /// `[value_heads]`.
    pub dt_bias: &'a Array,
}

impl Steps {
    fn new(p: &DeltaParameters<'_>, qkv: &Array, a: &Array, b: &Array) -> Self {
        let dims = p.dims;
        let (dk, keys) = (dim(dims.key_dim), dim(dims.key_heads * dims.key_dim));
        let qkv = f32(qkv);
        let unit = |x: Array| {
            let x = reshape(&x, &[-1, dim(dims.key_heads), dk]);
            let squares = sum_last(&(&x * &x), true);
            x * must(rsqrt(squares + Array::from_f32(UNIT_EPS)))
        };
        let scale = Array::from_f32((dims.key_dim as f32).sqrt().recip());
        let step = softplus(&(f32(a) + p.dt_bias));
        Self {
            q: repeated(dims, &(unit(qkv.index((.., ..keys))) * scale)),
            k: repeated(dims, &unit(qkv.index((.., keys..2 * keys)))),
            v: reshape(
                &qkv.index((.., 2 * keys..)),
                &[-1, dim(dims.value_heads), dim(dims.value_dim)],
            ),
            decay: must(exp(step * -must(exp(p.a_log)))),
            beta: must(sigmoid(f32(b))),
        }
    }
}

/// `[N, key_heads, d]` as `[N, value_heads, d]`: each head `group` times.
fn repeated(dims: &DeltaDims, x: &Array) -> Array {
    if dims.group() == 1 {
        return x.clone();
    }
    let (n, heads, d) = (x.shape()[0], dim(dims.key_heads), x.shape()[2]);
    let apart = reshape(x, &[n, heads, 1, d]);
    let wide = must(broadcast_to(apart, &[n, heads, dim(dims.group()), d]));
    reshape(&wide, &[n, dim(dims.value_heads), d])
}

/// The delta rule. `qkv`: `[N, channels]`, `a`, `b`: `[N, value_heads]`, `states`: `[rows, value_heads, value_dim,
/// key_dim]`. Gives `[N, value_heads, value_dim]` in f32 and the new states.
pub(super) fn gated_delta(
    p: &DeltaParameters<'_>,
    [qkv, a, b]: [&Array; 3],
    states: Option<&Array>,
    plan: &Recurrent,
) -> (Array, Array) {
    let steps = Steps::new(p, qkv, a, b);
    let (mut outs, mut left) = (Vec::new(), Vec::new());
    for group in &plan.groups {
        let before = taken(p.dims, states, &group.members);
        let (out, after) = recur(p.dims, &steps, group, before);
        outs.push(out);
        left.push(after);
    }
    if let (Some(states), false) = (states, plan.carried.is_empty()) {
        left.extend(plan.carried.iter().map(|&row| range(states, row, row + 1)));
    }
    let out = stacked(outs);
    let out = plan
        .back
        .as_ref()
        .map_or(out.clone(), |back| rows(&out, back));
    (out, stacked(left))
}

/// The members' states, zeros for those that begin: `[members, value_heads, value_dim, key_dim]`.
fn taken(dims: &DeltaDims, states: Option<&Array>, members: &[Option<usize>]) -> Array {
    let shape = [1, dims.value_heads, dims.value_dim, dims.key_dim].map(dim);
    let in_place = |states: &&Array| {
        let all = (0..members.len()).map(Some).eq(members.iter().copied());
        all && states.shape()[0] == dim(members.len())
    };
    if let Some(states) = states.filter(in_place) {
        return states.clone();
    }
    let one = |member: &Option<usize>| match (states, member) {
        (Some(states), Some(row)) => range(states, *row, row + 1),
        _ => zeros(&shape, Dtype::Float32),
    };
    stacked(members.iter().map(one).collect())
}

/// All steps of one group. Gives `[members * len, value_heads, value_dim]` and the states after the last step.
fn recur(dims: &DeltaDims, steps: &Steps, group: &Group, mut state: Array) -> (Array, Array) {
    let (members, len) = (dim(group.members.len()), dim(group.len));
    let (hv, dv, dk) = (
        dim(dims.value_heads),
        dim(dims.value_dim),
        dim(dims.key_dim),
    );
    let times = |x: &Array, shape: &[i32]| {
        let x = group.rows.as_ref().map_or(x.clone(), |own| rows(x, own));
        let shape = [&[members, len], shape].concat();
        must(reshape(&x, &shape).unstack(1))
    };
    let q = times(&steps.q, &[hv, 1, dk]);
    let k = times(&steps.k, &[hv, 1, dk]);
    let v = times(&steps.v, &[hv, dv]);
    let decay = times(&steps.decay, &[hv, 1, 1]);
    let beta = times(&steps.beta, &[hv, 1]);
    let mut out = Vec::with_capacity(group.len);
    for t in 0..group.len {
        state *= &decay[t];
        let known = sum_last(&(&state * &k[t]), false);
        let delta = (&v[t] - known) * &beta[t];
        state += reshape(&delta, &[members, hv, dv, 1]) * &k[t];
        out.push(sum_last(&(&state * &q[t]), false));
    }
    let out = must(stack(&out, 1));
    (reshape(&out, &[members * len, hv, dv]), state)
}
