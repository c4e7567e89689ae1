//! The arithmetic of one tile: queries against spans of a cache.

use std::ops::Range;
use std::sync::Arc;

use super::context::{TaskContext, rotate};
use super::kv_cache::{KvCache, Page};
use super::multiply::{Lines, StridedRows, multiply};
use super::values::Values;
use crate::cpu::norm::{rms_scale, scaled};
use crate::cpu::simd::{Kernel, LANES, Line, Simd, exp, exp_scalar, sigmoid};
use crate::cpu::tasks::Tile;

/// Pages whose softmax runs on from one to the next: 256 positions.
pub(super) const SPAN_PAGES: usize = 4;

/// A few rows of a segment with all query heads of one key head: `Q = rows · group` queries, row by row.
#[derive(Clone, Debug)]
pub(super) struct Queries {
    pub(super) kv_head: usize,
    /// Rows of the batch.
    pub(super) rows: Range<usize>,
    /// The first row's position.
    pub(super) position: usize,
}

impl Queries {
    /// How many spans its last row sees.
    pub(super) fn spans(&self) -> usize {
        self.end().div_ceil(SPAN_PAGES * KvCache::PAGE)
    }

    /// One past the last row's position.
    fn end(&self) -> usize {
        self.position + self.rows.len()
    }
}

/// What has been seen of some keys by one query: `D` floats of `Σ p·v`, then [`Record::max`] and [`Record::sum`].
///
/// A part is `[Q]` of them.
struct Record;

impl Record {
    /// The largest score.
    const MAX: usize = 0;
    /// `Σ p`, each `p` relative to the largest score.
    const SUM: usize = 1;

    /// Floats to a record.
    fn len(head_dim: usize) -> usize {
        head_dim + LANES
    }
}

/// Floats to a part of `queries` queries.
pub(super) fn part_len(queries: usize, head_dim: usize) -> usize {
    queries * Record::len(head_dim)
}

/// Where a tile's result goes.
pub(super) enum Sink<'a, 'b> {
    /// All spans were seen here: to the output.
    Output(&'a mut Tile<'b>),
    /// A part for each span, to be merged when all are done.
    Parts(&'a mut [f32]),
}

/// Runs `queries` over `spans` of a cache.
pub(super) struct Attend<'a, 'b, L> {
    pub(super) context: &'a TaskContext<'a>,
    pub(super) pages: &'a [Arc<Page<L>>],
    pub(super) queries: &'a Queries,
    pub(super) spans: Range<usize>,
    pub(super) sink: Sink<'a, 'b>,
    /// Working memory of [`scratch_len`] floats.
    pub(super) scratch: &'a mut [f32],
}

/// Floats that [`Attend`] works in.
pub(super) fn scratch_len(queries: usize, head_dim: usize) -> usize {
    unpacked_len(head_dim) + queries * (head_dim + KvCache::PAGE) + 2 * part_len(queries, head_dim)
}

/// Floats that a page of packed values unpacks to.
fn unpacked_len(head_dim: usize) -> usize {
    KvCache::PAGE * head_dim
}

impl<L: Line> Kernel for Attend<'_, '_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dims = self.context.dims;
        let count = self.queries.rows.len() * dims.group();
        let part_len = part_len(count, dims.head_dim);
        // First, so that it is aligned as the whole is.
        let (unpacked, scratch) = self.scratch.split_at_mut(unpacked_len(dims.head_dim));
        let (q, scratch) = scratch.split_at_mut(count * dims.head_dim);
        let (weights, scratch) = scratch.split_at_mut(count * KvCache::PAGE);
        let (total, part) = scratch.split_at_mut(part_len);
        let working = &mut Working { weights, unpacked };
        prepare(s, self.context, self.queries, q);
        let over = Over {
            context: self.context,
            pages: self.pages,
            queries: self.queries,
        };
        match self.sink {
            Sink::Output(out) => {
                for span in self.spans {
                    if span == 0 {
                        over.span(s, span, q, working, total);
                    } else {
                        over.span(s, span, q, working, part);
                        merge(s, total, part, dims.head_dim);
                    }
                }
                finish(s, self.context, self.queries, total, out);
            }
            Sink::Parts(parts) => {
                for (span, part) in self.spans.zip(parts.chunks_exact_mut(part_len)) {
                    over.span(s, span, q, working, part);
                }
            }
        }
    }
}

/// Merges a tile's parts in the order of their spans.
pub(super) struct Merge<'a, 'b> {
    pub(super) context: &'a TaskContext<'a>,
    pub(super) queries: &'a Queries,
    pub(super) parts: &'a mut [f32],
    pub(super) out: &'a mut Tile<'b>,
}

