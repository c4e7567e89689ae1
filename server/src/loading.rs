//! Loads the models of a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sanctum_config::ModelId;
use sanctum_engine::launch::{LaunchError, LaunchOptions, Launched, launch};
use sanctum_engine::load::LoadError;
use sanctum_manifest::Verified;
use tokio::sync::oneshot;

use crate::failure::CommandFailure;
use crate::models::{ModelSpec, Models, Ready};
use crate::progress::loading_bar;
use crate::thread_priority;

/// How often the log shows the progress of loading.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Loads one model after the other, on a thread of its own: reading weights blocks, and a process that is stopped
/// does not wait for it. When all are loaded, verified files are checked for changes again.
///
/// # Errors
/// If a model cannot be loaded, or a verified file has changed.
pub(crate) async fn load_all(
    models: Arc<Models>,
    specs: Vec<ModelSpec>,
    options: LaunchOptions,
) -> Result<(), CommandFailure> {
    let (done, loaded) = oneshot::channel();
    let load = move || {
        thread_priority::lower();
        let load = |spec| load_one(&models, spec, &options);
        let verified: Result<Vec<_>, _> = specs.iter().map(load).collect();
        let _ = done.send(verified.and_then(unchanged));
    };
    std::thread::Builder::new()
        .name("load".into())
        .spawn(load)?;
    loaded.await.unwrap_or(Err(CommandFailure::LoaderDied))
}

fn load_one(
    models: &Models,
    spec: &ModelSpec,
    options: &LaunchOptions,
) -> Result<Option<(ModelId, Verified)>, CommandFailure> {
    let ModelSpec {
        id,
        source,
        adapter,
        ..
    } = spec;
    let failed = |source: LaunchError| CommandFailure::Load {
        id: id.clone(),
        source: Box::new(source),
    };
    let began = Instant::now();
    let mut reported = began;
    let Some(served) = models.iter().find(|served| served.id() == id) else {
        return Ok(None);
    };
    tracing::info!(model = %id, from = %source, "loading");
    let heartbeat = served.heartbeat().clone();
    let bar = loading_bar(id.as_str());
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
        if bar.is_hidden() && reported.elapsed() >= PROGRESS_EVERY {
            reported = Instant::now();
            let percent = done * 100 / total.max(1);
            tracing::info!(model = %id, percent, "loading");
        }
    };
    let launched = launch(source, adapter.as_ref(), options, heartbeat, progress);
    bar.finish_and_clear();
    let mut launched = launched.map_err(failed)?;
    let verified = launched.verified.take();
    if let Some(verified) = &verified {
        tracing::info!(
            model = %id,
            manifest = %verified.manifest_path().display(),
            files = verified.manifest().files().len(),
            bytes = verified.bytes(),
            signed_by = verified.signed_by().map(ToString::to_string),
            "verified"
        );
    }
    let Launched {
        engine,
        fingerprint,
        ..
    } = &launched;
    let limits = engine.limits();
    tracing::info!(
        model = %id,
        seconds = began.elapsed().as_secs_f64(),
        context = limits.context,
        slots = limits.slots,
        kv_cache = %engine.admission().cost.kv_cache,
        fingerprint,
        "loaded"
    );
    served.loaded(Ready::new(launched));
    Ok(verified.map(|verified| (id.clone(), verified)))
}

/// The last check before the sockets are opened: no verified file may have changed since it was opened.
fn unchanged(verified: Vec<Option<(ModelId, Verified)>>) -> Result<(), CommandFailure> {
    verified
        .into_iter()
        .flatten()
        .try_for_each(|(id, verified)| {
            verified.unchanged().map_err(|error| CommandFailure::Load {
                id,
                source: Box::new(LoadError::from(error).into()),
            })
        })
}
