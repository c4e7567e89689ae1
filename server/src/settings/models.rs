//! Which models are served, where each lies, and what each must match.

use std::path::{Path, PathBuf};

use sanctum_config::fleet::Server;
use sanctum_config::{ModelId, NoHome, TildePath};
use sanctum_engine::load::{AdapterSource, ModelSource};
use sanctum_manifest::Expected;

use super::SettingsError;
use crate::args::ServeArgs;

/// What requests call the built-in model.
pub(super) const BUILT_IN: &str = "sanctum-tiny";

/// One model: what requests call it, where it lies, and what is merged into it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSettings {
    /// What requests call it.
    pub id: ModelId,
    /// Where it lies, and what it must match.
    pub source: ModelSource,
    /// The adapter that it starts with.
    pub adapter: Option<AdapterSource>,
}

/// The models of the command line, or else those of fleet.toml, or else the one that is built in. Models on the command
/// line take the place of fleet.toml's together with their manifests.
pub(super) fn resolve(
    args: &ServeArgs,
    server: Option<&Server>,
) -> Result<Vec<ModelSettings>, SettingsError> {
    let mut models = bases(args, server)?;
    if let Some(path) = &args.adapter_path {
        let [model] = &mut models[..] else {
            return Err(SettingsError::AdapterOfWhich(models.len()));
        };
        model.adapter = Some(adapter(path.here()?)?);
    }
    Ok(models)
}

fn bases(args: &ServeArgs, server: Option<&Server>) -> Result<Vec<ModelSettings>, SettingsError> {
    let known = "these ids follow their own rule";
    if args.manifest.is_some() && args.model.len() != 1 {
        return Err(SettingsError::ManifestOfWhich(args.model.len()));
    }
    if let Some(shape) = args.shape {
        let id = shape.to_string().parse().expect(known);
        return told_of_idle_keys(args, vec![plain(id, ModelSource::Shape(shape))]);
    }
    let file = args.config.as_deref();
    let keys = match server {
        Some(server) if args.manifest_key.is_empty() => server
            .manifest_keys
            .iter()
            .map(|key| place(key, file))
            .collect::<Result<_, _>>()?,
        _ => args.manifest_key.clone(),
    };
    let source = |folder: PathBuf, manifest: Option<PathBuf>| match manifest {
        None => ModelSource::Folder(folder),
        Some(manifest) => ModelSource::Verified {
            folder,
            expected: Expected {
                manifest,
                keys: keys.clone(),
            },
        },
    };
    let mut models: Vec<ModelSettings> = Vec::new();
    if args.model.is_empty() {
        for model in server.into_iter().flat_map(|server| &server.models) {
            let manifest = model.manifest.as_ref().map(|path| place(path, file));
            let folder = place(&model.path, file)?;
            let folders = model.adapter.as_ref().map(|path| place(path, file));
            models.push(ModelSettings {
                id: model.id.clone(),
                source: source(folder, manifest.transpose()?),
                adapter: folders.transpose()?.map(adapter).transpose()?,
            });
        }
    }
    for model in &args.model {
        if models.iter().any(|other| other.id == model.id) {
            return Err(SettingsError::TwoModels(model.id.clone()));
        }
        let folder = model.path.here()?;
        let source = source(folder, args.manifest.clone());
        models.push(plain(model.id.clone(), source));
    }
    if models.is_empty() {
        models.push(plain(BUILT_IN.parse().expect(known), ModelSource::Embedded));
    }
    for model in models.iter().filter(|_| !keys.is_empty()) {
        if !model.source.is_verified() {
            tracing::warn!(
                model = %model.id,
                "keys for manifests are trusted and this model has no manifest: it is served as it lies there; give it \
                 its `manifest` in fleet.toml, or --manifest"
            );
        }
    }
    told_of_idle_keys(args, models)
}

/// The folder of the adapters that may be swapped in.
pub(super) fn adapters(
    args: &ServeArgs,
    server: Option<&Server>,
) -> Result<Option<PathBuf>, SettingsError> {
    let of_file = || server.and_then(|server| server.adapters.as_ref());
    let folder = match (&args.adapter_dir, of_file()) {
        (Some(path), _) => Some(path.here()?),
        (None, Some(path)) => Some(place(path, args.config.as_deref())?),
        (None, None) => None,
    };
    Ok(folder)
}

fn plain(id: ModelId, source: ModelSource) -> ModelSettings {
    ModelSettings {
        id,
        source,
        adapter: None,
    }
}

fn adapter(folder: PathBuf) -> Result<AdapterSource, SettingsError> {
    AdapterSource::new(&folder).map_err(|source| SettingsError::AdapterName { folder, source })
}

/// Where a path of fleet.toml leads.
fn place(path: &TildePath, fleet: Option<&Path>) -> Result<PathBuf, NoHome> {
    match fleet {
        Some(file) => path.beside(file),
        None => path.here(),
    }
}

/// Refuses keys that would check nothing: who gives one believes to be protected.
fn told_of_idle_keys(
    args: &ServeArgs,
    models: Vec<ModelSettings>,
) -> Result<Vec<ModelSettings>, SettingsError> {
    let verified = models.iter().any(|model| model.source.is_verified());
    match args.manifest_key.is_empty() || verified {
        true => Ok(models),
        false => Err(SettingsError::KeyWithoutManifest),
    }
}
