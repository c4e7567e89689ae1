//! `sanctum-server check-model`: checks a model folder and its manifest without serving it.

mod description;

use sanctum_engine::load::LoadError;

use self::description::MachineCapacity;

use crate::args::{CheckArgs, ModelArg, ServeArgs};
use crate::failure::CommandFailure;
use crate::models::ModelSpec;
use crate::progress::loading_bar;
use crate::settings::{Settings, SettingsError};

/// Checks each model and prints a line for it; the first that fails is the failure. A folder is described too: what it is, and
/// what this machine can do with it.
pub(crate) fn run(args: &CheckArgs) -> Result<(), CommandFailure> {
    let is_described = args.dir.is_some();
    let mut models = models(args)?.into_iter();
    models.try_for_each(|model| check(&model, is_described))
}

/// The models, by the rules by which they would be served.
fn models(args: &CheckArgs) -> Result<Vec<ModelSpec>, SettingsError> {
    let here = args.dir.iter().map(|path| ModelArg {
        // The id is not shown.
        id: "model".parse().expect("it follows its own rule"),
        path: path.clone(),
    });
    Settings::models(&ServeArgs {
        config: args.config.clone(),
        server: args.server.clone(),
        model: here.collect(),
        manifest: args.manifest.clone(),
        manifest_key: args.manifest_key.clone(),
        adapter_path: args.adapter_path.clone(),
        ..ServeArgs::default()
    })
}

fn check(model: &ModelSpec, is_described: bool) -> Result<(), CommandFailure> {
    let ModelSpec {
        id,
        source,
        adapter,
        ..
    } = model;
    let bar = loading_bar(&source.to_string());
    let opened = source.open(adapter.as_ref(), |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    let unchanged = opened.and_then(|loaded| {
        if let Some(verified) = &loaded.verified {
            verified.unchanged().map_err(LoadError::from)?;
        }
        Ok(loaded)
    });
    bar.finish_and_clear();
    let loaded = unchanged.map_err(|error| CommandFailure::Load {
        id: id.clone(),
        source: Box::new(error.into()),
    })?;
    let manifest = match &loaded.verified {
        None => "no manifest was checked".to_owned(),
        Some(verified) => format!(
            "{} files with {} bytes match {}, {}",
            verified.manifest().files().len(),
            verified.bytes(),
            verified.manifest_path().display(),
            match verified.signed_by() {
                Some(key) => format!("signed by {key}"),
                None => "whose signature was not checked".to_owned(),
            }
        ),
    };
    let adapter = loaded
        .host
        .adapter
        .as_ref()
        .map_or_else(String::new, |adapter| {
            format!(
                " with {} pairs of the adapter {}",
                adapter.pairs, adapter.name
            )
        });
    println!(
        "ok: {source} is a model of {} layers{adapter}, fingerprint {}; {manifest}",
        loaded.host.config.layers.len(),
        loaded.host.fingerprint,
    );
    if is_described {
        let machine = MachineCapacity::measured(&loaded.host);
        print!("\n{}", description::describe(&loaded.host, &machine));
    }
    Ok(())
}
