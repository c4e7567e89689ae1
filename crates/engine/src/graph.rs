//! The Qwen3.5 graph: 3 layers of gated delta rule, one of full attention, and so on.
//!
//! Read it beside the formulas in the docs of the operations. Differences between checkpoints were resolved when they were
//! loaded.

use crate::backend::batch::{Batch, SlotId};
use crate::backend::{Backend, Tokens};
use crate::load::model_config::ModelConfig;
use crate::load::weights::{
    FeedForwardWeights, HostExperts, HostMatrix, HostWeights, Layer, MatrixRole, MixerWeights,
    Mover, Weights,
};

/// A model on a backend.
pub struct Model<B: Backend> {
    /// Its shape.
    pub config: ModelConfig,
    backend: B,
    weights: Weights<B::Matrix, B::Experts, B::Vector>,
}

impl<B: Backend> Model<B> {
    /// Moves weights to a backend.
    pub fn new(backend: B, config: ModelConfig, weights: HostWeights) -> Self {
        Self::load(backend, config, weights, |_, _| {})
    }

    /// Moves weights to a backend, one after the other: each is freed on the host before the next is moved. Calls
    /// `progress(done, total)` with bytes.
    pub fn load(
        backend: B,
        config: ModelConfig,
        weights: HostWeights,
        mut progress: impl FnMut(u64, u64),
    ) -> Self {
        let total = weights.bytes();
        let weights = weights.moved(&mut ToBackend {
            backend: &backend,
            done: 0,
            moved: |done| progress(done, total),
        });
        Self {
            config,
            backend,
            weights,
        }
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Memory for `count` sequences.
    pub fn slots(&self, count: usize) -> B::Slots {
        self.backend.slots(&self.config, count)
    }

    /// Continues every sequence of the batch by its rows and returns the logits of the wanted rows,
    /// `[outputs, vocab]`; none where no logits are wanted. Calls `beat` after each layer.
    pub fn forward(
        &self,
        batch: &Batch,
        slots: &mut B::Slots,
        beat: impl FnMut(),
    ) -> Option<B::Tensor> {
        self.pass(batch, Tokens::Known(&batch.tokens), slots, beat)
    }

    /// The same for rows whose tokens another pass has chosen on the device; the token ids of the batch are ignored.
    pub fn follow(
        &self,
        batch: &Batch,
        chosen: &B::Chosen,
        slots: &mut B::Slots,
        beat: impl FnMut(),
    ) -> Option<B::Tensor> {
        self.pass(batch, Tokens::Chosen(chosen), slots, beat)
    }

    fn pass(
        &self,
        batch: &Batch,
        tokens: Tokens<'_, B::Chosen>,
        slots: &mut B::Slots,
        mut beat: impl FnMut(),
    ) -> Option<B::Tensor> {
        self.backend.begin(slots, &batch.segments);
        let logits = self.layers(batch, tokens, slots, &mut beat);
        let logits = self.backend.finish(slots, logits);
        beat();
        logits
    }

    fn layers(
        &self,
        batch: &Batch,
        tokens: Tokens<'_, B::Chosen>,
        slots: &mut B::Slots,
        mut beat: impl FnMut(),
    ) -> Option<B::Tensor> {
        let (backend, weights) = (&self.backend, &self.weights);
        let eps = self.config.rms_eps;
        let mut x = backend.embed(&weights.embed, tokens);
        let mut normed = backend.rms_norm(&x, &weights.layers[0].input_norm, eps);
        for (index, layer) in weights.layers.iter().enumerate() {
            let mixed = self.mix(index, layer, &normed, batch, slots);
            let next = weights.layers.get(index + 1);
            // Past the last mixer rows do not depend on each other: only those whose logits are wanted are computed.
            let (residual, mixed) = if next.is_some() {
                (x, mixed)
            } else if batch.outputs.is_empty() {
                return None;
            } else {
                let select = |t| backend.select_rows(t, &batch.outputs);
                (select(&x), select(&mixed))
            };
            let out = self.mix_out(layer, &mixed);
            let [h, inner] = backend.add_norm(residual, &out, &layer.post_norm, eps);
            let down = self.feed_forward(layer, &inner);
            beat();
            let Some(next) = next else {
                x = backend.add(h, &down);
                break;
            };
            [x, normed] = backend.add_norm(h, &down, &next.input_norm, eps);
            backend.layer_done(index, &x);
        }
        // In full precision, unlike the norms between: logits are as exact as their rows.
        let x = backend.rms_norm(&x, &weights.norm, eps);
        let head = weights.head.as_ref().unwrap_or(&weights.embed);
        let [logits] = backend.project(&x, [head]);
        Some(logits)
    }

    /// Runs everything that the backend compiles on first use, without a request. Calls `beat` after each layer.
    pub fn warm_up(&self, mut beat: impl FnMut()) {
        let mut slots = self.slots(1);
        for &rows in self.backend.warm_up() {
            let mut batch = Batch::default();
            batch.push(SlotId(0), &vec![0; rows], true);
            if let Some(logits) = self.forward(&batch, &mut slots, &mut beat) {
                self.backend.read(logits);
            }
            self.backend.clear(&mut slots, SlotId(0));
        }
    }

    /// The logits of every token of a fresh sequence that is fed chunk by chunk, `[tokens, vocab]`.
    ///
    /// # Panics
    /// If a chunk is empty or a token is outside the vocabulary.
    pub fn logits(&self, chunks: &[&[u32]]) -> Vec<f32> {
        let mut slots = self.slots(1);
        let mut logits = Vec::new();
        for chunk in chunks {
            let mut batch = Batch::default();
            batch.push_scored(SlotId(0), chunk);
            if let Some(rows) = self.forward(&batch, &mut slots, || {}) {
                logits.extend(self.backend.read(rows));
            }
        }
        logits
    }

    /// Mixes tokens, from the normed rows up to but not including the output projection.
    fn mix(
        &self,
        index: usize,
        layer: &Layer<B::Matrix, B::Experts, B::Vector>,
        x: &B::Tensor,
        batch: &Batch,
        slots: &mut B::Slots,
    ) -> B::Tensor {
        let (backend, config, segments) = (&self.backend, &self.config, &batch.segments[..]);
        match &layer.mixer {
            MixerWeights::Attention(w) => {
                let [mut q, mut k, mut v] = backend.project(x, [&w.q, &w.k, &w.v]);
                if let Some([q_bias, k_bias, v_bias, _]) = &w.bias {
                    q = backend.add_bias(q, q_bias);
                    k = backend.add_bias(k, k_bias);
                    v = backend.add_bias(v, v_bias);
                }
                backend.attention(config, w, index, segments, slots, q, k, v)
            }
            MixerWeights::Delta(w) => {
                let [qkv, z, b, a] = backend.project(x, [&w.qkv, &w.z, &w.b, &w.a]);
                backend.delta(config, w, index, segments, slots, qkv, &z, &a, &b)
            }
        }
    }

    /// The feed-forward part, of normed rows.
    fn feed_forward(
        &self,
        layer: &Layer<B::Matrix, B::Experts, B::Vector>,
        x: &B::Tensor,
    ) -> B::Tensor {
        let backend = &self.backend;
        match &layer.feed_forward {
            FeedForwardWeights::Dense(block) => {
                let gated = backend.project_gated(x, [&block.gate, &block.up]);
                backend.project_summand(&gated, &block.down)
            }
            FeedForwardWeights::Experts(weights) => backend.experts(weights, x),
        }
    }

    /// The mixer's output projection.
    fn mix_out(
        &self,
        layer: &Layer<B::Matrix, B::Experts, B::Vector>,
        mixed: &B::Tensor,
    ) -> B::Tensor {
        match &layer.mixer {
            MixerWeights::Attention(w) => match &w.bias {
                Some([.., bias]) => {
                    let [out] = self.backend.project(mixed, [&w.o]);
                    self.backend.add_bias(out, bias)
                }
                None => self.backend.project_summand(mixed, &w.o),
            },
            MixerWeights::Delta(w) => self.backend.project_summand(mixed, &w.out),
        }
    }
}

/// Moves weights to a backend, one after the other, and counts their bytes.
struct ToBackend<'a, B, P> {
    backend: &'a B,
    done: u64,
    /// Is called with the bytes that are there.
    moved: P,
}

impl<B, P: FnMut(u64)> ToBackend<'_, B, P> {
    fn count<T>(&mut self, bytes: usize, moved: T) -> T {
        self.done += bytes as u64;
        (self.moved)(self.done);
        moved
    }
}

impl<B: Backend, P: FnMut(u64)> Mover<HostMatrix, HostExperts, Vec<f32>> for ToBackend<'_, B, P> {
    type Matrix = B::Matrix;
    type Experts = B::Experts;
    type Vector = B::Vector;

    fn matrix(&mut self, matrix: HostMatrix, role: MatrixRole) -> B::Matrix {
        let bytes = matrix.bytes();
        let moved = self.backend.matrix(matrix, role);
        self.count(bytes, moved)
    }

    fn experts(&mut self, experts: HostExperts) -> B::Experts {
        let bytes = experts.bytes();
        let moved = self.backend.expert_matrices(experts);
        self.count(bytes, moved)
    }

    fn vector(&mut self, vector: Vec<f32>) -> B::Vector {
        self.backend.vector(vector)
    }
}
