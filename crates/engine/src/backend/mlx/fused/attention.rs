//! Attention over pages.

use super::*;

impl Fused {
    /// Whether attention can be ours.
    pub(crate) fn attends(&self, dims: &AttentionDims) -> bool {
        [32, 64, 128, 256].contains(&dims.head_dim) && dims.heads / dims.kv_heads <= 8
    }

    /// Queries (`stride` 2 D, the gates between them) or keys (`stride` D) of `x`, `[N, heads * stride]`, normed and
    /// rotated: `[N, heads, head_dim]`.
    pub(crate) fn placed(
        &self,
        p: &composed::AttentionParameters<'_>,
        x: &Array,
        norm: &Array,
        [heads, stride]: [usize; 2],
        plan: &Plan,
    ) -> Array {
        let (rows, _) = sizes(x);
        let width = p.dims.head_dim;
        let outputs = [([rows, heads, width].map(dim).to_vec(), x.dtype())];
        let template = [
            (c"H", int(heads)),
            (c"D", int(width)),
            (c"STRIDE", int(stride)),
            (c"ROTARY", int(p.dims.rotary_dim)),
            (c"T", TemplateArgument::Type(x.dtype())),
        ];
        let call = KernelCall::new(&outputs, Launch::heads(rows, heads), &template);
        let numbers = self.numbers([p.eps, p.theta.ln()]);
        let inputs = [x, norm, &plan.positions, &numbers];
        only(self.placed.apply(&inputs, &call))
    }

    /// Whether [`Self::placed_store`] can be used.
    pub(crate) fn stores(&self) -> bool {
        self.tensor.is_some()
    }

    /// Queries of `q`, `[N, heads * 2 * head_dim]`, normed and rotated: `[N, heads, head_dim]`. Writes the keys of `k`, treated
    /// likewise, and `v`, both `[N, kv_heads * head_dim]`, to the plan's places of the pools: in place.
    pub(crate) fn placed_store(
        &self,
        p: &composed::AttentionParameters<'_>,
        [q, k, v]: [&Array; 3],
        [keys, values]: [&Array; 2],
        plan: &Plan,
    ) -> Array {
        let tensor = self.tensor.as_ref().expect("CUDA, as `stores` says");
        let (rows, _) = sizes(q);
        let [heads, kv_heads, width] = [p.dims.heads, p.dims.kv_heads, p.dims.head_dim];
        let outputs = [([rows, heads, width].map(dim).to_vec(), q.dtype())];
        let template = [
            (c"H", int(heads)),
            (c"HKV", int(kv_heads)),
            (c"D", int(width)),
            (c"ROTARY", int(p.dims.rotary_dim)),
            (c"T", TemplateArgument::Type(q.dtype())),
        ];
        let launch = Launch::heads(rows, heads + 2 * kv_heads);
        let numbers = self.numbers([p.eps, p.theta.ln()]);
        let inputs = [
            q,
            k,
            v,
            p.q_norm,
            p.k_norm,
            &plan.positions,
            &plan.places,
            &numbers,
            keys,
            values,
        ];
        let call = KernelCall::new(&outputs, launch, &template);
        only(tensor.placed_store.apply(&inputs, &call))
    }

    /// Values `[N, kv_heads, head_dim]` as codes `[N, kv_heads, head_dim * bits / 32]`, scales and zeros `[N, kv_heads,
    /// head_dim / 64]`.
    pub(crate) fn packed(&self, values: &Array, bits: usize) -> Vec<Array> {
        let shape = values.shape();
        let (rows, width) = (&shape[..2], shape[2] as usize);
        let of = |width: usize| [rows, &[dim(width)]].concat();
        let steps = width / KvMode::GROUP;
        let outputs = [
            (of(width * bits / 32), Dtype::Uint32),
            (of(steps), Dtype::Float16),
            (of(steps), Dtype::Float16),
        ];
        let template = [
            (c"BITS", int(bits)),
            (c"T", TemplateArgument::Type(values.dtype())),
        ];
        let launch = Launch::heads(values.size() / KvMode::GROUP, 1);
        let call = KernelCall::new(&outputs, launch, &template);
        self.quantize_v.apply(&[values], &call)
    }

