//! `agents`: traffic as several agents make it, for minutes or hours.
//!
//! It starts `sanctum-server` itself. Each agent works on one task after another: it sends its whole conversation each turn,
//! appends the answer, and a tool's result or a new instruction. Some turns go back to an earlier one and continue in another
//! way, some start a second agent from the same conversation, some clients disconnect in the middle. A share of the answers
//! is requested again without reuse and compared. The summary has the hit rate, the memory beside its limit, and the checks
//! of the server. Exit code 1: a limit was missed.

mod agent;
mod conversation;
mod observer;
mod random;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use sanctum_tests::{Report, Server, Signal};
use tokio::task::JoinSet;

use agent::{Figures, Habits, SimulatedAgent};
use observer::Observer;
use random::SplitMix;

/// Sends sanctum-server the traffic of agents, and checks what it reuses.
#[derive(Debug, Parser)]
#[command(name = "agents")]
struct Args {
    /// Serve this checkpoint folder instead of the built-in model
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Serve random weights of this published size
    #[arg(long)]
    shape: Option<String>,
    /// Agents that work at the same time
    #[arg(long, default_value_t = 4, value_name = "N")]
    agents: usize,
    /// How long to run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// End each agent after so many answers instead
    #[arg(long, value_name = "N")]
    answers: Option<u64>,
    /// The same seed makes the same tasks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tokens of a conversation at which its task ends
    #[arg(long, default_value_t = 1500, value_name = "TOKENS")]
    context: u64,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 24, value_name = "TOKENS")]
    answer: u64,
    /// Words of a tool's result at most
    #[arg(long, default_value_t = 60, value_name = "WORDS")]
    result: u64,
    /// The share of turns that go back to an earlier one
    #[arg(long, default_value_t = 0.15, value_name = "SHARE")]
    branch: f64,
    /// The share of turns in which the client disconnects before the answer is complete
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    leave: f64,
    /// The share of answers that are requested again without reuse and compared; use 0 where answers depend on the batch
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    verify: f64,
    /// Milliseconds between an answer and the next turn at most
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pause: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Additional arguments for the server, such as --prefix-cache-limit-gb 0.01 --cache-check 1
    #[arg(last = true)]
    server: Vec<OsString>,
}

#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let args = Args::parse();
    measure(&args).await.print(args.json)
}

async fn measure(args: &Args) -> Report {
    let server = Arc::new(start(args).await);
    let habits = Arc::new(Habits {
        context: args.context,
        answer: args.answer,
        result: args.result,
        branch: args.branch,
        leave: args.leave,
        verify: args.verify,
        pause: args.pause,
        until: Instant::now() + Duration::from_secs(args.seconds),
        answers: args.answers,
    });
    let mut agents = JoinSet::new();
    let mut seeds = SplitMix::new(args.seed);
    for number in 0..args.agents {
        let agent =
            SimulatedAgent::new(server.http().afresh(), habits.clone(), seeds.fork(), number);
        agents.spawn(agent.work());
    }
    let mut observer = Observer::new(server.clone());
    let mut figures = Figures::default();
    let mut ticks = tokio::time::interval(observer::EVERY);
    while !agents.is_empty() {
        tokio::select! {
            _ = ticks.tick() => observer.sample().await,
            Some(done) = agents.join_next() => figures += done.expect("an agent ends well"),
        }
    }
    observer.idle().await;
    let mut report = Report::default();
    figures.report(&mut report);
    observer.report(&mut report).await;
    drop(observer);
    server.signal(Signal::TERM);
    let server = Arc::into_inner(server).expect("nothing else uses the server");
    server.ended().await;
    report
}

async fn start(args: &Args) -> Server {
    let mut all: Vec<OsString> = Vec::new();
    if let Some(folder) = &args.model {
        all.extend(["--model".into(), folder.into()]);
    }
    if let Some(shape) = &args.shape {
        all.extend(["--shape".into(), shape.into()]);
    }
    // Each turn of an agent is one request; a branch, a check and an agent that was started have others.
    let queue = (8 * args.agents).max(64).to_string();
    all.extend(["--queue".into(), queue.into()]);
    all.extend(args.server.iter().cloned());
    Server::start(all).await
}
