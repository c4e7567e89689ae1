//! How attention is shared out.

use std::ops::Range;

use super::attend::{Attend, Merge, Queries, Sink, part_len, scratch_len};
use super::context::TaskContext;
use super::kv_cache::{KvCache, Pages};
use crate::cpu::segment::tiles;
use crate::cpu::simd::dispatch;
use crate::cpu::tasks::{Tile, run_each, with_scratch};
use crate::cpu::{Cpu, Segment};

/// Queries to a tile, where a segment has as many: enough to make a load of keys and values cheap, few enough for
/// the second cache.
const TILE_QUERIES: usize = 32;

/// A tile's queries, cache and output.
struct Work<'a, 'b> {
    queries: Queries,
    cache: &'a KvCache,
    out: Tile<'b>,
    /// How many spans a piece takes.
    piece: usize,
    /// A part for each span, if there are several pieces.
    parts: Vec<f32>,
}

/// Some spans of a tile.
struct TilePiece<'a, 'b> {
    queries: &'a Queries,
    cache: &'a KvCache,
    spans: Range<usize>,
    sink: Option<Sink<'a, 'b>>,
}

/// Attends from every row to its cache, which holds the row's own key and value already.
pub(super) fn attend(
    cpu: &Cpu,
    context: &TaskContext<'_>,
    segments: &[Segment<'_, KvCache>],
    out: &mut [f32],
) {
    let mut works = works(context, segments, out);
    cut(cpu.pool.threads(), context, &mut works);

    let mut pieces = pieces(context, &mut works);
    // The longest first, so that no thread is left with one at the end.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.spans.len() * piece.queries.rows.len()));
    run_each(&cpu.pool, &mut pieces, |piece| run(cpu, context, piece));
    drop(pieces);

    let mut split: Vec<_> = works
        .iter_mut()
        .filter(|work| !work.parts.is_empty())
        .collect();
    run_each(&cpu.pool, &mut split, |work| {
        let Work {
            queries,
            out,
            parts,
            ..
        } = &mut **work;
        dispatch(
            cpu.isa,
            Merge {
                context,
                queries,
                parts,
                out,
            },
        );
    });
}

/// Cuts the batch into tiles.
fn works<'a, 'b>(
    context: &TaskContext<'_>,
    segments: &'a [Segment<'_, KvCache>],
    out: &'b mut [f32],
) -> Vec<Work<'a, 'b>> {
    let dims = context.dims;
    let rows_per_tile = (TILE_QUERIES / dims.group()).max(1);
    let tiles = tiles(Tile::new(out, dims.heads * dims.head_dim), segments);
    let mut works = Vec::new();
    for (segment, mut tile) in segments.iter().zip(tiles) {
        let before = segment.state.len() - segment.rows.len();
        for first in segment.rows.clone().step_by(rows_per_tile) {
            let rows = first..segment.rows.end.min(first + rows_per_tile);
            let (mut out, rest) = tile.split_rows(rows.len());
            tile = rest;
            for kv_head in 0..dims.kv_heads {
                let (head, others) = out.split_columns(dims.group() * dims.head_dim);
                out = others;
                let position = before + rows.start - segment.rows.start;
                let queries = Queries {
                    kv_head,
                    rows: rows.clone(),
                    position,
                };
                works.push(Work {
                    piece: queries.spans(),
                    queries,
                    cache: &*segment.state,
                    out: head,
                    parts: Vec::new(),
                });
            }
        }
    }
    works
}

/// Cuts tiles that would keep one thread busy while others wait into several pieces.
fn cut(threads: usize, context: &TaskContext<'_>, works: &mut [Work<'_, '_>]) {
    if threads == 1 {
        return;
    }
    // Loading a key costs about as much as multiplying it with eight queries.
    let weight = |work: &Work<'_, '_>| (work.queries.rows.len() * context.dims.group()).max(8);
    let total: usize = works
        .iter()
        .map(|work| work.queries.spans() * weight(work))
        .sum();
    let fair = total / (threads * 4);
    for work in works {
        let spans = work.queries.spans();
        if spans * weight(work) > fair && spans > 1 {
            work.piece = spans.div_ceil((spans * weight(work)).div_ceil(fair.max(1)).min(spans));
        }
        if work.piece < spans {
            let queries = work.queries.rows.len() * context.dims.group();
            work.parts = vec![0.0; spans * part_len(queries, context.dims.head_dim)];
        }
    }
}

/// The pieces of every tile.
fn pieces<'a, 'b>(
    context: &TaskContext<'_>,
    works: &'a mut [Work<'_, 'b>],
) -> Vec<TilePiece<'a, 'b>> {
    let mut pieces = Vec::with_capacity(works.len());
    for Work {
        queries,
        cache,
        out,
        piece,
        parts,
    } in works
    {
        let (queries, cache, spans) = (&*queries, &**cache, queries.spans());
        if parts.is_empty() {
            let sink = Some(Sink::Output(out));
            pieces.push(TilePiece {
                queries,
                cache,
                spans: 0..spans,
                sink,
            });
            continue;
        }
        let part_len = part_len(
            queries.rows.len() * context.dims.group(),
            context.dims.head_dim,
        );
        for (i, parts) in parts.chunks_mut(*piece * part_len).enumerate() {
            let spans = i * *piece..((i + 1) * *piece).min(spans);
            let sink = Some(Sink::Parts(parts));
            pieces.push(TilePiece {
                queries,
                cache,
                spans,
                sink,
            });
        }
    }
    pieces
}

fn run(cpu: &Cpu, context: &TaskContext<'_>, piece: &mut TilePiece<'_, '_>) {
    let Some(sink) = piece.sink.take() else {
        return;
    };
    let (queries, spans) = (piece.queries, piece.spans.clone());
    let count = queries.rows.len() * context.dims.group();
    with_scratch(
        scratch_len(count, context.dims.head_dim),
        |scratch| match piece.cache.pages() {
            Pages::F32(pages) => {
                dispatch(
                    cpu.isa,
                    Attend {
                        context,
                        pages,
                        queries,
                        spans,
                        sink,
                        scratch,
                    },
                );
            }
            Pages::F16(pages) => {
                dispatch(
                    cpu.isa,
                    Attend {
                        context,
                        pages,
                        queries,
                        spans,
                        sink,
                        scratch,
                    },
                );
            }
        },
    );
}
