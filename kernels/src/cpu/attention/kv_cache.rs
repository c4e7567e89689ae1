//! A sequence's keys and values in one full-attention layer.
//!
//! Positions lie in pages, so that a cache grows without copying and a clone costs nothing until one of the two
//! grows on: full pages are shared, and the last one is copied when it is written. Inside a page each head's keys
//! lie dimension by dimension in groups of sixteen positions, so that a vector holds the same dimension of sixteen
//! keys and scores need no sum across lanes; values lie position by position, as they are or packed.

use std::ops::Range;
use std::sync::Arc;

use super::values::{Codes, Values};
use crate::cpu::simd::{F16Line, F32Line, LANES, Line};
use crate::{AttentionDims, KvMode};

/// How a cache stores what it does not pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// As they are computed.
    F32,
    /// Rounded to half precision (magnitudes above 65504 saturate): half the memory and half the traffic.
    F16,
}

/// A sequence's keys and values in one full-attention layer, kept in pages of [`KvCache::PAGE`] positions.
///
/// Cloning takes a snapshot; the two share pages until one of them is written.
#[derive(Clone, Debug)]
pub struct KvCache {
    kv_heads: usize,
    head_dim: usize,
    mode: KvMode,
    len: usize,
    pages: Pages,
}

/// The pages of one element type.
#[derive(Clone, Debug)]
pub(super) enum Pages {
    F32(Vec<Arc<Page<F32Line>>>),
    F16(Vec<Arc<Page<F16Line>>>),
}

/// [`KvCache::PAGE`] positions of every head.
#[derive(Clone, Debug)]
pub(super) struct Page<L> {
    /// `[Hkv, PAGE / 16, D]` lines, each of one dimension of sixteen positions.
    pub(super) keys: Box<[L]>,
    /// `[Hkv, PAGE, D / 16]` lines, each of sixteen dimensions of one position, or `[Hkv, PAGE, D / 64]` groups.
    pub(super) values: Values<Box<[L]>, Box<[u8]>>,
}

/// A page's heads, their width, and how it keeps values.
pub(super) type PageShape = (usize, usize, KvMode);

/// Some new positions of one head that lie among the same sixteen.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) head: usize,
    /// The positions, counted from the first new one.
    pub(super) new: Range<usize>,
    /// The first one's place among the sixteen.
    pub(super) lane: usize,
}

/// A place and the memory for it.
pub(super) struct Room<'a> {
    pub(super) place: Place,
    pub(super) lines: RoomLines<'a>,
}

/// The `D` lines of keys and the values of sixteen positions.
pub(super) enum RoomLines<'a> {
    F32(&'a mut [F32Line], ValuesMut<'a, F32Line>),
    F16(&'a mut [F16Line], ValuesMut<'a, F16Line>),
}

/// Values to be written.
pub(super) type ValuesMut<'a, L> = Values<&'a mut [L], &'a mut [u8]>;

impl KvCache {
    /// Positions to a page.
    pub const PAGE: usize = 64;

    /// An empty cache for heads of this shape.
    ///
    /// # Panics
    /// If [`KvMode::fit`] refuses the shape.
    pub fn new(dims: &AttentionDims, kv_type: KvType, mode: KvMode) -> Self {
        assert_eq!(mode.fit(dims.head_dim), Ok(()));
        Self {
            mode,
            kv_heads: dims.kv_heads,
            head_dim: dims.head_dim,
            len: 0,
            pages: match kv_type {
                KvType::F32 => Pages::F32(Vec::new()),
                KvType::F16 => Pages::F16(Vec::new()),
            },
        }
    }

    /// How it stores its numbers.
    pub fn kv_type(&self) -> KvType {
        match self.pages {
            Pages::F32(_) => KvType::F32,
            Pages::F16(_) => KvType::F16,
        }
    }

