//! From a folder, the binary itself or thin air to a model that is ready to run.

mod text;

use std::fmt;
use std::hint::black_box;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::adapter::{AdapterError, AdapterInfo, AdapterName, AdapterSource};
use crate::checkpoint::{self, CheckpointError, Files};
use crate::embedded;
use crate::model_config::{ConfigError, ModelConfig};
use crate::random::{self, Shape};
use crate::template::TemplateError;
use crate::text::Text;
use crate::tokenizer::TokenizerError;
use crate::weights::{HostWeights, WeightsError};
use sanctum_manifest::{Expected, ManifestError, Verification, Verified};

/// Bytes of each tensor that the fingerprint looks at, at its beginning, in its middle and at its end: the whole of a
/// large model would take longer to hash than to load. A manifest is what holds every byte.
const SAMPLE: usize = 4096;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A checkpoint folder, as it is.
    Folder(PathBuf),
    /// A checkpoint folder that must match its manifest.
    Verified {
        /// The folder.
        folder: PathBuf,
        /// The manifest, and the keys that may have signed it.
        expected: Expected,
    },
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
    /// Ten hex digits that change with the model's settings, tokenizer and template, its tensors (of each the name, the
    /// form and three samples of 4 KiB), the whole of its adapter and this program's version. Where an adapter is merged,
    /// what it is called follows, and what it is: `…+name-r8-a32-72` for 72 pairs of rank 8 and alpha 32.
    pub fingerprint: String,
    /// The adapter that is merged into its weights.
    pub adapter: Option<AdapterInfo>,
}

/// Everything that a model is made of, on the host.
#[derive(Debug)]
pub struct Loaded {
    /// Shape and weights.
    pub host: HostModel,
    /// Tokenizer, template and end-of-sequence ids.
    pub text: Text,
    /// The proof that the folder matched its manifest; none if the source has none.
    pub verified: Option<Verified>,
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
    /// A small JSON file, or a field of it, cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The adapter cannot be merged into it.
    #[error("adapter {name}: {source}")]
    Adapter {
        /// What it is called.
        name: AdapterName,
        /// Why.
        source: Box<AdapterError>,
    },
    /// The folder is not what its manifest says.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Folder(folder) | Source::Verified { folder, .. } => {
                write!(f, "{}", folder.display())
            }
            Source::Embedded => f.write_str("the built-in model"),
            Source::Shape(shape) => write!(f, "random weights of shape {shape}"),
        }
    }
}

impl HostModel {
    /// Loads a model. `progress` is told how many bytes of weights have been brought in, and of how many.
    ///
    /// # Errors
    /// If it is not a complete Qwen3.5 checkpoint, or not what its manifest says; the error names the file, tensor or
    /// field.
    pub fn open(source: &Source, progress: impl FnMut(u64, u64)) -> Result<Self, LoadError> {
        Self::open_adapted(source, None, progress)
    }

    /// The same with an adapter merged into the weights.
    ///
    /// # Errors
    /// As there, and if the adapter does not fit the model.
    pub fn open_adapted(
        source: &Source,
        adapter: Option<&AdapterSource>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        if let Source::Shape(shape) = source {
            refuse_on_noise(adapter)?;
            return Ok(Self::random(*shape, &mut progress));
        }
        let (files, verification) = files(source)?;
        let read = Self::read(&files, source, adapter, &mut progress);
        let (model, verified) = verdict(read, verification, &mut progress)?;
        if verified.is_none() {
            model.bring_in(progress);
        }
        Ok(model)
    }

