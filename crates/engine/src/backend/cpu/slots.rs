//! The states of all sequences on the CPU.

use sanctum_kernels::cpu::{self, KvCache};

use crate::backend::batch::{BatchSegment, SlotId};
use crate::load::model_config::{Mixer, ModelConfig};

/// The state of one sequence in one layer.
#[derive(Clone, Debug)]
pub(crate) enum LayerState {
    Attention(KvCache),
    Delta {
        /// The last raw rows, `[kernel - 1, channels]`.
        tail: Vec<f32>,
        /// `[value_heads, value_dim, key_dim]`.
        state: Vec<f32>,
    },
}

/// The states of all sequences; a free slot is empty.
#[derive(Debug)]
pub struct CpuSlots {
    slots: Vec<Vec<LayerState>>,
    fresh: Vec<LayerState>,
}

impl CpuSlots {
    /// Empty, for `count` sequences; `empty` is a cache of no tokens.
    pub(super) fn new(config: &ModelConfig, empty: &KvCache, count: usize) -> Self {
        let fresh = |mixer: &Mixer| match mixer {
            Mixer::Attention => LayerState::Attention(empty.clone()),
            Mixer::Delta => LayerState::Delta {
                tail: vec![0.0; config.conv.tail_len()],
                state: vec![0.0; config.delta.state_len()],
            },
        };
        Self {
            slots: (0..count).map(|_| Vec::new()).collect(),
            fresh: config.layers.iter().map(fresh).collect(),
        }
    }

    /// Forgets a sequence.
    pub(super) fn clear(&mut self, slot: SlotId) {
        self.slots[slot.0] = Vec::new();
    }

    /// A sequence's states, those of all layers.
    pub(super) fn layers(&self, slot: SlotId) -> &[LayerState] {
        match &self.slots[slot.0][..] {
            [] => &self.fresh,
            layers => layers,
        }
    }

    /// Begins a sequence with these states.
    pub(super) fn fill(&mut self, slot: SlotId, layers: Vec<LayerState>) {
        debug_assert!(self.slots[slot.0].is_empty() && layers.len() == self.fresh.len());
        self.slots[slot.0] = layers;
    }

    /// The states of a sequence of no tokens.
    pub(super) fn fresh(&self) -> &[LayerState] {
        &self.fresh
    }

    /// The part of a layer's state that `part` picks, for each segment, in order.
    pub(super) fn segments<'a, S: ?Sized>(
        &'a mut self,
        layer: usize,
        segments: &[BatchSegment],
        part: impl Fn(&'a mut LayerState) -> Option<&'a mut S>,
    ) -> Vec<cpu::Segment<'a, S>> {
        for segment in segments {
            let slot = &mut self.slots[segment.slot.0];
            if slot.is_empty() {
                slot.clone_from(&self.fresh);
            }
        }
        let mut memories: Vec<_> = self.slots.iter_mut().map(|s| s.get_mut(layer)).collect();
        segments
            .iter()
            .filter_map(|segment| {
                let memory = memories[segment.slot.0].take()?;
                let rows = segment.start..segment.start + segment.len;
                Some(cpu::Segment::new(rows, part(memory)?))
            })
            .collect()
    }
}
