//! The arguments of `sanctum-server bench`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use sanctum_config::TildePath;
use sanctum_engine::backend::KvMode;
use sanctum_engine::load::random::Shape;

use super::values::BackendArg;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Random 4-bit weights of a published size
    #[arg(long, conflicts_with = "model")]
    pub shape: Option<Shape>,
    /// A checkpoint folder [default: the built-in model]
    #[arg(long, value_name = "DIR")]
    pub model: Option<TildePath>,
    /// Tokens of the prompt, or of several prompts; 0 measures no prefill
    #[arg(
        short = 'p',
        long,
        value_name = "TOKENS,…",
        value_delimiter = ',',
        default_value = "128"
    )]
    pub prompt: Vec<usize>,
    /// Tokens to generate in each stream; 0 measures no decode
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 64)]
    pub generate: usize,
    /// Numbers of streams to decode at once
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,4,16"
    )]
    pub streams: Vec<NonZeroUsize>,
    /// Tokens that each stream has processed before it generates; several measure each number of streams at each depth
    #[arg(
        short,
        long,
        value_name = "TOKENS,…",
        value_delimiter = ',',
        default_value = "0"
    )]
    pub depth: Vec<usize>,
    /// Measure what a constraint costs instead: a JSON schema, which the engine enforces in every other measurement
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// A folder whose tokenizer.json has the tokens of --schema [default: the model's; for --shape the built-in model's]
    #[arg(long, value_name = "DIR", requires = "schema")]
    pub tokenizer: Option<TildePath>,
    /// Prompt tokens a pass
    #[arg(long, value_name = "TOKENS", default_value = "128")]
    pub prefill_chunk: NonZeroUsize,
    /// The backend: mlx where this build has it and the machine a GPU, else cpu
    #[arg(long, default_value = "auto")]
    pub backend: BackendArg,
    /// Threads that compute [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Compute with f32 activations
    #[arg(long)]
    pub exact: bool,
    /// How the KV cache stores its values: plain, v8 or v4
    #[arg(long, value_name = "MODE", default_value_t)]
    pub kv_cache: KvMode,
    /// How often to repeat each measurement
    #[arg(short, long, value_name = "N", default_value = "5")]
    pub repeat: NonZeroUsize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
