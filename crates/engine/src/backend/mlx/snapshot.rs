//! What a sequence holds at one moment: shared, restored, and as bytes.
//!
//! Keys and values stay in the pools: a snapshot holds pages. Recurrent states are arrays of their own, computed at once, so
//! that a snapshot keeps neither a graph nor the rows of other sequences alive.

use std::fmt;

use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, Dtype};
use sanctum_kernels::KvMode;

use super::bridge;
use super::ops::{dim, indices, must, rows, stacked, with_rows};
use super::pages::PagedSequence;
use super::slots::{KeyValues, LayerState, MlxSlots, RecurrentRows, grown};
use crate::backend::batch::SlotId;

/// What a sequence holds at one moment. It must be released into the slots that it came from.
pub struct MlxSnapshot {
    pages: PagedSequence,
    /// The row of each recurrent layer, in order.
    recurrent: Vec<RecurrentRows>,
}

/// The bytes of a snapshot: the length of the parent and its own, the arrays of all recurrent layers, then keys and values of
/// all attention layers. Before each array its type; numbers are little-endian.
struct SnapshotReader<'a>(&'a [u8]);

impl fmt::Debug for MlxSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.pages.len())
    }
}

impl MlxSnapshot {
    /// Its tokens.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Its pages, in order: their numbers in the pools.
    pub(super) fn pages(&self) -> Vec<u64> {
        self.pages.pages().iter().map(|&page| page as u64).collect()
    }
}

impl MlxSlots {
    /// What a sequence holds now.
    pub(super) fn snapshot(&mut self, slot: SlotId) -> MlxSnapshot {
        let row = self.kept.iter().position(|&owner| owner == Some(slot));
        let (count, mut recurrent) = (self.kept.len(), Vec::new());
        for layer in &self.layers {
            if let LayerState::Delta(states) = layer {
                recurrent
                    .push(row.map_or_else(RecurrentRows::default, |row| states.row(row, count)));
            }
        }
        must(async_eval(recurrent.iter().flat_map(RecurrentRows::arrays)));
        let pages = self.table.share(slot);
        MlxSnapshot { pages, recurrent }
    }

    /// Continues a snapshot in an empty slot.
    pub(super) fn restore(&mut self, slot: SlotId, snapshot: &MlxSnapshot) {
        let (pages, copy) = self.table.fork(&snapshot.pages);
        self.table.put(slot, pages);
        let mut recurrent = snapshot.recurrent.iter();
        for layer in &mut self.layers {
            match layer {
                LayerState::Attention(pools) => {
                    if let Some(copy) = copy {
                        pools.copy_rows(copy, &self.table);
                    }
                }
                LayerState::Delta(states) => {
                    if let Some(row) = recurrent.next() {
                        states.append(row);
                    }
                }
            }
        }
        self.kept.push(Some(slot));
    }

    /// Frees what only a snapshot holds.
    pub(super) fn release(&mut self, snapshot: MlxSnapshot) {
        self.release_pages(snapshot.pages);
    }

    /// The states of a snapshot, and its keys and values from the position `from` on.
    pub(super) fn export(&mut self, snapshot: &MlxSnapshot, from: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((from as u64).to_le_bytes());
        bytes.extend((snapshot.len() as u64).to_le_bytes());
        for array in snapshot.recurrent.iter().flat_map(RecurrentRows::arrays) {
            append(&mut bytes, array);
        }
        let places = indices((from..snapshot.len()).map(|position| snapshot.pages.place(position)));
        if from < snapshot.len() {
            for layer in &self.layers {
                if let LayerState::Attention(memory) = layer {
                    for pool in &memory.pools {
                        append(&mut bytes, &rows(pool, &places));
                    }
                }
            }
        }
        bytes
    }