    /// How many positions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets every position from `len` on and gives back the pages that are no longer needed; a cache that is
    /// shorter stays as it is.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            let pages = len.div_ceil(Self::PAGE);
            match &mut self.pages {
                Pages::F32(list) => list.truncate(pages),
                Pages::F16(list) => list.truncate(pages),
            }
        }
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Bytes that its pages take up. Pages shared with a clone are counted in both.
    pub fn bytes(&self) -> usize {
        let pages = match &self.pages {
            Pages::F32(list) => list.len(),
            Pages::F16(list) => list.len(),
        };
        pages * Self::PAGE * self.bytes_per_token()
    }

    /// Bytes that one position takes up: key and value of every head.
    pub fn bytes_per_token(&self) -> usize {
        let element = match self.kv_type() {
            KvType::F32 => size_of::<f32>(),
            KvType::F16 => size_of::<half::f16>(),
        };
        self.kv_heads * self.mode.head_bytes(self.head_dim, element)
    }

    pub(super) fn fits(&self, dims: &AttentionDims) -> bool {
        self.kv_heads == dims.kv_heads && self.head_dim == dims.head_dim
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(super) fn page_shape(&self) -> PageShape {
        (self.kv_heads, self.head_dim, self.mode)
    }

    /// One of the same shape with other positions.
    pub(super) fn with_pages(&self, len: usize, pages: Pages) -> Self {
        Self {
            len,
            pages,
            ..*self
        }
    }

    /// Grows by `count` positions and returns where each head's part of them is to be written.
    pub(super) fn grow(&mut self, count: usize) -> Vec<Room<'_>> {
        let new = self.len..self.len + count;
        self.len = new.end;
        let shape = self.page_shape();
        match &mut self.pages {
            Pages::F32(pages) => rooms(pages, shape, new, RoomLines::F32),
            Pages::F16(pages) => rooms(pages, shape, new, RoomLines::F16),
        }
    }
}

impl<L: Line> Page<L> {
    pub(super) fn new((kv_heads, head_dim, mode): PageShape) -> Self {
        let numbers = kv_heads * KvCache::PAGE * head_dim;
        let lines = || vec![L::ZERO; numbers / LANES].into();
        Self {
            keys: lines(),
            values: match Codes::of(mode) {
                None => Values::Plain(lines()),
                Some(codes) => Values::Packed(codes, vec![0; codes.bytes(numbers)].into()),
            },
        }
    }

    /// A head's keys `[PAGE / 16, D]`.
    #[inline(always)]
    pub(super) fn keys(&self, head: usize, head_dim: usize) -> &[L] {
        let lines = KvCache::PAGE * head_dim / LANES;
        &self.keys[head * lines..][..lines]
    }

    /// A head's values, `[PAGE, D]` numbers.
    #[inline(always)]
    pub(super) fn values(&self, head: usize, head_dim: usize) -> Values<&[L], &[u8]> {
        let numbers = KvCache::PAGE * head_dim;
        match &self.values {
            Values::Plain(lines) => {
                let lines = lines.chunks_exact(numbers / LANES).nth(head);
                Values::Plain(lines.expect("a head of this cache"))
            }
            Values::Packed(codes, bytes) => {
                let bytes = bytes.chunks_exact(codes.bytes(numbers)).nth(head);
                Values::Packed(*codes, bytes.expect("a head of this cache"))
            }
        }
    }
}

