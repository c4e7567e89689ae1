//! The arguments of `sanctum-server serve` and `check-model`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sanctum_config::fleet::{CheckRate, Gigabytes, PrefixCacheScope};
use sanctum_config::{HostName, Label, Origin, TildePath};
use sanctum_engine::backend::KvMode;
use sanctum_engine::load::random::Shape;

use super::values::{BackendArg, HostArg, LoopbackArg, ModelArg, TlsHostArg, UpstreamArg};

/// How to serve. A flag overrides fleet.toml.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// The fleet's file: take this server's settings from it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which [servers.NAME] of the file this is [default: the only one]
    #[arg(long, value_name = "NAME", requires = "config")]
    pub server: Option<Label>,
    /// An address to listen on; may be repeated. Any other than loopback needs --auth-token-file [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Vec<HostArg>,
    /// The port to listen on; 0 chooses a free one and prints it [default: 1337]
    #[arg(long)]
    pub port: Option<u16>,
    /// An address to listen on for TLS with client certificates; may be repeated [default port: 1338]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub tls_host: Vec<TlsHostArg>,
    /// The server's certificate [default: certs/NAME.crt under the fleet's home; NAME is `server` without --config]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<TildePath>,
    /// Its key, of mode 600 [default: certs/NAME.key]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<TildePath>,
    /// The CAs whose clients are accepted [default: certs/ca.crt]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<TildePath>,
    /// The certificates that these CAs have revoked [default: certs/ca.crl, if it exists]
    #[arg(long, value_name = "FILE")]
    pub tls_crl: Option<TildePath>,
    /// Connections that may be open at once; an eighth of them is kept for this machine [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,
    /// A checkpoint folder, and the id that requests name it by [default id: the folder's name]; may be repeated
    #[arg(long, value_name = "[ID=]DIR")]
    pub model: Vec<ModelArg>,
    /// Answer requests that name an unknown model with the first model, instead of 404
    #[arg(long)]
    pub any_model: bool,
    /// Refuse requests that have an unknown field, instead of naming it in the response header sanctum-ignored-fields
    #[arg(long)]
    pub strict_fields: bool,
    /// Another server that has a model, such as qwen=http://192.0.2.20:1337; may be repeated, also for one model: requests
    /// go to the first that answers, after this server if it has the model too. fleet.toml can give credentials
    #[arg(long, value_name = "ID=URL")]
    pub upstream: Vec<UpstreamArg>,
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
    /// qwen3.5-4b, qwen3.5-9b, qwen3.5-27b, or the mixtures of experts qwen3.5-35b-a3b and qwen3.5-122b-a10b
    #[arg(long, conflicts_with = "model")]
    pub shape: Option<Shape>,
    /// The backend: mlx where this build has it and the machine a GPU, else cpu [default: auto]
    #[arg(long)]
    pub backend: Option<BackendArg>,
    /// Compute with f32 activations: slower, the reference for the fast path
    #[arg(long)]
    pub exact: bool,
    /// How the KV cache stores its values: plain, v8 or v4. Fewer bits need less memory a token and are less exact
    /// [default: plain]
    #[arg(long, value_name = "MODE")]
    pub kv_cache: Option<KvMode>,
    /// Prefix reuse
    #[command(flatten)]
    pub prefix: PrefixArgs,
    /// Limits on memory
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
    /// Prompt tokens of one pass: smaller is smoother for the others, larger is faster [default: 256]
    #[arg(long, value_name = "TOKENS")]
    pub prefill_chunk: Option<NonZeroUsize>,
    /// The file of the bearer token, of mode 600, which requests from other machines need. It is read again when it
    /// changes
    #[arg(long, value_name = "FILE")]
    pub auth_token_file: Option<TildePath>,
    /// Whether requests from this machine need the token too: where a forwarder makes outside requests look local,
    /// they do [default: bypass]
    #[arg(long, value_name = "RULE")]
    pub loopback: Option<LoopbackArg>,
    /// The origin of web pages that may read answers in a browser, such as https://chat.example.com; may be repeated. A page
    /// on this machine needs no token then where programs need none; with `*`, every page may read answers and needs the
    /// token [default: none]
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<Origin>,
    /// A name by which local programs may call this machine without the token, besides localhost and its addresses, such as
    /// host.docker.internal; may be repeated [default: none]
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<HostName>,
    /// Requests that one client may have running or waiting at once; more are refused with 429. Those from this
    /// machine that need no token are not counted [default: 32]
    #[arg(long, value_name = "N")]
    pub max_requests_per_client: Option<NonZeroUsize>,
    /// The audit log, with one line of JSON for each request [default: with --config,
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

/// What is reused of prompts that begin alike.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PrefixArgs {
    /// Which clients share computed prefixes of prompts: shared, per-client, or off to compute every prompt from its first
    /// token [default: per-client]
    #[arg(long, value_name = "MODE")]
    pub prefix_cache: Option<PrefixCacheScope>,
    /// Memory for computed prefixes of all models, in GiB; sequences take it back when they need it [default: half of the
    /// memory for sequences]
    #[arg(long, value_name = "GIB")]
    pub prefix_cache_limit_gb: Option<Gigabytes>,
    /// A folder that keeps computed prefixes across restarts. Conversations lie there in plain form [default: none]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<TildePath>,
    /// The most that this folder takes, in GiB [default: 20]
    #[arg(long, value_name = "GIB")]
    pub cache_dir_limit_gb: Option<Gigabytes>,
    /// The share of reused prefixes that are computed again while the engine is idle, and compared [default: 0.02]
    #[arg(long, value_name = "SHARE")]
    pub cache_check: Option<CheckRate>,
}

/// Limits on memory. By default they follow from the machine; there always is a limit.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct MemoryArgs {
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

/// What to check: one folder, or the models of a server in fleet.toml.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
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

impl ServeArgs {
    /// The drain limit, if it is given.
    pub(crate) fn drain(&self) -> Option<Duration> {
        self.drain_seconds.map(Duration::from_secs)
    }
}
