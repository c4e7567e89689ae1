//! `prefix_reuse`: measures what reuse of prefixes saves, and what it costs where nothing repeats.
//!
//! It starts `sanctum-server` itself, with random weights of a production shape or with a model, and llama.cpp's and mlx_lm's
//! servers if their paths are given; all are asked the same conversations. Exit code 1: a limit was missed.

mod conversation;
mod peer;
mod turns;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sanctum_tests::{Report, Server, Signal};

use peer::PeerServer;

/// Measures reuse of prefixes against its limits.
#[derive(Debug, Parser)]
#[command(name = "prefix_reuse")]
struct Args {
    /// Serve random weights of this published size
    #[arg(long, default_value = "qwen3.5-0.8b")]
    shape: String,
    /// Serve this checkpoint folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Words of the conversation whose second turn is measured; a word is about a token
    #[arg(long, default_value_t = 4000)]
    words: usize,
    /// Conversations whose second turn is measured, after one that is not counted
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    conversations: u64,
    /// Words of the system prompt that clients share
    #[arg(long, default_value_t = 3000)]
    shared: usize,
    /// Clients that share it
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Prompts without repetition, with and without reuse each
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// llama.cpp's server
    #[arg(long, value_name = "PATH", requires = "llama_model")]
    llama_server: Option<PathBuf>,
    /// The GGUF file that it serves
    #[arg(long, value_name = "FILE")]
    llama_model: Option<PathBuf>,
    /// mlx_lm's server
    #[arg(long, value_name = "PATH", requires = "mlx_model")]
    mlx_lm_server: Option<PathBuf>,
    /// The folder that it serves
    #[arg(long, value_name = "DIR")]
    mlx_model: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Additional arguments for sanctum-server
    #[arg(last = true)]
    server: Vec<OsString>,
}

#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = Report::default();
    sanctum(&args, &mut report).await;
    for peer in peers(&args) {
        let peer = peer.started().await;
        turns::second_turn(
            &peer.http,
            peer.name,
            args.words,
            args.conversations as usize,
            None,
            &mut report,
        )
        .await;
        turns::shared_prompt(
            &peer.http,
            peer.name,
            args.shared,
            args.clients,
            &mut report,
        )
        .await;
    }
    report.print(args.json)
}

async fn sanctum(args: &Args, report: &mut Report) {
    let on = start(args, "shared").await;
    let limit = Some(turns::SECOND_TURN);
    turns::second_turn(
        on.http(),
        "sanctum",
        args.words,
        args.conversations as usize,
        limit,
        report,
    )
    .await;
    turns::shared_work(&on, args.shared, args.clients, report).await;
    let off = start(args, "off").await;
    turns::no_repetition([&off, &on], args.rounds, report).await;
    for server in [on, off] {
        server.signal(Signal::TERM);
        server.ended().await;
    }
}

async fn start(args: &Args, reuse: &str) -> Server {
    let mut all: Vec<OsString> = match &args.model {
        Some(folder) => vec!["--model".into(), folder.into()],
        None => vec!["--shape".into(), (&args.shape).into()],
    };
    all.extend(["--prefix-cache".into(), reuse.into()]);
    let slots = args.clients.to_string();
    all.extend(["--max-slots".into(), slots.into()]);
    all.extend(["--drain-seconds".into(), "0".into()]);
    all.extend(args.server.iter().cloned());
    eprintln!("starting sanctum-server, prefix cache {reuse}");
    Server::start(all).await
}

fn peers(args: &Args) -> Vec<PeerServer> {
    let mut peers = Vec::new();
    if let (Some(program), Some(model)) = (&args.llama_server, &args.llama_model) {
        peers.push(PeerServer::llama(
            program,
            model,
            args.clients,
            args.words.max(args.shared),
        ));
    }
    if let (Some(program), Some(model)) = (&args.mlx_lm_server, &args.mlx_model) {
        peers.push(PeerServer::mlx_lm(program, model));
    }
    peers
}
