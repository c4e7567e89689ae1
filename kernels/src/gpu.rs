//! The fused operations for GPUs: each a text in one small dialect, compiled by MLX as Metal on Apple's GPUs and as CUDA
//! on NVIDIA's.
//!
//! A text is the body of a kernel; MLX writes the signature around it: inputs, then outputs, all of them pointers, and
//! the template arguments as constants and types. The words in which the two languages differ are defined by two
//! preludes. `tests/metal.py` has clang compile the Metal flavour as MLX writes it; it has not been run on a Mac.
//!
//! The shapes and types of inputs and outputs stand at the head of each text. Inputs are row-contiguous and never
//! 0-dimensional; parameter arrays have at least 8 elements, or are read by a literal index only, since Metal keeps
//! smaller ones in another address space. `N` is the number of rows of a batch.

mod launch;
#[cfg(test)]
mod lockstep;
pub mod tiles;

pub use launch::{Launch, ProductCut, WideCut};

/// The languages that a text is compiled as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Apple's GPUs.
    Metal,
    /// NVIDIA's GPUs.
    Cuda,
    /// No GPU at all: plain C++, for tests.
    #[cfg(test)]
    Lockstep,
}

/// A kernel's text, and the names that the text knows its operands by.
#[derive(Clone, Debug)]
pub struct GpuKernel {
    /// Its name.
    pub name: String,
    /// Inputs, in order.
    pub inputs: Vec<String>,
    /// Outputs, in order.
    pub outputs: Vec<String>,
    /// The body.
    pub body: String,
    /// What the body needs besides the prelude.
    own: &'static str,
    /// Bytes of shared memory that a launch on CUDA brings along, besides what the text declares.
    pub shared: usize,
}

impl GpuKernel {
    fn new(name: &str, inputs: &str, outputs: &str, body: &str) -> Self {
        let names = |names: &str| names.split_whitespace().map(str::to_owned).collect();
        Self {
            name: format!("sanctum_{name}"),
            inputs: names(inputs),
            outputs: names(outputs),
            body: body.to_owned(),
            own: "",
            shared: 0,
        }
    }

    /// What stands before the kernel.
    pub fn header(&self, dialect: Dialect) -> String {
        let words = match dialect {
            Dialect::Metal => include_str!("gpu/prelude/metal.h"),
            Dialect::Cuda => include_str!("gpu/prelude/cuda.h"),
            #[cfg(test)]
            Dialect::Lockstep => include_str!("gpu/prelude/lockstep.h"),
        };
        [words, include_str!("gpu/prelude/common.h"), self.own].concat()
    }
}

/// A sum and its norm. Template: `W` width, `GROUP` threads a row, `Y` type of the second summand, `PARTS` that it has, `T`
/// type of the normed row. Launch: [`Launch::rows`].
pub fn add_norm() -> GpuKernel {
    GpuKernel::new(
        "add_norm",
        "x y weight eps",
        "sum normed",
        include_str!("gpu/add_norm.kernel"),
    )
}

/// `silu(gate) * up`. Template: `GROUP` threads, `T` type. Launch: [`Launch::elements`].
pub fn swiglu() -> GpuKernel {
    GpuKernel::new(
        "swiglu",
        "gate up",
        "out",
        include_str!("gpu/swiglu.kernel"),
    )
}

/// The experts of each row: the `K` with the largest logits, and the softmax of these. Template: `E` experts, at most 1024,
/// `K` experts a row, at most 32, `L` type of the logits. Launch: [`Launch::heads`] with one head.
pub fn route() -> GpuKernel {
    GpuKernel::new(
        "route",
        "logits",
        "chosen shares",
        include_str!("gpu/route.kernel"),
    )
}

/// What the experts of each row make of it, by their shares, and the shared expert's part. Template: `W` width, `K` experts
/// a row, `SHARED` 1 if there is a shared expert, otherwise 0 and `gate` and `shared` are not read, `GROUP` threads, `T`
/// type of what experts give, `G` type of the gate. Launch: [`Launch::elements`].
pub fn mix() -> GpuKernel {
    GpuKernel::new(
        "mix",
        "y shares gate shared",
        "out",
        include_str!("gpu/mix.kernel"),
    )
}

/// The norm behind the delta rule, gated by `z`. Template: `D` width of a head, `T` type. Launch: [`Launch::heads`].
pub fn gated_norm() -> GpuKernel {
    GpuKernel::new(
        "gated_norm",
        "y z weight eps",
        "out",
        include_str!("gpu/gated_norm.kernel"),
    )
}

/// The short convolution with its SiLU, and the tails it leaves. Template: `C` channels, `TAPS`, `GROUP` threads, `T`
/// type. Launch: [`Launch::channels`].
pub fn short_conv() -> GpuKernel {
    GpuKernel::new(
        "short_conv",
        "x weight tails seen left counts",
        "out after",
        include_str!("gpu/short_conv.kernel"),
    )
}

