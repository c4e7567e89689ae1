//! The command line.

use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use sanctum_config::fleet::Loopback;
use sanctum_config::logging::{Destination, Format};
use sanctum_config::{BadAddress, HostAddress, Label, ListenAddress, ModelId, TildePath};
use sanctum_engine::backend::KvMode;
use sanctum_engine::load::random::Shape;

use crate::bench::BenchArgs;

/// The port of TLS listeners that are told no other.
const TLS_PORT: u16 = 1338;

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
  1    could not start: the message says what to mend
  2    the command line is wrong
  3    the engine died while serving: the message says why
  130  stopped at once by a second SIGINT (143: SIGTERM)

Examples:
  sanctum-server
  sanctum-server --model ~/models/qwen3.5-4b-4bit --port 8080
  sanctum-server --model council=~/models/qwen3.5-27b-4bit --model small=~/models/qwen3.5-0.8b-4bit
  sanctum-server --config fleet.toml --server server
  sanctum-server --host 127.0.0.1 --host 100.64.0.25 --auth-token-file ~/.sanctum/secrets/server.token
  sanctum-server check-model ~/models/qwen3.5-4b-4bit --manifest qwen3.5-4b-4bit.sha256 --manifest-key manifest.pub

Environment:
  SANCTUM_DISABLE_AUTH=1  lets everybody in who can reach it"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve, where no command is given.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve models (the default)
    Serve(Box<ServeArgs>),
    /// Write the built-in model out as a checkpoint folder
    ExportModel {
        /// The folder; made if it is not there
        dir: PathBuf,
    },
    /// Check that a folder is a whole model, and what its manifest says, without serving it
    CheckModel(CheckArgs),
    /// Measure prefill and decode speed
    Bench(BenchArgs),
}

/// How to log.
#[derive(Debug, ClapArgs)]
pub struct LogArgs {
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
pub enum LogFormat {
    /// One JSON object a line
    Json,
    /// For reading
    Text,
}

/// How to serve. Whatever is given here goes before what fleet.toml says.
#[derive(Debug, Default, ClapArgs)]
pub struct ServeArgs {
    /// The fleet's file: take this server's settings from it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which [servers.NAME] of the file this is [default: the only one]
    #[arg(long, value_name = "NAME", requires = "config")]
    pub server: Option<Label>,
    /// An address to listen on; may be repeated. Any but loopback needs --auth-token-file [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Vec<Host>,
    /// The port to listen on; 0 takes a free one and prints it [default: 1337]
    #[arg(long)]
    pub port: Option<u16>,
    /// An address to listen on for TLS with client certificates; may be repeated [default port: 1338]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub tls_host: Vec<TlsHost>,
    /// The server's certificate [default: certs/NAME.crt under the fleet's home; NAME is `server` without --config]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<TildePath>,
    /// Its key, of mode 600 [default: certs/NAME.key]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<TildePath>,
    /// The CAs whose clients are let in [default: certs/ca.crt]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<TildePath>,
    /// The certificates that these CAs have revoked [default: certs/ca.crl, if it is there]
    #[arg(long, value_name = "FILE")]
    pub tls_crl: Option<TildePath>,
    /// Connections that may be open at once; an eighth of them is kept for this machine [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,
    /// A checkpoint folder, and the id that requests name it by [default id: the folder's name]; may be repeated
    #[arg(long, value_name = "[ID=]DIR")]
    pub model: Vec<ModelArg>,
    /// The SHA-256 manifest that the folder must match before anything is listened on; needs exactly one --model
    #[arg(long, value_name = "FILE", requires = "model")]
    pub manifest: Option<PathBuf>,
    /// A public key; one of them must have signed the manifest (FILE.sig). May be repeated
    #[arg(long, value_name = "FILE")]
    pub manifest_key: Vec<PathBuf>,
    /// A LoRA adapter's folder (mlx-lm or PEFT), merged into the weights while they are loaded; needs exactly one model
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    pub adapter_path: Option<TildePath>,
    /// The folder of the adapters that POST /v1/adapters may load, each in a folder of its own [default: none]
    #[arg(long, value_name = "DIR")]
    pub adapter_dir: Option<TildePath>,
    /// Serve random weights of a published size instead of a model, for load tests: qwen3.5-0.8b, qwen3.5-2b,
    /// qwen3.5-4b or qwen3.5-27b
    #[arg(long, conflicts_with = "model")]
    pub shape: Option<Shape>,
    /// What computes: mlx where this build has it and a GPU is there, else cpu [default: auto]
    #[arg(long)]
    pub backend: Option<BackendArg>,
    /// Compute with f32 activations: slower, the reference for the fast path
    #[arg(long)]
    pub exact: bool,
    /// How the KV cache keeps its values: plain, v8 or v4. Fewer bits are less memory a token, and less exact
    /// [default: plain]
    #[arg(long, value_name = "MODE")]
    pub kv_cache: Option<KvMode>,
    /// What caps the memory
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Threads that compute [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Sequences that are generated at once; each costs memory [default: 16]
    #[arg(long, value_name = "N")]
    pub max_slots: Option<NonZeroUsize>,
    /// Requests that may wait for a slot; more are refused with 429 [default: 64]
    #[arg(long, value_name = "N")]
    pub queue: Option<usize>,
    /// Tokens of a sequence, prompt and answer together [default: what the model was trained for]
    #[arg(long, value_name = "TOKENS")]
    pub max_context: Option<NonZeroUsize>,
    /// Prompt tokens that one pass takes in: smaller is smoother for the others, larger is faster [default: 256]
    #[arg(long, value_name = "TOKENS")]
    pub prefill_chunk: Option<NonZeroUsize>,
    /// The file that holds the bearer token, of mode 600: what requests from other machines must bring. Read again
    /// when it changes
    #[arg(long, value_name = "FILE")]
    pub auth_token_file: Option<TildePath>,
    /// Whether requests from this machine need the token too: where a forwarder makes outside requests look local,
    /// they do [default: bypass]
    #[arg(long, value_name = "RULE")]
    pub loopback: Option<LoopbackArg>,
    /// Requests that one client may have running or waiting at once; more are refused with 429. Those from this
    /// machine that need no token are not counted [default: 32]
    #[arg(long, value_name = "N")]
    pub max_requests_per_client: Option<NonZeroUsize>,
    /// Where to write down who asked what, one line of JSON a request [default: with --config,
    /// logs/NAME.audit.jsonl under the fleet's home; else none]
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<TildePath>,
    /// Keep a Mac from going to sleep while a request runs [default: true]
    #[arg(long, value_name = "BOOL")]
    pub keep_awake: Option<bool>,
    /// How long running requests may take to finish after SIGTERM [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub drain_seconds: Option<u64>,
}

/// Caps on memory. Where nothing is said they follow from the machine, and are never without end.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct MemoryArgs {
    /// Freed buffers that MLX keeps for reuse, in MiB [default: an eighth of the memory limit, at most 1024]
    #[arg(
        long = "metal-cache-limit-mb",
        visible_alias = "mlx-cache-limit-mb",
        value_name = "MIB"
    )]
    pub cache_limit_mb: Option<NonZeroU64>,
    /// All memory of weights and sequences, in MiB; requests that would go beyond are refused or wait [default: what
    /// Metal recommends, nine tenths of a GPU's own memory, or three quarters of the machine's]
    #[arg(
        long = "metal-memory-limit-mb",
        visible_alias = "mlx-memory-limit-mb",
        value_name = "MIB"
    )]
    pub memory_limit_mb: Option<NonZeroU64>,
    /// What Metal may keep resident, in MiB; public reports tie kernel panics of Macs to such a limit, so leave it unset
    /// unless you need it [default: no limit is set]
    #[arg(
        long = "metal-wired-limit-mb",
        visible_alias = "mlx-wired-limit-mb",
        value_name = "MIB"
    )]
    pub wired_limit_mb: Option<NonZeroU64>,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// The best that this build and machine have
    Auto,
    /// Pure Rust, on all cores
    Cpu,
    /// MLX: Metal or CUDA, or MLX's CPU device where neither is
    Mlx,
}

