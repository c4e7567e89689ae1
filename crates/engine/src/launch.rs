//! From a model source to a running engine: load, choose the backend, start the thread.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use sanctum_kernels::{KvMode, UnfitKvMode};
use sha2::{Digest, Sha256};

use crate::backend::{CpuBackend, MemoryLimits, Precision};
#[cfg(feature = "mlx")]
use crate::backend::{MlxBackend, MlxDevice};
use crate::freeze::{self, Point};
use crate::graph::Model;

use crate::load::{AdapterInfo, AdapterSource, HostModel, LoadError, Loaded, ModelSource};
use crate::prefix::PrefixOptions;
use crate::schedule::{Engine, EngineLimits, Heartbeat};
use crate::text::Text;
use sanctum_manifest::Verified;

/// The backend that the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// MLX if this build has it and there is a GPU, else the CPU's own kernels.
    #[default]
    Auto,
    /// This program's own kernels, on all cores.
    Cpu,
    /// MLX, on a GPU or, for tests, on its CPU device.
    Mlx,
}

/// How a model is run.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchOptions {
    /// The backend.
    pub backend: BackendChoice,
    /// EngineLimits on memory; each model has an even share of them.
    pub memory: MemoryLimits,
    /// Models that share the memory.
    pub models: NonZeroUsize,
    /// Bytes of this model's share that the engine uses that is still running and that this one will replace.
    pub beside: u64,
    /// f32 activations, or the fast path's.
    pub precision: Precision,
    /// How the KV cache keeps its values.
    pub kv_cache: KvMode,
    /// Worker threads; none: all cores.
    pub threads: Option<NonZeroUsize>,
    /// Limit on the context, in tokens; none: the model's own.
    pub max_context: Option<NonZeroUsize>,
    /// Sequences that are generated at once.
    pub max_slots: NonZeroUsize,
    /// Requests that may wait for a slot.
    pub queue: usize,
    /// Prompt tokens that one pass processes.
    pub prefill_chunk: NonZeroUsize,
    /// How prefixes are reused.
    pub prefix: PrefixOptions,
}

/// A model that runs.
#[derive(Debug)]
pub struct Launched {
    /// Generates its answers.
    pub engine: Engine,
    /// Identifies the weights and the arithmetic.
    pub fingerprint: String,
    /// The adapter in its weights.
    pub adapter: Option<AdapterInfo>,
    /// Its share of memory.
    pub memory: MemoryShare,
    /// The proof that its folder matched its manifest, to be checked again before the model is served; none without a manifest.
    pub verified: Option<Verified>,
}

/// A model's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShare {
    /// Bytes of its weights.
    pub weights: u64,
    /// Bytes that weights and sequences may take together.
    pub most: u64,
}

/// A model that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model's heads cannot be packed.
    #[error("--kv-cache: {0}")]
    KvCache(#[from] UnfitKvMode),
    /// MLX was requested, and this build does not have it.
    #[error("this build has no MLX backend; build with --features mlx, or use --backend cpu")]
    NoMlx,
    /// The weights alone are more than memory may hold.
    #[error(
        "the weights take {weights_mib} MiB and {limit_mib} MiB of memory may be used for this model, {reserved_mib} MiB of it to \
         compute in; raise --mlx-memory-limit-mb or use a smaller model"
    )]
    TooLarge {
        /// What the weights take, in MiB.
        weights_mib: u64,
        /// What may be used, in MiB.
        limit_mib: u64,
        /// What of it is not for weights, in MiB.
        reserved_mib: u64,
    },
    /// Weights that the cpu backend copies are more than memory may hold.
    #[error(
        "the weights have other forms than plain numbers and affine codes of 4 or 8 bits and take {copied_mib} MiB as the cpu backend \
         multiplies them, and {limit_mib} MiB of memory may be used for this model; raise --metal-memory-limit-mb, use --backend mlx, or \
         convert the model to 4 bits"
    )]
    CopiesTooLarge {
        /// What is copied, in MiB.
        copied_mib: u64,
        /// What may be used, in MiB.
        limit_mib: u64,
    },
    /// The weights do not fit beside those of the engine that they would replace.
    #[error(
        "the weights take {weights_mib} MiB beside {beside_mib} MiB of the engine that is still running, and {most_mib} MiB of \
         memory may be used for both"
    )]
    NoRoomBeside {
        /// What the weights take, in MiB.
        weights_mib: u64,
        /// What the running engine takes, in MiB.
        beside_mib: u64,
        /// What may be used, in MiB.
        most_mib: u64,
    },
    /// The engine's thread does not start, or the model cannot be warmed up.
    #[error("the engine cannot be started: {0}")]
    Thread(#[from] io::Error),
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            memory: MemoryLimits::default(),
            models: NonZeroUsize::MIN,
            beside: 0,
            precision: Precision::Fast,
            kv_cache: KvMode::default(),
            threads: None,
            max_context: None,
            max_slots: NonZeroUsize::new(16).expect("16 is not zero"),
            queue: 64,
            prefill_chunk: NonZeroUsize::new(256).expect("256 is not zero"),
            prefix: PrefixOptions::default(),
        }
    }
}

