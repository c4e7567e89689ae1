//! `sanctum-server bench`: how fast this machine runs a model, and how much of its memory's bandwidth that takes.
//!
//! Only the forward pass is measured: no HTTP, no sampling. Prefill feeds a prompt chunk by chunk as the server does;
//! decode continues one or more sequences by a token a pass. A figure is the median of several repetitions, with the
//! slowest and the fastest beside it.
//!
//! With `--schema` it measures what a constraint costs instead: [`constrained`].

mod constrained;
mod report;
mod spread;

use std::fmt::Write as _;
use std::time::Instant;

#[cfg(feature = "mlx")]
use sanctum_engine::backend::MemoryLimits;
use sanctum_engine::backend::{Backend, CpuBackend, ExpertReads, Precision};
use sanctum_engine::backend::{Batch, SlotId};
#[cfg(feature = "mlx")]
use sanctum_engine::backend::{MlxBackend, MlxDevice};
use sanctum_engine::graph::Model;
use sanctum_engine::launch::LaunchError;
use sanctum_engine::load::weights::{HostMatrix, HostWeights};
use sanctum_engine::load::{FeedForward, HostModel, ModelSource};
use sanctum_engine::text::Text;
use sanctum_kernels::cpu::read_bandwidth;

use report::{BenchReport, BenchRun};
use spread::Spread;

use crate::args::{BackendArg, BenchArgs};
use crate::failure::CommandFailure;
use crate::progress::loading_bar;
use crate::settings::SettingsError;

