//! Weights on the device, in the type that activations have.

use half::{bf16, f16};
use mlx_rs::ops::indexing::take_axis;
use mlx_rs::ops::{dequantize, gather_mm, gather_qmm, matmul, quantized_matmul};
use mlx_rs::{Array, Dtype};
use sanctum_kernels::cpu::Float;
use sanctum_kernels::gpu::tiles;

use super::ops::{dim, must};
use super::{MlxDevice, bridge};
use crate::load::weights::{HostExperts, HostMatrix, Storage};
use sanctum_manifest::Bytes;

/// From so many rows on a quantised matrix is unpacked for a dense product: then the product, not the reading of the
/// weights, takes the time, and the dense one is the faster.
pub(super) const CROSSOVER: usize = 64;

/// The same where MLX's own product asks a GPU for more shared memory than it gives: 64 KB for f32 and groups of 128
/// (`qmm_naive` of MLX 0.32.2). Fewer rows are multiplied by another one.
const CROSSOVER_WIDE: usize = 8;

/// A matrix with more numbers than this is never unpacked: an output matrix would take gigabytes for one product.
const LARGEST_UNPACKED: usize = 1 << 28;

/// A matrix `[rows, cols]` on the device.
#[derive(Debug)]
pub struct MlxMatrix {
    rows: usize,
    cols: usize,
    dtype: Dtype,
    /// As the checkpoint has it; none if only the tiles are kept.
    storage: Option<Stored>,
    tiles: Option<Tiles>,
}

/// A quantised matrix in the order of `sanctum_kernels::gpu::tiles`.
#[derive(Debug)]
pub struct Tiles {
    /// `[rows / 16, cols / 64, 128]`.
    pub words: Array,
    /// `[rows / 16, cols / 64, 32]`.
    pub steps: Array,
}

#[derive(Debug)]
enum Stored {
    /// `[rows, cols]`, as all shapes here behind the number of matrices if there are several.
    Dense(Array),
    Affine {
        bits: i32,
        group: i32,
        /// `[rows, cols * bits / 32]`.
        packed: Array,
        /// `[rows, cols / group]`.
        scales: Array,
        /// `[rows, cols / group]`.
        biases: Array,
    },
}

/// MLX's name of a stored type.
pub(super) fn dtype_of(float: Float) -> Dtype {
    match float {
        Float::F32 => Dtype::Float32,
        Float::F16 => Dtype::Float16,
        Float::Bf16 => Dtype::Bfloat16,
    }
}

/// Bytes of a number of a type that [`dtype_of`] gives.
pub(super) fn size_of(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Float32 => 4,
        _ => 2,
    }
}

/// The type of a matrix' numbers, or of its scales; that of what becomes of blocks.
pub(super) fn float_of(matrix: &HostMatrix) -> Float {
    match matrix.storage {
        Storage::Dense { float, .. } | Storage::Affine { float, .. } => float,
        Storage::Blocks { .. } => Float::Bf16,
    }
}

/// Numbers on the device as `dtype`.
pub(super) fn vector(values: &[f32], shape: &[i32], dtype: Dtype) -> Array {
    match dtype {
        Dtype::Bfloat16 => {
            let rounded: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
            Array::from_slice(&rounded, shape)
        }
        Dtype::Float16 => {
            let rounded: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
            Array::from_slice(&rounded, shape)
        }
        _ => Array::from_slice(values, shape),
    }
}

/// Stored numbers on the device as `dtype`: converted here, since an operation of MLX's belongs to the thread that
/// asks for it, and weights are loaded by another one than computes.
fn floats(bytes: &Bytes, float: Float, shape: &[i32], dtype: Dtype) -> Array {
    if dtype_of(float) == dtype {
        return bridge::copied(bytes, shape, dtype);
    }
    vector(&values(bytes, float), shape, dtype)
}

fn values(bytes: &[u8], float: Float) -> Vec<f32> {
    match float {
        Float::F32 => numbers(bytes, f32::from_le_bytes),
        Float::F16 => numbers(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Float::Bf16 => numbers(bytes, |b| bf16::from_le_bytes(b).to_f32()),
    }
}

fn numbers<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| number(b)).collect()
}

impl Stored {
    /// A matrix, or `count` matrices one below the other as an array of them.
    fn new(matrix: HostMatrix, count: Option<usize>, dtype: Dtype) -> Self {
        let HostMatrix {
            rows,
            cols,
            storage,
        } = matrix;
        let shape = |width: usize| -> Vec<i32> {
            let rows = rows / count.unwrap_or(1);
            count.into_iter().chain([rows, width]).map(dim).collect()
        };
        match storage {
            Storage::Dense { float, data } => {
                Self::Dense(floats(&data, float, &shape(cols), dtype))
            }
            Storage::Affine {
                affine,
                packed,
                float,
                scales,
                biases,
            } => {
                let words = shape(cols * affine.bits as usize / 32);
                let groups = shape(cols / affine.group);
                Self::Affine {
                    bits: i32::from(affine.bits),
                    group: dim(affine.group),
                    packed: bridge::copied(&packed, &words, Dtype::Uint32),
                    scales: floats(&scales, float, &groups, dtype),
                    biases: floats(&biases, float, &groups, dtype),
                }
            }
            Storage::Blocks { .. } => unreachable!("the backend takes matrices without blocks"),
        }
    }
}

