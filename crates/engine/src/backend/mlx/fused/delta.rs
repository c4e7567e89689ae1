//! The layers of the delta rule: convolution, rule and norm.

use super::*;

impl Fused {
    /// The norm of `y`, f32 `[N, H, D]`, gated by `z`, `[N, H * D]`; of the type of `z`.
    pub(crate) fn gated_norm(
        &self,
        y: &Array,
        z: &Array,
        weight: &Array,
        eps: f32,
    ) -> Option<Array> {
        let [rows, heads, width] = y.shape() else {
            return None;
        };
        if width % 32 != 0 {
            return None;
        }
        let outputs = [(shape(z), z.dtype())];
        let template = [
            (c"D", TemplateArgument::Int(*width)),
            (c"T", TemplateArgument::Type(z.dtype())),
        ];
        let launch = Launch::heads(*rows as usize, *heads as usize);
        let call = KernelCall::new(&outputs, launch, &template);
        Some(only(
            self.gated_norm
                .apply(&[y, z, weight, &self.numbers([eps])], &call),
        ))
    }

    /// The short convolution of `x`, `[N, C]`, and the tails it leaves; both of the type of `x`.
    pub(crate) fn short_conv(
        &self,
        dims: &ConvDims,
        x: &Array,
        weight: &Array,
        tails: Option<&Array>,
        plan: &Recurrent,
    ) -> Option<(Array, Option<Array>)> {
        let (rows, channels) = sizes(x);
        let left = plan.tails.shape()[0] as usize;
        let launch = Launch::channels(rows + left, channels).filter(|_| left > 0)?;
        let none;
        let tails = match tails {
            Some(tails) => tails,
            None => {
                none = must(zeros_dtype(&[1, dim(channels)], x.dtype()));
                &none
            }
        };
        let outputs = [
            (shape(x), x.dtype()),
            (vec![dim(left), dim(channels)], x.dtype()),
        ];
        let template = [
            (c"C", int(channels)),
            (c"TAPS", int(dims.kernel)),
            (c"GROUP", int(launch.group[0])),
            (c"T", TemplateArgument::Type(x.dtype())),
        ];
        let inputs = [x, weight, tails, &plan.seen, &plan.tails, &plan.counts];
        let call = KernelCall::new(&outputs, launch, &template);
        let [out, after] = two(self.short_conv.apply(&inputs, &call));
        Some((out, Some(after)))
    }

    /// The delta rule: `[N, value_heads, value_dim]` in f32 and the new states.
    pub(crate) fn gated_delta(
        &self,
        dims: &DeltaDims,
        [qkv, a, b]: [&Array; 3],
        [a_log, dt_bias]: [&Array; 2],
        states: Option<&Array>,
        plan: &Recurrent,
    ) -> Option<(Array, Array)> {
        if !dims.key_dim.is_multiple_of(32) || dims.key_dim > 256 {
            return None;
        }
        let (rows, _) = sizes(qkv);
        let [heads, lines, keys] = [dims.value_heads, dims.value_dim, dims.key_dim];
        let none;
        let states = match states {
            Some(states) => states,
            None => {
                none = must(zeros_dtype(&[8], Dtype::Float32));
                &none
            }
        };
        let segments = plan.order.len();
        let [together, tile] = Launch::delta_tile(keys, lines);
        let outputs = [
            (vec![dim(rows), dim(heads), dim(lines)], Dtype::Float32),
            (
                [segments, heads, lines, keys].map(dim).to_vec(),
                Dtype::Float32,
            ),
        ];
        let template = [
            (c"HK", int(dims.key_heads)),
            (c"HV", int(heads)),
            (c"DK", int(keys)),
            (c"DV", int(lines)),
            (c"LINES", int(together)),
            (c"TILE", int(tile)),
            (c"T", TemplateArgument::Type(qkv.dtype())),
        ];
        let launch = Launch::delta(segments, heads, lines, together);
        let inputs = [qkv, a, b, a_log, dt_bias, states, &plan.segments];
        let call = KernelCall::new(&outputs, launch, &template);
        let [y, after] = two(self.gated_delta.apply(&inputs, &call));
        Some((y, after))
    }

    /// Convolution, delta rule and gated norm of one row of each sequence, `[N, value_heads * value_dim]`; `memory` is what
    /// the row leaves.
    pub(crate) fn delta_step(
        &self,
        config: &ModelConfig,
        [conv, a_log, dt_bias, norm]: [&Array; 4],
        memory: &mut RecurrentRows,
        [qkv, a, b, z]: [&Array; 4],
        plan: &Recurrent,
    ) -> Option<Array> {
        let dims = &config.delta;
        let [heads, lines, keys] = [dims.value_heads, dims.value_dim, dims.key_dim];
        // A head's state is held in a group's registers.
        let fits = keys.is_multiple_of(32) && lines.is_multiple_of(32) && keys * lines <= 128 * 128;
        let (kernel, channels) = (config.conv.kernel, config.conv.channels);
        let left = plan.tails.shape()[0] as usize;
        if !fits || left == 0 {
            return None;
        }
        let dtype = qkv.dtype();
        let tails = memory.tails.take();
        let tails = tails.unwrap_or_else(|| must(zeros_dtype(&[1, dim(channels)], dtype)));
        let states = memory.states.take();
        let states = states.unwrap_or_else(|| must(zeros_dtype(&[8], Dtype::Float32)));
        let segments = plan.order.len();
        let outputs = [
            (shape(z), dtype),
            (vec![dim(left), dim(channels)], dtype),
            (
                [segments, heads, lines, keys].map(dim).to_vec(),
                Dtype::Float32,
            ),
        ];
        let template = [
            (c"HK", int(dims.key_heads)),
            (c"HV", int(heads)),
            (c"DK", int(keys)),
            (c"DV", int(lines)),
            (c"TAPS", int(kernel)),
            (c"WARPS", int(Launch::STEP_WARPS)),
            (c"T", TemplateArgument::Type(dtype)),
        ];
        let eps = self.numbers([config.rms_eps]);
        let inputs = [
            qkv,
            conv,
            &tails,
            &plan.seen,
            &plan.tails,
            &plan.counts,
            a,
            b,
            a_log,
            dt_bias,
            &states,
            &plan.segments,
            z,
            norm,
            &eps,
        ];
        let call = KernelCall::new(&outputs, Launch::delta_step(segments, heads), &template);
        let mut results = self.delta_step.apply(&inputs, &call);
        memory.states = results.pop();
        memory.tails = results.pop();
        results.pop()
    }
}
