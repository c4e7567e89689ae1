//! The feed-forward part of a layer. The experts of a mixture come in three layouts: MLX stacks each of their matrices,
//! Hugging Face joins gate and up projections, and recent versions of transformers save every expert by itself.

use super::{TensorReader, WeightsError};
use crate::load::model_config::{FeedForward, ModelConfig};
use crate::load::weights::{
    ExpertsWeights, FeedForwardWeights, GatedWeights, HostExperts, HostMatrix, SharedExpert,
};
use sanctum_kernels::ExpertDims;

impl TensorReader<'_> {
    /// The feed-forward part at `at`.
    pub(super) fn feed_forward(
        &mut self,
        config: &ModelConfig,
        at: &str,
    ) -> Result<FeedForwardWeights<HostMatrix, HostExperts>, WeightsError> {
        let hidden = config.hidden;
        Ok(match &config.feed_forward {
            FeedForward::Dense { intermediate } => {
                FeedForwardWeights::Dense(self.block(at, *intermediate, hidden)?)
            }
            FeedForward::Experts(dims) => FeedForwardWeights::Experts(ExpertsWeights {
                dims: *dims,
                router: self.matrix(&format!("{at}.gate"), dims.experts, hidden)?,
                experts: self.experts(at, dims, hidden)?,
                shared: match dims.shared {
                    0 => None,
                    inner => Some(SharedExpert {
                        gate: self.matrix(&format!("{at}.shared_expert_gate"), 1, hidden)?,
                        block: self.block(&format!("{at}.shared_expert"), inner, hidden)?,
                    }),
                },
            }),
        })
    }

    /// A gated block.
    fn block(
        &mut self,
        at: &str,
        inner: usize,
        hidden: usize,
    ) -> Result<GatedWeights<HostMatrix>, WeightsError> {
        Ok(GatedWeights {
            gate: self.matrix(&format!("{at}.gate_proj"), inner, hidden)?,
            up: self.matrix(&format!("{at}.up_proj"), inner, hidden)?,
            down: self.matrix(&format!("{at}.down_proj"), hidden, inner)?,
        })
    }

    /// The experts, in the layout that has the names of their tensors.
    fn experts(
        &mut self,
        at: &str,
        dims: &ExpertDims,
        hidden: usize,
    ) -> Result<GatedWeights<HostExperts>, WeightsError> {
        let (count, inner) = (dims.experts, dims.intermediate);
        let joined = format!("{at}.experts.gate_up_proj");
        let stacked = format!("{at}.switch_mlp");
        if self.tensors.contains_key(&joined) {
            let gate_up = self.joined(&joined, [count, 2 * inner, hidden])?;
            let [gate, up] = HostExperts::interleaved(gate_up, count);
            let down = self.joined(&format!("{at}.experts.down_proj"), [count, hidden, inner])?;
            let down = HostExperts::stacked(down, count);
            return Ok(GatedWeights { gate, up, down });
        }
        let is_stacked = self
            .tensors
            .contains_key(&format!("{stacked}.gate_proj.weight"));
        let mut read = |part: &str, rows: usize, cols: usize| match is_stacked {
            true => {
                let matrix = self.stored(&format!("{stacked}.{part}"), Some(count), rows, cols)?;
                Ok(HostExperts::stacked(matrix, count))
            }
            false => self.apart(at, part, [count, rows, cols]),
        };
        Ok(GatedWeights {
            gate: read("gate_proj", inner, hidden)?,
            up: read("up_proj", inner, hidden)?,
            down: read("down_proj", hidden, inner)?,
        })
    }

    /// A tensor `[count, rows, cols]` without `.weight` behind its name.
    fn joined(&mut self, name: &str, shape: [usize; 3]) -> Result<HostMatrix, WeightsError> {
        let [count, rows, cols] = shape;
        Ok(HostMatrix {
            rows: count * rows,
            cols,
            storage: self.dense(name, &shape)?,
        })
    }

    /// One matrix for each expert.
    fn apart(
        &mut self,
        at: &str,
        part: &str,
        [count, rows, cols]: [usize; 3],
    ) -> Result<HostExperts, WeightsError> {
        let mut all = Vec::new();
        for expert in 0..count {
            let module = format!("{at}.experts.{expert}.{part}");
            if all.is_empty() && !self.tensors.contains_key(&format!("{module}.weight")) {
                return Err(WeightsError::NoExperts { at: at.to_owned() });
            }
            let matrix = self.stored(&module, None, rows, cols)?;
            if all.first().is_some_and(|first| !matrix.is_alike(first)) {
                return Err(WeightsError::UnlikeExperts { module });
            }
            all.push(matrix);
        }
        Ok(HostExperts::apart(all))
    }
}
