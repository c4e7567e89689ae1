//! What a model is, what it needs, and how fast this machine can be with it.

use std::fmt::Write as _;

use sanctum_engine::backend::{Backend, CpuBackend, MemoryLimits, Precision, SequenceCost};
use sanctum_engine::load::{
    FeedForward, HostModel, Mixer, ModelConfig, ModelSummary, ModuleSummary,
};
use sanctum_kernels::cpu::read_bandwidth;

/// The share of the read bandwidth that decode of one stream was measured to use (docs/performance.md).
const SHARE: f64 = 0.85;

/// What a machine has for a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct MachineCapacity {
    /// What a sequence takes on its backend.
    cost: SequenceCost,
    /// Bytes for sequences, beside the weights.
    room: u64,
    /// GB/s of a plain read loop.
    bandwidth: f64,
    threads: usize,
}

impl MachineCapacity {
    /// This machine with all its cores, and the server's default limits.
    pub(super) fn measured(host: &HostModel) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let backend = CpuBackend::new(&host.config, threads, Precision::Fast);
        let limits = MemoryLimits::default().resolve(None);
        Self {
            cost: backend.cost(&host.config),
            room: limits.beside_mapped(host.weights.cpu_bytes()),
            bandwidth: read_bandwidth(backend.cpu()),
            threads,
        }
    }
}

/// The description, in lines.
pub(super) fn describe(host: &HostModel, machine: &MachineCapacity) -> String {
    let summary = ModelSummary::of(&host.weights);
    let mut text = shape(&host.config);
    let _ = writeln!(
        text,
        "\n{:<18}{:>12}{:>14}{:>12}   stored as",
        "", "parameters", "of a token", "MiB"
    );
    for module in &summary.modules {
        let _ = writeln!(
            text,
            "{:<18}{:>12}{:>14}{:>12.1}   {}",
            module.kind,
            count(module.parameters),
            count(module.active),
            mib(module.bytes),
            forms(module)
        );
    }
    let _ = writeln!(
        text,
        "{:<18}{:>12}{:>14}{:>12.1}\n",
        "all",
        count(summary.parameters()),
        count(summary.active()),
        mib(host.weights.bytes()),
    );
    let SequenceCost {
        fixed, per_token, ..
    } = machine.cost;
    let copied = match host.weights.copied_bytes() {
        0 => String::new(),
        bytes => format!(", {:.1} MiB of them as copies", mib(bytes)),
    };
    let _ = writeln!(
        text,
        "memory: {:.1} MiB of weights on the cpu backend{copied}; a sequence takes {:.1} MiB and {:.1} KiB a token",
        mib(host.weights.cpu_bytes()),
        mib(fixed),
        per_token as f64 / 1024.0,
    );
    let context = host.config.context;
    let fits = machine.cost.tokens_in(machine.room);
    let _ = match fits >= context {
        true => writeln!(
            text,
            "context: {context} tokens; a sequence of all of them fits this machine"
        ),
        false => writeln!(
            text,
            "context: {context} tokens; this machine has room for {fits} of them, with the default limits"
        ),
    };
    // A step of the recurrent layers reads their states and writes them.
    let bytes = (summary.active_bytes() + 2 * fixed) as f64;
    let _ = writeln!(
        text,
        "decode: about {:.1} tokens/s for one stream on the cpu backend: a token moves {:.1} MB, and memory is read at {:.1} GB/s by {} threads",
        SHARE * machine.bandwidth * 1e9 / bytes,
        bytes / 1e6,
        machine.bandwidth,
        machine.threads,
    );
    text
}

