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
    /// Warps that share a tile's columns.
    pub wk: usize,
    /// Pieces of a tile that each warp has room for.
    pub run: usize,
    /// The most groups: as many as run at once.
    groups: usize,
}

impl ProductCut {
    /// The most rows that a product takes.
    pub const MOST_ROWS: usize = 32;

    /// As it was fastest on an H100 for `n` rows.
    pub fn new(n: usize) -> Self {
        let [nt, wk, run, resident] = match n {
            0..=8 => [1, 8, 3, 4],
            9..=16 => [2, 8, 3, 3],
            _ => [4, 4, 4, 4],
        };
        let groups = resident * MULTIPROCESSORS;
        Self {
            nt,
            wk,
            run,
            groups,
        }
    }
}

/// Of an H100 or H200. Other GPUs run what is cut for so many as well, in other waves.
const MULTIPROCESSORS: usize = 132;

/// Threads of a group where nothing else decides: a kernel may use too many registers for more.
const THREADS: usize = 256;

impl Launch {
    /// Groups along the first axis.
    pub fn groups(&self) -> usize {
        self.grid[0] / self.group[0]
    }

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

    /// 32 lanes a state row, `lines` rows a group.
    pub fn delta(segments: usize, value_heads: usize, value_dim: usize, lines: usize) -> Self {
        Self {
            grid: [segments * value_heads * 32, value_dim, 1],
            group: [32, lines, 1],
        }
    }

    /// State rows that share a group, and steps that they take at a time: 16 KiB of shared queries and keys.
    pub fn delta_tile(key_dim: usize, value_dim: usize) -> [usize; 2] {
        let lines = [8, 4, 2, 1]
            .into_iter()
            .find(|&lines| value_dim.is_multiple_of(lines));
        [lines.unwrap_or(1), (2048 / key_dim).max(1)]
    }

    /// A group of `warps` times 32 lanes for each row, key-value head and span.
    pub fn attention(rows: usize, kv_heads: usize, spans: usize, warps: usize) -> Self {
        Self {
            grid: [rows * kv_heads * 32, spans * warps, 1],
            group: [32, warps, 1],
        }
    }

    /// Groups that multiply matrices of so many rows; each takes tile after tile.
    pub fn products(rows: impl IntoIterator<Item = usize>, cut: ProductCut) -> Self {
        let tiles: usize = rows.into_iter().map(|rows| rows.div_ceil(16)).sum();
        Self {
            grid: [tiles.min(cut.groups) * 32, cut.wk, 1],
            group: [32, cut.wk, 1],
        }
    }

    /// The largest group that divides `width`.
    fn dividing(width: usize) -> Option<usize> {
        [THREADS, 128, 64, 32]
            .into_iter()
            .find(|group| width.is_multiple_of(*group))
    }
}