impl Stored {
    fn parts(&self) -> Vec<&Array> {
        match self {
            Self::Dense(w) => vec![w],
            Self::Affine {
                packed,
                scales,
                biases,
                ..
            } => vec![packed, scales, biases],
        }
    }
}

/// Moves what the host wrote to a GPU by reading it all there. Memory of both goes page by page to who reads it: rows and
/// experts that are needed seldom would each be waited for, 0.1 to 0.4 ms at a time.
fn read_once(parts: &[&Array]) {
    let read: Vec<Array> = parts.iter().map(|part| must(part.max(None))).collect();
    must(mlx_rs::transforms::eval(&read));
}

impl Tiles {
    fn new(matrix: &HostMatrix, dtype: Dtype, threads: usize) -> Option<Self> {
        let (rows, cols) = (matrix.rows, matrix.cols);
        let Storage::Affine {
            affine,
            packed,
            float,
            scales,
            biases,
        } = &matrix.storage
        else {
            return None;
        };
        if affine.bits != 4 || affine.group != tiles::TILE_COLS {
            return None;
        }
        let groups = cols / affine.group;
        let lines = rows.div_ceil(tiles::TILE_ROWS);
        let words = tiles::words(packed, rows, cols, threads);
        let pairs = [scales, biases].map(|bytes| values(bytes, *float));
        let steps = tiles::steps(pairs.each_ref().map(|p| &p[..]), rows, groups, threads);
        Some(Self {
            words: Array::from_slice(&words, &[dim(lines), dim(groups), 128]),
            steps: vector(&steps, &[dim(lines), dim(groups), 32], dtype),
        })
    }
}

impl MlxMatrix {
    /// Copies a matrix to the device; the host's part is dropped.
    pub fn new(matrix: HostMatrix, dtype: Dtype) -> Self {
        Self {
            rows: matrix.rows,
            cols: matrix.cols,
            dtype,
            storage: Some(Stored::new(matrix, None, dtype)),
            tiles: None,
        }
    }

    /// The same with tiles if it has 4 bits a weight in groups of 64; `whole`: beside the checkpoint's order, which
    /// [`Self::gather`] needs. Rearranges on `threads`.
    pub fn tiled(matrix: HostMatrix, dtype: Dtype, whole: bool, threads: usize) -> Self {
        let tiles = Tiles::new(&matrix, dtype, threads);
        Self {
            rows: matrix.rows,
            cols: matrix.cols,
            dtype,
            storage: (whole || tiles.is_none()).then(|| {
                let stored = Stored::new(matrix, None, dtype);
                if tiles.is_some() {
                    read_once(&stored.parts());
                }
                stored
            }),
            tiles,
        }
    }

    /// The type of what it is multiplied with.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Its outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its tiles, if it has them.
    pub fn tiles(&self) -> Option<&Tiles> {
        self.tiles.as_ref()
    }

    /// The matrix in the checkpoint's order.
    fn stored(&self) -> &Stored {
        let stored = self.storage.as_ref();
        stored.expect("a matrix of tiles is multiplied by the kernels only")
    }

    /// `x Wᵀ`: `[n, cols]` to `[n, rows]`.
    pub fn product(&self, x: &Array, n: usize) -> Array {
        match self.stored() {
            Stored::Dense(w) => must(matmul(x, w.t())),
            Stored::Affine { group, .. }
                if n >= self.crossover(*group) && self.rows * self.cols <= LARGEST_UNPACKED =>
            {
                must(matmul(x, self.unpacked().t()))
            }
            Stored::Affine {
                bits,
                group,
                packed,
                scales,
                biases,
            } => must(quantized_matmul(
                // Python's default is true, this one's false.
                x, packed, scales, biases, true, *group, *bits,
            )),
        }
    }

    fn crossover(&self, group: i32) -> usize {
        // Only a GPU's products differ: on MLX's CPU device each adds in one order, whatever the number of rows.
        if MlxDevice::best() == MlxDevice::Cpu {
            return CROSSOVER;
        }
        if self.cols <= group as usize {
            // MLX 0.32.2 has a kernel of its own for one group a row on Hopper; what it makes of f32 is wrong.
            0
        } else if self.dtype == Dtype::Float32 && group > 64 {
            CROSSOVER_WIDE
        } else {
            CROSSOVER
        }
    }

    fn unpacked(&self) -> Array {
        match self.stored() {
            Stored::Dense(w) => w.clone(),
            Stored::Affine {
                bits,
                group,
                packed,
                scales,
                biases,
            } => must(dequantize(packed, scales, biases, *group, *bits)),
        }
    }

