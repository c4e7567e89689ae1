//! Full attention, from MLX's own operations: one fused attention a segment, everything else a batch at a time.

use mlx_rs::Array;
use mlx_rs::fast::scaled_dot_product_attention;
use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, rms_norm, rope_dynamic};
use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::ops::sigmoid;
use sanctum_kernels::{AttentionDims, KvMode};

use super::ops::{dim, f32, must, range, reshape, stacked};
use super::packed::unpacked;
use super::plan::{Plan, Read};

/// What attention needs besides the rows.
pub struct Parameters<'a> {
    pub dims: &'a AttentionDims,
    /// `[head_dim]`.
    pub q_norm: &'a Array,
    /// `[head_dim]`.
    pub k_norm: &'a Array,
    pub eps: f32,
    pub theta: f32,
}

/// Queries and gates, `[N, heads, head_dim]` each, normed and rotated, from `[N, heads * 2 * head_dim]`.
pub fn queries(p: &Parameters<'_>, q: &Array, plan: &Plan) -> [Array; 2] {
    let (heads, d) = (dim(p.dims.heads), dim(p.dims.head_dim));
    let both = reshape(q, &[-1, heads, 2 * d]);
    let (query, gate) = (both.index((.., .., ..d)), both.index((.., .., d..)));
    [placed(p, &query, p.q_norm, plan), gate]
}

/// Keys `[N, kv_heads, head_dim]`, normed and rotated, from `[N, kv_heads * head_dim]`.
pub fn keys(p: &Parameters<'_>, k: &Array, plan: &Plan) -> Array {
    placed(p, &heads(p, k), p.k_norm, plan)
}

/// `[N, kv_heads, head_dim]` from `[N, kv_heads * head_dim]`.
pub fn heads(p: &Parameters<'_>, x: &Array) -> Array {
    reshape(x, &[-1, dim(p.dims.kv_heads), dim(p.dims.head_dim)])
}

/// Normed, and rotated by each row's own position.
fn placed(p: &Parameters<'_>, x: &Array, norm: &Array, plan: &Plan) -> Array {
    let shape = x.shape().to_vec();
    let normed = must(rms_norm(x, Some(norm), p.eps));
    // A batch of sequences of one token each: so every row has a position.
    let single = reshape(&normed, &[shape[0], shape[1], 1, shape[2]]);
    let rotated = must(rope_dynamic(
        single,
        dim(p.dims.rotary_dim),
        false,
        p.theta,
        1.0,
        &plan.positions,
        None,
    ));
    reshape(&rotated, &shape)
}

/// Each segment's queries over its own sequence, times the sigmoid of the gate; `[N, heads * head_dim]`. Of packed
/// values, those that a segment reads are unpacked for it.
pub fn attend(
    p: &Parameters<'_>,
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