    /// Attention of `q`, `[N, heads, head_dim]`, over the pools of keys and values, times the sigmoid of the gates, which
    /// stand in `gated`, `[N, heads * 2 * head_dim]`; `[N, heads * head_dim]`.
    pub(crate) fn attend(
        &self,
        dims: &AttentionDims,
        kv_cache: KvMode,
        q: &Array,
        gated: &Array,
        pools: &[Array],
        plan: &Plan,
    ) -> Array {
        let (rows, heads, width) = (q.shape()[0] as usize, dims.heads, dims.head_dim);
        let tensor = self.tensor.as_ref().filter(|_| {
            kv_cache == KvMode::Plain
                && q.dtype() == Dtype::Bfloat16
                && [64, 128, 256].contains(&width)
                && heads / dims.kv_heads <= 8
        });
        let [acc, stats] = match tensor {
            Some(tensor) => self.attend_tensor(tensor, dims, q, pools, plan),
            None => self.attend_plain(dims, kv_cache, q, pools, plan),
        };
        let dtype = (c"T", TemplateArgument::Type(q.dtype()));
        let outputs = [(vec![dim(rows), dim(heads * width)], gated.dtype())];
        let template = [(c"D", int(width)), dtype];
        let call = KernelCall::new(&outputs, Launch::rows(rows * heads, width), &template);
        only(self.attention_end.apply(&[&acc, &stats, gated], &call))
    }

    /// The parts of attention, lane by lane.
    fn attend_plain(
        &self,
        dims: &AttentionDims,
        kv_cache: KvMode,
        q: &Array,
        pools: &[Array],
        plan: &Plan,
    ) -> [Array; 2] {
        let rows = q.shape()[0] as usize;
        let [heads, kv_heads, width] = [dims.heads, dims.kv_heads, dims.head_dim];
        // Few rows leave most of the GPU idle, unless a sequence is read in parts.
        let span = if rows * kv_heads < ENOUGH {
            SPAN
        } else {
            1 << 20
        };
        let spans = plan.longest.div_ceil(span);
        let outputs = [
            (
                [spans, rows, heads, width].map(dim).to_vec(),
                Dtype::Float32,
            ),
            ([spans, rows, heads, 2].map(dim).to_vec(), Dtype::Float32),
        ];
        let mut template = vec![
            (c"G", int(heads / kv_heads)),
            (c"HKV", int(kv_heads)),
            (c"D", int(width)),
            (c"PAGE", int(PAGE)),
            (c"KEYS", int(4)),
            (c"SPAN", int(span)),
            (c"WARPS", int(WARPS)),
            (c"T", TemplateArgument::Type(q.dtype())),
        ];
        template.extend(kv_cache.bits().map(|bits| (c"BITS", int(bits))));
        let call = KernelCall::new(
            &outputs,
            Launch::attention(rows, kv_heads, spans, WARPS),
            &template,
        );
        let scale = self.numbers([dims.scale()]);
        let inputs: Vec<&Array> = std::iter::once(q)
            .chain(pools)
            .chain([&plan.rows, &plan.table, &scale])
            .collect();
        let kernel = match kv_cache {
            KvMode::Plain => &self.sdpa_plain,
            KvMode::V8 | KvMode::V4 => &self.sdpa_packed,
        };
        two(kernel.apply(&inputs, &call))
    }

    /// The parts of attention on tensor cores: of plain bf16 values.
    fn attend_tensor(
        &self,
        tensor: &TensorCoreKernels,
        dims: &AttentionDims,
        q: &Array,
        pools: &[Array],
        plan: &Plan,
    ) -> [Array; 2] {
        let rows = q.shape()[0] as usize;
        let [heads, kv_heads, width] = [dims.heads, dims.kv_heads, dims.head_dim];
        let units = plan.units(heads / kv_heads);
        let (kernel, groups, spans, pages) = match plan.each_alone() {
            true => {
                let all = plan.longest.div_ceil(PAGE);
                let pages = (all * rows * kv_heads).div_ceil(ENOUGH_TENSOR);
                let pages = pages.min(all).max(1);
                (&tensor.sdpa_rows, rows, all.div_ceil(pages), pages)
            }
            false => (&tensor.sdpa_segments, units.shape()[0] as usize, 1, 0),
        };
        let outputs = [
            (
                [spans, rows, heads, width].map(dim).to_vec(),
                Dtype::Float32,
            ),
            ([spans, rows, heads, 2].map(dim).to_vec(), Dtype::Float32),
        ];
        let template = [
            (c"G", int(heads / kv_heads)),
            (c"HKV", int(kv_heads)),
            (c"D", int(width)),
        ];
        let launch = Launch::attention(groups, kv_heads, spans, TENSOR_WARPS);
        let call = KernelCall::new(&outputs, launch, &template);
        let (sizes, scale) = (self.counts([pages]), self.numbers([dims.scale()]));
        let inputs: Vec<&Array> = std::iter::once(q)
            .chain(pools)
            .chain([&plan.rows, &plan.table, units, &sizes, &scale])
            .collect();
        two(kernel.apply(&inputs, &call))
    }
}