impl Kernel for Merge<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dims = self.context.dims;
        let len = part_len(self.queries.rows.len() * dims.group(), dims.head_dim);
        let (total, others) = self.parts.split_at_mut(len);
        for part in others.chunks_exact(len) {
            merge(s, total, part, dims.head_dim);
        }
        finish(s, self.context, self.queries, total, self.out);
    }
}

/// The queries `[Q, D]`: normed, rotated and scaled.
#[inline(always)]
fn prepare<S: Simd>(s: S, context: &TaskContext<'_>, queries: &Queries, q: &mut [f32]) {
    let (dims, weights) = (context.dims, context.weights);
    let heads = q.chunks_exact_mut(dims.head_dim).enumerate();
    for (i, out) in heads {
        let row = queries.rows.start + i / dims.group();
        let head = queries.kv_head * dims.group() + i % dims.group();
        let x =
            &context.input.q_gate[(row * dims.heads + head) * 2 * dims.head_dim..][..dims.head_dim];
        let scale = rms_scale(s, x, weights.eps) * dims.scale();
        scaled(s, x, scale, weights.q_norm, out);
        rotate(out, context.angles(row));
    }
}

/// Memory that a span is worked out in.
struct Working<'a> {
    /// `[Q, PAGE]`.
    weights: &'a mut [f32],
    /// `[PAGE, D]`: a page's values, where they are packed.
    unpacked: &'a mut [f32],
}

/// Queries over one cache.
struct Over<'a, L> {
    context: &'a TaskContext<'a>,
    pages: &'a [Arc<Page<L>>],
    queries: &'a Queries,
}

impl<L: Line> Over<'_, L> {
    /// Fills `part` with what the queries `q` see of a span.
    #[inline(always)]
    fn span<S: Simd>(
        &self,
        s: S,
        span: usize,
        q: &[f32],
        working: &mut Working<'_>,
        part: &mut [f32],
    ) {
        let dims = self.context.dims;
        let (d, group) = (dims.head_dim, dims.group());
        let record = Record::len(d);
        for record in part.chunks_exact_mut(record) {
            record.fill(0.0);
            record[d + Record::MAX] = f32::NEG_INFINITY;
        }
        let pages = span * SPAN_PAGES..(span + 1) * SPAN_PAGES;
        for page in pages.start..pages.end.min(self.queries.end().div_ceil(KvCache::PAGE)) {
            let keys = self.pages[page].keys(self.queries.kv_head, d);
            let values = self.pages[page].values(self.queries.kv_head, d);
            let next = self.pages.get(page + 1);
            let next = next.map_or(&[][..], |next| next.keys(self.queries.kv_head, d));
            // Rows whose position lies before the page see nothing of it.
            let start = page * KvCache::PAGE;
            let blind = start.saturating_sub(self.queries.position);
            let first = blind * group;
            let count = self.queries.rows.len() * group - first;
            let q = StridedRows {
                floats: &q[first * d..],
                stride: d,
            };
            let weights = &mut working.weights[first * KvCache::PAGE..];
            let part = &mut part[first * record..];
            let seen = (self.queries.end() - start).min(KvCache::PAGE);

            weights.fill(0.0);
            let keys = Lines {
                lines: keys,
                step: 1,
                group: d,
                ahead: match values {
                    Values::Plain(lines) => lines,
                    // They lie side by side, which the hardware does foresee.
                    Values::Packed(..) => &[],
                },
            };
            let groups = if S::WIDE {
                KvCache::PAGE / LANES
            } else {
                seen.div_ceil(LANES)
            };
            multiply(s, q, keys, (count, d, groups), weights, KvCache::PAGE);
            let queries = weights
                .chunks_exact_mut(KvCache::PAGE)
                .zip(part.chunks_exact_mut(record));
            for (i, (weights, record)) in queries.enumerate() {
                let position = self.queries.position + blind + i / group;
                soften(s, weights, position + 1 - start, record);
            }
            let weights = StridedRows {
                floats: weights,
                stride: KvCache::PAGE,
            };
            let size = (count, seen, d / LANES);
            match values {
                Values::Plain(lines) => {
                    let values = by_position(lines, d, next);
                    multiply(s, weights, values, size, part, record);
                }
                Values::Packed(codes, bytes) => {
                    let lines = &mut working.unpacked.as_chunks_mut().0[..seen * d / LANES];
                    codes.unpack(s, &bytes[..codes.bytes(seen * d)], lines, next);
                    let values = by_position(&*lines, d, &[]);
                    multiply(s, weights, values, size, part, record);
                }
            }
        }
    }
}