/// Measures and prints.
pub(crate) fn run(args: &BenchArgs) -> Result<(), CommandFailure> {
    let source = match (&args.model, args.shape) {
        (Some(folder), _) => ModelSource::Folder(folder.here().map_err(SettingsError::from)?),
        (None, Some(shape)) => ModelSource::Shape(shape),
        (None, None) => ModelSource::Embedded,
    };
    let bar = loading_bar(&source.to_string());
    let host = HostModel::open(&source, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let host = host?;
    // Before the weights are moved to the backend, so that a mistake is reported at once.
    let text = match &args.schema {
        Some(_) => Some(constrained::text(args, Text::open(&source, &host.config)?)?),
        None => None,
    };
    let cores = std::thread::available_parallelism()?;
    let threads = args.threads.unwrap_or(cores).get();
    let precision = match args.exact {
        true => Precision::Exact,
        false => Precision::Fast,
    };
    let head_dim = host.config.attention.head_dim;
    args.kv_cache.fit(head_dim).map_err(LaunchError::from)?;
    let mut report = match device(args.backend)? {
        #[cfg(feature = "mlx")]
        Device::Mlx(device) => {
            // The limits of a server, so that its memory behaves alike.
            MlxBackend::limit(device, &MemoryLimits::default());
            let backend = MlxBackend::new(device, &host.weights, threads, precision)
                .with_kv_cache(args.kv_cache);
            let device = format!("MLX, {device:?}");
            let bytes = PassBytes::of(&host.weights, HostMatrix::unblocked_bytes);
            Benchmark::new(backend, host, bytes).run(args, device, None, text)?
        }
        Device::Cpu => {
            let backend =
                CpuBackend::new(&host.config, threads, precision).with_kv_cache(args.kv_cache);
            let (isa, bandwidth) = (backend.cpu().isa, read_bandwidth(backend.cpu()));
            let bytes = PassBytes::of(&host.weights, HostMatrix::cpu_bytes);
            let benchmark = Benchmark::new(backend, host, bytes);
            benchmark.run(args, isa.to_string(), Some(bandwidth), text)?
        }
    };
    report.model = source.to_string();
    match args.json {
        true => println!("{:#}", serde_json::json!(report)),
        false => print!("{}", report.table()),
    }
    Ok(())
}

/// The backend to measure.
enum Device {
    Cpu,
    #[cfg(feature = "mlx")]
    Mlx(MlxDevice),
}

#[cfg(feature = "mlx")]
fn device(wanted: BackendArg) -> Result<Device, LaunchError> {
    Ok(match (wanted, MlxDevice::best()) {
        (BackendArg::Cpu, _) | (BackendArg::Auto, MlxDevice::Cpu) => Device::Cpu,
        (_, device) => Device::Mlx(device),
    })
}

#[cfg(not(feature = "mlx"))]
fn device(wanted: BackendArg) -> Result<Device, LaunchError> {
    match wanted {
        BackendArg::Mlx => Err(LaunchError::NoMlx),
        BackendArg::Auto | BackendArg::Cpu => Ok(Device::Cpu),
    }
}

/// Bytes that a pass reads.
struct PassBytes {
    /// Every matrix but those of experts, the embedding only where it is also the output matrix.
    plain: usize,
    /// One expert of every layer of a mixture.
    expert: usize,
}

impl PassBytes {
    /// With `bytes` of each matrix on the backend.
    fn of(weights: &HostWeights, bytes: impl Fn(&HostMatrix) -> usize) -> Self {
        let all: usize = weights.matrices().into_iter().map(&bytes).sum();
        let looked_up = weights.head.as_ref().map_or(0, |_| bytes(&weights.embed));
        let experts = weights.experts();
        Self {
            plain: all - looked_up,
            expert: experts.map(|all| all.expert_bytes_by(&bytes)).sum(),
        }
    }
}

struct Benchmark<B: Backend> {
    pass_bytes: PassBytes,
    model: Model<B>,
}

impl<B: Backend> Benchmark<B> {
    fn new(backend: B, host: HostModel, pass_bytes: PassBytes) -> Self {
        Self {
            pass_bytes,
            model: Model::new(backend, host.config, host.weights),
        }
    }

    /// Measures the cost of a constraint where there is a schema, and else the forward passes.
    fn run(
        self,
        args: &BenchArgs,
        device: String,
        bandwidth: Option<f64>,
        text: Option<Text>,
    ) -> Result<BenchReport, CommandFailure>
    where
        B: Send + 'static,
        B::Matrix: Send,
        B::Experts: Send,
        B::Vector: Send,
        B::Slots: Send,
    {
        let (Some(text), Some(file)) = (text, &args.schema) else {
            return Ok(self.report(args, device, bandwidth));
        };
        let mut report = self.header(args, device, bandwidth);
        report.constrained = constrained::measure(args, file, self.model, text)?;
        Ok(report)
    }

    /// A report without measurements.
    fn header(&self, args: &BenchArgs, device: String, bandwidth: Option<f64>) -> BenchReport {
        BenchReport {
            model: String::new(),
            precision: if args.exact { "exact" } else { "fast" },
            kv_cache: args.kv_cache.to_string(),
            device,
            threads: self.model.backend().pool().threads(),
            read_bandwidth_gb_s: bandwidth,
            runs: Vec::new(),
            constrained: Vec::new(),
        }
    }

    /// Measures the forward passes.
    fn report(&self, args: &BenchArgs, device: String, bandwidth: Option<f64>) -> BenchReport {
        let mut runs = Vec::new();
        let mut measure = |name: String,
                           tokens: usize,
                           rows: usize,
                           state: usize,
                           once: &mut dyn FnMut() -> f64| {
            once(); // warm-up
            let before = self.model.backend().expert_reads();
            let rates = (0..args.repeat.get()).map(|_| tokens as f64 / once());
            let tokens_per_s = Spread::of(rates.collect());
            let bytes = self.weight_bytes(rows, before.as_ref()) + state as f64;
            runs.push(BenchRun {
                name,
                tokens_per_s,
                bytes_per_token: bytes,
                bandwidth_share: bandwidth.map(|all| bytes * tokens_per_s.median / (all * 1e9)),
            });
        };
        for &prompt in args.prompt.iter().filter(|&&prompt| prompt > 0) {
            let chunk = args.prefill_chunk.get();
            let rows = chunk.min(prompt);
            measure(format!("prefill {prompt}"), prompt, rows, 0, &mut || {
                self.prefill(prompt, chunk)
            });
        }
        for (&depth, streams) in args.depth.iter().flat_map(|depth| {
            args.streams
                .iter()
                .map(move |streams| (depth, streams.get()))
        }) {
            if args.generate > 0 {
                let mut name = format!("decode {} x {streams}", args.generate);
                if depth > 0 {
                    let _ = write!(name, " @ {depth}");
                }
                let tokens = args.generate * streams;
                // Each repetition continues where the last one ended.
                let mut slots = self.model.slots(streams);
                for stream in 0..streams {
                    self.prefill_stream(depth, args.prefill_chunk.get(), stream, &mut slots);
                }
                measure(name, tokens, streams, self.state_bytes(), &mut || {
                    self.decode(args.generate, streams, &mut slots)
                });
            }
        }
        BenchReport {
            runs,
            ..self.header(args, device, bandwidth)
        }
    }

    /// Bytes of weights that each row of a pass of so many reads. Where the backend does not count experts, as many
    /// as if they were chosen alike.
    fn weight_bytes(&self, rows: usize, before: Option<&ExpertReads>) -> f64 {
        let experts = match (&self.model.config.feed_forward, before) {
            (FeedForward::Dense { .. }, _) => 0.0,
            (FeedForward::Experts(_), Some(before)) => {
                let now = self.model.backend().expert_reads().unwrap_or_default();
                now.mean_since(before)
            }
            (FeedForward::Experts(dims), None) => {
                ExpertReads::of_even_choice(dims.experts, dims.per_token, rows)
            }
        };
        let PassBytes { plain, expert } = &self.pass_bytes;
        (*plain as f64 + experts * *expert as f64) / rows as f64
    }

    /// Bytes of recurrent state that a token of one sequence reads.
    fn state_bytes(&self) -> usize {
        let config = &self.model.config;
        let delta = |m: &&_| **m == sanctum_engine::load::Mixer::Delta;
        config.layers.iter().filter(delta).count() * config.delta.state_len() * 4
    }

    /// Some token, never the same twice in a row.
    fn token(&self, index: usize) -> u32 {
        ((index * 7 + 3) % self.model.config.vocab) as u32
    }

    /// Seconds until the logits of a prompt's last token.
    fn prefill(&self, prompt: usize, chunk: usize) -> f64 {
        let mut slots = self.model.slots(1);
        let began = Instant::now();
        self.prefill_stream(prompt, chunk, 0, &mut slots);
        began.elapsed().as_secs_f64()
    }

    /// Prefills a stream with `prompt` tokens.
    fn prefill_stream(&self, prompt: usize, chunk: usize, stream: usize, slots: &mut B::Slots) {
        let tokens: Vec<u32> = (0..prompt).map(|index| self.token(index)).collect();
        for (index, rows) in tokens.chunks(chunk).enumerate() {
            let mut batch = Batch::default();
            batch.push(SlotId(stream), rows, (index + 1) * chunk >= prompt);
            self.pass(&batch, slots);
        }
    }

    /// Seconds to generate in `streams` sequences at once.
    fn decode(&self, generate: usize, streams: usize, slots: &mut B::Slots) -> f64 {
        let step = |index: usize| {
            let mut batch = Batch::default();
            for stream in 0..streams {
                let token = self.token(index * streams + stream);
                batch.push(SlotId(stream), &[token], true);
            }
            batch
        };
        let backend = self.model.backend();
        // The first token takes the slots' memory.
        let first = self.model.forward(&step(0), slots, || {});
        let mut chosen = first
            .as_ref()
            .and_then(|logits| backend.argmax(logits, &[]));
        if let Some(logits) = first {
            std::hint::black_box(backend.read(logits));
        }
        let began = Instant::now();
        for index in 1..=generate {
            let batch = step(index);
            // As in the scheduler: where the device chooses, each pass is enqueued before the last one is read.
            chosen = match chosen {
                Some(last) => {
                    let logits = self.model.follow(&batch, &last, slots, || {});
                    let next = logits.and_then(|logits| backend.argmax(&logits, &[]));
                    std::hint::black_box(backend.tokens(&last));
                    next
                }
                None => {
                    self.pass(&batch, slots);
                    None
                }
            };
        }
        if let Some(last) = chosen {
            std::hint::black_box(backend.tokens(&last));
        }
        began.elapsed().as_secs_f64()
    }

    fn pass(&self, batch: &Batch, slots: &mut B::Slots) {
        if let Some(logits) = self.model.forward(batch, slots, || {}) {
            std::hint::black_box(self.model.backend().read(logits));
        }
    }
}
