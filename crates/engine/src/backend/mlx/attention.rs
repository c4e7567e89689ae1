//! Full attention, from MLX's own operations: one fused attention a segment, everything else a batch at a time.

use mlx_rs::Array;
use mlx_rs::fast::scaled_dot_product_attention;
use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, rms_norm};
use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::ops::{concatenate, sigmoid};
use sanctum_kernels::{AttentionDims, KvMode, Rope};

use super::ops::{cast, dim, f32, must, range, reshape, stacked};
use super::packed::unpacked;
use super::plan::{Plan, Read};

/// What attention needs besides the rows.
pub(super) struct AttentionParameters<'a> {
    pub dims: &'a AttentionDims,
    /// `[head_dim]`.
    pub q_norm: &'a Array,
    /// `[head_dim]`.
    pub k_norm: &'a Array,
    pub eps: f32,
    pub theta: f32,
    pub rope: Rope,
}

/// Queries and gates, `[N, heads, head_dim]` each, normed and rotated, from `[N, heads * 2 * head_dim]`.
pub(super) fn queries(p: &AttentionParameters<'_>, q: &Array, plan: &Plan) -> [Array; 2] {
    let (heads, d) = (dim(p.dims.heads), dim(p.dims.head_dim));
    let both = reshape(q, &[-1, heads, 2 * d]);
    let (query, gate) = (both.index((.., .., ..d)), both.index((.., .., d..)));
    [placed(p, &query, p.q_norm, plan), gate]
}

/// Keys `[N, kv_heads, head_dim]`, normed and rotated, from `[N, kv_heads * head_dim]`.
pub(super) fn keys(p: &AttentionParameters<'_>, k: &Array, plan: &Plan) -> Array {
    placed(p, &heads(p, k), p.k_norm, plan)
}

/// `[N, kv_heads, head_dim]` from `[N, kv_heads * head_dim]`.
pub(super) fn heads(p: &AttentionParameters<'_>, x: &Array) -> Array {
    reshape(x, &[-1, dim(p.dims.kv_heads), dim(p.dims.head_dim)])
}

/// Normed, and rotated by each row's own position: dimension `i` of the first half with `i` of the second, by
/// `position` times its frequency ([`Rope`]).
///
/// MLX's own rotation cannot be launched on CUDA for more than 64 rows of few rotated dimensions (0.32.2: it asks for
/// blocks that are deeper than a GPU's 64).
fn placed(p: &AttentionParameters<'_>, x: &Array, norm: &Array, plan: &Plan) -> Array {
    let normed = must(rms_norm(x, Some(norm), p.eps));
    let half = p.dims.rotary_dim / 2;
    let frequencies = Array::from_slice(p.rope.inverse_frequencies(), &[1, 1, dim(half)]);
    let angles = f32(&reshape(&plan.positions, &[-1, 1, 1])) * frequencies;
    let amplitude = Array::from_f32(p.rope.amplitude());
    let [cos, sin] = [must(angles.cos()), must(angles.sin())].map(|turn| turn * &amplitude);
    let ends = [dim(half), dim(2 * half)];
    let (a, b) = (
        f32(&normed.index((.., .., ..ends[0]))),
        f32(&normed.index((.., .., ends[0]..ends[1]))),
    );
    let turned = [&a * &cos - &b * &sin, &a * &sin + &b * &cos].map(|x| cast(&x, normed.dtype()));
    let [first, second] = &turned;
    must(concatenate(
        &[first, second, &normed.index((.., .., ends[1]..))],
        -1,
    ))
}

/// Each segment's queries over its own sequence, times the sigmoid of the gate; `[N, heads * head_dim]`. Of packed
/// values, those that a segment reads are unpacked for it.
pub(super) fn attend(
    p: &AttentionParameters<'_>,
    kv_cache: KvMode,
    q: &Array,
    gate: &Array,
    pools: &[Array],
    plan: &Plan,
) -> Array {
    let width = dim(p.dims.heads * p.dims.head_dim);
    let one = |read: &Read| {
        let q = first_heads(&range(q, read.start, read.start + read.len));
        let read_from = |pool: &Array| {
            let run = |&(start, end): &(usize, usize)| range(pool, start, end);
            stacked(read.runs.iter().map(run).collect())
        };
        let parts: Vec<Array> = pools.iter().map(read_from).collect();
        let (k, v) = match (&parts[..], kv_cache.bits()) {
            ([k, v], None) => (k, v.clone()),
            ([k, codes, scales, zeros], Some(bits)) => {
                (k, unpacked([codes, scales, zeros], bits, k.dtype()))
            }
            _ => unreachable!("a pool for keys, and one or three for values"),
        };
        let [k, v] = [k, &v].map(first_heads);
        // Of a longer sequence the queries are the last rows.
        let mask = (read.len > 1).then_some(Mask::Causal);
        let out = must(scaled_dot_product_attention(
            q,
            k,
            v,
            p.dims.scale(),
            mask,
            None,
        ));
        reshape(&must(out.transpose_axes(&[0, 2, 1, 3])), &[-1, width])
    };
    let out = stacked(plan.reads.iter().map(one).collect());
    out * reshape(&must(sigmoid(f32(gate))), &[-1, width])
}

/// `[T, heads, d]` as `[1, heads, T, d]`.
fn first_heads(x: &Array) -> Array {
    let x = must(x.transpose_axes(&[1, 0, 2]));
    must(x.expand_dims(0))
}
