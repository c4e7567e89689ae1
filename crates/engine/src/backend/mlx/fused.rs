//! Our own kernels on a GPU: what one operation of the graph needs in one launch, instead of a dozen of MLX's.
//!
//! Each method gives none where its kernel does not fit the shapes; the caller then composes MLX's operations, which are
//! also what the kernels are held against.

mod attention;
mod delta;
mod experts;
mod products;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;

use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::ops::{matmul, zeros_dtype};
use mlx_rs::{Array, Dtype};
use sanctum_kernels::gpu::tiles::TILE_ROWS;
use sanctum_kernels::gpu::{self, Dialect, GpuKernel, Launch, ProductCut, WideCut};
use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, KvMode};

use super::attention as composed;
use super::bridge::{CustomKernel, Gpu, KernelCall, TemplateArgument};
use super::matrix::{MlxExperts, MlxMatrix, Tiles};
use super::ops::{cast, dim, f32, must, range, reshape, stacked};
use super::pages::PAGE;
use super::plan::{Plan, Recurrent};
use super::slots::RecurrentRows;
use crate::load::model_config::ModelConfig;
use crate::load::weights::GatedWeights;

/// The most rows that one product reads the weights for: beyond, a dense product is the faster.
const MOST_ROWS: usize = ProductCut::MOST_ROWS;

/// From so many rows on the warps of a product share its vectors.
const WIDE: usize = 9;

/// The most matrices that share a product.
const MOST_MATRICES: usize = 4;

/// Keys that one group reads of a long sequence, when there are not [`ENOUGH`] groups without that.
const SPAN: usize = 512;

/// Groups of attention on tensor cores that keep a large GPU busy: two for each of its multiprocessors.
const ENOUGH_TENSOR: usize = 264;

/// Groups that keep a large GPU busy.
const ENOUGH: usize = 512;

/// Times 32 lanes in a group of attention.
const WARPS: usize = 4;

/// The same on tensor cores, where the text is written for four.
const TENSOR_WARPS: usize = 4;

/// For pages of this many rows.
const _: () = assert!(PAGE == 64);

/// The kernels, ready to be called.
pub(super) struct Fused {
    add_norm: CustomKernel,
    swiglu: CustomKernel,
    route: CustomKernel,
    mix: CustomKernel,
    gated_norm: CustomKernel,
    short_conv: CustomKernel,
    gated_delta: CustomKernel,
    delta_step: CustomKernel,
    placed: CustomKernel,
    sdpa_plain: CustomKernel,
    sdpa_packed: CustomKernel,
    quantize_v: CustomKernel,
    attention_end: CustomKernel,
    unpack: CustomKernel,
    /// Parameter arrays that were made before, by their bits.
    constants: RefCell<HashMap<[u32; 8], Array>>,
    /// What only NVIDIA's GPUs have.
    tensor: Option<TensorCoreKernels>,
}

/// The kernels for NVIDIA's tensor cores.
struct TensorCoreKernels {
    /// For one matrix, for two, and so on; on Metal MLX' own product does well.
    products: Vec<CustomKernel>,
    gated: CustomKernel,
    /// With a matrix of its own for each row.
    places: CustomKernel,
    gated_places: CustomKernel,
    /// The same for more rows.
    wide_products: Vec<CustomKernel>,
    wide_gated: CustomKernel,
    /// Needs no tensor cores, but MLX to order kernels by their inputs alone.
    placed_store: CustomKernel,
    sdpa_rows: CustomKernel,
    sdpa_segments: CustomKernel,
}

