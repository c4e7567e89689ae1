//! A model on the host, read from its source.

use std::hint::black_box;

use sanctum_manifest::{Verification, Verified};
use sha2::{Digest, Sha256};

use super::adapter::{AdapterError, AdapterInfo, AdapterSource};
use super::checkpoint::{self, Files};
use super::embedded;
use super::error::LoadError;
use super::model_config::ModelConfig;
use super::random::{self, Shape};
use super::source::ModelSource;
use super::text_files;
use super::weights::HostWeights;
use super::weights_reader::{self, WeightsError};
use crate::text::Text;

/// Bytes of each tensor that the fingerprint covers, at its beginning, in its middle and at its end: hashing a whole large model
/// would take longer than loading it. A manifest covers every byte.
const SAMPLE: usize = 4096;

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
    /// All of the hash whose beginning is in the fingerprint.
    pub digest: [u8; 32],
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

impl HostModel {
    /// Loads a model. Calls `progress(done, total)` with the bytes of weights that are in memory.
    ///
    /// # Errors
    /// If it is not a complete Qwen3.5 checkpoint, or does not match its manifest; the error names the file, tensor or
    /// field.
    pub fn open(source: &ModelSource, progress: impl FnMut(u64, u64)) -> Result<Self, LoadError> {
        Self::open_adapted(source, None, progress)
    }

    /// The same with an adapter merged into the weights.
    ///
    /// # Errors
    /// As there, and if the adapter does not fit the model.
    pub fn open_adapted(
        source: &ModelSource,
        adapter: Option<&AdapterSource>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        if let ModelSource::Shape(shape) = source {
            refuse_on_noise(adapter)?;
            return Ok(Self::random(*shape, &mut progress));
        }
        let (files, verification) = source.files()?;
        let read = Self::read(&files, source, adapter, &mut progress);
        let (model, verified) = verdict(read, verification, &mut progress)?;
        if verified.is_none() {
            model.bring_in(progress);
        }
        Ok(model)
    }

    fn read(
        files: &Files,
        source: &ModelSource,
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
        for name in text_files::FILES {
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
                source: Box::new(error),
            },
        };
        let mut opened = adapter
            .map(|adapter| adapter.open(source))
            .transpose()
            .map_err(|error| failed(error.into()))?;
        if let Some(adapter) = &opened {
            hash.update(adapter.digest());
        }
        let weights =
            weights_reader::read(&config, tensors, opened.as_mut(), progress).map_err(failed)?;
        let merged = opened
            .map(|adapter| adapter.finish())
            .transpose()
            .map_err(|error| failed(error.into()))?;
        let digest: [u8; 32] = hash.finalize().into();
        let mut fingerprint = hex(&digest[..5]);
        if let Some(merged) = &merged {
            fingerprint += &format!("+{merged}");
        }
        Ok(Self {
            config,
            weights,
            fingerprint,
            digest,
            adapter: merged,
        })
    }

    fn random(shape: Shape, progress: &mut dyn FnMut(u64, u64)) -> Self {
        let config = shape.config();
        let made_by = format!("{} {shape}", env!("CARGO_PKG_VERSION"));
        let digest: [u8; 32] = Sha256::digest(made_by).into();
        Self {
            weights: random::weights(&config, progress),
            fingerprint: hex(&digest[..5]),
            digest,
            adapter: None,
            config,
        }
    }

    /// Reads every page of the weights once, so that the first request does not wait for the disk. Verified weights
    /// were read when they were hashed.
    pub(crate) fn bring_in(&self, mut progress: impl FnMut(u64, u64)) {
        const PAGE: usize = 4096;
        const REPORT_EVERY: usize = 64 << 20;
        let total = self.weights.bytes();
        let mut done = 0;
        progress(0, total);
        for part in self.weights.parts() {
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
    pub fn open(source: &ModelSource, config: &ModelConfig) -> Result<Self, LoadError> {
        if let ModelSource::Shape(_) = source {
            // Random weights have no vocabulary of their own and use the built-in model's.
            let mut text = text_files::read(&embedded::files(), config, source)?;
            text.eos.clear();
            text.wrap = Some(text.tokenizer.vocab_size() as u32);
            return Ok(text);
        }
        // The files of the text side are verified before they are opened, so the result for the weights is not needed here.
        let (files, _) = source.files()?;
        text_files::read(&files, config, source)
    }
}

impl ModelSource {
    /// Loads the weights and the text side of a model, with an adapter merged into its weights if one is named. Weights without
    /// a manifest are mapped, but not yet read from the disk.
    /// Calls `progress(done, total)` with the bytes that have been verified or generated.
    ///
    /// # Errors
    /// As [`HostModel::open`] and [`Text::open`]. Where the folder is not what its manifest says, that is the error,
    /// whatever else follows from it.
    pub fn open(
        &self,
        adapter: Option<&AdapterSource>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Loaded, LoadError> {
        if let ModelSource::Shape(shape) = self {
            refuse_on_noise(adapter)?;
            let host = HostModel::random(*shape, &mut progress);
            let text = Text::open(self, &host.config)?;
            return Ok(Loaded {
                host,
                text,
                verified: None,
            });
        }
        let (files, verification) = self.files()?;
        let read = HostModel::read(&files, self, adapter, &mut progress).and_then(|host| {
            let text = text_files::read(&files, &host.config, self)?;
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

/// Random weights take no adapter.
fn refuse_on_noise(adapter: Option<&AdapterSource>) -> Result<(), LoadError> {
    match adapter {
        None => Ok(()),
        Some(adapter) => Err(adapter.failed(AdapterError::Random)),
    }
}

/// Waits for the verification before what was read is used or reported.
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
