//! Writes a model's logits to a file: the door for checks from outside.
//!
//! `cargo run --release -p sanctum-engine --example logits -- --model DIR --tokens 1,2,3 [--exact] [--chunks 2,1]
//! [--kv-cache v8] [--threads N] --out F.safetensors` writes `logits [n, vocab]` in f32, one row a token.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use sanctum_engine::backend::{CpuBackend, KvMode, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};

struct Args {
    source: ModelSource,
    tokens: Vec<u32>,
    chunks: Vec<usize>,
    precision: Precision,
    kv_cache: KvMode,
    threads: usize,
    out: PathBuf,
}

fn main() -> ExitCode {
    match parse().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("logits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut args = Args {
        source: ModelSource::Embedded,
        tokens: Vec::new(),
        chunks: Vec::new(),
        precision: Precision::Fast,
        kv_cache: KvMode::Plain,
        threads: std::thread::available_parallelism()?.get(),
        out: PathBuf::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let mut value = || given.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--model" => args.source = ModelSource::Folder(value()?.into()),
            "--tokens" => args.tokens = numbers(&value()?)?,
            "--chunks" => args.chunks = numbers(&value()?)?,
            "--threads" => args.threads = value()?.parse()?,
            "--out" => args.out = value()?.into(),
            "--kv-cache" => args.kv_cache = value()?.parse()?,
            "--exact" => args.precision = Precision::Exact,
            _ => return Err(format!("{flag} is not known; there are --model, --tokens, --chunks, --threads, --kv-cache, --exact and --out").into()),
        }
    }
    if args.tokens.is_empty() || args.out.as_os_str().is_empty() {
        return Err("--tokens and --out are needed".into());
    }
    if args.chunks.is_empty() {
        args.chunks = vec![args.tokens.len()];
    }
    if args.chunks.contains(&0) || args.chunks.iter().sum::<usize>() != args.tokens.len() {
        return Err(format!("--chunks must add up to the {} tokens", args.tokens.len()).into());
    }
    Ok(args)
}

fn numbers<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    list: &str,
) -> Result<Vec<T>, String> {
    list.split(',')
        .map(|n| n.trim().parse().map_err(|e| format!("{n:?}: {e}")))
        .collect()
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let host = HostModel::open(&args.source, |_, _| {})?;
    let vocab = host.config.vocab;
    if let Some(id) = args.tokens.iter().find(|&&id| id as usize >= vocab) {
        return Err(format!("token {id} is outside the vocabulary of {vocab}").into());
    }
    args.kv_cache.fit(host.config.attention.head_dim)?;
    let backend =
        CpuBackend::new(&host.config, args.threads, args.precision).with_kv_cache(args.kv_cache);
    let model = Model::new(backend, host.config, host.weights);
    let mut rest = &args.tokens[..];
    let chunks: Vec<&[u32]> = args
        .chunks
        .iter()
        .map(|&len| rest.split_off(..len).unwrap_or_default())
        .collect();
    let logits = model.logits(&chunks);
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = vec![args.tokens.len(), vocab];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes)?;
    safetensors::serialize_to_file([("logits", view)], None, &args.out)?;
    Ok(())
}
