//! Products with matrices of tiles.

use super::*;

impl Fused {
    /// Whether matrices are wanted as tiles.
    pub(crate) fn multiplies(&self) -> bool {
        self.tensor.is_some()
    }

    /// `x Wᵀ` for matrices of tiles that share `x`, `[n, cols]`: each `[n, rows]`, of the type of the scales.
    ///
    /// With scales in f32, which an output matrix has, `x` is split into two bf16 numbers, whose products are added:
    /// that is 16 bits of it. Otherwise many rows are multiplied with the unpacked matrix.
    pub(crate) fn products<const W: usize>(
        &self,
        x: &Array,
        matrices: [&MlxMatrix; W],
    ) -> Option<[Array; W]> {
        let tiles = matrices.map(MlxMatrix::tiles);
        if tiles.iter().any(Option::is_none) {
            return None;
        }
        let tensor = self.tensor.as_ref()?;
        let kernel = tensor.products.get(W - 1)?;
        let tiles: Vec<&Tiles> = tiles.into_iter().flatten().collect();
        let (n, _) = sizes(x);
        if matrices[0].dtype() == Dtype::Bfloat16 {
            let x = cast(x, Dtype::Bfloat16);
            return Some(match n {
                ..WIDE => self.multiply(kernel, &x, matrices, &tiles),
                WIDE..=MOST_ROWS => {
                    let cut = WideCut {
                        parts: 1,
                        ..WideCut::new(n, count(&matrices))
                    };
                    let kernel = &tensor.wide_products[W - 1];
                    self.multiply_wide(kernel, &x, matrices, &tiles, cut)
                }
                _ => {
                    let shapes = matrices.map(|m| [m.rows(), m.cols()]);
                    std::array::from_fn(|m| {
                        let w = self.unpacked(tiles[m], shapes[m], Dtype::Bfloat16);
                        must(matmul(&x, w.t()))
                    })
                }
            });
        }
        let pieces = (0..n).step_by(MOST_ROWS / 2).map(|start| {
            let end = n.min(start + MOST_ROWS / 2);
            let x = f32(&range(x, start, end));
            let high = cast(&x, Dtype::Bfloat16);
            let low = cast(&(&x - f32(&high)), Dtype::Bfloat16);
            let split = dim(end - start);
            self.multiply(kernel, &stacked(vec![high, low]), matrices, &tiles)
                .map(|y| y.index(..split) + y.index(split..))
        });
        let pieces: Vec<[Array; W]> = pieces.collect();
        Some(std::array::from_fn(|m| {
            stacked(pieces.iter().map(|piece| piece[m].clone()).collect())
        }))
    }

    /// The kernel over all matrices; `x` is bf16.
    fn multiply<const W: usize>(
        &self,
        kernel: &CustomKernel,
        x: &Array,
        matrices: [&MlxMatrix; W],
        tiles: &[&Tiles],
    ) -> [Array; W] {
        let (n, _) = sizes(x);
        let dtype = matrices[0].dtype();
        let rows = matrices.map(MlxMatrix::rows);
        let count = count(&matrices);
        let cut = ProductCut::new(n, count);
        let launch = Launch::products(count, cut);
        let mut sizes = [0; 8];
        sizes[..W].copy_from_slice(&rows);
        let counts = self.counts(sizes);
        let weights = tiles.iter().flat_map(|tiles| [&tiles.words, &tiles.steps]);
        let inputs: Vec<&Array> = [x, &counts].into_iter().chain(weights).collect();
        let outputs = rows.map(|rows| (vec![dim(n), dim(rows)], dtype));
        let template = template(dtype, cut);
        let call = KernelCall::new(&outputs, launch, &template);
        let products = kernel.apply(&inputs, &call);
        products.try_into().expect("as many as there are matrices")
    }

    /// The kernel for more rows over all matrices; `x` is bf16.
    fn multiply_wide<const W: usize>(
        &self,
        kernel: &CustomKernel,
        x: &Array,
        matrices: [&MlxMatrix; W],
        tiles: &[&Tiles],
        cut: WideCut,
    ) -> [Array; W] {
        let (n, _) = sizes(x);
        let rows = matrices.map(MlxMatrix::rows);
        let mut sizes = [0; 8];
        sizes[..W].copy_from_slice(&rows);
        let counts = self.counts(sizes);
        let weights = tiles.iter().flat_map(|tiles| [&tiles.words, &tiles.steps]);
        let inputs: Vec<&Array> = [x, &counts].into_iter().chain(weights).collect();
        let outputs = rows.map(|rows| match cut.parts {
            1 => (vec![dim(n), dim(rows)], Dtype::Bfloat16),
            parts => ([parts, n, rows].map(dim).to_vec(), Dtype::Float32),
        });
        let template = wide_template(outputs[0].1, cut);
        let launch = Launch::wide_products(count(&matrices), cut);
        let products = kernel.apply(&inputs, &KernelCall::new(&outputs, launch, &template));
        products.try_into().expect("as many as there are matrices")
    }

