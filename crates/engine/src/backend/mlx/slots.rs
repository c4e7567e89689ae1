//! The states of all sequences, as arrays on the device.

use std::fmt;

use mlx_rs::{Array, Dtype};

use super::memory::Busy;
use super::ops::{dim, indices, rows, stacked, with_rows, zeros};
use super::pages::{PageTable, PagedSequence, RowCopy};
use super::plan::Plan;
use super::shapes::CacheShapes;
use crate::backend::batch::{BatchSegment, SlotId};
use crate::load::model_config::{Mixer, ModelConfig};

/// The states of all sequences.
pub struct MlxSlots {
    pub(super) table: PageTable,
    /// The owner of each row of the recurrent layers.
    pub(super) kept: Vec<Option<SlotId>>,
    pub(super) layers: Vec<LayerState>,
    pub(super) shapes: CacheShapes,
    plan: Option<Plan>,
    kernel: usize,
    /// From the first pass on until the engine is idle.
    busy: Busy,
}

/// The state of one layer.
pub enum LayerState {
    /// Full attention.
    Attention(KeyValues),
    /// The gated delta rule.
    Delta(RecurrentRows),
}

/// The pools of one layer; none while there is no sequence.
#[derive(Default)]
pub struct KeyValues {
    /// Keys, `[places, kv_heads, head_dim]`, then values: alike, or in three pools as their codes, scales and zeros.
    pub(super) pools: Vec<Array>,
    /// The result of the kernel that wrote the pass's rows to the pools in place: once it is computed, they are there.
    stored_by: Option<Array>,
}

/// One layer's rows; none while there is no sequence.
#[derive(Default)]
pub struct RecurrentRows {
    /// The last raw rows of the convolution's input, `[rows * (kernel - 1), channels]`.
    pub tails: Option<Array>,
    /// `[rows, value_heads, value_dim, key_dim]`, in f32.
    pub states: Option<Array>,
}

impl fmt::Debug for MlxSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {:?}", self.kept.len(), self.table)
    }
}

impl MlxSlots {
    /// Empty, for `count` sequences.
    pub fn new(config: &ModelConfig, count: usize) -> Self {
        let memory = |mixer: &Mixer| match mixer {
            Mixer::Attention => LayerState::Attention(KeyValues::default()),
            Mixer::Delta => LayerState::Delta(RecurrentRows::default()),
        };
        Self {
            table: PageTable::new(count),
            kept: Vec::new(),
            layers: config.layers.iter().map(memory).collect(),
            shapes: CacheShapes::new(config),
            plan: None,
            kernel: config.conv.kernel,
            busy: Busy::default(),
        }
    }

    /// No sequence is running, and none waits.
    pub fn idle(&mut self) {
        self.busy.end();
    }

    /// Makes room for a pass.
    pub fn begin(&mut self, segments: &[BatchSegment]) {
        self.busy.begin();
        self.table.extend(segments);
        let plan = Plan::new(segments, &self.table, &self.kept, self.kernel);
        self.plan = Some(plan);
    }

    /// A layer's state, and where the pass finds its rows in it.
    ///
    /// # Panics
    /// Outside a pass.
    pub fn layer(&mut self, layer: usize) -> (&mut LayerState, &Plan, &PageTable) {
        let plan = self.plan.as_ref().expect("a pass begins with its plan");
        (&mut self.layers[layer], plan, &self.table)
    }

    /// Ends the pass: all that must be computed for the next one.
    pub fn finish(&mut self) -> Vec<Array> {
        if let Some(plan) = self.plan.take() {
            self.kept = plan.recurrent.order;
        }
        let mut kept = Vec::new();
        for memory in &mut self.layers {
            match memory {
                LayerState::Attention(memory) => match memory.stored_by.take() {
                    Some(kernel) => kept.push(kernel),
                    None => kept.extend(memory.pools.iter().cloned()),
                },
                LayerState::Delta(rows) => {
                    kept.extend(rows.tails.iter().chain(&rows.states).cloned());
                }
            }
        }
        kept
    }

    /// Frees a sequence's rows, and everything with the last one.
    pub fn clear(&mut self, slot: SlotId) {
        self.table.clear(slot);
        self.release_rows(slot);
    }

    /// Frees pages, and the pools with the last one.
    pub fn release_pages(&mut self, pages: PagedSequence) {
        self.table.release(pages);
        self.drop_unused();
    }

    fn release_rows(&mut self, slot: SlotId) {
        let rows = self.kept.iter_mut();
        rows.filter(|owner| **owner == Some(slot))
            .for_each(|owner| *owner = None);
        if self.kept.iter().all(Option::is_none) {
            self.kept.clear();
        }
        self.drop_unused();
    }

    /// Drops the arrays that hold nothing.
    fn drop_unused(&mut self) {
        let no_rows = self.kept.is_empty();
        for memory in &mut self.layers {
            match memory {
                LayerState::Attention(pools) if self.table.rows() == 0 => {
                    *pools = KeyValues::default()
                }
                LayerState::Delta(rows) if no_rows => *rows = RecurrentRows::default(),
                _ => {}
            }
        }
    }
}

impl KeyValues {
    /// Writes the pass's rows to their places, a part for each pool; gives the pools.
    pub fn write(&mut self, rows: &[Array], plan: &Plan, table: &PageTable) -> Vec<Array> {
        let mut pools = std::mem::take(&mut self.pools).into_iter();
        self.pools = rows
            .iter()
            .map(|rows| {
                let pool = grown(pools.next(), rows, table.rows());
                with_rows(pool, &plan.places, rows)
            })
            .collect();
        self.pools.clone()
    }

    /// The same by a kernel that writes plain keys and values, `[kv_heads, head_dim]` a row, to the pools in place, and on
    /// whose result everything depends that reads them. Gives the pools and that result.
    pub fn store(
        &mut self,
        row: [usize; 2],
        dtype: Dtype,
        table: &PageTable,
        kernel: impl FnOnce([&Array; 2]) -> Array,
    ) -> (Vec<Array>, Array) {
        let mut pools = std::mem::take(&mut self.pools).into_iter();
        let row = row.map(dim);
        let [keys, values] = [(); 2].map(|()| grown_of(pools.next(), &row, dtype, table.rows()));
        let result = kernel([&keys, &values]);
        self.pools = vec![keys, values];
        self.stored_by = Some(result.clone());
        (self.pools.clone(), result)
    }

    /// Copies rows to others, in pools that have room for the table's.
    pub fn copy_rows(&mut self, copy: RowCopy, table: &PageTable) {
        let from = indices(copy.from..copy.from + copy.count);
        let to = indices(copy.to..copy.to + copy.count);
        for pool in &mut self.pools {
            let copied = rows(pool, &from);
            let old = std::mem::replace(pool, Array::from_f32(0.0));
            *pool = with_rows(grown(Some(old), &copied, table.rows()), &to, &copied);
        }
    }
}

/// A pool of `places` rows like those of `like`.
pub(super) fn grown(pool: Option<Array>, like: &Array, places: usize) -> Array {
    grown_of(pool, &like.shape()[1..], like.dtype(), places)
}

/// A pool of `places` rows of a shape and a type.
fn grown_of(pool: Option<Array>, row: &[i32], dtype: Dtype, places: usize) -> Array {
    let have = pool.as_ref().map_or(0, |pool| pool.shape()[0]);
    let shape = [&[dim(places) - have], row].concat();
    match pool {
        Some(pool) if shape[0] == 0 => pool,
        Some(pool) => stacked(vec![pool, zeros(&shape, dtype)]),
        None => zeros(&shape, dtype),
    }
}