    fn read(
        files: &Files,
        source: &Source,
        adapter: Option<&AdapterSource>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
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
            samples(&tensor.bytes).for_each(|sample| hash.update(sample));
        }
        for name in text::FILES {
            let Some(bytes) = files.open(name).map_err(at)? else {
                continue;
            };
            // Where a file ends counts as well.
            hash.update(format!("{name} {}\n", bytes.len()));
            hash.update(&*bytes);
        }
        let failed = |error| match (error, adapter) {
            (WeightsError::Adapter(error), Some(adapter)) => adapter.failed(*error),
            (error, _) => LoadError::Weights {
                place: source.to_string(),
                source: error,
            },
        };
        let mut opened = adapter
            .map(|adapter| adapter.open(source))
            .transpose()
            .map_err(|error| failed(error.into()))?;
        if let Some(adapter) = &opened {
            hash.update(adapter.digest());
        }
        let weights = HostWeights::from_tensors(&config, tensors, opened.as_mut(), progress)
            .map_err(failed)?;
        let merged = opened
            .map(|adapter| adapter.finish())
            .transpose()
            .map_err(|error| failed(error.into()))?;
        let mut fingerprint = hex(&hash.finalize()[..5]);
        if let Some(merged) = &merged {
            fingerprint += &format!("+{merged}");
        }
        Ok(Self {
            config,
            weights,
            fingerprint,
            adapter: merged,
        })
    }

    fn random(shape: Shape, progress: &mut dyn FnMut(u64, u64)) -> Self {
        let config = shape.config();
        Self {
            weights: random::weights(&config, progress),
            fingerprint: {
                let made_by = format!("{} {shape}", env!("CARGO_PKG_VERSION"));
                hex(&Sha256::digest(made_by)[..5])
            },
            adapter: None,
            config,
        }
    }

    /// Reads every page of the weights once, so that the first request does not wait for the disk. Verified weights
    /// were read when they were hashed.
    pub(crate) fn bring_in(&self, mut progress: impl FnMut(u64, u64)) {
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
        if let Source::Shape(_) = source {
            // Noise has no vocabulary of its own: it is shown in the built-in model's.
            let mut text = text::read(&embedded::files(), config, source)?;
            text.eos.clear();
            text.wrap = Some(text.tokenizer.vocab_size() as u32);
            return Ok(text);
        }
        // The files of the text side are verified before they are handed out, so the weights' verdict is not waited
        // for.
        let (files, _) = files(source)?;
        text::read(&files, config, source)
    }
}

impl Source {
    /// Whether its files must match a manifest before anything may be served.
    pub fn is_verified(&self) -> bool {
        matches!(self, Source::Verified { .. })
    }

    /// Loads both sides of a model, with an adapter merged into its weights if one is named; weights that no manifest
    /// vouches for are mapped, but not yet read from the disk.
    /// `progress` is told how many bytes have been verified or made, and of how many.
    ///
    /// # Errors
    /// As [`HostModel::open`] and [`Text::open`]. Where the folder is not what its manifest says, that is the error,
    /// whatever else follows from it.
    pub fn open(
        &self,
        adapter: Option<&AdapterSource>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Loaded, LoadError> {
        if let Source::Shape(shape) = self {
            refuse_on_noise(adapter)?;
            let host = HostModel::random(*shape, &mut progress);
            let text = Text::open(self, &host.config)?;
            return Ok(Loaded {
                host,
                text,
                verified: None,
            });
        }
        let (files, verification) = files(self)?;
        let read = HostModel::read(&files, self, adapter, &mut progress).and_then(|host| {
            let text = text::read(&files, &host.config, self)?;
            Ok((host, text))
        });
        let ((host, text), verified) = verdict(read, verification, &mut progress)?;
        Ok(Loaded {
            host,
            text,
            verified,
        })
    }
}

/// The files of a source that has some. Where a manifest lists them, its verification has begun.
fn files(source: &Source) -> Result<(Files, Option<Verification>), LoadError> {
    Ok(match source {
        Source::Folder(folder) => (Files::Folder(folder.clone()), None),
        Source::Verified { folder, expected } => {
            let verification = Verification::start(folder, expected)?;
            (Files::Verified(verification.files()), Some(verification))
        }
        Source::Embedded | Source::Shape(_) => (embedded::files(), None),
    })
}

/// Random weights have nothing to learn.
fn refuse_on_noise(adapter: Option<&AdapterSource>) -> Result<(), LoadError> {
    match adapter {
        None => Ok(()),
        Some(adapter) => Err(adapter.failed(AdapterError::Random)),
    }
}

/// Waits for the verdict before anything is made of what was read, or said about it.
fn verdict<T>(
    read: Result<T, LoadError>,
    verification: Option<Verification>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(T, Option<Verified>), LoadError> {
    let verified = verification.map(|begun| begun.wait(progress)).transpose()?;
    Ok((read?, verified))
}

impl AdapterSource {
    fn failed(&self, source: AdapterError) -> LoadError {
        LoadError::Adapter {
            name: self.name.clone(),
            source: source.into(),
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

/// Up to three pieces of a tensor: from its beginning, its middle and its end.
fn samples(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let size = SAMPLE.min(bytes.len());
    let last = bytes.len() - size;
    [0, last / 2, last]
        .into_iter()
        .map(move |start| &bytes[start..start + size])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
