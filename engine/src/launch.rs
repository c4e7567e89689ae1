//! From a source to a running engine: load, choose the backend, start the thread.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::backend::{CpuBackend, Precision};
use crate::engine::{Engine, Limits};
use crate::graph::Model;
use crate::heartbeat::Heartbeat;
use crate::load::{LoadError, Loaded, Source};
use crate::manifest::Verified;

/// How a model is run.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchOptions {
    /// f32 activations, or the fast path's.
    pub precision: Precision,
    /// Worker threads; none: all cores.
    pub threads: Option<NonZeroUsize>,
    /// Caps the context, in tokens; none: the model's own.
    pub max_context: Option<NonZeroUsize>,
    /// Sequences that are generated at once.
    pub max_slots: NonZeroUsize,
    /// Requests that may wait for a slot.
    pub queue: usize,
    /// Prompt tokens that one pass takes in.
    pub prefill_chunk: NonZeroUsize,
}

/// A model that runs.
#[derive(Debug)]
pub struct Launched {
    /// Computes its answers.
    pub engine: Engine,
    /// Names the weights and the arithmetic.
    pub fingerprint: String,
    /// The proof that its folder matched its manifest, to be looked at again before it is served; none if it has none.
    pub verified: Option<Verified>,
}

/// A model that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The system refuses another thread.
    #[error("the engine's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self {
            precision: Precision::Fast,
            threads: None,
            max_context: None,
            max_slots: NonZeroUsize::new(16).expect("16 is more than nothing"),
            queue: 64,
            prefill_chunk: NonZeroUsize::new(256).expect("256 is more than nothing"),
        }
    }
}

/// Loads a model and starts its engine. `heartbeat` beats from the first bytes
/// that are loaded; `progress` hears of bytes done and of how many there are.
///
/// # Errors
/// If the source is not a complete model, its folder is not what its manifest says, or the system refuses a thread.
pub fn launch(
    source: &Source,
    options: &LaunchOptions,
    heartbeat: Arc<Heartbeat>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Launched, LaunchError> {
    let mut progress = |done, total| {
        heartbeat.beat();
        progress(done, total);
    };
    let Loaded {
        host,
        text,
        verified,
    } = source.open(&mut progress)?;
    if verified.is_none() {
        host.bring_in(progress);
    }
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = options.threads.map_or_else(cores, NonZeroUsize::get);
    let context = host.config.context;
    let limits = Limits {
        slots: options.max_slots.get(),
        queue: options.queue,
        prefill_chunk: options.prefill_chunk.get(),
        context: options
            .max_context
            .map_or(context, |cap| cap.get().min(context)),
    };
    let backend = CpuBackend::new(&host.config, threads, options.precision);
    let fingerprint = match options.precision {
        Precision::Exact => format!("cpu-exact-{}", host.fingerprint),
        Precision::Fast => format!("cpu-{}", host.fingerprint),
    };
    let model = Model::new(backend, host.config, host.weights);
    let engine = Engine::start(model, text, limits, heartbeat)?;
    Ok(Launched {
        engine,
        fingerprint,
        verified,
    })
}
