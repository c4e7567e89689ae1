//! How many threads each kernel wants.

/// Threads in all and threads that share memory; the first is a multiple of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Threads in all, in each direction. The first may be long; CUDA ends the others at 65,535 groups.
    pub grid: [usize; 3],
    /// Threads in a group.
    pub group: [usize; 3],
}

/// How a product of a few rows with 4-bit matrices is cut, [`super::qmv`]'s template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductCut {
    /// Eights of rows.
    pub nt: usize,
    /// Tiles that a group takes at once: they share the vectors that they are multiplied with.
    pub mt: usize,
    /// Groups of columns a step.
    pub unroll: usize,
    /// Warps that share a tile's columns.
    pub wk: usize,
    /// Steps that each warp has room for.
    pub run: usize,
}

impl ProductCut {
    /// The most rows that a product takes.
    pub const MOST_ROWS: usize = 32;

    /// As it was fastest on an H200 for `n` rows and matrices of so many tiles.
    pub fn new(n: usize, tiles: usize) -> Self {
        let [nt, mt, unroll, wk, run] = match (n, tiles >= FEW_TILES) {
            (0..=8, true) => [1, 2, 2, 4, 3],
            (0..=8, false) => [1, 1, 2, 8, 3],
            (9..=16, true) => [2, 2, 2, 4, 3],
            (9..=16, false) => [2, 2, 1, 8, 2],
            (_, true) => [4, 2, 1, 4, 3],
            (_, false) => [4, 1, 1, 8, 2],
        };
        Self {
            nt,
            mt,
            unroll,
            wk,
            run,
        }
    }

    /// The same for [`super::qmv_places`]: a group takes one tile of one place.
    pub fn places() -> Self {
        Self {
            mt: 1,
            ..Self::new(1, FEW_TILES)
        }
    }

    /// The same for [`super::qmv_gated`], whatever the size: a group takes one tile of each matrix.
    pub fn gated(n: usize) -> Self {
        Self::new(n, FEW_TILES)
    }
}

/// How a product of more rows is cut, [`super::qmm`]'s template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideCut {
    /// Eights of rows.
    pub nt: usize,
    /// Tiles of a warp.
    pub mt: usize,
    /// Warps that share vectors.
    pub w: usize,
    /// Teams of so many warps, which share out the columns.
    pub wk: usize,
    /// Steps that each team has room for.
    pub run: usize,
    /// Groups that share out the columns before that.
    pub parts: usize,
}

impl WideCut {
    /// The most rows that a product takes.
    pub const MOST_ROWS: usize = ProductCut::MOST_ROWS;

    /// As it was fastest on an H200 for `n` rows and matrices of so many tiles.
    pub fn new(n: usize, tiles: usize) -> Self {
        Self {
            nt: Self::eights(n),
            mt: 2,
            w: 4,
            wk: 4,
            run: 4,
            parts: if tiles < FEW_TILES { 3 } else { 1 },
        }
    }

    /// The same for [`super::qmm_gated`].
    pub fn gated(n: usize) -> Self {
        Self {
            nt: Self::eights(n),
            mt: 2,
            w: 3,
            wk: 2,
            run: 4,
            parts: 1,
        }
    }

    fn eights(n: usize) -> usize {
        if n <= 16 { 2 } else { 4 }
    }

    /// Bytes of shared memory: the rings of the teams, later their sums.
    pub(super) fn shared(self) -> usize {
        let step = self.w * self.mt * (512 + 64) + self.nt * 1024;
        let sums = self.w * self.wk * self.mt * self.nt * 4 * 32 * 4;
        (self.wk * self.run * step).max(sums)
    }
}

/// Fewer tiles than this leave some of a large GPU idle if each group takes several.
const FEW_TILES: usize = 512;

/// Threads of a group where nothing else decides: a kernel may use too many registers for more.
const THREADS: usize = 256;

impl Launch {
    /// One group a row.
    pub fn rows(rows: usize, group: usize) -> Self {
        Self {
            grid: [rows * group, 1, 1],
            group: [group, 1, 1],
        }
    }

    /// Threads of a group for rows of `width` numbers.
    pub fn row_group(width: usize) -> usize {
        width.next_multiple_of(32).min(2 * THREADS)
    }

    /// One thread a number; none if `width` is not a multiple of 32.
    pub fn elements(rows: usize, width: usize) -> Option<Self> {
        let group = Self::dividing(width)?;
        Some(Self {
            grid: [rows * width, 1, 1],
            group: [group, 1, 1],
        })
    }

    /// 32 lanes a head.
    pub fn heads(rows: usize, heads: usize) -> Self {
        Self {
            grid: [rows * heads * 32, 1, 1],
            group: [32, 1, 1],
        }
    }

    /// One thread a channel, for `rows` rows; none if `channels` is not a multiple of 32.
    pub fn channels(rows: usize, channels: usize) -> Option<Self> {
        let group = Self::dividing(channels)?;
        Some(Self {
            grid: [channels, rows, 1],
            group: [group, 1, 1],
        })
    }

    /// 8 lanes a state row, `lines` rows a group.
    pub fn delta(segments: usize, value_heads: usize, value_dim: usize, lines: usize) -> Self {
        Self {
            grid: [
                segments * value_heads * 32,
                value_dim.div_ceil(lines) * lines / 4,
                1,
            ],
            group: [32, lines / 4, 1],
        }
    }

    /// Warps that share a head's state in [`super::delta_step`].
    pub const STEP_WARPS: usize = 8;

    /// A group for each head of each segment.
    pub fn delta_step(segments: usize, value_heads: usize) -> Self {
        Self {
            grid: [segments * value_heads * 32, Self::STEP_WARPS, 1],
            group: [32, Self::STEP_WARPS, 1],
        }
    }

    /// State rows that share a group, and steps that they take at a time: 16 KiB of shared queries and keys.
    pub fn delta_tile(key_dim: usize, value_dim: usize) -> [usize; 2] {
        let lines = value_dim.next_multiple_of(4).min(32);
        [lines, (2048 / key_dim).max(1)]
    }

    /// A group of `warps` times 32 lanes for each row, key-value head and span.
    pub fn attention(rows: usize, kv_heads: usize, spans: usize, warps: usize) -> Self {
        Self {
            grid: [rows * kv_heads * 32, spans * warps, 1],
            group: [32, warps, 1],
        }
    }

    /// Groups that multiply so many tiles.
    pub fn products(tiles: usize, cut: ProductCut) -> Self {
        Self {
            grid: [tiles.div_ceil(cut.mt) * 32, cut.wk, 1],
            group: [32, cut.wk, 1],
        }
    }

    /// The same for [`super::qmm`].
    pub fn wide_products(tiles: usize, cut: WideCut) -> Self {
        let threads = cut.w * cut.wk;
        Self {
            grid: [tiles.div_ceil(cut.mt * cut.w) * 32, threads * cut.parts, 1],
            group: [32, threads, 1],
        }
    }

    /// The largest group that divides `width`.
    fn dividing(width: usize) -> Option<usize> {
        [THREADS, 128, 64, 32]
            .into_iter()
            .find(|group| width.is_multiple_of(*group))
    }
}
