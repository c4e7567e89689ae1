//! A small model of random weights, and engines that run it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use sanctum_engine::backend::{Backend, CpuBackend, KvMode, Precision, SequenceCost};
#[cfg(feature = "mlx")]
use sanctum_engine::backend::{MlxBackend, MlxDevice};
use sanctum_engine::graph::Model;
use sanctum_engine::load::random::{self, Shape};
use sanctum_engine::load::{FeedForward, Mixer, ModelConfig, ModelSource};
use sanctum_engine::prefix::{PrefixOptions, Reuse, Scope};
use sanctum_engine::sampling::Sampling;
use sanctum_engine::schedule::{
    Engine, EngineLimits, Event, FinishReason, Generation, Heartbeat, Request, Usage,
};
use sanctum_engine::text::Text;
use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, ExpertDims};

/// Tokens of the model.
pub(crate) const VOCAB: u32 = 64;
/// Ends a message.
pub(crate) const END: u32 = 1;

/// What runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TestDevice {
    Cpu,
    #[cfg(feature = "mlx")]
    Mlx,
}

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Arithmetic {
    pub(crate) device: TestDevice,
    pub(crate) precision: Precision,
    pub(crate) kv_cache: KvMode,
    pub(crate) threads: usize,
    /// Whether the model is a mixture of experts.
    pub(crate) experts: bool,
}

/// The quickest.
pub(crate) const FAST: Arithmetic = Arithmetic {
    device: TestDevice::Cpu,
    precision: Precision::Fast,
    kv_cache: KvMode::Plain,
    threads: 1,
    experts: false,
};

pub(crate) const LIMITS: EngineLimits = EngineLimits {
    slots: 4,
    queue: 64,
    prefill_chunk: 16,
    context: 4096,
};

/// Two layers of the gated delta rule around one of attention.
pub(crate) fn config(experts: bool) -> ModelConfig {
    let delta = DeltaDims::new(1, 2, 32, 32).unwrap();
    ModelConfig {
        hidden: 64,
        feed_forward: match experts {
            false => FeedForward::Dense { intermediate: 64 },
            true => FeedForward::Experts(ExpertDims::new(6, 2, 64, 64).unwrap()),
        },
        layers: vec![Mixer::Delta, Mixer::Attention, Mixer::Delta],
        vocab: VOCAB as usize,
        context: LIMITS.context,
        attention: AttentionDims::new(2, 1, 64, 16).unwrap(),
        conv: ConvDims::new(delta.qkv_len(), 4).unwrap(),
        delta,
        ..Shape::B0_8.config()
    }
}

pub(crate) fn model(arithmetic: Arithmetic) -> Model<CpuBackend> {
    let config = config(arithmetic.experts);
    let weights = random::weights(&config, &mut |_, _| {});
    let backend = CpuBackend::new(&config, arithmetic.threads, arithmetic.precision)
        .with_kv_cache(arithmetic.kv_cache);
    Model::new(backend, config, weights)
}

#[cfg(feature = "mlx")]
fn mlx_model(arithmetic: Arithmetic) -> Model<MlxBackend> {
    let config = config(arithmetic.experts);
    let weights = random::weights(&config, &mut |_, _| {});
    let device = MlxDevice::best();
    let backend = MlxBackend::new(device, &weights, arithmetic.threads, arithmetic.precision)
        .with_kv_cache(arithmetic.kv_cache);
    Model::new(backend, config, weights)
}

/// What a sequence takes.
pub(crate) fn cost(arithmetic: Arithmetic) -> SequenceCost {
    match arithmetic.device {
        TestDevice::Cpu => model(arithmetic)
            .backend()
            .cost(&config(arithmetic.experts)),
        #[cfg(feature = "mlx")]
        TestDevice::Mlx => mlx_model(arithmetic)
            .backend()
            .cost(&config(arithmetic.experts)),
    }
}

/// The built-in model's text side, with a token of the small vocabulary at the end of messages.
fn text() -> Text {
    static TEXT: LazyLock<Text> = LazyLock::new(|| {
        let mut text = Text::open(&ModelSource::Embedded, &config(false)).unwrap();
        text.eos = vec![END];
        text.message_ends = vec![END];
        text
    });
    TEXT.clone()
}

/// An engine that reuses prefixes, however short.
pub(crate) fn reusing() -> PrefixOptions {
    PrefixOptions {
        least: 1,
        ..PrefixOptions::default()
    }
}

pub(crate) fn engine(
    arithmetic: Arithmetic,
    memory: u64,
    prefix: PrefixOptions,
    limits: EngineLimits,
) -> Engine {
    let heartbeat = Arc::new(Heartbeat::new());
    let engine = match arithmetic.device {
        TestDevice::Cpu => {
            let model = model(arithmetic);
            Engine::start_with(memory, prefix, model, text(), limits, heartbeat)
        }
        #[cfg(feature = "mlx")]
        TestDevice::Mlx => {
            let model = mlx_model(arithmetic);
            Engine::start_with(memory, prefix, model, text(), limits, heartbeat)
        }
    };
    engine.unwrap()
}

/// A greedy request with the log probabilities of the whole vocabulary.
pub(crate) fn request(prompt: &[u32], max_tokens: usize) -> Request {
    Request {
        prompt: prompt.to_vec(),
        max_tokens,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: Some(VOCAB as usize),
        score_prompt: false,
        constraint: None,
        ignore_eos: true,
        reuse: Reuse::Scope(Scope::default()),
    }
}

/// An answer and what it was chosen from: equal ones come from logits that are equal in every bit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GeneratedAnswer {
    pub(crate) ids: Vec<u32>,
    pub(crate) reason: FinishReason,
    /// Of each token, the bits of the log probabilities of all tokens.
    pub(crate) bits: Vec<Vec<(u32, u32)>>,
}

/// Reads all of an answer.
pub(crate) fn answer(mut generation: Generation) -> (GeneratedAnswer, Usage) {
    let (mut ids, mut bits) = (Vec::new(), Vec::new());
    loop {
        match generation.blocking_next() {
            Some(Event::Token { id, logprob, .. }) => {
                ids.push(id);
                let top = logprob.map(|logprob| logprob.top).unwrap_or_default();
                bits.push(top.iter().map(|&(id, p)| (id, p.to_bits())).collect());
            }
            Some(Event::Finished { reason, usage, .. }) => {
                return (GeneratedAnswer { ids, reason, bits }, usage);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Tokens of messages that differ with `seed`, without an end.
pub(crate) fn words(len: usize, seed: u32) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        2 + state % (VOCAB - 2)
    };
    (0..len).map(word).collect()
}

/// Waits until a counter has reached a number.
pub(crate) fn wait_for(counter: &AtomicU64, least: u64) {
    while counter.load(Relaxed) < least {
        std::thread::yield_now();
    }
}

/// Waits until the engine has nothing to do.
pub(crate) fn wait_until_idle(engine: &Engine) {
    let is_busy = || {
        let pulse = engine.heartbeat().read();
        pulse.in_flight + pulse.queued > 0
    };
    while is_busy() {
        std::thread::yield_now();
    }
}