    /// A snapshot from the bytes of an exported one, which continues `parent`.
    pub(super) fn import(
        &mut self,
        kv_cache: KvMode,
        parent: Option<&MlxSnapshot>,
        bytes: &[u8],
    ) -> Result<MlxSnapshot, String> {
        let mut reader = SnapshotReader(bytes);
        let (from, len) = (reader.length()?, reader.length()?);
        let has = parent.map_or(0, MlxSnapshot::len);
        if from != has {
            return Err(format!(
                "it continues {from} tokens, and the prefix before it has {has}"
            ));
        }
        if len <= from {
            return Err(format!(
                "it has {len} tokens, no more than the prefix before it"
            ));
        }
        let new = len - from;
        let (mut recurrent, mut written) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            if let LayerState::Delta(_) = layer {
                let [heads, values, keys] = self.shapes.state;
                let states = reader.array(&[1, heads, values, keys], Some(Dtype::Float32))?;
                let tails = match self.shapes.tail {
                    [0, _] => None,
                    tail => Some(reader.array(&tail, None)?),
                };
                let states = Some(states);
                recurrent.push(RecurrentRows { tails, states });
            }
        }
        for layer in &self.layers {
            if let LayerState::Attention(memory) = layer {
                let pools = self.shapes.pools(kv_cache).into_iter().enumerate();
                let rows: Result<Vec<Array>, String> = pools
                    .map(|(index, ([heads, width], dtype))| {
                        let of_pool = memory.pools.get(index).map(Array::dtype);
                        reader.array(&[new, heads, width], of_pool.or(dtype))
                    })
                    .collect();
                written.push(rows?);
            }
        }
        if !reader.0.is_empty() {
            return Err(format!("{} bytes follow its end", reader.0.len()));
        }
        // Nothing fails from here on.
        let (mut pages, copy) = match parent {
            Some(parent) => self.table.fork(&parent.pages),
            None => (PagedSequence::default(), None),
        };
        self.table.grow(&mut pages, len);
        let places = indices((from..len).map(|position| pages.place(position)));
        let mut written = written.into_iter();
        for layer in &mut self.layers {
            if let LayerState::Attention(memory) = layer {
                if let Some(copy) = copy {
                    memory.copy_rows(copy, &self.table);
                }
                if let Some(rows) = written.next() {
                    memory.put_rows(&rows, &places, self.table.rows());
                }
            }
        }
        let pools = self.layers.iter().flat_map(|layer| match layer {
            LayerState::Attention(memory) => &memory.pools[..],
            LayerState::Delta(_) => &[],
        });
        let states = recurrent.iter().flat_map(RecurrentRows::arrays);
        must(async_eval(pools.chain(states)));
        Ok(MlxSnapshot { pages, recurrent })
    }
}

impl RecurrentRows {
    /// One of `count` rows, as arrays that hold nothing else.
    fn row(&self, row: usize, count: usize) -> Self {
        let one = |array: &Array| {
            if count == 1 {
                return array.clone();
            }
            let of_row = array.shape()[0] as usize / count;
            rows(array, &indices(row * of_row..(row + 1) * of_row))
        };
        Self {
            tails: self.tails.as_ref().map(one),
            states: self.states.as_ref().map(one),
        }
    }

    /// Appends a row behind the others.
    fn append(&mut self, row: &Self) {
        let behind = |mine: &mut Option<Array>, row: &Option<Array>| {
            *mine = match (mine.take(), row) {
                (Some(mine), Some(row)) => Some(stacked(vec![mine, row.clone()])),
                (mine, row) => mine.or_else(|| row.clone()),
            };
        };
        behind(&mut self.tails, &row.tails);
        behind(&mut self.states, &row.states);
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.states.iter().chain(&self.tails)
    }
}

impl KeyValues {
    /// Writes rows, a part for each pool, to their places in pools of so many rows.
    fn put_rows(&mut self, parts: &[Array], places: &Array, total: usize) {
        let mut pools = std::mem::take(&mut self.pools).into_iter();
        let put = |part| with_rows(grown(pools.next(), part, total), places, part);
        self.pools = parts.iter().map(put).collect();
    }
}

/// Types that occur, in the order of their codes.
const TYPES: [Dtype; 4] = [
    Dtype::Float32,
    Dtype::Float16,
    Dtype::Bfloat16,
    Dtype::Uint32,
];

fn size_of(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Float32 | Dtype::Uint32 => 4,
        _ => 2,
    }
}

/// Appends an array's type and its numbers.
fn append(bytes: &mut Vec<u8>, array: &Array) {
    let dtype = array.dtype();
    let code = TYPES.iter().position(|&other| other == dtype);
    bytes.extend((code.expect("a type of caches") as u32).to_le_bytes());
    // A view may lie in another order; taking all rows copies them in order.
    let array = rows(array, &indices(0..array.shape()[0] as usize));
    must(eval([&array]));
    match dtype {
        Dtype::Float32 => append_numbers(bytes, array.as_slice::<f32>(), |n| n.to_le_bytes()),
        Dtype::Float16 => append_numbers(bytes, array.as_slice::<half::f16>(), |n| n.to_le_bytes()),
        Dtype::Uint32 => append_numbers(bytes, array.as_slice::<u32>(), |n| n.to_le_bytes()),
        _ => append_numbers(bytes, array.as_slice::<half::bf16>(), |n| n.to_le_bytes()),
    }
}

fn append_numbers<T: Copy, const SIZE: usize>(
    bytes: &mut Vec<u8>,
    numbers: &[T],
    to_bytes: impl Fn(T) -> [u8; SIZE],
) {
    let start = bytes.len();
    bytes.resize(start + numbers.len() * SIZE, 0);
    let (places, _) = bytes[start..].as_chunks_mut();
    for (place, &number) in places.iter_mut().zip(numbers) {
        *place = to_bytes(number);
    }
}