/// Loads a model, merges its adapter if it has one, and starts its engine. `heartbeat` beats from the first bytes
/// that are loaded. Calls `progress(done, total)` with bytes.
///
/// # Errors
/// If the source is not a complete model, its folder is not what its manifest says, or the system refuses a thread.
pub fn launch(
    source: &ModelSource,
    adapter: Option<&AdapterSource>,
    options: &LaunchOptions,
    heartbeat: Arc<Heartbeat>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Launched, LaunchError> {
    let mut progress = |done, total| {
        freeze::pass(Point::Load);
        heartbeat.beat();
        progress(done, total);
    };
    let Loaded {
        host,
        text,
        verified,
    } = source.open(adapter, &mut progress)?;
    let adapter = host.adapter.clone();
    text.prepare_constraints();
    options.kv_cache.fit(host.config.attention.head_dim)?;
    let limits = limits(options, host.config.context);
    let start = Start {
        host,
        text,
        limits,
        options,
        heartbeat: Arc::clone(&heartbeat),
        verified: verified.as_ref(),
    };
    let (engine, fingerprint, memory) = match options.backend {
        BackendChoice::Cpu => start.on_cpu(verified.is_none(), progress)?,
        BackendChoice::Auto => start.on_best(verified.is_none(), progress)?,
        BackendChoice::Mlx => start.on_mlx(progress)?,
    };
    Ok(Launched {
        engine,
        fingerprint,
        adapter,
        memory,
        verified,
    })
}

impl MemoryShare {
    /// Bytes for sequences, with so many bytes in use by another engine.
    fn left(&self, beside: u64) -> Option<u64> {
        self.most.checked_sub(self.weights)?.checked_sub(beside)
    }

    /// Checks that memory holds the weights that are copied, and a sixteenth for sequences. Mapped weights may be larger than
    /// memory, which is slow.
    fn check_copies(&self, copied: u64) -> Result<(), LaunchError> {
        if copied <= self.most - self.most / 16 {
            return Ok(());
        }
        Err(LaunchError::CopiesTooLarge {
            copied_mib: copied.div_ceil(1 << 20),
            limit_mib: self.most >> 20,
        })
    }

    fn no_room_beside(&self, beside: u64) -> LaunchError {
        LaunchError::NoRoomBeside {
            weights_mib: self.weights.div_ceil(1 << 20),
            beside_mib: beside.div_ceil(1 << 20),
            most_mib: self.most >> 20,
        }
    }
}

fn limits(options: &LaunchOptions, context: usize) -> EngineLimits {
    EngineLimits {
        slots: options.max_slots.get(),
        queue: options.queue,
        prefill_chunk: options.prefill_chunk.get(),
        context: options
            .max_context
            .map_or(context, |cap| cap.get().min(context)),
    }
}

type Started = (Engine, String, MemoryShare);

/// A loaded model that will be moved to a backend: `on_cpu` and `on_mlx` return the engine, its fingerprint and its memory.
struct Start<'a> {
    host: HostModel,
    text: Text,
    limits: EngineLimits,
    options: &'a LaunchOptions,
    heartbeat: Arc<Heartbeat>,
    /// The proof that the weights match a manifest.
    verified: Option<&'a Verified>,
}

