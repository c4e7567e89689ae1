//! The inference server: the OpenAI API in front of the engine.
//!
//! [`main`] is the whole program. `args` and `settings` decide what to serve, and `serve` is the life of a server. A
//! request passes `listen` (sockets and their limits), `gate` (authentication, `audit` and permits), `api` (OpenAI's
//! protocol), `prepare` (parsing and tokenizing, in turns) and `models` (the engines). Each knows only what comes after
//! it. The engine runs on threads of its own; everything here is asynchronous and waits for it through channels, so that
//! `/health` responds however busy it is.

mod activity;
mod api;
mod args;
mod audit;
mod banner;
mod bench;
mod cache;
mod check_model;
mod client_key;
mod failure;
mod front;
#[cfg(any(test, fuzzing))]
pub mod fuzz_entry_points;
mod gate;
mod limits;
mod listen;
mod loading;
mod metrics;
mod model_names;
mod models;
mod offload;
mod peer;
mod power;
mod prepare;
mod progress;
mod random;
mod route;
mod serve;
mod settings;
mod shutdown;
mod signals;
mod thread_priority;
mod tls;
mod tracked_body;
mod trial;
mod unix_time;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use sanctum_config::logging;
use sanctum_engine::load::embedded;

use args::{Args, Command, ServeArgs};
use audit::AuditLog;
use failure::CommandFailure;
use gate::Gate;
use metrics::Metrics;
use settings::Settings;
use tls::TlsServer;

/// The whole program: runs the command of the command line, and logs the failure if it fails.
pub fn main() -> ExitCode {
    // Before any other thread is started.
    #[cfg(feature = "mlx")]
    sanctum_engine::backend::MlxBackend::prepare();
    let args = Args::parse();
    let destination = args.log_destination();
    if let Err(error) = logging::start(destination, args.log.format(), args.log.log.as_deref()) {
        eprintln!("sanctum-server: {error}");
        return ExitCode::from(2);
    }
    let code = match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            failure.exit_code()
        }
    };
    logging::finish();
    code
}

fn run(args: Args) -> Result<(), CommandFailure> {
    match args.command {
        None => run_server(&args.serve),
        Some(Command::Serve(serve)) => run_server(&serve),
        Some(Command::ExportModel { dir }) => export_model(&dir),
        Some(Command::CheckModel(check)) => check_model::run(&check),
        Some(Command::Bench(bench)) => bench::run(&bench),
        Some(Command::Cache { command }) => cache::run(&command),
    }
}

fn export_model(dir: &Path) -> Result<(), CommandFailure> {
    embedded::export(dir).map_err(|source| CommandFailure::Export {
        dir: dir.to_owned(),
        source,
    })?;
    println!("{}", dir.display());
    Ok(())
}

fn run_server(args: &ServeArgs) -> Result<(), CommandFailure> {
    signals::catch_early()?;
    trial::exit_with_parent();
    let mut settings = Settings::resolve(args)?;
    limits::keep_memory_private();
    settings.max_connections = limits::room_for(settings.max_connections);
    let metrics = Arc::new(Metrics::new());
    let (audit, writer) = match settings.audit.clone() {
        Some(place) => {
            AuditLog::start(place, metrics.clone()).map(|(audit, writer)| (audit, Some(writer)))?
        }
        None => (AuditLog::off(metrics.clone()), None),
    };
    let gate = Gate::new(
        settings.rules.clone(),
        &settings.listen,
        metrics.clone(),
        audit,
    )?;
    // Before SIGINT and SIGTERM are handled, so that Ctrl-C ends a server whose volume does not respond. Files that cannot be
    // used are reported before a socket is opened.
    let tls = match &settings.tls {
        Some(tls) => Some(TlsServer::read(tls.files.clone())?),
        None => None,
    };
    // The engine uses the cores; these threads do little and mostly wait.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve::serve(settings, gate, tls, metrics));
    // A prompt that is still being rendered must not delay the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    // All requests have ended with the runtime, and their lines are enqueued.
    if let Some(writer) = writer {
        writer.finish();
    }
    result
}
