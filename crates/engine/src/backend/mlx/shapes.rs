//! The shapes of keys, values and recurrent states.

use mlx_rs::Dtype;
use sanctum_kernels::KvMode;

use crate::load::model_config::ModelConfig;

/// Shapes of what the layers keep, without the axis of rows.
#[derive(Clone, Debug)]
pub(super) struct CacheShapes {
    /// `[value_heads, value_dim, key_dim]`.
    pub(super) state: [usize; 3],
    /// `[kernel - 1, channels]`.
    pub(super) tail: [usize; 2],
    /// `[kv_heads, head_dim]`.
    pub(super) head: [usize; 2],
}

impl CacheShapes {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let (attention, delta, conv) = (&config.attention, &config.delta, &config.conv);
        Self {
            state: [delta.value_heads, delta.value_dim, delta.key_dim],
            tail: [conv.kernel - 1, conv.channels],
            head: [attention.kv_heads, attention.head_dim],
        }
    }

    /// The row of each pool of an attention layer: its shape, and its type if that depends on the mode only.
    pub(super) fn pools(&self, kv_cache: KvMode) -> Vec<([usize; 2], Option<Dtype>)> {
        let [heads, width] = self.head;
        match kv_cache.bits() {
            None => vec![(self.head, None); 2],
            Some(bits) => {
                let scale = ([heads, width / KvMode::GROUP], Some(Dtype::Float16));
                let codes = ([heads, width * bits / 32], Some(Dtype::Uint32));
                vec![(self.head, None), codes, scale, scale]
            }
        }
    }
}