impl Start<'_> {
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.options.threads.map_or_else(cores, NonZeroUsize::get)
    }

    fn fingerprint(&self, device: &str) -> String {
        let exact = match self.options.precision {
            Precision::Exact => "-exact",
            Precision::Fast => "",
        };
        let kv_cache = match self.options.kv_cache {
            KvMode::Plain => String::new(),
            packed => format!("-{packed}"),
        };
        format!("{device}{exact}{kv_cache}-{}", self.host.fingerprint)
    }

    /// How prefixes are reused: those that were computed by an engine of this fingerprint, from these very weights.
    fn prefix(&self, fingerprint: &str) -> PrefixOptions {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(self.host.digest);
        // A manifest covers every byte of the weights.
        let manifest = self
            .verified
            .map(|verified| verified.manifest().to_string());
        hash.update(Sha256::digest(manifest.unwrap_or_default()));
        hash.update(fingerprint);
        PrefixOptions {
            fingerprint: hash.finalize().into(),
            ..self.options.prefix.clone()
        }
    }

    fn on_cpu(
        self,
        bring_in: bool,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Started, LaunchError> {
        if bring_in {
            self.host.bring_in(&mut progress);
        }
        let fingerprint = self.fingerprint("cpu");
        let memory = self
            .options
            .memory
            .resolve(None)
            .shared(self.options.models);
        let (weights, beside) = (self.host.weights.cpu_bytes(), self.options.beside);
        let share = MemoryShare {
            weights,
            most: memory.total,
        };
        let copied = self.host.weights.copied_bytes();
        share.check_copies(copied)?;
        let budget = match (share.left(beside), beside) {
            (_, 0) => memory.beside_mapped(weights),
            (Some(left), _) => left,
            (None, _) => return Err(share.no_room_beside(beside)),
        };
        let backend = CpuBackend::new(&self.host.config, self.threads(), self.options.precision)
            .with_kv_cache(self.options.kv_cache);
        let prefix = self.prefix(&fingerprint);
        let copying = |done, total| {
            if copied > 0 {
                progress(done, total);
            }
        };
        let model = Model::load(backend, self.host.config, self.host.weights, copying);
        let engine = Engine::start_with(
            budget,
            prefix,
            model,
            self.text,
            self.limits,
            self.heartbeat,
        )?;
        Ok((engine, fingerprint, share))
    }

    #[cfg(feature = "mlx")]
    fn on_best(
        self,
        bring_in: bool,
        progress: impl FnMut(u64, u64),
    ) -> Result<Started, LaunchError> {
        match MlxDevice::best() {
            MlxDevice::Gpu => self.on_mlx(progress),
            MlxDevice::Cpu => self.on_cpu(bring_in, progress),
        }
    }

    #[cfg(not(feature = "mlx"))]
    fn on_best(
        self,
        bring_in: bool,
        progress: impl FnMut(u64, u64),
    ) -> Result<Started, LaunchError> {
        self.on_cpu(bring_in, progress)
    }

    #[cfg(feature = "mlx")]
    fn on_mlx(self, progress: impl FnMut(u64, u64)) -> Result<Started, LaunchError> {
        let device = MlxDevice::best();
        let fingerprint = self.fingerprint(match device {
            MlxDevice::Gpu => "mlx",
            MlxDevice::Cpu => {
                tracing::warn!(
                    "MLX finds no GPU on this machine and computes on the processor, which is slow"
                );
                "mlx-cpu"
            }
        });
        let memory = MlxBackend::limit(device, &self.options.memory).shared(self.options.models);
        let weights = self.host.weights.unblocked_bytes();
        memory.for_sequences(weights).ok_or(LaunchError::TooLarge {
            weights_mib: weights.div_ceil(1 << 20),
            limit_mib: memory.total >> 20,
            reserved_mib: memory.reserve() >> 20,
        })?;
        let share = MemoryShare {
            weights,
            most: memory.total - memory.reserve(),
        };
        let beside = self.options.beside;
        let budget = share
            .left(beside)
            .ok_or_else(|| share.no_room_beside(beside))?;
        let (threads, precision) = (self.threads(), self.options.precision);
        let backend = MlxBackend::new(device, &self.host.weights, threads, precision)
            .with_kv_cache(self.options.kv_cache);
        let prefix = self.prefix(&fingerprint);
        let model = Model::load(backend, self.host.config, self.host.weights, progress);
        let engine = Engine::start_with(
            budget,
            prefix,
            model,
            self.text,
            self.limits,
            self.heartbeat,
        )?;
        Ok((engine, fingerprint, share))
    }

    #[cfg(not(feature = "mlx"))]
    fn on_mlx(self, _progress: impl FnMut(u64, u64)) -> Result<Started, LaunchError> {
        Err(LaunchError::NoMlx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launched(kv_cache: KvMode) -> Launched {
        let options = LaunchOptions {
            backend: BackendChoice::Cpu,
            threads: NonZeroUsize::new(1),
            kv_cache,
            ..LaunchOptions::default()
        };
        let heartbeat = Arc::new(Heartbeat::new());
        launch(&ModelSource::Embedded, None, &options, heartbeat, |_, _| {}).unwrap()
    }

    #[test]
    fn copies_larger_than_memory_are_refused_with_numbers() {
        let share = MemoryShare {
            weights: 20 << 20,
            most: 16 << 20,
        };
        assert!(share.check_copies(0).is_ok());
        assert!(share.check_copies(15 << 20).is_ok());
        let error = share.check_copies((15 << 20) + 1).unwrap_err().to_string();
        assert!(error.contains("take 16 MiB as"), "{error}");
        assert!(error.contains("16 MiB of memory may be used"), "{error}");
    }

    /// Two layers of the built-in model attend, with two heads of 64 for keys and values each.
    #[test]
    fn kv_cache_is_part_of_fingerprint_and_token_cost() {
        let mut fingerprints = Vec::new();
        for (mode, value) in [(KvMode::Plain, 128), (KvMode::V8, 68), (KvMode::V4, 36)] {
            let Launched {
                engine,
                fingerprint,
                ..
            } = launched(mode);
            let cost = engine.admission().cost;
            assert_eq!((cost.kv_cache, cost.per_token), (mode, 4 * (128 + value)));
            fingerprints.push(fingerprint);
        }
        let weights = fingerprints[0].strip_prefix("cpu-").unwrap();
        assert_eq!(fingerprints[1], format!("cpu-v8-{weights}"));
        assert_eq!(fingerprints[2], format!("cpu-v4-{weights}"));
    }
}
