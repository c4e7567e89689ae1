//! The inference server: the OpenAI API in front of the engine.
//!
//! [`run`] is the whole program. [`args`] and [`settings`] decide what to serve, [`serve`] is the life of a server,
//! [`gate`] decides who is let in, [`api`] is what its clients see, and [`audit`] writes down who asked what. The engine runs on threads of its own; everything here is asynchronous and
//! waits for it through channels, so that `/health` answers however busy it is.

pub mod api;
pub mod args;
mod audit;
mod banner;
mod bench;
mod check_model;
pub mod client_key;
mod failure;
mod gate;
mod limits;
mod listen;
mod metrics;
mod models;
mod offload;
pub mod peer;
mod power;
mod prepare;
mod progress;
mod random;
mod route;
mod serve;
mod settings;
mod shutdown;
mod signals;
#[cfg(any(test, fuzzing))]
pub mod surface;
mod swaps;
mod tls;
mod trial;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sanctum_engine::load::embedded;

pub use failure::Failure;

use args::{Args, Command, ServeArgs};
use audit::Audit;
use gate::Gate;
use metrics::Metrics;
use settings::Settings;
use tls::Tls;

/// Does what the command line asks for.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        None => run_server(&args.serve),
        Some(Command::Serve(serve)) => run_server(&serve),
        Some(Command::ExportModel { dir }) => export_model(&dir),
        Some(Command::CheckModel(check)) => check_model::run(&check),
        Some(Command::Bench(bench)) => bench::run(&bench),
    }
}

fn export_model(dir: &Path) -> Result<(), Failure> {
    embedded::export(dir).map_err(|source| Failure::Export {
        dir: dir.to_owned(),
        source,
    })?;
    println!("{}", dir.display());
    Ok(())
}

fn run_server(args: &ServeArgs) -> Result<(), Failure> {
    signals::catch_early()?;
    trial::exit_with_parent();
    let mut settings = Settings::resolve(args)?;
    limits::keep_memory_private();
    settings.max_connections = limits::room_for(settings.max_connections);
    let metrics = Arc::new(Metrics::new());
    let (audit, writer) = match settings.audit.clone() {
        Some(place) => {
            Audit::start(place, metrics.clone()).map(|(audit, writer)| (audit, Some(writer)))?
        }
        None => (Audit::off(metrics.clone()), None),
    };
    let gate = Gate::new(
        settings.rules.clone(),
        &settings.listen,
        metrics.clone(),
        audit,
    )?;
    // Before SIGINT and SIGTERM are handled: a volume that does not answer now can be given up with Ctrl-C. What cannot be used is
    // known before a socket is opened.
    let tls = match &settings.tls {
        Some(tls) => Some(Tls::read(tls.files.clone())?),
        None => None,
    };
    // The engine has the cores; what is left to do here is little, and waits for others most of the time.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve::serve(settings, gate, tls, metrics));
    // A prompt that is still being rendered must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    // Whatever was still running has ended with the runtime, and has its line.
    if let Some(writer) = writer {
        writer.finish();
    }
    result
}
