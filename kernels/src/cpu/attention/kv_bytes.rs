//! A cache as bytes, and back: whole pages, so that a cache that continues another one holds only what is behind it.
//!
//! Little-endian: the length and the number of the first page, u64 each, then each page: keys, then values.

use std::sync::Arc;

use half::f16;

use super::kv_cache::{KvCache, Page, PageShape, Pages};
use super::values::Values;
use crate::cpu::simd::{F16Line, F32Line, LANES, Line};

/// A line as bytes.
trait LineBytes: Line {
    /// How many.
    const BYTES: usize;

    fn write(&self, to: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Self;
}

impl LineBytes for F32Line {
    const BYTES: usize = 4 * LANES;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.items().iter().flat_map(|item| item.to_le_bytes()));
    }

    fn read(bytes: &[u8]) -> Self {
        let mut line = Self::ZERO;
        let words = bytes.as_chunks().0.iter().copied();
        for (item, word) in line.items_mut().iter_mut().zip(words) {
            *item = f32::from_le_bytes(word);
        }
        line
    }
}

impl LineBytes for F16Line {
    const BYTES: usize = 2 * LANES;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.items().iter().flat_map(|item| item.to_le_bytes()));
    }

    fn read(bytes: &[u8]) -> Self {
        let mut line = Self::ZERO;
        let words = bytes.as_chunks().0.iter().copied();
        for (item, word) in line.items_mut().iter_mut().zip(words) {
            *item = f16::from_le_bytes(word);
        }
        line
    }
}

impl KvCache {
    /// The addresses of its pages, in order: two caches with a page at one address share it.
    pub fn page_addresses(&self) -> Vec<usize> {
        match self.pages() {
            Pages::F32(pages) => pages.iter().map(|p| Arc::as_ptr(p).addr()).collect(),
            Pages::F16(pages) => pages.iter().map(|p| Arc::as_ptr(p).addr()).collect(),
        }
    }

    /// Writes the pages that hold the positions `from..`.
    pub fn export(&self, from: usize, to: &mut Vec<u8>) {
        let first = from.min(self.len()) / Self::PAGE;
        to.extend((self.len() as u64).to_le_bytes());
        to.extend((first as u64).to_le_bytes());
        match self.pages() {
            Pages::F32(pages) => pages[first..].iter().for_each(|page| write(page, to)),
            Pages::F16(pages) => pages[first..].iter().for_each(|page| write(page, to)),
        }
    }

    /// The cache that was exported, given one with its earlier positions, whose pages it shares; and the bytes behind it.
    ///
    /// # Errors
    /// If the bytes are too few, or begin behind this cache.
    pub fn import<'a>(&self, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        let (len, bytes) = number(bytes)?;
        let (first, mut bytes) = number(bytes)?;
        if first > self.len() / Self::PAGE || first > len / Self::PAGE {
            return Err(format!(
                "its first page is {first}: its length is {len}, that of the earlier positions {}",
                self.len()
            ));
        }
        let count = len.div_ceil(Self::PAGE) - first;
        let needed = (count.checked_mul(Self::PAGE))
            .and_then(|positions| positions.checked_mul(self.bytes_per_token()));
        if needed.is_none_or(|needed| needed > bytes.len()) {
            return Err(format!(
                "{} bytes are too few for {count} pages",
                bytes.len()
            ));
        }
        let shape = self.page_shape();
        let pages = match self.pages() {
            Pages::F32(pages) => Pages::F32(read(&pages[..first], count, shape, &mut bytes)),
            Pages::F16(pages) => Pages::F16(read(&pages[..first], count, shape, &mut bytes)),
        };
        Ok((self.with_pages(len, pages), bytes))
    }
}

fn number(bytes: &[u8]) -> Result<(usize, &[u8]), String> {
    let (number, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| format!("{} bytes are too few for a number", bytes.len()))?;
    let number = u64::from_le_bytes(*number);
    match usize::try_from(number) {
        Ok(number) if number <= 1 << 40 => Ok((number, rest)),
        _ => Err(format!("{number} positions are too many")),
    }
}