/// The lines to which the positions `new` are written, in pages that no other cache shares.
fn rooms<'a, L: Line>(
    pages: &'a mut Vec<Arc<Page<L>>>,
    shape @ (kv_heads, head_dim, _): PageShape,
    new: Range<usize>,
    lines: fn(&'a mut [L], ValuesMut<'a, L>) -> RoomLines<'a>,
) -> Vec<Room<'a>> {
    while pages.len() * KvCache::PAGE < new.end {
        pages.push(Arc::new(Page::new(shape)));
    }
    let groups = KvCache::PAGE / LANES;
    let mut rooms = Vec::with_capacity(kv_heads * (new.len() / LANES + 2));
    let first_page = new.start / KvCache::PAGE;
    for (index, page) in pages.iter_mut().enumerate().skip(first_page) {
        let page = Arc::make_mut(page);
        let values: Vec<_> = match &mut page.values {
            Values::Plain(lines) => lines.chunks_mut(head_dim).map(Values::Plain).collect(),
            Values::Packed(codes, bytes) => bytes
                .chunks_mut(codes.bytes(LANES * head_dim))
                .map(|bytes| Values::Packed(*codes, bytes))
                .collect(),
        };
        let both = page.keys.chunks_mut(head_dim).zip(values);
        for (place, (keys, values)) in both.enumerate() {
            let start = index * KvCache::PAGE + place % groups * LANES;
            let covered = start.max(new.start)..(start + LANES).min(new.end);
            if !covered.is_empty() {
                let place = Place {
                    head: place / groups,
                    new: covered.start - new.start..covered.end - new.start,
                    lane: covered.start - start,
                };
                let lines = lines(keys, values);
                rooms.push(Room { place, lines });
            }
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims() -> AttentionDims {
        AttentionDims::new(4, 2, 32, 16).unwrap()
    }

    #[test]
    fn rooms_cover_the_new_positions_once_for_every_head() {
        let mut cache = KvCache::new(&dims(), KvType::F32, KvMode::Plain);
        for count in [1, 70, 16, 200] {
            let mut seen = vec![[0; 2]; count];
            for Room { place, .. } in cache.grow(count) {
                assert!(place.lane + place.new.len() <= LANES);
                for i in place.new {
                    seen[i][place.head] += 1;
                }
            }
            assert!(seen.iter().all(|heads| *heads == [1, 1]));
        }
        assert_eq!(cache.len(), 287);
    }

    #[test]
    fn memory_is_counted_in_whole_pages_and_given_back() {
        let mut cache = KvCache::new(&dims(), KvType::F16, KvMode::Plain);
        assert_eq!(
            (cache.bytes(), cache.bytes_per_token()),
            (0, 2 * 2 * 32 * 2)
        );
        cache.grow(65);
        assert_eq!(cache.bytes(), 2 * 64 * cache.bytes_per_token());
        cache.truncate(64);
        assert_eq!(
            (cache.len(), cache.bytes()),
            (64, 64 * cache.bytes_per_token())
        );
        cache.truncate(100);
        assert_eq!(cache.len(), 64);
        cache.clear();
        assert!(cache.is_empty() && cache.bytes() == 0);
    }

    #[test]
    fn packed_values_take_what_they_say() {
        let dims = AttentionDims::new(4, 2, 128, 16).unwrap();
        let mut cache = KvCache::new(&dims, KvType::F16, KvMode::V4);
        assert_eq!(cache.bytes_per_token(), 2 * (256 + 64 + 8));
        cache.grow(1);
        let Pages::F16(pages) = cache.pages() else {
            unreachable!("it was made with f16");
        };
        let held: usize = (0..2)
            .map(|head| {
                let Values::Packed(Codes::Four, bytes) = pages[0].values(head, 128) else {
                    unreachable!("it was made with v4");
                };
                size_of_val(bytes) + size_of_val(pages[0].keys(head, 128))
            })
            .sum();
        assert_eq!(held, cache.bytes());
    }

    #[test]
    fn a_clone_shares_pages_until_one_of_them_grows() {
        let mut cache = KvCache::new(&dims(), KvType::F32, KvMode::Plain);
        cache.grow(100);
        let snapshot = cache.clone();
        cache.grow(1);
        let (Pages::F32(ours), Pages::F32(theirs)) = (cache.pages(), snapshot.pages()) else {
            unreachable!("both were made with f32");
        };
        assert!(Arc::ptr_eq(&ours[0], &theirs[0]));
        assert!(!Arc::ptr_eq(&ours[1], &theirs[1]));
        assert_eq!(snapshot.len(), 100);
    }
}
