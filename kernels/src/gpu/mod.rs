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

pub use launch::{Launch, ProductCut};

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
pub struct Kernel {
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
}

impl Kernel {
    fn new(name: &str, inputs: &str, outputs: &str, body: &str) -> Self {
        let names = |names: &str| names.split_whitespace().map(str::to_owned).collect();
        Self {
            name: format!("sanctum_{name}"),
            inputs: names(inputs),
            outputs: names(outputs),
            body: body.to_owned(),
            own: "",
        }
    }

    /// What stands before the kernel.
    pub fn header(&self, dialect: Dialect) -> String {
        let words = match dialect {
            Dialect::Metal => include_str!("prelude/metal.h"),
            Dialect::Cuda => include_str!("prelude/cuda.h"),
            #[cfg(test)]
            Dialect::Lockstep => include_str!("prelude/lockstep.h"),
        };
        [words, include_str!("prelude/common.h"), self.own].concat()
    }
}

/// A sum and its norm. Template: `W` width, `GROUP` threads a row, `Y` type of the second summand, `T` type of the normed
/// row. Launch: [`Launch::rows`].
pub fn add_norm() -> Kernel {
    Kernel::new(
        "add_norm",
        "x y weight eps",
        "sum normed",
        include_str!("add_norm.kernel"),
    )
}

/// `silu(gate) * up`. Template: `GROUP` threads, `T` type. Launch: [`Launch::elements`].
pub fn swiglu() -> Kernel {
    Kernel::new("swiglu", "gate up", "out", include_str!("swiglu.kernel"))
}

/// The norm behind the delta rule, gated by `z`. Template: `D` width of a head, `T` type. Launch: [`Launch::heads`].
pub fn gated_norm() -> Kernel {
    Kernel::new(
        "gated_norm",
        "y z weight eps",
        "out",
        include_str!("gated_norm.kernel"),
    )
}

/// The short convolution with its SiLU, and the tails it leaves. Template: `C` channels, `TAPS`, `GROUP` threads, `T`
/// type. Launch: [`Launch::channels`].
pub fn short_conv() -> Kernel {
    Kernel::new(
        "short_conv",
        "x weight tails seen left counts",
        "out after",
        include_str!("short_conv.kernel"),
    )
}

/// The gated delta rule over ragged segments. Template: `HK`, `HV` heads, `DK`, `DV` widths, `LINES` state rows a group,
/// `TILE` steps at a time, `T` type. `DK` is a multiple of 32. Launch: [`Launch::delta`].
pub fn gated_delta() -> Kernel {
    Kernel::new(
        "gated_delta",
        "qkv a b a_log dt_bias states segments",
        "y after",
        include_str!("gated_delta.kernel"),
    )
}

/// Queries or keys, normed and rotated by each row's position. Template: `H` heads, `D` width of a head, `STRIDE` from one
/// head to the next in `x`, `ROTARY` numbers that are rotated, `T` type. Launch: [`Launch::heads`].
pub fn placed() -> Kernel {
    Kernel::new(
        "placed",
        "x weight positions numbers",
        "out",
        include_str!("placed.kernel"),
    )
}

/// Softmax attention over pages of keys and values, in one part for each span of a sequence. Template: `G` query heads a
/// key-value head, `HKV` key-value heads, `D` width of a head, `PAGE` rows a page, `KEYS` keys at a time, which divide a
/// page, `SPAN` keys a part, a multiple of `PAGE`, `WARPS`, `T` type; with packed values, `BITS` of a code. `D` is 32,
/// 64, 128 or 256. Launch: [`Launch::attention`]; [`attention_end`] joins the parts.
///
/// Packed values are an input `values`: uint `[places, HKV, D * BITS / 32]` with `scales` and `zeros`: f16 `[places,
/// HKV, D / 64]`, as [`quantize_v`] makes them; plain ones are `values`: T `[places, HKV, D]`.
pub fn sdpa_dequant_v(packed: bool) -> Kernel {
    let (name, inputs, value) = match packed {
        true => (
            "sdpa_packed_v",
            "q keys values scales zeros rows table scale",
            include_str!("value_packed.kernel"),
        ),
        false => (
            "sdpa_plain_v",
            "q keys values rows table scale",
            include_str!("value_plain.kernel"),
        ),
    };
    let body = include_str!("sdpa_dequant_v.kernel").replace("// VALUE", value.trim_end());
    Kernel::new(name, inputs, "acc stats", &body)
}

/// Joins the parts of [`sdpa_dequant_v`] and multiplies with the sigmoid of the gate. Template: `D` width of a head, `T`
/// type. Launch: [`Launch::rows`] with a group of `D` for every head of every row.
pub fn attention_end() -> Kernel {
    Kernel::new(
        "attention_end",
        "acc stats gated",
        "out",
        include_str!("attention_end.kernel"),
    )
}

/// Values as codes of `BITS` bits with a scale and a zero for each 64. Template: `BITS` 4 or 8, `T` type. Launch:
/// [`Launch::heads`] with one head for each 64.
pub fn quantize_v() -> Kernel {
    Kernel::new(
        "quantize_v",
        "v",
        "packed scales zeros",
        include_str!("quantize_v.kernel"),
    )
}

/// Products of up to 32 rows with 4-bit matrices in groups of 64 that share them, on NVIDIA's tensor cores: reads the
/// weights once, whatever the number of rows. CUDA only.
///
/// Inputs: `x`: bf16 `[n, cols]`; `sizes`: int `[8]`, each matrix' rows, and last the number of groups; and for every matrix `m` the [`tiles`] of its
/// words, `w{m}`, and of its scales and biases, `s{m}`: S. Outputs: `y{m}`: Y `[n, rows]`.
/// Template: `S`, `Y` types, and a [`ProductCut`] as `NT`, `WK`, `RUN`. Launch: [`Launch::products`].
///
/// A nibble in the last bits of a bf16 128 is `128 + q` exactly, so that unpacking takes one operation for two weights;
/// the sum over 64 columns of `(128 + q) x` is turned into that of `(scale q + bias) x` by the sum of `x`, which the tensor
/// cores give too.
pub fn qmv(matrices: usize) -> Kernel {
    let mut inputs = "x sizes".to_owned();
    let mut outputs = String::new();
    let mut each = String::new();
    let mut tiles = String::new();
    for m in 0..matrices {
        inputs += &format!(" w{m} s{m}");
        outputs += &format!(" y{m}");
        each += &format!(
            "    if (tile < (uint(sizes[{m}]) + 15) / 16) {{
        return {{w{m}, s{m}, y{m}, uint(sizes[{m}]), tile}};
    }}
    tile -= (uint(sizes[{m}]) + 15) / 16;
"
        );
        tiles += &format!(" + (uint(sizes[{m}]) + 15) / 16");
    }
    let choose = format!(
        "uint tiles = 0{tiles};
uint span = uint(sizes[7]);
auto choose = [&](uint tile) -> qmv_matrix<S, Y> {{
{each}    return {{nullptr, nullptr, nullptr, 0, tile}};
}};
"
    );
    let body = choose + include_str!("qmv.kernel");
    Kernel {
        own: include_str!("qmv.h"),
        ..Kernel::new(&format!("qmv{matrices}"), &inputs, &outputs, &body)
    }
}

/// The matrix that [`tiles`] stand for. Template: `ROWS`, `COLS`, `GROUP` threads, `S` type of scales, `T` type. Launch:
/// [`Launch::elements`] over the words.
pub fn unpack() -> Kernel {
    Kernel::new("unpack", "w steps", "out", include_str!("unpack.kernel"))
}