/// What to check: one folder, or the models of a server in fleet.toml.
#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// The checkpoint folder
    #[arg(required_unless_present = "config", conflicts_with = "config")]
    pub dir: Option<TildePath>,
    /// The fleet's file: check the models of a server in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which [servers.NAME] of the file [default: the only one]
    #[arg(long, value_name = "NAME", requires = "config")]
    pub server: Option<Label>,
    /// The SHA-256 manifest that the folder must match
    #[arg(long, value_name = "FILE", requires = "dir")]
    pub manifest: Option<PathBuf>,
    /// A public key; one of them must have signed the manifest. May be repeated
    #[arg(long, value_name = "FILE")]
    pub manifest_key: Vec<PathBuf>,
    /// The folder of an adapter that must fit the model
    #[arg(long, value_name = "DIR")]
    pub adapter_path: Option<TildePath>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(pub HostAddress);

/// An address to listen on for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsHost(pub ListenAddress);

/// What requests over loopback need.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LoopbackArg {
    /// No token
    Bypass,
    /// The token, as from anywhere else
    Required,
}

impl From<LoopbackArg> for Loopback {
    fn from(arg: LoopbackArg) -> Self {
        match arg {
            LoopbackArg::Bypass => Self::Bypass,
            LoopbackArg::Required => Self::Required,
        }
    }
}

/// A checkpoint folder and what requests call it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelArg {
    /// Given, or taken from the folder's name.
    pub id: ModelId,
    /// The folder.
    pub path: TildePath,
}