/// The gated delta rule over ragged segments. Template: `HK`, `HV` heads, `DK`, `DV` widths, `LINES` state rows a group,
/// `TILE` steps at a time, `T` type. `DK` is a multiple of 32. Launch: [`Launch::delta`].
pub fn gated_delta() -> GpuKernel {
    GpuKernel::new(
        "gated_delta",
        "qkv a b a_log dt_bias states segments",
        "y after",
        include_str!("gpu/gated_delta.kernel"),
    )
}

/// [`short_conv`], [`gated_delta`] and [`gated_norm`] in one, for batches in which no sequence has more than one row; to
/// the same bits. Template: `HK`, `HV` heads, `DK`, `DV` widths, multiples of 32, `TAPS`, `WARPS`, `T` type. Launch:
/// [`Launch::delta_step`].
pub fn delta_step() -> GpuKernel {
    GpuKernel::new(
        "delta_step",
        "x weight tails seen left counts a b a_log dt_bias states segments z norm eps",
        "out later after",
        include_str!("gpu/delta_step.kernel"),
    )
}

/// Queries or keys, normed and rotated by each row's position. Template: `H` heads, `D` width of a head, `STRIDE` from one
/// head to the next in `x`, `ROTARY` numbers that are rotated, `T` type. Launch: [`Launch::heads`].
pub fn placed() -> GpuKernel {
    GpuKernel::new(
        "placed",
        "x weight positions numbers",
        "out",
        include_str!("gpu/placed.kernel"),
    )
}

/// Queries and keys as [`placed`] makes them, and keys and values written to their places in the pools of plain values. CUDA
/// only. Template: `H`, `HKV` heads, `D` width of a head, `ROTARY` numbers that are rotated, `T` type. Launch:
/// [`Launch::heads`] with `H + 2 * HKV` heads.
///
/// The pools are inputs that the kernel writes to, so that one row costs no copy of a pool. MLX knows nothing of that: every
/// kernel that reads the rows must take `query` too, which orders it behind this one, and no other array may share the pools.
pub fn placed_store() -> GpuKernel {
    GpuKernel::new(
        "placed_store",
        "q k v q_norm k_norm positions places numbers keys values",
        "query",
        include_str!("gpu/placed_store.kernel"),
    )
}

/// Softmax attention over pages of keys and values, in one part for each span of a sequence. Template: `G` query heads a
/// key-value head, `HKV` key-value heads, `D` width of a head, `PAGE` rows a page, `KEYS` keys at a time, which divide a
/// page, `SPAN` keys a part, a multiple of `PAGE`, `WARPS`, `T` type; with packed values, `BITS` of a code. `D` is 32,
/// 64, 128 or 256. Launch: [`Launch::attention`]; [`attention_end`] joins the parts.
///
/// Packed values are an input `values`: uint `[places, HKV, D * BITS / 32]` with `scales` and `zeros`: f16 `[places,
/// HKV, D / 64]`, as [`quantize_v`] makes them; plain ones are `values`: T `[places, HKV, D]`.
pub fn sdpa_dequant_v(packed: bool) -> GpuKernel {
    let (name, inputs, value) = match packed {
        true => (
            "sdpa_packed_v",
            "q keys values scales zeros rows table scale",
            include_str!("gpu/value_packed.kernel"),
        ),
        false => (
            "sdpa_plain_v",
            "q keys values rows table scale",
            include_str!("gpu/value_plain.kernel"),
        ),
    };
    let body = include_str!("gpu/sdpa_dequant_v.kernel").replace("// VALUE", value.trim_end());
    GpuKernel::new(name, inputs, "acc stats", &body)
}

/// Joins the parts of [`sdpa_dequant_v`] and multiplies with the sigmoid of the gate. Template: `D` width of a head, `T`
/// type. Launch: [`Launch::rows`] with a group of `D` for every head of every row.
pub fn attention_end() -> GpuKernel {
    GpuKernel::new(
        "attention_end",
        "acc stats gated",
        "out",
        include_str!("gpu/attention_end.kernel"),
    )
}

/// Values as codes of `BITS` bits with a scale and a zero for each 64. Template: `BITS` 4 or 8, `T` type. Launch:
/// [`Launch::heads`] with one head for each 64.
pub fn quantize_v() -> GpuKernel {
    GpuKernel::new(
        "quantize_v",
        "v",
        "packed scales zeros",
        include_str!("gpu/quantize_v.kernel"),
    )
}