/// The architecture.
fn shape(config: &ModelConfig) -> String {
    let attention = config
        .layers
        .iter()
        .filter(|m| **m == Mixer::Attention)
        .count();
    let mut text = format!(
        "{}: {} layers, {attention} of full and {} of linear attention; hidden size {}; vocabulary {}\n",
        match config.feed_forward {
            FeedForward::Dense { .. } => "dense Qwen3.5",
            FeedForward::Experts(_) => "Qwen3.5 mixture of experts",
        },
        config.layers.len(),
        config.layers.len() - attention,
        config.hidden,
        config.vocab,
    );
    let _ = match &config.feed_forward {
        FeedForward::Dense { intermediate } => writeln!(text, "feed-forward: {intermediate} wide"),
        FeedForward::Experts(dims) => writeln!(
            text,
            "experts: {} in each layer, {} a token, {} wide; {}",
            dims.experts,
            dims.per_token,
            dims.intermediate,
            match dims.shared {
                0 => "no shared expert".to_owned(),
                width => format!("a shared expert, {width} wide"),
            }
        ),
    };
    text
}

/// How a module is stored; with shares if in several ways.
fn forms(module: &ModuleSummary) -> String {
    let share = |parameters: u64| 100.0 * parameters as f64 / module.parameters as f64;
    let forms = module
        .stored
        .iter()
        .map(|(form, &parameters)| match module.stored.len() {
            1 => form.to_string(),
            _ => format!("{form} ({:.0}%)", share(parameters)),
        });
    forms.collect::<Vec<_>>().join(", ")
}

/// 34.66 B, 508.6 M.
fn count(parameters: u64) -> String {
    match parameters {
        0 => "-".to_owned(),
        1_000_000_000.. => format!("{:.2} B", parameters as f64 / 1e9),
        1_000_000.. => format!("{:.1} M", parameters as f64 / 1e6),
        _ => format!("{:.1} K", parameters as f64 / 1e3),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sanctum_engine::backend::KvMode;
    use sanctum_engine::load::ModelSource;

    fn golden(name: &str) -> HostModel {
        let folder = format!("{}/../tests/golden/mlx/{name}", env!("CARGO_MANIFEST_DIR"));
        HostModel::open(&ModelSource::Folder(folder.into()), |_, _| {}).unwrap()
    }

    const MACHINE: MachineCapacity = MachineCapacity {
        cost: SequenceCost {
            fixed: 1 << 20,
            per_token: 2048,
            kv_cache: KvMode::Plain,
            page: 64,
        },
        room: 3 << 20,
        bandwidth: 100.0,
        threads: 8,
    };

    #[test]
    fn description_has_the_numbers_of_the_model_and_the_machine() {
        let host = golden("moe-q4-mixed");
        let text = describe(&host, &MACHINE);
        for part in [
            "Qwen3.5 mixture of experts: 2 layers, 1 of full and 1 of linear attention; hidden size 64",
            "experts: 6 in each layer, 3 a token, 64 wide; a shared expert, 32 wide",
            "8 bits in groups of 32 (17%)",
            "f32",
            "a sequence takes 1.0 MiB and 2.0 KiB a token",
            "context: 4096 tokens; this machine has room for 1024 of them",
            "memory is read at 100.0 GB/s by 8 threads",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let experts: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("experts  "))
            .collect();
        let words: Vec<&str> = experts[0].split_whitespace().collect();
        assert_eq!(words[1..5], ["147.5", "K", "73.7", "K"]);
        let room = 1 << 30;
        let text = describe(&host, &MachineCapacity { room, ..MACHINE });
        assert!(
            text.contains("a sequence of all of them fits this machine"),
            "{text}"
        );
    }

    /// 3.5 bits a weight in the file, 4.5 in memory.
    #[test]
    fn copies_of_other_widths_are_counted() {
        let host = golden("q3g64-tied");
        assert_eq!(7 * host.weights.cpu_bytes(), 9 * host.weights.bytes());
        assert_eq!(host.weights.copied_bytes(), host.weights.cpu_bytes());
        let text = describe(&host, &MACHINE);
        let all = mib(host.weights.cpu_bytes());
        let memory =
            format!("{all:.1} MiB of weights on the cpu backend, {all:.1} MiB of them as copies");
        for part in ["3 bits in groups of 64", &memory] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
