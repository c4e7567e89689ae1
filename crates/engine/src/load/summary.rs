//! What a loaded model is: its parameters, how they are stored, and what of them a token uses.

use std::collections::BTreeMap;
use std::fmt;

use super::weights::{
    FeedForwardWeights, GatedWeights, HostExperts, HostMatrix, HostWeights, MixerWeights, Storage,
};
use sanctum_kernels::cpu::{BlockFormat, Float};

/// The matrices of a model, summed up by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSummary {
    /// Each kind of module that the model has, in the order of the forward pass.
    pub modules: Vec<ModuleSummary>,
}

/// The matrices of one kind of module, those of all layers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSummary {
    /// Which.
    pub kind: ModuleKind,
    /// Parameters by how they are stored.
    pub stored: BTreeMap<StoredAs, u64>,
    /// All of them.
    pub parameters: u64,
    /// Bytes of them, scales included.
    pub bytes: u64,
    /// Parameters that the computation of a token uses.
    pub active: u64,
    /// Bytes that a pass of one token reads on the cpu backend.
    pub active_bytes: u64,
}

/// What matrices are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// The embedding.
    Embedding,
    /// Projections of full attention.
    Attention,
    /// Projections of linear attention.
    LinearAttention,
    /// Feed-forward blocks.
    FeedForward,
    /// Routers of mixtures, and the gates of their shared experts.
    Router,
    /// Routed experts.
    Experts,
    /// Shared experts.
    SharedExpert,
    /// The output matrix.
    Output,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredAs {
    /// So many bits, in groups of so many that share a scale and a bias.
    Affine {
        /// Bits a weight.
        bits: u8,
        /// Weights a group.
        group: usize,
    },
    /// Small floating-point elements with a scale a block.
    Blocks(BlockFormat),
    /// Floating-point numbers of so many bytes, and their name.
    Float(usize, &'static str),
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ModuleKind::Embedding => "embedding",
            ModuleKind::Attention => "attention",
            ModuleKind::LinearAttention => "linear attention",
            ModuleKind::FeedForward => "feed-forward",
            ModuleKind::Router => "routers",
            ModuleKind::Experts => "experts",
            ModuleKind::SharedExpert => "shared experts",
            ModuleKind::Output => "output matrix",
        })
    }
}

impl fmt::Display for StoredAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoredAs::Affine { bits, group } => write!(f, "{bits} bits in groups of {group}"),
            StoredAs::Blocks(format) => write!(f, "{format}"),
            StoredAs::Float(_, name) => f.write_str(name),
        }
    }
}

impl ModelSummary {
    /// Sums up all matrices.
    pub fn of(weights: &HostWeights) -> Self {
        let mut summary = Self::default();
        // Where the embedding is the output matrix too, it is read as that.
        let looked_up = weights.head.is_some();
        summary.add(ModuleKind::Embedding, &weights.embed, !looked_up);
        for layer in &weights.layers {
            let (kind, matrices) = match &layer.mixer {
                MixerWeights::Attention(w) => (ModuleKind::Attention, vec![&w.q, &w.k, &w.v, &w.o]),
                MixerWeights::Delta(w) => (
                    ModuleKind::LinearAttention,
                    vec![&w.qkv, &w.z, &w.b, &w.a, &w.out],
                ),
            };
            for matrix in matrices {
                summary.add(kind, matrix, true);
            }
            match &layer.feed_forward {
                FeedForwardWeights::Dense(block) => {
                    summary.add_block(ModuleKind::FeedForward, block)
                }
                FeedForwardWeights::Experts(w) => {
                    summary.add(ModuleKind::Router, &w.router, true);
                    for experts in w.experts.each() {
                        summary.add_experts(experts, w.dims.per_token);
                    }
                    if let Some(shared) = &w.shared {
                        summary.add(ModuleKind::Router, &shared.gate, true);
                        summary.add_block(ModuleKind::SharedExpert, &shared.block);
                    }
                }
            }
        }
        if let Some(head) = &weights.head {
            summary.add(ModuleKind::Output, head, true);
        }
        summary
    }

    /// All parameters.
    pub fn parameters(&self) -> u64 {
        self.modules.iter().map(|module| module.parameters).sum()
    }

    /// Parameters that the computation of a token uses.
    pub fn active(&self) -> u64 {
        self.modules.iter().map(|module| module.active).sum()
    }

