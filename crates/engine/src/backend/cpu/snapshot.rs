//! A sequence's states at one length. Pages of keys and values are shared until one of their holders writes them; recurrent
//! states are copied.

use sanctum_kernels::cpu::KvCache;

use super::slots::LayerState;

/// A sequence's states at one length.
#[derive(Debug)]
pub struct CpuSnapshot {
    layers: Vec<LayerState>,
}

impl CpuSnapshot {
    pub(super) fn of(layers: &[LayerState]) -> Self {
        Self {
            layers: layers.to_vec(),
        }
    }

    pub(super) fn layers(&self) -> &[LayerState] {
        &self.layers
    }

    /// Identifies its pages by their addresses in the first layer that has any: the layers of a sequence share pages alike.
    pub(super) fn pages(&self) -> Vec<u64> {
        let caches = self.layers.iter().find_map(|layer| match layer {
            LayerState::Attention(cache) => Some(cache),
            LayerState::Delta { .. } => None,
        });
        let addresses = caches.map(KvCache::page_addresses).unwrap_or_default();
        addresses.into_iter().map(|page| page as u64).collect()
    }

    /// Layer by layer: `tail` and `state`, or the pages of a cache from the page of `from` on.
    pub(super) fn export(&self, from: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for layer in &self.layers {
            match layer {
                LayerState::Attention(cache) => cache.export(from, &mut bytes),
                LayerState::Delta { tail, state } => {
                    let numbers = tail.iter().chain(state);
                    bytes.extend(numbers.flat_map(|number| number.to_le_bytes()));
                }
            }
        }
        bytes
    }

    pub(super) fn import(
        fresh: &[LayerState],
        parent: Option<&Self>,
        mut bytes: &[u8],
    ) -> Result<Self, String> {
        let parents = parent.map_or(fresh, |parent| &parent.layers[..]);
        let mut layers = Vec::with_capacity(fresh.len());
        for (layer, parent) in fresh.iter().zip(parents) {
            layers.push(match (layer, parent) {
                (LayerState::Delta { tail, state }, _) => LayerState::Delta {
                    tail: numbers(&mut bytes, tail.len())?,
                    state: numbers(&mut bytes, state.len())?,
                },
                (LayerState::Attention(_), LayerState::Attention(parent)) => {
                    let (cache, rest) = parent.import(bytes)?;
                    bytes = rest;
                    LayerState::Attention(cache)
                }
                _ => return Err("the parent's layers are others".into()),
            });
        }
        match bytes.len() {
            0 => Ok(Self { layers }),
            more => Err(format!("{more} bytes too many")),
        }
    }
}

/// The next `count` numbers.
fn numbers(bytes: &mut &[u8], count: usize) -> Result<Vec<f32>, String> {
    let (words, rest) = bytes
        .split_at_checked(4 * count)
        .ok_or_else(|| format!("{} bytes too few", 4 * count - bytes.len()))?;
    *bytes = rest;
    let (words, _) = words.as_chunks();
    Ok(words.iter().copied().map(f32::from_le_bytes).collect())
}
