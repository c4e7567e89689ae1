//! The command line.

mod bench;
mod cache;
mod serve;
mod values;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use sanctum_config::logging::{Destination, LineFormat};

pub(crate) use bench::BenchArgs;
pub(crate) use cache::{CacheCommand, CachePlace};
pub(crate) use serve::{CheckArgs, MemoryArgs, PrefixArgs, ServeArgs};
pub(crate) use values::{BackendArg, ModelArg};

/// Serves Qwen3.5 models over the OpenAI API.
///
/// Without a command it serves; without --model it serves the tiny model that is built in. Log lines go to standard
/// error, or to --log-file: plain on a terminal, JSON otherwise.
#[derive(Debug, Parser)]
#[command(
    name = "sanctum-server",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes:
  0    done, or stopped by SIGTERM or SIGINT
  1    could not start: the message has the fix
  2    the command line is wrong
  3    the engine died while serving: the message has the reason
  130  stopped at once by a second SIGINT (143: SIGTERM)

Examples:
  sanctum-server
  sanctum-server --model ~/models/qwen3.5-4b-4bit --port 8080
  sanctum-server --model council=~/models/qwen3.5-27b-4bit --model small=~/models/qwen3.5-0.8b-4bit
  sanctum-server --config fleet.toml --server server
  sanctum-server --host 127.0.0.1 --host 100.64.0.25 --auth-token-file ~/.sanctum/secrets/server.token
  sanctum-server cache list ~/.sanctum/prefixes
  sanctum-server check-model ~/models/qwen3.5-4b-4bit --manifest qwen3.5-4b-4bit.sha256 --manifest-key manifest.pub

Environment:
  SANCTUM_DISABLE_AUTH=1  accepts every client that can reach the server"
)]
pub(crate) struct Args {
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The arguments of `serve`, where no command is given.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models (the default)
    Serve(Box<ServeArgs>),
    /// Write the built-in model to a checkpoint folder
    ExportModel {
        /// The folder; created if it does not exist
        dir: PathBuf,
    },
    /// Check a model folder and its manifest without serving it, and describe the model
    CheckModel(CheckArgs),
    /// Measure prefill and decode speed
    Bench(BenchArgs),
    /// List or clear the prefixes of conversations in a cache folder
    Cache {
        /// What to do.
        #[command(subcommand)]
        command: CacheCommand,
    },
}

/// How to log.
#[derive(Debug, ClapArgs)]
pub(crate) struct LogArgs {
    /// Which events to log: a level, or a list such as info,sanctum_engine=debug [default: $RUST_LOG, else info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// What log lines look like [default: text on a terminal, json otherwise]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Write log lines to this file, rotated as section logs of fleet.toml configures (without --config: 5 files of 16 MiB)
    /// [default: standard error]
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line
    Json,
    /// For reading
    Text,
}

impl Args {
    /// Where log lines go.
    pub(crate) fn log_destination(&self) -> Destination {
        let serve = match &self.command {
            None => Some(&self.serve),
            Some(Command::Serve(serve)) => Some(&**serve),
            Some(_) => None,
        };
        let config = serve.and_then(|serve| serve.config.as_deref());
        Destination::of(self.log.log_file.as_deref(), config)
    }
}

impl LogArgs {
    /// The format asked for.
    pub(crate) fn format(&self) -> Option<LineFormat> {
        self.log_format.map(|format| match format {
            LogFormat::Json => LineFormat::Json,
            LogFormat::Text => LineFormat::Text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::PER_CLIENT;
    use sanctum_engine::launch::LaunchOptions;
    use sanctum_engine::load::random::Shape;

    fn serve(args: &[&str]) -> ServeArgs {
        let args = ["sanctum-server"].iter().chain(args);
        Args::try_parse_from(args).unwrap().serve
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn help_has_the_defaults_and_the_shapes() {
        use clap::CommandFactory;
        let help = Args::command().render_long_help().to_string();
        let help: Vec<&str> = help.split_whitespace().collect();
        let help = help.join(" ");
        let usual = LaunchOptions::default();
        let says = |text: String| assert!(help.contains(&text), "{text}");
        says(format!("costs memory [default: {}]", usual.max_slots));
        says(format!("with 429 [default: {}]", usual.queue));
        says(format!("is faster [default: {}]", usual.prefill_chunk));
        says(format!("are not counted [default: {PER_CLIENT}]"));
        Shape::ALL.iter().for_each(|shape| says(shape.to_string()));
    }

    #[test]
    fn serve_is_the_default_command() {
        assert!(
            Args::try_parse_from(["sanctum-server"])
                .unwrap()
                .command
                .is_none()
        );
        assert_eq!(serve(&["--port", "0"]).port, Some(0));
        let serve = Args::try_parse_from(["sanctum-server", "serve", "--port", "0"]).unwrap();
        assert!(matches!(serve.command, Some(Command::Serve(args)) if args.port == Some(0)));
    }
}