fn write<L: LineBytes>(page: &Arc<Page<L>>, to: &mut Vec<u8>) {
    page.keys.iter().for_each(|line| line.write(to));
    match &page.values {
        Values::Plain(lines) => lines.iter().for_each(|line| line.write(to)),
        Values::Packed(_, bytes) => to.extend_from_slice(bytes),
    }
}

/// The pages `shared`, and `count` more, of which there are enough bytes.
fn read<L: LineBytes>(
    shared: &[Arc<Page<L>>],
    count: usize,
    shape: PageShape,
    bytes: &mut &[u8],
) -> Vec<Arc<Page<L>>> {
    let mut pages = shared.to_vec();
    pages.extend((0..count).map(|_| {
        let mut page = Page::new(shape);
        let lines = |lines: &mut [L], bytes: &mut &[u8]| {
            for line in lines {
                *line = L::read(taken(bytes, L::BYTES));
            }
        };
        lines(&mut page.keys, bytes);
        match &mut page.values {
            Values::Plain(values) => lines(values, bytes),
            Values::Packed(_, values) => {
                let len = values.len();
                values.copy_from_slice(taken(bytes, len));
            }
        }
        Arc::new(page)
    }));
    pages
}

fn taken<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (some, rest) = bytes.split_at(count);
    *bytes = rest;
    some
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::KvType;
    use crate::{AttentionDims, KvMode};

    fn filled(kv_type: KvType, mode: KvMode, len: usize) -> KvCache {
        let dims = AttentionDims::new(4, 2, 64, 16).unwrap();
        let mut cache = KvCache::new(&dims, kv_type, mode);
        cache.grow(len);
        let mut next = 0_u8;
        let mut byte = || {
            next = next.wrapping_mul(5).wrapping_add(17);
            next & 0x3f
        };
        let bytes: Vec<u8> = {
            let mut bytes = Vec::new();
            cache.export(0, &mut bytes);
            bytes[16..].iter().map(|_| byte()).collect()
        };
        let header = [(len as u64).to_le_bytes(), 0_u64.to_le_bytes()].concat();
        let all = [header, bytes].concat();
        KvCache::new(&dims, kv_type, mode).import(&all).unwrap().0
    }

    fn exported(cache: &KvCache, from: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        cache.export(from, &mut bytes);
        bytes
    }

    #[test]
    fn cache_of_every_mode_is_the_same_after_export_and_import() {
        for kv_type in [KvType::F32, KvType::F16] {
            for mode in [KvMode::Plain, KvMode::V8, KvMode::V4] {
                let cache = filled(kv_type, mode, 150);
                let all = exported(&cache, 0);
                assert_eq!(all.len(), 16 + cache.bytes());
                let mut parent = cache.clone();
                for from in [0, 1, 64, 100, 128, 149] {
                    parent.truncate(from);
                    let mut bytes = exported(&cache, from);
                    bytes.push(9);
                    let (back, rest) = parent.import(&bytes).unwrap();
                    assert_eq!(rest, [9]);
                    assert_eq!((back.len(), exported(&back, 0)), (150, all.clone()));
                    let shared = from / KvCache::PAGE;
                    assert_eq!(
                        back.page_addresses()[..shared],
                        cache.page_addresses()[..shared]
                    );
                    parent = cache.clone();
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_too_few_or_begin_too_late_are_refused() {
        let cache = filled(KvType::F16, KvMode::Plain, 150);
        let bytes = exported(&cache, 64);
        for len in [0, 7, 15, 16, 100, bytes.len() - 1] {
            assert!(cache.import(&bytes[..len]).is_err(), "{len}");
        }
        let mut early = cache.clone();
        early.truncate(63);
        assert!(early.import(&bytes).unwrap_err().contains("first page"));
        let huge = [u64::MAX.to_le_bytes(), 0_u64.to_le_bytes()].concat();
        assert!(cache.import(&huge).unwrap_err().contains("too many"));
    }
}
