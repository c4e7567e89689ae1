//! `failover`: what clients of a front notice when its first upstream fails.
//!
//! It starts three servers, a front and two upstreams, sends requests at a steady rate and makes the first upstream fail in the
//! middle. Every request must get an answer or an error that says why, and a request that was tried elsewhere must not take longer
//! than the limit of a connection and 50 ms. Exit code 1: that is not so.

#[cfg(target_os = "linux")]
mod fault;
#[cfg(target_os = "linux")]
mod outcome;
#[cfg(target_os = "linux")]
mod traffic;

use std::process::ExitCode;

use clap::Parser;

/// Measures failover under faults of the first upstream.
#[derive(Debug, Parser)]
#[command(name = "failover")]
struct Args {
    /// Requests a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Seconds for each fault; it strikes after a quarter of them
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(4..=600))]
    seconds: u32,
}

#[cfg(target_os = "linux")]
#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let args = Args::parse();
    println!("{}", outcome::HEAD);
    let mut is_good = true;
    for fault in fault::UpstreamFault::all() {
        let outcomes = traffic::measure(fault, args.rate, args.seconds).await;
        println!("{}", outcomes.row(fault.name()));
        for problem in outcomes.problems() {
            println!("MISSED: {}: {problem}", fault.name());
            is_good = false;
        }
    }
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The black-holed address is made with the queue of a Linux socket.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    let _ = Args::parse();
    eprintln!("failover: runs on Linux only");
    ExitCode::FAILURE
}
