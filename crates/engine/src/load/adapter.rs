//! LoRA adapters: small matrices that change what a model does, merged into its weights while they are loaded.
//!
//! An adapter holds a pair of matrices for some of the model's modules, and `W + scale · B · A` takes the place of `W`.
//! Two layouts are read (`config`): mlx-lm's and PEFT's. An adapter that needs more than that (DoRA, biases, embeddings,
//! whole modules) is refused by the name of the feature: half of an adapter is another model than the one that was trained.
//! `merge` has the arithmetic; a merged model runs as fast as one without an adapter.

mod config;
mod error;
mod merge;
mod name;
mod pairs;
mod source;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

pub(crate) use config::AdapterLayout;
pub use error::AdapterError;
pub use name::{AdapterName, InvalidAdapterName};
pub use source::AdapterSource;

use config::Config;
use pairs::LoraPair;

use crate::load::checkpoint::Files;
use crate::load::source::ModelSource;
use crate::load::weights::{HostMatrix, Storage};
use sanctum_manifest::{Expected, Verification, Verified};

/// A merged adapter, as it is reported. Displayed, it is the end of a fingerprint.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// What it is called.
    pub name: AdapterName,
    /// The rank that its settings name; single pairs may have another.
    pub rank: usize,
    /// What the products are scaled with, times the rank (with rsLoRA: times its root).
    pub alpha: f64,
    /// Pairs that were merged.
    pub pairs: usize,
}

/// An adapter that is being merged: each pair is used once.
pub(crate) struct Adapter {
    info: AdapterInfo,
    file: &'static str,
    pairs: BTreeMap<String, LoraPair>,
    digest: [u8; 32],
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            rank,
            alpha,
            pairs,
        } = self;
        write!(f, "{name}-r{rank}-a{alpha}-{pairs}")
    }
}

impl AdapterSource {
    /// Reads the adapter of a model. If the model must match a manifest, so must the adapter, and the same keys are trusted:
    /// otherwise write access to adapters would be enough to change the answers of a signed model.
    ///
    /// # Errors
    /// If it is no adapter, needs something that is not supported, or does not match its manifest.
    pub(crate) fn open(&self, model: &ModelSource) -> Result<Adapter, AdapterError> {
        let ModelSource::Verified { expected, .. } = model else {
            return self.read(&whole::read(&self.folder)?);
        };
        let expected = Expected {
            manifest: self.manifest(),
            keys: expected.keys.clone(),
        };
        let begun = Verification::start(&self.folder, &expected).map_err(Box::new)?;
        let read =
            whole::copied(&Files::Verified(begun.files())).and_then(|files| self.read(&files));
        let verified: Verified = begun.wait(|_, _| ()).map_err(Box::new)?;
        let adapter = read?;
        // Its numbers were copied: later changes of the files do not matter.
        verified.unchanged().map_err(Box::new)?;
        tracing::info!(
            adapter = %self.name,
            manifest = %verified.manifest_path().display(),
            signed_by = verified.signed_by().map(ToString::to_string),
            "verified"
        );
        Ok(adapter)
    }

    fn read(&self, files: &Files) -> Result<Adapter, AdapterError> {
        let (layout, weights) = AdapterLayout::find(files, &self.name)?;
        let json = files
            .open(config::FILE)?
            .ok_or_else(|| AdapterError::NoConfig(self.name.clone()))?;
        let config = Config::parse(layout, &json)?;
        let mut hash = Sha256::new();
        hash.update(&*json);
        hash.update(&*weights);
        let pairs = pairs::read(&config, layout.weights(), weights)?;
        Ok(Adapter {
            info: AdapterInfo {
                name: self.name.clone(),
                rank: config.rank,
                alpha: config.alpha,
                pairs: pairs.len(),
            },
            file: layout.weights(),
            pairs,
            digest: hash.finalize().into(),
        })
    }
}

impl Adapter {
    /// SHA-256 over its settings and weights, all of them.
    pub(crate) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Pairs that are not merged yet.
    pub(crate) fn left(&self) -> usize {
        self.pairs.len()
    }

    /// The matrix of a module with its pair added to it, if the adapter has one.
    pub(crate) fn merged(
        &mut self,
        module: &str,
        matrix: HostMatrix,
    ) -> Result<HostMatrix, AdapterError> {
        let Some(pair) = self.pairs.remove(module) else {
            return Ok(matrix);
        };
        pair.fit(self.file, matrix.rows, matrix.cols)?;
        if let Storage::Blocks { .. } = matrix.storage {
            return Err(AdapterError::Tensor {
                tensor: pair.tensors()[0].clone(),
                file: self.file,
                what: "half of a pair for weights in blocks (mxfp4, mxfp8 or nvfp4)",
                fix: "convert the model to affine bits",
            });
        }
        merge::merge(&matrix, &pair.decoded(self.file)?).ok_or_else(|| AdapterError::Overflow {
            tensor: pair.tensors()[0].clone(),
            file: self.file,
        })
    }

    /// Checks, before anything is merged, that the model has a module for each pair.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn fits(&self, has: impl Fn(&str) -> bool) -> Result<(), AdapterError> {
        let mut lost = self.pairs.iter().filter(|(module, _)| !has(module));
        match lost.next() {
            None => Ok(()),
            Some((_, pair)) => Err(self.no_place(pair, lost.count())),
        }
    }

    fn no_place(&self, pair: &LoraPair, others: usize) -> AdapterError {
        AdapterError::NoPlace {
            tensor: pair.tensors()[0].clone(),
            file: self.file,
            others,
        }
    }

    /// The merged adapter. Every pair must have been merged.
    pub(crate) fn finish(self) -> Result<AdapterInfo, AdapterError> {
        match self.pairs.values().next() {
            None => Ok(self.info),
            Some(pair) => Err(self.no_place(pair, self.pairs.len() - 1)),
        }
    }
}