/// A page's values: a position's follow one another.
#[inline(always)]
fn by_position<'a, L>(lines: &'a [L], head_dim: usize, ahead: &'a [L]) -> Lines<'a, L> {
    Lines {
        lines,
        step: head_dim / LANES,
        group: 1,
        ahead,
    }
}

/// Turns a page's scores into weights relative to the largest score so far, and brings the record to the same
/// base. Scores from `seen` on are not looked at; their weights are 0.
#[inline(always)]
fn soften<S: Simd>(s: S, scores: &mut [f32], seen: usize, record: &mut [f32]) {
    const LANE: [f32; LANES] = [
        0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    ];
    const GROUPS: usize = KvCache::PAGE / LANES;
    let lowest = s.splat(f32::NEG_INFINITY);
    let scores = &mut scores.as_chunks_mut::<LANES>().0[..GROUPS];
    let mut lines = [lowest; GROUPS];
    let mut max = lowest;
    for (g, line) in lines.iter_mut().enumerate() {
        let limit = s.splat(seen as f32 - (g * LANES) as f32);
        *line = s.where_less(s.load(&LANE), limit, s.load(&scores[g]), lowest);
        max = s.max(*line, max);
    }
    let (sums, state) = record.split_at_mut(record.len() - LANES);
    let before = state[Record::MAX];
    let max = s.max_lane(max).max(before);
    if max > before {
        let shrink = exp_scalar(s, before - max);
        state[Record::SUM] *= shrink;
        let shrink = s.splat(shrink);
        for line in sums.as_chunks_mut::<LANES>().0 {
            s.store(s.mul(s.load(line), shrink), line);
        }
    }
    state[Record::MAX] = max;
    let mut sum = s.splat(0.0);
    for (line, to) in lines.into_iter().zip(scores) {
        let weight = exp(s, s.sub(line, s.splat(max)));
        sum = s.add(sum, weight);
        s.store(weight, to);
    }
    state[Record::SUM] += s.sum(sum);
}

/// Folds the part of a later span into what came before it.
#[inline(always)]
fn merge<S: Simd>(s: S, total: &mut [f32], part: &[f32], head_dim: usize) {
    let record = Record::len(head_dim);
    for (total, part) in total
        .chunks_exact_mut(record)
        .zip(part.chunks_exact(record))
    {
        let (sums, state) = total.split_at_mut(head_dim);
        let (part_sums, part_state) = part.split_at(head_dim);
        // A row that ends before the span has seen nothing of it.
        if part_state[Record::MAX] == f32::NEG_INFINITY {
            continue;
        }
        let max = state[Record::MAX].max(part_state[Record::MAX]);
        let keep = exp_scalar(s, state[Record::MAX] - max);
        let take = exp_scalar(s, part_state[Record::MAX] - max);
        state[Record::MAX] = max;
        state[Record::SUM] = state[Record::SUM] * keep + part_state[Record::SUM] * take;
        let (keep, take) = (s.splat(keep), s.splat(take));
        let lines = sums
            .as_chunks_mut::<LANES>()
            .0
            .iter_mut()
            .zip(part_sums.as_chunks().0);
        for (sum, part) in lines {
            let kept = s.mul(s.load(sum), keep);
            s.store(s.mul_add(s.load(part), take, kept), sum);
        }
    }
}

/// Divides by the sum of weights, applies the gate and writes the output.
#[inline(always)]
fn finish<S: Simd>(
    s: S,
    context: &TaskContext<'_>,
    queries: &Queries,
    total: &[f32],
    out: &mut Tile<'_>,
) {
    let dims = context.dims;
    let d = dims.head_dim;
    for (i, record) in total.chunks_exact(Record::len(d)).enumerate() {
        let (row, head) = (i / dims.group(), i % dims.group());
        let at = (queries.rows.start + row) * dims.heads + queries.kv_head * dims.group() + head;
        let gate = context.input.q_gate[at * 2 * d + d..][..d]
            .as_chunks::<LANES>()
            .0;
        let (sums, state) = record.split_at(d);
        let scale = s.splat(1.0 / state[Record::SUM]);
        let out = out.row(row)[head * d..][..d].as_chunks_mut().0;
        for ((sum, gate), out) in sums.as_chunks().0.iter().zip(gate).zip(out) {
            s.store(
                s.mul(s.mul(s.load(sum), scale), sigmoid(s, s.load(gate))),
                out,
            );
        }
    }
}
