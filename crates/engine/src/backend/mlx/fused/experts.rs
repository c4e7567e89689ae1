//! Mixtures of experts.

use super::products::template;
use super::*;

/// Experts that [`gpu::route`] chooses among, and the most that it chooses.
const ROUTED: [usize; 2] = [1024, 32];

impl Fused {
    /// The experts of each row and their shares, `[N, per_token]`, of logits `[N, experts]`.
    pub(crate) fn route(&self, logits: &Array, per_token: usize) -> Option<[Array; 2]> {
        let (rows, experts) = sizes(logits);
        if experts > ROUTED[0] || per_token > ROUTED[1] {
            return None;
        }
        let shape = vec![dim(rows), dim(per_token)];
        let outputs = [(shape.clone(), Dtype::Uint32), (shape, Dtype::Float32)];
        let template = [
            (c"E", int(experts)),
            (c"K", int(per_token)),
            (c"L", TemplateArgument::Type(logits.dtype())),
        ];
        let call = KernelCall::new(&outputs, Launch::heads(rows, 1), &template);
        Some(two(self.route.apply(&[logits], &call)))
    }

    /// The sum of `y`, `[N, per_token, W]`, by `shares`, and of a shared expert's part, `[gate, result]`: f32 `[N, W]`.
    pub(crate) fn mix(
        &self,
        y: &Array,
        shares: &Array,
        shared: Option<&[Array; 2]>,
    ) -> Option<Array> {
        let &[rows, per_token, width] = y.shape() else {
            return None;
        };
        let launch = Launch::elements(rows as usize, width as usize)?;
        // What is not read.
        let nothing = [shares.clone(), y.clone()];
        let [gate, result] = shared.unwrap_or(&nothing);
        let result = cast(result, y.dtype());
        let template = [
            (c"W", TemplateArgument::Int(width)),
            (c"K", TemplateArgument::Int(per_token)),
            (c"SHARED", int(shared.is_some().into())),
            (c"GROUP", int(launch.group[0])),
            (c"T", TemplateArgument::Type(y.dtype())),
            (c"G", TemplateArgument::Type(gate.dtype())),
        ];
        let outputs = [(vec![rows, width], Dtype::Float32)];
        let call = KernelCall::new(&outputs, launch, &template);
        Some(only(self.mix.apply(&[y, shares, gate, &result], &call)))
    }

    /// What the experts `chosen`, `[N, per_token]`, make of each row of `x`, `[N, hidden]`: `[N * per_token, hidden]`. None
    /// for matrices without tiles, and where many rows are better multiplied with unpacked ones.
    pub(crate) fn experts(
        &self,
        weights: &GatedWeights<MlxExperts>,
        x: &Array,
        chosen: &Array,
    ) -> Option<Array> {
        let GatedWeights { gate, up, down } = weights;
        let places = chosen.size();
        if gate.unpacks(places) || down.unpacks(places) {
            return None;
        }
        let tensor = self.tensor.as_ref()?;
        let both = [gate.tiles()?, up.tiles()?];
        let last = [down.tiles()?];
        let (rows, _) = sizes(x);
        let share = places / rows;
        let chosen = reshape(chosen, &[dim(places)]);
        let dtype = Dtype::Bfloat16;
        let launch = |experts: &MlxExperts, matrices: usize, cut: ProductCut| {
            Launch::products(matrices * places * experts.rows() / TILE_ROWS, cut)
        };
        let apply = |kernel: &CustomKernel,
                     x: &Array,
                     experts: &MlxExperts,
                     tiles: &[&Tiles],
                     share: usize,
                     cut: ProductCut| {
            let counts = self.counts([experts.rows()]);
            let weights = tiles.iter().flat_map(|tiles| [&tiles.words, &tiles.steps]);
            let inputs: Vec<&Array> = [x, &counts, &chosen].into_iter().chain(weights).collect();
            let outputs = [(vec![dim(places), dim(experts.rows())], dtype)];
            let mut arguments = template(dtype, cut).to_vec();
            arguments.push((c"SHARE", int(share)));
            let call = KernelCall::new(&outputs, launch(experts, tiles.len(), cut), &arguments);
            only(kernel.apply(&inputs, &call))
        };
        let x = cast(x, dtype);
        let cut = ProductCut::gated(1);
        let inner = apply(&tensor.gated_places, &x, gate, &both, share, cut);
        let cut = ProductCut::places();
        Some(apply(&tensor.places, &inner, down, &last, 1, cut))
    }

    /// `x Wᵀ` with unpacked matrices of tiles: `[places, 1, cols]` to `[places, 1, rows]`. None for matrices without tiles.
    pub(crate) fn unpacked_products(
        &self,
        matrices: &MlxExperts,
        x: &Array,
        experts: &Array,
        sorted: bool,
    ) -> Option<Array> {
        let tiles = matrices.tiles()?;
        let (count, rows, cols) = (matrices.count(), matrices.rows(), matrices.cols());
        let w = self.unpacked(tiles, [count * rows, cols], matrices.dtype());
        let w = reshape(&w, &[count, rows, cols].map(dim));
        Some(MlxExperts::dense_products(&w, x, experts, sorted))
    }
}