    /// `x Wᵀ` of a matrix of few rows of tiles, in parts that are still to be added up: f32 `[parts, n, rows]`. None where
    /// parts do not pay.
    pub(crate) fn parts(&self, x: &Array, matrix: &MlxMatrix) -> Option<Array> {
        let (n, _) = sizes(x);
        let (tensor, tiles) = (self.tensor.as_ref()?, matrix.tiles()?);
        let cut = WideCut::new(n, count(&[matrix]));
        if cut.parts == 1 || !(WIDE..=MOST_ROWS).contains(&n) || matrix.dtype() != Dtype::Bfloat16 {
            return None;
        }
        let (kernel, x) = (&tensor.wide_products[0], cast(x, Dtype::Bfloat16));
        let [parts] = self.multiply_wide(kernel, &x, [matrix], &[tiles], cut);
        Some(parts)
    }

    /// `silu(x Gᵀ) * (x Uᵀ)` of few rows, for matrices of tiles: `[n, rows]`.
    pub(crate) fn gated(&self, x: &Array, [gate, up]: [&MlxMatrix; 2]) -> Option<Array> {
        let (n, _) = sizes(x);
        let dtype = Dtype::Bfloat16;
        if n > MOST_ROWS || [gate, up].iter().any(|matrix| matrix.dtype() != dtype) {
            return None;
        }
        let (tensor, tiles) = (self.tensor.as_ref()?, [gate.tiles()?, up.tiles()?]);
        let count = count(&[gate, up]);
        let counts = self.counts([gate.rows(), up.rows()]);
        let x = cast(x, dtype);
        let weights = tiles.iter().flat_map(|tiles| [&tiles.words, &tiles.steps]);
        let inputs: Vec<&Array> = [&x, &counts].into_iter().chain(weights).collect();
        let outputs = [(vec![dim(n), dim(gate.rows())], dtype)];
        Some(only(match n {
            ..WIDE => {
                let cut = ProductCut::gated(n);
                let (launch, template) = (Launch::products(count, cut), template(dtype, cut));
                let call = KernelCall::new(&outputs, launch, &template);
                tensor.gated.apply(&inputs, &call)
            }
            _ => {
                let cut = WideCut::gated(n);
                let launch = Launch::wide_products(count, cut);
                let template = wide_template(dtype, cut);
                let call = KernelCall::new(&outputs, launch, &template);
                tensor.wide_gated.apply(&inputs, &call)
            }
        }))
    }

    /// The matrix `[rows, cols]` that tiles stand for.
    pub(super) fn unpacked(&self, tiles: &Tiles, [rows, cols]: [usize; 2], dtype: Dtype) -> Array {
        let launch = Launch::elements(tiles.words.size() / 128, 128);
        let launch = launch.expect("128 words are a multiple of 32");
        let outputs = [(vec![dim(rows), dim(cols)], dtype)];
        let template = [
            (c"ROWS", int(rows)),
            (c"COLS", int(cols)),
            (c"GROUP", int(launch.group[0])),
            (c"S", TemplateArgument::Type(dtype)),
            (c"T", TemplateArgument::Type(dtype)),
        ];
        let call = KernelCall::new(&outputs, launch, &template);
        only(self.unpack.apply(&[&tiles.words, &tiles.steps], &call))
    }
}

/// The template of a product.
pub(super) fn template(dtype: Dtype, cut: ProductCut) -> [(&'static CStr, TemplateArgument); 7] {
    [
        (c"S", TemplateArgument::Type(dtype)),
        (c"Y", TemplateArgument::Type(dtype)),
        (c"NT", int(cut.nt)),
        (c"MT", int(cut.mt)),
        (c"U", int(cut.unroll)),
        (c"WK", int(cut.wk)),
        (c"RUN", int(cut.run)),
    ]
}

/// The same for more rows.
fn wide_template(output: Dtype, cut: WideCut) -> [(&'static CStr, TemplateArgument); 8] {
    [
        (c"S", TemplateArgument::Type(Dtype::Bfloat16)),
        (c"Y", TemplateArgument::Type(output)),
        (c"NT", int(cut.nt)),
        (c"MT", int(cut.mt)),
        (c"W", int(cut.w)),
        (c"WK", int(cut.wk)),
        (c"RUN", int(cut.run)),
        (c"PARTS", int(cut.parts)),
    ]
}

/// Tiles of all matrices.
fn count(matrices: &[&MlxMatrix]) -> usize {
    let tiles = |matrix: &&MlxMatrix| matrix.rows().div_ceil(TILE_ROWS);
    matrices.iter().map(tiles).sum()
}