/// Products of up to 32 rows with 4-bit matrices in groups of 64 that share them, on NVIDIA's tensor cores: reads the
/// weights once, whatever the number of rows. CUDA only.
///
/// Inputs: `x`: bf16 `[n, cols]`; `sizes`: int `[8]`, each matrix' rows; and for every matrix `m` the [`tiles`] of its
/// words, `w{m}`, and of its scales and biases, `s{m}`: S. Outputs: `y{m}`: Y `[n, rows]`.
/// Template: `S`, `Y` types, and a [`ProductCut`] as `NT`, `MT`, `U`, `WK`, `RUN`. Launch: [`Launch::products`].
///
/// A nibble in the last bits of a bf16 128 is `128 + q` exactly, so that unpacking takes one operation for two weights;
/// the sum over 64 columns of `(128 + q) x` is turned into that of `(scale q + bias) x` by the sum of `x`, which the tensor
/// cores give too.
pub fn qmv(matrices: usize) -> GpuKernel {
    few_rows(Choice::Matrices(matrices))
}

/// `silu(x Gᵀ) * (x Uᵀ)` of two matrices of one shape as [`qmv`] multiplies them. Inputs and template as there for two
/// matrices, `MT` being 2; output: `y0`: Y `[n, rows]`. Launch: [`Launch::products`] of both matrices' tiles.
pub fn qmv_gated() -> GpuKernel {
    few_rows(Choice::Gated)
}

/// The product of one row with a matrix of its own, for each of many places: [`qmv`] of the experts that a mixture chose.
/// CUDA only.
///
/// Inputs: `x`: bf16 `[places / SHARE, cols]`; `sizes`: int `[8]` = {an expert's rows}, a multiple of 16; `chosen`: uint
/// `[places]`, each place's expert; `w0`, `s0`: the [`tiles`] of all experts' matrices, one below the other. Output: `y0`:
/// Y `[places, rows]`. Template: as for [`qmv`] with `NT` and `MT` 1, and `SHARE` places of each row of `x`, one after the
/// other. Launch: [`Launch::products`] of an expert's tiles for each place.
pub fn qmv_places() -> GpuKernel {
    few_rows(Choice::Places)
}

/// [`qmv_gated`] of each place's expert. Inputs and template as for [`qmv_places`] with the up matrices' `w1`, `s1`, `MT`
/// being 2. Launch: [`Launch::products`] of both matrices' tiles for each place.
pub fn qmv_places_gated() -> GpuKernel {
    few_rows(Choice::GatedPlaces)
}

/// [`qmv`] for 9 to 32 rows, whose warps share the vectors; scales and biases in bf16, and weights rounded to bf16 as
/// [`unpack`] rounds them. Template: `S` bf16, `Y`, and a [`WideCut`] as `NT`, `MT`, `W`, `WK`, `RUN`, `PARTS`. With more
/// than one part outputs are float `[PARTS, n, rows]`, to be added up. Launch: [`Launch::wide_products`].
pub fn qmm(matrices: usize) -> GpuKernel {
    more_rows(Choice::Matrices(matrices))
}

/// [`qmv_gated`] for 9 to 32 rows, as [`qmm`] multiplies them. Launch: [`Launch::wide_products`] of both matrices' tiles.
pub fn qmm_gated() -> GpuKernel {
    more_rows(Choice::Gated)
}

/// Which matrices a product takes.
#[derive(Clone, Copy)]
enum Choice {
    /// So many, each with an output of its own.
    Matrices(usize),
    /// Two for one output.
    Gated,
    /// One for each place.
    Places,
    /// Two for one output of each place.
    GatedPlaces,
}

