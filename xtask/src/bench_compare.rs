//! `cargo xtask bench-compare`: measures Sanctum beside other programs, records rows in docs/performance.jsonl, and renders the
//! table of docs/performance.md from them.

mod error;
mod figure;
mod llama;
mod machine;
mod mlx_lm;
mod page;
mod process;
mod program;
mod record;
mod rounds;
mod row;
mod sanctum;
mod workload;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

pub(crate) use error::CompareError;

use self::llama::{LlamaBench, LlamaFork};
use self::machine::BenchMachine;
use self::mlx_lm::MlxLmBench;
use self::program::{BenchOptions, BenchProgram};
use self::sanctum::SanctumBench;
use self::workload::Workload;
use crate::target_folder;

/// Options of `bench-compare`.
#[derive(Debug, Args)]
pub(crate) struct BenchCompareArgs {
    /// Write the table of docs/performance.md from the file, and measure nothing
    #[arg(long, conflicts_with_all = ["server", "llama_bench", "ik_llama_bench", "mlx_lm", "more"])]
    render: bool,
    /// The file of the rows; those of an earlier run on this machine with this shape are replaced [default:
    /// docs/performance.jsonl]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The shape of the random weights, as `sanctum-server bench` names it
    #[arg(long, default_value = "qwen3.5-0.8b")]
    shape: String,
    /// What to measure: `prefill TOKENS`, `decode TOKENS x STREAMS` or `decode TOKENS x STREAMS @ DEPTH`
    #[arg(
        long,
        value_name = "WORK,…",
        value_delimiter = ',',
        default_value = "prefill 128,prefill 2048,decode 64 x 1,decode 64 x 8,decode 64 x 16"
    )]
    work: Vec<Workload>,
    /// How often each program has its turn
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// Repetitions in a turn; their median is the figure of the round
    #[arg(long, value_name = "N", default_value = "3")]
    repeat: NonZeroUsize,
    /// Threads of each program [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// This sanctum-server, instead of one that is built now
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// The llama-bench of llama.cpp
    #[arg(long, value_name = "PATH", requires = "gguf")]
    llama_bench: Option<PathBuf>,
    /// The llama-bench of ik_llama.cpp, which is run with `-rtr 1`
    #[arg(long, value_name = "PATH", requires = "gguf")]
    ik_llama_bench: Option<PathBuf>,
    /// The model of both, of the same shape
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
    /// A Python that has mlx_lm
    #[arg(long, value_name = "PYTHON", requires = "mlx_model")]
    mlx_lm: Option<PathBuf>,
    /// Its model, of the same shape
    #[arg(long, value_name = "DIR", requires = "mlx_lm")]
    mlx_model: Option<PathBuf>,
    /// More arguments of `sanctum-server bench`
    #[arg(last = true, value_name = "BENCH ARGUMENTS")]
    more: Vec<String>,
}

/// Measures and records, or renders.
///
/// # Errors
/// If the command line names something that does not exist, a program fails, or a file cannot be read or written.
pub(crate) fn run(args: &BenchCompareArgs) -> Result<ExitCode, CompareError> {
    let docs = target_folder::workspace().join("docs");
    let file = args.file.clone();
    let file = file.unwrap_or_else(|| docs.join("performance.jsonl"));
    // Before the measurements, so that a damaged file is reported at once.
    let mut rows = record::read(&file)?;
    if args.render {
        let page = docs.join("performance.md");
        page::render(&page, &rows)?;
        println!("{}: {} rows", page.display(), rows.len());
        return Ok(ExitCode::SUCCESS);
    }
    let programs = programs(args)?;
    let mut workloads = args.work.clone();
    let mut seen: Vec<Workload> = Vec::new();
    workloads.retain(|work| {
        let is_new = !seen.contains(work);
        seen.push(*work);
        is_new
    });
    let measured = rounds::measure(&programs, &workloads, args.rounds.get())?;
    let machine = BenchMachine::here(&measured.limits);
    let run = row::summarize(&measured.workloads, &machine, &args.shape);
    print!("{}", page::table(&run));
    record::replace(&mut rows, run);
    record::write(&file, &rows)?;
    eprintln!(
        "recorded in {}; `cargo xtask bench-compare --render` writes docs/performance.md from docs/performance.jsonl",
        file.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Sanctum, and the peers that the command line names.
fn programs(args: &BenchCompareArgs) -> Result<Vec<Box<dyn BenchProgram>>, CompareError> {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let options = BenchOptions {
        threads: args.threads.map_or_else(cores, NonZeroUsize::get),
        repeat: args.repeat.get(),
    };
    let mut peers: Vec<Box<dyn BenchProgram>> = Vec::new();
    if let Some(gguf) = &args.gguf {
        exists("--gguf", gguf, "file", gguf.is_file())?;
        let forks = [
            (LlamaFork::IkLlamaCpp, &args.ik_llama_bench),
            (LlamaFork::LlamaCpp, &args.llama_bench),
        ];
        for (fork, program) in forks {
            if let Some(program) = program {
                let bench = LlamaBench::find(fork, program, gguf, &args.shape, options)?;
                peers.push(Box::new(bench));
            }
        }
    }
    if let (Some(python), Some(model)) = (&args.mlx_lm, &args.mlx_model) {
        exists("--mlx-model", model, "folder", model.is_dir())?;
        peers.push(Box::new(MlxLmBench::find(python, model, options)?));
    }
    // Looked for last, because it may be built for minutes.
    let server = args.server.as_deref();
    let sanctum = SanctumBench::find(server, &args.shape, options, &args.more)?;
    let mut programs: Vec<Box<dyn BenchProgram>> = vec![Box::new(sanctum)];
    programs.append(&mut peers);
    Ok(programs)
}

fn exists(
    flag: &'static str,
    path: &Path,
    kind: &'static str,
    does: bool,
) -> Result<(), CompareError> {
    match does {
        true => Ok(()),
        false => Err(CompareError::Missing {
            flag,
            path: path.to_owned(),
            kind,
        }),
    }
}
