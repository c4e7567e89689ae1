//! `sanctum-server`: see `sanctum-server --help`.

use std::process::ExitCode;

use clap::Parser;
use sanctum_config::logging;
use sanctum_server::args::Args;
use sanctum_server::run;

fn main() -> ExitCode {
    // Before anything else has a thread.
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
