//! Which models are served, where each is, and what each must match.

use std::path::{Path, PathBuf};

use sanctum_config::fleet::Server;
use sanctum_config::{ModelId, NoHome, TildePath};
use sanctum_engine::load::AdapterSource;
use sanctum_engine::load::ModelSource;
use sanctum_manifest::Expected;

use super::error::SettingsError;
use crate::args::ServeArgs;
use crate::models::ModelSpec;

/// The id of the built-in model.
pub(super) const BUILT_IN: &str = "sanctum-tiny";

/// The models of the command line, or else those of fleet.toml, or else the built-in model. Models of the command line
/// replace those of fleet.toml together with their manifests.
pub(super) fn resolve(
    args: &ServeArgs,
    server: Option<&Server>,
) -> Result<Vec<ModelSpec>, SettingsError> {
    let mut models = bases(args, server)?;
    if let Some(path) = &args.adapter_path {
        let [model] = &mut models[..] else {
            return Err(SettingsError::AdapterOfWhich(models.len()));
        };
        model.adapter = Some(adapter(path.here()?)?);
    }
    Ok(models)
}

fn bases(args: &ServeArgs, server: Option<&Server>) -> Result<Vec<ModelSpec>, SettingsError> {
    let known = "these ids follow their own rule";
    if args.manifest.is_some() && args.model.len() != 1 {
        return Err(SettingsError::ManifestOfWhich(args.model.len()));
    }
    if let Some(shape) = args.shape {
        let id = shape.to_string().parse().expect(known);
        return refuse_unused_keys(args, vec![plain(id, ModelSource::Shape(shape))]);
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
    let mut models: Vec<ModelSpec> = Vec::new();
    if args.model.is_empty() {
        for (model, path) in server.into_iter().flat_map(Server::local_models) {
            let manifest = model.manifest.as_ref().map(|path| place(path, file));
            let folder = place(path, file)?;
            let folders = model.adapter.as_ref().map(|path| place(path, file));
            models.push(ModelSpec {
                id: model.id.clone(),
                aliases: model.aliases.clone(),
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
    if models.is_empty() && !has_upstreams(args, server) {
        models.push(plain(BUILT_IN.parse().expect(known), ModelSource::Embedded));
    }
    for model in models.iter().filter(|_| !keys.is_empty()) {
        if !model.source.is_verified() {
            tracing::warn!(
                model = %model.id,
                "keys for manifests are trusted and this model has no manifest: it is served unverified; give it \
                 its `manifest` in fleet.toml, or --manifest"
            );
        }
    }
    refuse_unused_keys(args, models)
}

/// Whether requests go to other servers, so that this one needs no model. Models of the command line replace those of
/// fleet.toml.
pub(super) fn has_upstreams(args: &ServeArgs, server: Option<&Server>) -> bool {
    let of_file = || {
        let mut models = server.into_iter().flat_map(|server| &server.models);
        args.model.is_empty() && models.any(|model| !model.upstreams.is_empty())
    };
    !args.upstream.is_empty() || of_file()
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

fn plain(id: ModelId, source: ModelSource) -> ModelSpec {
    ModelSpec {
        id,
        aliases: Vec::new(),
        source,
        adapter: None,
    }
}

fn adapter(folder: PathBuf) -> Result<AdapterSource, SettingsError> {
    AdapterSource::new(&folder).map_err(|source| SettingsError::AdapterName { folder, source })
}

/// The absolute form of a path of fleet.toml.
fn place(path: &TildePath, fleet: Option<&Path>) -> Result<PathBuf, NoHome> {
    match fleet {
        Some(file) => path.beside(file),
        None => path.here(),
    }
}

/// Refuses keys that would verify nothing: an operator who names one expects protection.
fn refuse_unused_keys(
    args: &ServeArgs,
    models: Vec<ModelSpec>,
) -> Result<Vec<ModelSpec>, SettingsError> {
    let verified = models.iter().any(|model| model.source.is_verified());
    match args.manifest_key.is_empty() || verified {
        true => Ok(models),
        false => Err(SettingsError::KeyWithoutManifest),
    }
}
