//! Writes a batch's keys and values into the caches.

use super::context::{TaskContext, rotate};
use super::kv_cache::{KvCache, Place, RoomLines, ValuesMut};
use super::values::Values;
use crate::cpu::norm::{rms_scale, scaled};
use crate::cpu::simd::{Kernel, LANES, Line, Simd, dispatch};
use crate::cpu::tasks::{run_each, with_scratch};
use crate::cpu::{Cpu, Segment};

/// Grows every segment's cache by the segment's rows: keys normed and rotated, values as they are or packed.
pub(super) fn append(cpu: &Cpu, context: &TaskContext<'_>, segments: &mut [Segment<'_, KvCache>]) {
    let mut tasks = Vec::new();
    for segment in segments {
        let first = segment.rows.start;
        let rooms = segment.state.grow(segment.rows.len());
        tasks.extend(rooms.into_iter().map(|room| (first, room)));
    }
    run_each(&cpu.pool, &mut tasks, |(first, room)| {
        let (first, place) = (*first + room.place.new.start, &room.place);
        with_scratch(context.dims.head_dim, |head| match &mut room.lines {
            RoomLines::F32(keys, values) => {
                dispatch(
                    cpu.isa,
                    Write {
                        context,
                        first,
                        place,
                        keys,
                        values,
                        head,
                    },
                );
            }
            RoomLines::F16(keys, values) => {
                dispatch(
                    cpu.isa,
                    Write {
                        context,
                        first,
                        place,
                        keys,
                        values,
                        head,
                    },
                );
            }
        });
    });
}

/// Writes the rows from `first` on to one place.
struct Write<'a, 'b, L> {
    context: &'a TaskContext<'a>,
    first: usize,
    place: &'a Place,
    /// `[D]` lines, each of one dimension of sixteen positions.
    keys: &'a mut [L],
    /// Of sixteen positions.
    values: &'a mut ValuesMut<'b, L>,
    /// Working memory `[D]`.
    head: &'a mut [f32],
}

impl<L: Line> Kernel for Write<'_, '_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            context,
            place,
            keys,
            values,
            head,
            ..
        } = self;
        let dims = context.dims;
        for i in 0..place.new.len() {
            let (row, lane) = (self.first + i, place.lane + i);
            let at = (row * dims.kv_heads + place.head) * dims.head_dim;
            let k = &context.input.k[at..][..dims.head_dim];
            let v = &context.input.v[at..][..dims.head_dim];

            scaled(
                s,
                k,
                rms_scale(s, k, context.weights.eps),
                context.weights.k_norm,
                head,
            );
            rotate(head, context.angles(row));
            let sixteens = head
                .as_chunks::<LANES>()
                .0
                .iter()
                .zip(keys.chunks_exact_mut(LANES));
            for (dimensions, lines) in sixteens {
                let mut stored = L::ZERO;
                stored.store(s, s.load(dimensions));
                for (line, item) in lines.iter_mut().zip(stored.items()) {
                    line.items_mut()[lane] = *item;
                }
            }
            match values {
                Values::Plain(lines) => {
                    let lines = &mut lines[lane * dims.head_dim / LANES..];
                    for (line, dimensions) in lines.iter_mut().zip(v.as_chunks::<LANES>().0) {
                        line.store(s, s.load(dimensions));
                    }
                }
                Values::Packed(codes, bytes) => {
                    let size = codes.bytes(dims.head_dim);
                    codes.pack(v, &mut bytes[lane * size..][..size]);
                }
            }
        }
    }
}