    /// Some rows as numbers, `[n, cols]`.
    pub fn gather(&self, rows: &Array) -> Array {
        let some = |array: &Array| must(take_axis(array, rows, 0));
        match self.stored() {
            Stored::Dense(w) => some(w),
            Stored::Affine {
                bits,
                group,
                packed,
                scales,
                biases,
            } => {
                let (scales, biases) = (some(scales), some(biases));
                must(dequantize(some(packed), &scales, &biases, *group, *bits))
            }
        }
    }
}

/// From so many rows an expert on, the matrices of all experts are unpacked for dense products: with CUDA the quantised
/// products, MLX's and ours, read an expert's weights again for each row.
const UNPACKED_ROWS: usize = 4;

/// MLX 0.32 multiplies at most so many dense matrices in one grouped product.
const MOST_GROUPS: usize = 1024;

/// A matrix `[rows, cols]` of each expert of a layer on the device.
#[derive(Debug)]
pub struct MlxExperts {
    count: usize,
    rows: usize,
    cols: usize,
    dtype: Dtype,
    form: ExpertsForm,
    /// Whether many rows are multiplied with unpacked matrices.
    unpacks: bool,
}

#[derive(Debug)]
enum ExpertsForm {
    Stored(Stored),
    /// One below the other.
    Tiles(Tiles),
}

impl MlxExperts {
    /// Copies the experts to the device; the host's part is dropped. `tensor`: to a GPU that multiplies tiles and has memory of
    /// its own; they are rearranged on so many threads.
    pub fn new(experts: HostExperts, dtype: Dtype, tensor: Option<usize>) -> Self {
        let count = experts.count();
        let matrix = experts.into_stacked();
        let dtype = match (&matrix.storage, MlxDevice::best()) {
            // MLX 0.32 ends the process if it is asked for other types.
            (Storage::Dense { .. }, MlxDevice::Cpu) => Dtype::Float32,
            _ => dtype,
        };
        let (rows, cols) = (matrix.rows / count, matrix.cols);
        // A tile must not reach into the next expert's rows.
        let tiled = dtype == Dtype::Bfloat16 && rows.is_multiple_of(tiles::TILE_ROWS);
        let tiles = tensor
            .filter(|_| tiled)
            .and_then(|threads| Tiles::new(&matrix, dtype, threads));
        let form = match tiles {
            Some(tiles) => ExpertsForm::Tiles(tiles),
            None => ExpertsForm::Stored(Stored::new(matrix, Some(count), dtype)),
        };
        if tensor.is_some() {
            match &form {
                ExpertsForm::Stored(stored) => read_once(&stored.parts()),
                ExpertsForm::Tiles(tiles) => read_once(&[&tiles.words, &tiles.steps]),
            }
        }
        // MLX has the grouped product for numbers of 16 bits.
        let grouped = tensor.is_some() && count <= MOST_GROUPS && dtype != Dtype::Float32;
        Self {
            count,
            rows,
            cols,
            dtype,
            form,
            unpacks: grouped && count * rows * cols <= LARGEST_UNPACKED,
        }
    }

    /// The type of what they are multiplied with.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Outputs of each.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of each.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The tiles of all, one matrix below the other, if they have them.
    pub fn tiles(&self) -> Option<&Tiles> {
        match &self.form {
            ExpertsForm::Tiles(tiles) => Some(tiles),
            ExpertsForm::Stored(_) => None,
        }
    }

    /// Whether the products of so many rows, of all experts together, are better made of unpacked matrices.
    pub fn unpacks(&self, rows: usize) -> bool {
        self.unpacks && rows >= UNPACKED_ROWS * self.count
    }

    /// `x Wᵀ` with the matrices of `experts`, `[…]`: `[…, n, cols]` to `[…, n, rows]`. `sorted`: their indices ascend. None
    /// for tiles, which only the kernels read.
    pub fn products(&self, x: &Array, experts: &Array, sorted: bool) -> Option<Array> {
        let ExpertsForm::Stored(stored) = &self.form else {
            return None;
        };
        Some(match stored {
            Stored::Dense(w) => Self::dense_products(w, x, experts, sorted),
            Stored::Affine {
                bits,
                group,
                packed,
                scales,
                biases,
            } if sorted && self.unpacks(experts.size()) => {
                let w = must(dequantize(packed, scales, biases, *group, *bits));
                Self::dense_products(&w, x, experts, sorted)
            }
            Stored::Affine {
                bits,
                group,
                packed,
                scales,
                biases,
            } => must(gather_qmm(
                x,
                packed,
                scales,
                biases,
                None::<&Array>,
                experts,
                true,
                *group,
                *bits,
                sorted,
            )),
        })
    }

    /// The same with matrices `w`, `[count, rows, cols]`, as plain numbers.
    pub fn dense_products(w: &Array, x: &Array, experts: &Array, sorted: bool) -> Array {
        let w = must(w.swap_axes(-1, -2));
        must(gather_mm(x, w, None::<&Array>, experts, sorted))
    }
}