impl Fused {
    /// Takes the kernels for a make of GPU; they are compiled when they first run.
    pub(super) fn new(gpu: Gpu) -> Self {
        let dialect = match gpu {
            Gpu::Metal => Dialect::Metal,
            Gpu::Cuda => Dialect::Cuda,
        };
        let take = |kernel: GpuKernel| CustomKernel::new(gpu, &kernel, &kernel.header(dialect));
        let tensor = || TensorCoreKernels {
            products: (1..=MOST_MATRICES).map(|m| take(gpu::qmv(m))).collect(),
            gated: take(gpu::qmv_gated()),
            places: take(gpu::qmv_places()),
            gated_places: take(gpu::qmv_places_gated()),
            wide_products: (1..=MOST_MATRICES).map(|m| take(gpu::qmm(m))).collect(),
            wide_gated: take(gpu::qmm_gated()),
            placed_store: take(gpu::placed_store()),
            sdpa_rows: take(gpu::sdpa_tensor(true)),
            sdpa_segments: take(gpu::sdpa_tensor(false)),
        };
        Self {
            add_norm: take(gpu::add_norm()),
            swiglu: take(gpu::swiglu()),
            route: take(gpu::route()),
            mix: take(gpu::mix()),
            gated_norm: take(gpu::gated_norm()),
            short_conv: take(gpu::short_conv()),
            gated_delta: take(gpu::gated_delta()),
            delta_step: take(gpu::delta_step()),
            placed: take(gpu::placed()),
            sdpa_plain: take(gpu::sdpa_dequant_v(false)),
            sdpa_packed: take(gpu::sdpa_dequant_v(true)),
            quantize_v: take(gpu::quantize_v()),
            attention_end: take(gpu::attention_end()),
            unpack: take(gpu::unpack()),
            constants: RefCell::default(),
            tensor: (gpu == Gpu::Cuda).then(tensor),
        }
    }

    /// `x + y` in f32, and its norm as `dtype`. `x`: f32 `[N, W]`, `y`: `[N, W]`, or in parts as [`Self::parts`] has it.
    pub(super) fn add_norm(
        &self,
        x: &Array,
        y: &Array,
        weight: &Array,
        eps: f32,
        dtype: Dtype,
    ) -> [Array; 2] {
        let (rows, width) = sizes(x);
        let group = Launch::row_group(width);
        let outputs = [(shape(x), Dtype::Float32), (shape(x), dtype)];
        let template = [
            (c"W", int(width)),
            (c"GROUP", int(group)),
            (c"Y", TemplateArgument::Type(y.dtype())),
            (c"PARTS", int(y.size() / x.size())),
            (c"T", TemplateArgument::Type(dtype)),
        ];
        let call = KernelCall::new(&outputs, Launch::rows(rows, group), &template);
        two(self
            .add_norm
            .apply(&[x, y, weight, &self.numbers([eps])], &call))
    }

    /// `silu(gate) * up`, `[N, W]` of one type.
    pub(super) fn swiglu(&self, gate: &Array, up: &Array) -> Option<Array> {
        let (rows, width) = sizes(gate);
        let launch = Launch::elements(rows, width)?;
        let outputs = [(shape(gate), gate.dtype())];
        let template = [
            (c"GROUP", int(launch.group[0])),
            (c"T", TemplateArgument::Type(gate.dtype())),
        ];
        let call = KernelCall::new(&outputs, launch, &template);
        Some(only(self.swiglu.apply(&[gate, up], &call)))
    }

    /// Numbers as an array `[8]`, made once: to write new ones for each call would have the host wait for memory that
    /// the device holds.
    fn numbers<const L: usize>(&self, numbers: [f32; L]) -> Array {
        let mut all = [0.0; 8];
        all[..L].copy_from_slice(&numbers);
        let make = || Array::from_slice(&all, &[8]);
        let mut constants = self.constants.borrow_mut();
        constants
            .entry(all.map(f32::to_bits))
            .or_insert_with(make)
            .clone()
    }

    /// The same of whole numbers. (No count has the bits of a number that is used above: those are denormal.)
    fn counts<const L: usize>(&self, counts: [usize; L]) -> Array {
        let mut all = [0; 8];
        all.iter_mut()
            .zip(counts)
            .for_each(|(to, count)| *to = dim(count));
        let make = || Array::from_slice(&all, &[8]);
        let mut constants = self.constants.borrow_mut();
        constants
            .entry(all.map(i32::cast_unsigned))
            .or_insert_with(make)
            .clone()
    }
}

/// Rows and width.
fn sizes(x: &Array) -> (usize, usize) {
    (x.shape()[0] as usize, x.shape()[1] as usize)
}

fn shape(x: &Array) -> Vec<i32> {
    x.shape().to_vec()
}

fn int(n: usize) -> TemplateArgument {
    TemplateArgument::Int(dim(n))
}

fn only(mut outputs: Vec<Array>) -> Array {
    outputs.pop().expect("the kernel has an output")
}

fn two(outputs: Vec<Array>) -> [Array; 2] {
    outputs.try_into().expect("the kernel has two outputs")
}
