//! `load`: measures a saturated server against its limits.
//!
//! It starts `sanctum-server` itself, with random weights of a production shape or with a model, and many
//! clients. Everything is measured in one run of one server, so that ratios are meaningful. Exit code 1: a limit was
//! missed.

mod crowd;
mod departures;
mod latency;
mod speed;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sanctum_tests::{Hostile, Report, Server, Signal};

/// Measures sanctum-server under load against its limits.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Args {
    /// Serve random weights of this published size
    #[arg(long, default_value = "qwen3.5-0.8b")]
    shape: String,
    /// Serve this checkpoint folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Seconds for which latency and decoding are measured, each
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Prompt tokens of one pass, as configured in the server
    #[arg(long, default_value_t = 256, value_name = "TOKENS")]
    prefill_chunk: usize,
    /// Measure latencies once more with a hostile client beside the streams: 12 bodies of 2 MB at once, and 4 that are sent
    /// slowly
    #[arg(long)]
    hostile: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Additional arguments for the server
    #[arg(last = true)]
    server: Vec<OsString>,
}

#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let args = Args::parse();
    measure(&args).await.print(args.json)
}

async fn measure(args: &Args) -> Report {
    let server = start(args).await;
    let window = Duration::from_secs(args.seconds);
    let mut report = Report::default();
    let speeds = speed::measure(&server, args.prefill_chunk, window, &mut report).await;
    speed::pauses(&server, &speeds, &mut report).await;
    latency::measure(&server, window, "", &mut report).await;
    if args.hostile {
        let hostile = Hostile::beside(&server);
        latency::measure(&server, window, " beside a hostile client", &mut report).await;
        let answered = hostile.answered() as f64;
        hostile.leave().await;
        report.add("hostile requests answered", answered, "", None);
    }
    departures::measure(&server, &mut report).await;
    server.signal(Signal::TERM);
    server.ended().await;
    report
}

async fn start(args: &Args) -> Server {
    let mut all: Vec<OsString> = match &args.model {
        Some(folder) => vec!["--model".into(), folder.into()],
        None => vec!["--shape".into(), (&args.shape).into()],
    };
    let chunk = args.prefill_chunk.to_string();
    all.extend(["--prefill-chunk".into(), chunk.into()]);
    // Requests that still run at the end are not waited for.
    all.extend(["--drain-seconds".into(), "0".into()]);
    all.extend(args.server.iter().cloned());
    eprintln!("starting sanctum-server");
    Server::start(all).await
}
