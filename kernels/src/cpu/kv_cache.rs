//! A sequence's keys and values in one full-attention layer.

use crate::AttentionDims;

/// How a cache stores its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// As they are computed.
    F32,
    /// Rounded to half precision (magnitudes above 65504 saturate): half the memory and half the traffic.
    F16,
}

/// A sequence's keys and values in one full-attention layer, kept in pages of [`KvCache::PAGE`] positions.
#[derive(Clone, Debug)]
pub struct KvCache {
    kv_type: KvType,
    row: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvCache {
    /// Positions to a page.
    pub const PAGE: usize = 64;

    /// An empty cache for heads of this shape.
    pub fn new(dims: &AttentionDims, kv_type: KvType) -> Self {
        Self {
            kv_type,
            row: dims.kv_heads * dims.head_dim,
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    /// How many positions it holds.
    pub fn len(&self) -> usize {
        self.keys.len() / self.row
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets every position from `len` on; a cache that is shorter stays as it is.
    pub fn truncate(&mut self, len: usize) {
        self.keys.truncate(len * self.row);
        self.values.truncate(len * self.row);
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Bytes that its pages take up. Pages shared with a clone are counted in both.
    pub fn bytes(&self) -> usize {
        self.len().next_multiple_of(Self::PAGE) * self.bytes_per_token()
    }

    /// Bytes that one position takes up: key and value of every head.
    pub fn bytes_per_token(&self) -> usize {
        let element = match self.kv_type {
            KvType::F32 => 4,
            KvType::F16 => 2,
        };
        2 * self.row * element
    }

    pub(super) fn rows(&mut self) -> (&mut Vec<f32>, &mut Vec<f32>) {
        (&mut self.keys, &mut self.values)
    }
}