impl Choice {
    /// The text that finds a tile, and the names of inputs and outputs.
    fn text(self) -> [String; 3] {
        match self {
            Self::Places => return Self::places(1),
            Self::GatedPlaces => return Self::places(2),
            Self::Matrices(_) | Self::Gated => {}
        }
        let (matrices, outputs, choose) = match self {
            Self::Matrices(count) => {
                let each = |m: usize| {
                    format!(
                        "    if (tile < (uint(sizes[{m}]) + 15) / 16) {{
        return {{w{m}, s{m}, y{m}, uint(sizes[{m}]), tile}};
    }}
    tile -= (uint(sizes[{m}]) + 15) / 16;
"
                    )
                };
                let each: String = (0..count).map(each).collect();
                let choose = format!("    uint tile = unit * MT + m;\n{each}");
                (count, count, choose)
            }
            _ => (
                2,
                1,
                "    if (unit < (uint(sizes[0]) + 15) / 16) {
        return {m == 0 ? w0 : w1, m == 0 ? s0 : s1, y0, uint(sizes[0]), unit};
    }
"
                .to_owned(),
            ),
        };
        let gated = u8::from(matches!(self, Self::Gated));
        // Behind the last tile the first is multiplied once more, and not written.
        let choose = format!(
            "const int GATED = {gated};
const int PLACES = 0;
auto row_of = [](uint) -> uint {{ return 0; }};
auto choose = [&](uint unit, uint m) -> qmv_matrix<S, Y> {{
{choose}    return {{w0, s0, y0, 0, 0}};
}};
"
        );
        let operands: String = (0..matrices).map(|m| format!(" w{m} s{m}")).collect();
        let outputs: String = (0..outputs).map(|m| format!(" y{m}")).collect();
        [choose, format!("x sizes{operands}"), outputs]
    }

    /// The same where each place has a matrix of its own, or two.
    fn places(matrices: usize) -> [String; 3] {
        let gated = u8::from(matrices == 2);
        let (w, steps) = match matrices {
            1 => ("w0", "s0"),
            _ => ("(m == 0 ? w0 : w1)", "(m == 0 ? s0 : s1)"),
        };
        let choose = format!(
            "const int GATED = {gated};
const int PLACES = 1;
uint tiles = uint(sizes[0]) / 16;
auto row_of = [&](uint unit) -> uint {{ return unit / tiles / uint(SHARE); }};
auto choose = [&](uint unit, uint m) -> qmv_matrix<S, Y> {{
    uint place = unit / tiles;
    size_t before = size_t(chosen[place]) * tiles * (uint(x_shape[1]) / 64);
    uint rows = uint(sizes[0]);
    return {{{w} + before * 128, {steps} + before * 32, y0 + size_t(place) * rows, rows, unit % tiles}};
}};
"
        );
        let operands: String = (0..matrices).map(|m| format!(" w{m} s{m}")).collect();
        [choose, format!("x sizes chosen{operands}"), "y0".to_owned()]
    }

    fn name(self, family: &str) -> String {
        match self {
            Self::Matrices(count) => format!("{family}{count}"),
            Self::Gated => format!("{family}_gated"),
            Self::Places => format!("{family}_places"),
            Self::GatedPlaces => format!("{family}_places_gated"),
        }
    }
}

fn few_rows(choice: Choice) -> GpuKernel {
    let [choose, inputs, outputs] = choice.text();
    let body = choose + include_str!("gpu/qmv.kernel");
    GpuKernel {
        own: include_str!("gpu/qmv.h"),
        ..GpuKernel::new(&choice.name("qmv"), &inputs, &outputs, &body)
    }
}

fn more_rows(choice: Choice) -> GpuKernel {
    let [choose, inputs, outputs] = choice.text();
    let body = choose + include_str!("gpu/qmm.kernel");
    GpuKernel {
        own: include_str!("gpu/qmv.h"),
        shared: match choice {
            Choice::Matrices(_) => WideCut::new(WideCut::MOST_ROWS, 0).shared(),
            _ => WideCut::gated(WideCut::MOST_ROWS).shared(),
        },
        ..GpuKernel::new(&choice.name("qmm"), &inputs, &outputs, &body)
    }
}

/// [`sdpa_dequant_v`] of plain bf16 values on NVIDIA's tensor cores: of rows that are each a sequence's only one in the
/// batch (`split`), or of segments of any length. CUDA only.
///
/// Inputs: `q`, `keys`, `values`, `rows`, `table`, `scale` as there; `units`: int `[units, 4]` = {a segment's first row,
/// its rows, its first query here, 0}, which rows of their own do not read; `sizes`: int `[8]` = {pages a span}, which
/// segments do not read. Outputs as there, with one span for segments. Template: `G`, at most 8 where `split`, `HKV`, `D`:
/// 64, 128 or 256; pages have 64 rows. Launch: [`Launch::attention`] with four warps, of rows or of units.
pub fn sdpa_tensor(split: bool) -> GpuKernel {
    let (name, queries) = match split {
        true => ("sdpa_tensor_rows", 8),
        false => ("sdpa_tensor_segments", 64),
    };
    let body = format!(
        "const int SPLIT = {};\n{}",
        u8::from(split),
        include_str!("gpu/sdpa_tensor.kernel")
    );
    GpuKernel {
        own: include_str!("gpu/tensor.h"),
        // Queries, keys and values of the widest heads.
        shared: (queries + 2 * 64) * 256 * 2,
        ..GpuKernel::new(
            name,
            "q keys values rows table units sizes scale",
            "acc stats",
            &body,
        )
    }
}

/// Queries, counted row by row and head by head, that a group of [`sdpa_tensor`] takes of a segment.
pub const SEGMENT_QUERIES: usize = 64;

/// The matrix that [`tiles`] stand for. Template: `ROWS`, `COLS`, `GROUP` threads, `S` type of scales, `T` type. Launch:
/// [`Launch::elements`] over the words.
pub fn unpack() -> GpuKernel {
    GpuKernel::new(
        "unpack",
        "w steps",
        "out",
        include_str!("gpu/unpack.kernel"),
    )
}
