//! From a folder, the binary itself or thin air to a model that is ready to run.

use std::fmt;
use std::hint::black_box;
use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::checkpoint::{self, CheckpointError, Files};
use crate::embedded;
use crate::model_config::{ConfigError, Eos, ModelConfig};
use crate::random::{self, Shape};
use crate::template::{ChatTemplate, TemplateError};
use crate::text::Text;
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::weights::{HostWeights, WeightsError};

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A checkpoint folder.
    Folder(PathBuf),
    /// The tiny model that is compiled into the binary.
    Embedded,
    /// Random 4-bit weights of a production shape, for measurements.
    Shape(Shape),
}

/// A model on the host: its shape and its weights, mapped rather than copied.
#[derive(Debug)]
pub struct HostModel {
    /// Its shape.
    pub config: ModelConfig,
    /// Its weights.
    pub weights: HostWeights,
    /// Ten hex digits that change with the model's shape, the layout of its tensors and this program's version.
    pub fingerprint: String,
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `config.json` describes something else.
    #[error("{place}: {source}")]
    Config {
        /// The folder.
        place: String,
        /// Why.
        source: ConfigError,
    },
    /// A file is missing or damaged.
    #[error("{place}: {source}")]
    Checkpoint {
        /// The folder.
        place: String,
        /// Why.
        source: CheckpointError,
    },
    /// The tensors do not make the model.
    #[error("{place}: {source}")]
    Weights {
        /// The folder.
        place: String,
        /// Why.
        source: WeightsError,
    },
    /// `tokenizer.json` cannot be used.
    #[error("{place}: {source}")]
    Tokenizer {
        /// The folder.
        place: String,
        /// Why.
        source: TokenizerError,
    },
    /// The chat template cannot be used.
    #[error("{place}: {source}")]
    Template {
        /// The folder.
        place: String,
        /// Why.
        source: TemplateError,
    },
    /// A small JSON file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Folder(folder) => write!(f, "{}", folder.display()),
            Source::Embedded => f.write_str("the built-in model"),
            Source::Shape(shape) => write!(f, "random weights of shape {shape}"),
        }
    }
}

#[derive(Default, Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<Eos>,
}

impl HostModel {
    /// Loads a model. `progress` is told how many bytes of weights have been brought in, and of how many.
    ///
    /// # Errors
    /// If it is not a complete Qwen3.5 checkpoint; the error names the file, tensor or field.
    pub fn open(source: &Source, mut progress: impl FnMut(u64, u64)) -> Result<Self, LoadError> {
        let model = match source {
            Source::Folder(folder) => Self::read(&Files::Folder(folder.clone()), source)?,
            Source::Embedded => Self::read(&embedded::files(), source)?,
            Source::Shape(shape) => return Ok(Self::random(*shape, &mut progress)),
        };
        model.bring_in(progress);
        Ok(model)
    }

    fn read(files: &Files, source: &Source) -> Result<Self, LoadError> {
        let at = |error| LoadError::checkpoint(source, error);
        let config_json = files.require("config.json").map_err(at)?;
        let config = ModelConfig::parse(&config_json).map_err(|error| LoadError::Config {
            place: source.to_string(),
            source: error,
        })?;
        let tensors = checkpoint::tensors(files).map_err(at)?;
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(&*config_json);
        for (name, tensor) in &tensors {
            hash.update(format!("{name} {:?} {:?}\n", tensor.dtype, tensor.shape));
        }
        let weights =
            HostWeights::from_tensors(&config, tensors).map_err(|error| LoadError::Weights {
                place: source.to_string(),
                source: error,
            })?;
        Ok(Self {
            config,
            weights,
            fingerprint: hex(&hash.finalize()[..5]),
        })
    }

    fn random(shape: Shape, progress: &mut dyn FnMut(u64, u64)) -> Self {
        let config = shape.config();
        Self {
            weights: random::weights(&config, progress),
            fingerprint: hex(&Sha256::digest(shape.to_string())[..5]),
            config,
        }
    }

    /// Reads every page of the weights once, so that the first request does not wait for the disk.
    fn bring_in(&self, mut progress: impl FnMut(u64, u64)) {
        const PAGE: usize = 4096;
        const REPORT_EVERY: usize = 64 << 20;
        let matrices = self.weights.matrices();
        let total = matrices.iter().map(|m| m.bytes() as u64).sum();
        let mut done = 0;
        progress(0, total);
        for part in matrices.iter().flat_map(|matrix| matrix.parts()) {
            for piece in part.chunks(REPORT_EVERY) {
                black_box(piece.iter().step_by(PAGE).fold(0, |sum, byte| sum ^ byte));
                done += piece.len() as u64;
                progress(done, total);
            }
        }
    }
}

impl Text {
    /// Loads the text side of a model: tokenizer, template and end-of-sequence ids.
    ///
    /// # Errors
    /// If `tokenizer.json` is missing, or it or another of the files cannot be used.
    pub fn open(source: &Source, config: &ModelConfig) -> Result<Self, LoadError> {
        match source {
            Source::Folder(folder) => text(&Files::Folder(folder.clone()), config, source),
            Source::Embedded => text(&embedded::files(), config, source),
            Source::Shape(_) => {
                // Noise has no vocabulary of its own: it is shown in the built-in model's.
                let mut text = text(&embedded::files(), config, source)?;
                text.eos.clear();
                text.wrap = Some(text.tokenizer.vocab_size() as u32);
                Ok(text)
            }
        }
    }
}

impl LoadError {
    fn checkpoint(place: &Source, source: CheckpointError) -> Self {
        Self::Checkpoint {
            place: place.to_string(),
            source,
        }
    }
}

fn text(files: &Files, config: &ModelConfig, source: &Source) -> Result<Text, LoadError> {
    let at = |error| LoadError::checkpoint(source, error);
    let json = files.require("tokenizer.json").map_err(at)?;
    let tokenizer = Tokenizer::from_bytes(&json).map_err(|error| LoadError::Tokenizer {
        place: source.to_string(),
        source: error,
    })?;
    let generation: GenerationConfig = optional_json(files, "generation_config.json", at)?;
    let eos = generation.eos_token_id.map(Eos::into_ids);
    let tokenizer_config: serde_json::Value = optional_json(files, "tokenizer_config.json", at)?;
    // Newer checkpoints keep the template in a file of its own, older ones in tokenizer_config.json.
    let template = match files.open("chat_template.jinja").map_err(at)? {
        Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        None => tokenizer_config["chat_template"]
            .as_str()
            .map(str::to_owned),
    };
    let template = template
        .map(|template| {
            ChatTemplate::new(&template).map(|t| t.with_special_tokens(&tokenizer_config))
        })
        .transpose()
        .map_err(|error| LoadError::Template {
            place: source.to_string(),
            source: error,
        })?;
    Ok(Text::new(
        tokenizer,
        template,
        eos.unwrap_or_else(|| config.eos.clone()),
    ))
}

fn optional_json<T: Default + for<'de> Deserialize<'de>>(
    files: &Files,
    name: &str,
    at: impl Fn(CheckpointError) -> LoadError,
) -> Result<T, LoadError> {
    match files.open(name).map_err(at)? {
        None => Ok(T::default()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|source| LoadError::Json {
            path: files.path(name),
            source,
        }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