    /// Bytes of weights that a pass of one token reads on the cpu backend.
    pub fn active_bytes(&self) -> u64 {
        self.modules.iter().map(|module| module.active_bytes).sum()
    }

    fn add(&mut self, kind: ModuleKind, matrix: &HostMatrix, active: bool) {
        let parameters = (matrix.rows * matrix.cols) as u64;
        let share = u64::from(active);
        let module = self.module(kind);
        *module.stored.entry(stored_as(matrix)).or_default() += parameters;
        module.parameters += parameters;
        module.bytes += matrix.bytes() as u64;
        module.active += share * parameters;
        module.active_bytes += share * matrix.cpu_bytes() as u64;
    }

    fn add_block(&mut self, kind: ModuleKind, block: &GatedWeights<HostMatrix>) {
        for matrix in block.each() {
            self.add(kind, matrix, true);
        }
    }

    fn add_experts(&mut self, experts: &HostExperts, used: usize) {
        let (all, used) = (experts.count() as u64, used as u64);
        let parameters = (experts.rows() * experts.cols()) as u64;
        let module = self.module(ModuleKind::Experts);
        *module
            .stored
            .entry(stored_as(experts.sample()))
            .or_default() += all * parameters;
        module.parameters += all * parameters;
        module.bytes += experts.bytes() as u64;
        module.active += used * parameters;
        module.active_bytes += used * experts.expert_bytes_by(HostMatrix::cpu_bytes) as u64;
    }

    /// The sums of a kind.
    fn module(&mut self, kind: ModuleKind) -> &mut ModuleSummary {
        let index = self.modules.iter().position(|module| module.kind == kind);
        let index = index.unwrap_or_else(|| {
            self.modules.push(ModuleSummary {
                kind,
                stored: BTreeMap::new(),
                parameters: 0,
                bytes: 0,
                active: 0,
                active_bytes: 0,
            });
            self.modules.len() - 1
        });
        &mut self.modules[index]
    }
}

fn stored_as(matrix: &HostMatrix) -> StoredAs {
    match &matrix.storage {
        Storage::Affine { affine, .. } => StoredAs::Affine {
            bits: affine.bits,
            group: affine.group,
        },
        Storage::Blocks { format, .. } => StoredAs::Blocks(*format),
        Storage::Dense { float, .. } => StoredAs::Float(
            float.size(),
            match float {
                Float::F32 => "f32",
                Float::F16 => "f16",
                Float::Bf16 => "bf16",
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::{self, Shape};
    use crate::load::{FeedForward, Mixer, ModelConfig};
    use sanctum_kernels::ExpertDims;

    #[test]
    fn a_token_uses_its_experts_and_not_the_embedding() {
        let config = ModelConfig {
            hidden: 128,
            feed_forward: FeedForward::Experts(ExpertDims::new(16, 2, 64, 64).unwrap()),
            layers: vec![Mixer::Delta, Mixer::Attention],
            vocab: 256,
            ..Shape::B35A3.config()
        };
        let weights = random::weights(&config, &mut |_, _| {});
        let summary = ModelSummary::of(&weights);
        let of = |kind| summary.modules.iter().find(|m| m.kind == kind).unwrap();
        let experts = of(ModuleKind::Experts);
        assert_eq!(experts.parameters, 2 * 16 * 3 * 64 * 128);
        assert_eq!(experts.active, experts.parameters / 8);
        assert_eq!(experts.active_bytes, experts.bytes / 8);
        let form = StoredAs::Affine { bits: 4, group: 64 };
        assert_eq!(experts.stored[&form], experts.parameters);
        let routers = of(ModuleKind::Router);
        assert_eq!(routers.parameters, 2 * 17 * 128);
        assert!(
            routers
                .stored
                .keys()
                .all(|form| form.to_string() == "8 bits in groups of 64")
        );
        assert_eq!(of(ModuleKind::Embedding).active_bytes, 0);
        let unused = experts.bytes / 8 * 7 + of(ModuleKind::Embedding).bytes;
        assert_eq!(summary.active_bytes(), weights.bytes() - unused);

        // Where there is no output matrix, the embedding is read as one.
        let config = ModelConfig {
            tied: true,
            ..config
        };
        let weights = random::weights(&config, &mut |_, _| {});
        let summary = ModelSummary::of(&weights);
        let embedding = &summary.modules[0];
        assert_eq!(embedding.active, embedding.parameters);
        assert!(summary.modules.iter().all(|m| m.kind != ModuleKind::Output));
    }
}