impl<'a> SnapshotReader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| format!("{} bytes are missing", count - self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn length(&mut self) -> Result<usize, String> {
        let (&bytes, _) = self.take(8)?.split_first_chunk().expect("eight bytes");
        let length = u64::from_le_bytes(bytes);
        match usize::try_from(length) {
            Ok(length) if length < 1 << 31 => Ok(length),
            _ => Err(format!("{length} is no number of tokens")),
        }
    }

    /// An array of this shape, and of this type if it is known.
    fn array(&mut self, shape: &[usize], dtype: Option<Dtype>) -> Result<Array, String> {
        let (&code, _) = self.take(4)?.split_first_chunk().expect("four bytes");
        let code = u32::from_le_bytes(code);
        let found = TYPES.get(code as usize).copied();
        let found = found.filter(|&found| dtype.is_none_or(|dtype| dtype == found));
        let found = found.ok_or_else(|| format!("an array of it has type {code}"))?;
        let count: usize = shape.iter().product();
        let bytes = self.take(count * size_of(found))?;
        let shape: Vec<i32> = shape.iter().copied().map(dim).collect();
        Ok(bridge::copied(bytes, &shape, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::batch::Batch;
    use crate::backend::{MlxBackend, MlxDevice, Precision};
    use crate::graph::Model;
    use crate::load::{HostModel, ModelSource};

    const MODES: [KvMode; 3] = [KvMode::Plain, KvMode::V8, KvMode::V4];

    fn model(kv_cache: KvMode) -> Model<MlxBackend> {
        let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
        let backend = MlxBackend::new(MlxDevice::best(), &host.weights, 1, Precision::Exact);
        Model::new(backend.with_kv_cache(kv_cache), host.config, host.weights)
    }

    fn tokens(seed: u32, len: usize) -> Vec<u32> {
        (0..len as u32)
            .map(|i| (i * 37 + 11 * seed + 3) % 1000)
            .collect()
    }

    /// Feeds tokens to slots, all in one pass; gives the logits of each one's last token.
    fn pass(
        model: &Model<MlxBackend>,
        slots: &mut MlxSlots,
        rows: &[(usize, &[u32])],
    ) -> Vec<Vec<f32>> {
        use crate::backend::Backend;
        let mut batch = Batch::default();
        for (slot, tokens) in rows {
            batch.push(SlotId(*slot), tokens, true);
        }
        let logits = model.forward(&batch, slots, || {}).unwrap();
        let logits = model.backend().read(logits);
        logits
            .chunks(model.config.vocab)
            .map(<[f32]>::to_vec)
            .collect()
    }

    /// The logits of the last of `tokens` in a sequence that was computed in one pass.
    fn cold(model: &Model<MlxBackend>, tokens: &[u32]) -> Vec<f32> {
        let mut slots = model.slots(1);
        pass(model, &mut slots, &[(0, tokens)]).remove(0)
    }

    /// On MLX's CPU device every product adds in one order, so nothing changes a bit; on a GPU the results are near.
    fn same(got: &[f32], expected: &[f32], what: &str) {
        if MlxDevice::best() == MlxDevice::Cpu {
            let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(got) == bits(expected), "{what}");
            return;
        }
        let mean = expected.iter().sum::<f32>() / expected.len() as f32;
        let variance: f32 = expected.iter().map(|x| (x - mean).powi(2)).sum();
        let sigma = (variance / expected.len() as f32).sqrt();
        let far = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let far = far.fold(0.0, f32::max) / sigma;
        // A packed value that lies between two codes may become either.
        assert!(far <= 0.1, "{what}: {far} standard deviations");
    }

    #[test]
    fn restored_sequence_gives_the_logits_of_a_cold_one() {
        for mode in MODES {
            let model = model(mode);
            for len in [1, 64, 65, 150] {
                let what = format!("{mode}, {len} tokens");
                let (start, first, second) = (tokens(1, len), tokens(2, 20), tokens(3, 5));
                let mut slots = model.slots(4);
                // Another sequence beside it, so that a row is one of two.
                pass(&model, &mut slots, &[(2, &second), (0, &start)]);
                let snapshot = slots.snapshot(SlotId(0));
                assert_eq!(snapshot.len(), len);
                // The first continues, in the page that the snapshot shares.
                let whole = [&start[..], &first].concat();
                let got = pass(&model, &mut slots, &[(0, &first)]);
                same(&got[0], &cold(&model, &whole), &what);
                // Two restored ones, in one pass with it.
                slots.restore(SlotId(1), &snapshot);
                slots.restore(SlotId(3), &snapshot);
                let got = pass(
                    &model,
                    &mut slots,
                    &[(3, &first), (1, &second), (0, &second)],
                );
                same(&got[0], &cold(&model, &whole), &what);
                same(
                    &got[1],
                    &cold(&model, &[&start[..], &second].concat()),
                    &what,
                );
                same(
                    &got[2],
                    &cold(&model, &[&whole[..], &second].concat()),
                    &what,
                );
                // After all of them.
                (0..4).for_each(|slot| slots.clear(SlotId(slot)));
                slots.restore(SlotId(2), &snapshot);
                slots.release(snapshot);
                let got = pass(&model, &mut slots, &[(2, &first)]);
                same(&got[0], &cold(&model, &whole), &what);
                slots.clear(SlotId(2));
                assert_eq!(slots.table.rows(), 0, "{what}");
            }
        }
    }

    #[test]
    fn exported_chain_gives_the_logits_of_a_cold_sequence() {
        for mode in MODES {
            let model = model(mode);
            let (all, next) = (tokens(1, 200), tokens(2, 9));
            let mut slots = model.slots(2);
            let (mut files, mut at) = (Vec::new(), 0);
            for len in [10, 64, 65, 200] {
                pass(&model, &mut slots, &[(0, &all[at..len])]);
                let snapshot = slots.snapshot(SlotId(0));
                let bytes = slots.export(&snapshot, at);
                assert_eq!(
                    bytes,
                    slots.export(&snapshot, at),
                    "the bytes are deterministic"
                );
                files.push(bytes);
                slots.release(snapshot);
                at = len;
            }
            // Once into pools that are there, once into none.
            for fresh in [false, true] {
                let mut slots = if fresh {
                    model.slots(2)
                } else {
                    std::mem::replace(&mut slots, model.slots(1))
                };
                let mut parent = None;
                for bytes in &files {
                    let snapshot = slots.import(mode, parent.as_ref(), bytes).unwrap();
                    if let Some(parent) = parent.replace(snapshot) {
                        slots.release(parent);
                    }
                }
                let snapshot = parent.unwrap();
                slots.clear(SlotId(0));
                slots.restore(SlotId(1), &snapshot);
                let got = pass(&model, &mut slots, &[(1, &next)]);
                let whole = [&all[..], &next].concat();
                same(
                    &got[0],
                    &cold(&model, &whole),
                    &format!("{mode}, fresh {fresh}"),
                );
                slots.release(snapshot);
                slots.clear(SlotId(1));
                assert_eq!(slots.table.rows(), 0);
            }
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused_and_take_nothing() {
        let model = model(KvMode::V8);
        let mut slots = model.slots(1);
        pass(&model, &mut slots, &[(0, &tokens(1, 70))]);
        let parent = slots.snapshot(SlotId(0));
        pass(&model, &mut slots, &[(0, &tokens(2, 3))]);
        let snapshot = slots.snapshot(SlotId(0));
        let bytes = slots.export(&snapshot, 70);
        slots.release(snapshot);
        let refused = |slots: &mut MlxSlots, parent: Option<&MlxSnapshot>, bytes: &[u8]| {
            slots.import(KvMode::V8, parent, bytes).unwrap_err()
        };
        for cut in (0..bytes.len()).step_by(997) {
            let error = refused(&mut slots, Some(&parent), &bytes[..cut]);
            assert!(error.contains("bytes are missing"), "{error}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            refused(&mut slots, Some(&parent), &longer),
            "1 bytes follow its end"
        );
        let error = refused(&mut slots, None, &bytes);
        assert_eq!(
            error,
            "it continues 70 tokens, and the prefix before it has 0"
        );
        let mut huge = bytes.clone();
        huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(refused(&mut slots, Some(&parent), &huge).contains("no number of tokens"));
        let mut other = bytes.clone();
        other[16] = 9;
        assert!(refused(&mut slots, Some(&parent), &other).contains("type 9"));
        slots.release(parent);
        slots.clear(SlotId(0));
        assert_eq!(slots.table.rows(), 0);
    }

    #[test]
    fn snapshot_of_one_row_of_many_holds_no_other_row() {
        let model = model(KvMode::Plain);
        let mut slots = model.slots(3);
        let (a, b) = (tokens(1, 5), tokens(2, 5));
        pass(&model, &mut slots, &[(0, &a), (1, &b), (2, &a)]);
        let snapshot = slots.snapshot(SlotId(1));
        let states = snapshot.recurrent[0].states.as_ref().unwrap();
        let expected: usize = slots.shapes.state.iter().product();
        must(eval([states]));
        assert_eq!(states.as_slice::<f32>().len(), expected);
        let error = states.try_as_slice::<f32>();
        assert!(error.is_ok(), "a copy in order, not a view: {error:?}");
        slots.release(snapshot);
    }
}