impl Args {
    /// Where log lines go.
    pub fn log_destination(&self) -> Destination {
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
    pub fn format(&self) -> Option<Format> {
        self.log_format.map(|format| match format {
            LogFormat::Json => Format::Json,
            LogFormat::Text => Format::Text,
        })
    }
}

impl ServeArgs {
    /// The drain limit asked for.
    pub fn drain(&self) -> Option<Duration> {
        self.drain_seconds.map(Duration::from_secs)
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "localhost" {
            return Ok(Self(IpAddr::from([127, 0, 0, 1]).into()));
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        bare.unwrap_or(text)
            .parse()
            .map(Self)
            .map_err(|error: BadAddress| error.to_string())
    }
}

impl FromStr for TlsHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alone = match text.parse::<Host>() {
            Ok(host) => return Ok(Self(host.0.with_port(TLS_PORT))),
            Err(error) => error,
        };
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(alone);
        };
        match (host.parse::<Host>(), port.parse()) {
            (Ok(host), Ok(port)) => Ok(Self(host.0.with_port(port))),
            // What is wrong with the address itself.
            (Err(error), Ok(_)) if host.ends_with(']') => Err(error),
            _ if text.starts_with("fe80") => Err(alone),
            _ => Err(
                "write an IP address such as 100.64.0.25, 100.64.0.25:1338 or [::1]:1338".into(),
            ),
        }
    }
}

impl FromStr for ModelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What begins like a path is one, even if there is a `=` in it.
        let (id, path) = match text.split_once('=') {
            Some((id, path)) if !id.starts_with(['/', '.', '~']) => (Some(id), path),
            _ => (None, text),
        };
        let path: TildePath = path.parse()?;
        let id = match id {
            Some(id) => id.parse().map_err(|error| format!("{error}"))?,
            None => id_of_folder(&path)?,
        };
        Ok(Self { id, path })
    }
}

fn id_of_folder(path: &TildePath) -> Result<ModelId, String> {
    let folder = path.here().map_err(|error| error.to_string())?;
    // `.` and `..` have a name only once they are resolved.
    let folder = folder.canonicalize().unwrap_or(folder);
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.parse()
        .map_err(|error| format!("{error}; name it yourself: --model ID={path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::PER_CLIENT;
    use sanctum_engine::launch::LaunchOptions;

    fn serve(args: &[&str]) -> ServeArgs {
        let args = ["sanctum-server"].iter().chain(args);
        Args::try_parse_from(args).unwrap().serve
    }

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn the_help_tells_the_defaults_and_the_shapes() {
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
    fn serve_is_what_it_does_when_nothing_is_said() {
        assert!(
            Args::try_parse_from(["sanctum-server"])
                .unwrap()
                .command
                .is_none()
        );
        assert_eq!(serve(&["--port", "0"]).port, Some(0));
        let said = Args::try_parse_from(["sanctum-server", "serve", "--port", "0"]).unwrap();
        assert!(matches!(said.command, Some(Command::Serve(args)) if args.port == Some(0)));
    }

    #[test]
    fn a_model_has_the_id_given_or_its_folder_s_name() {
        let model = |text: &str| {
            text.parse::<ModelArg>()
                .map(|m| (m.id.to_string(), m.path.to_string()))
        };
        let both = |id: &str, path: &str| Ok((id.to_owned(), path.to_owned()));
        assert_eq!(model("council=~/models/a"), both("council", "~/models/a"));
        assert_eq!(model("org/name=rel/dir"), both("org/name", "rel/dir"));
        assert_eq!(
            model("/models/qwen3.5-4b"),
            both("qwen3.5-4b", "/models/qwen3.5-4b")
        );
        assert_eq!(model("/models/a=b"), both("a=b", "/models/a=b"));
        assert!(
            model("/models/two words")
                .unwrap_err()
                .contains("--model ID=/models/two words")
        );
        assert!(model("a b=/x").is_err());
        assert!(model("id=").is_err());
    }

    #[test]
    fn a_host_is_an_address() {
        assert_eq!(
            "localhost".parse::<Host>().unwrap().0.to_string(),
            "127.0.0.1"
        );
        assert_eq!("[::1]".parse::<Host>().unwrap().0.to_string(), "::1");
        assert!("example.org".parse::<Host>().is_err());
        let tls = |text: &str| text.parse::<TlsHost>().map(|host| host.0.to_string());
        assert_eq!(tls("10.0.0.1").unwrap(), "10.0.0.1:1338");
        assert_eq!(tls("::1").unwrap(), "[::1]:1338");
        assert_eq!(tls("[::1]:99").unwrap(), "[::1]:99");
        assert_eq!(tls("localhost:0").unwrap(), "127.0.0.1:0");
        assert!(tls("10.0.0.1:http").is_err());
        assert_eq!(tls("fe80::1%en0").unwrap(), "[fe80::1%en0]:1338");
        assert_eq!(tls("[fe80::1%en0]:99").unwrap(), "[fe80::1%en0]:99");
        for bare in ["fe80::1", "[fe80::1]:99"] {
            assert!(tls(bare).unwrap_err().contains("fe80::1%en0"), "{bare}");
        }
        let error = "fe80::1".parse::<Host>().unwrap_err();
        assert!(error.contains("fe80::1%en0"), "{error}");
    }
}
