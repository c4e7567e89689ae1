//! Adapters swapped while a model is served.
//!
//! A second engine is loaded beside the first, from the same checkpoint with the other adapter merged, and replaces it in
//! one step: running requests finish on the weights they began with, new ones get the new weights. Until then nothing
//! changes, so that a swap that fails leaves the model as it was. A new engine has new slots: nothing that was computed with
//! other weights outlives a swap. Both engines must fit into the model's memory meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sanctum_config::{ModelId, did_you_mean};
use sanctum_engine::launch::{LaunchError, LaunchOptions, Launched, launch};
use sanctum_engine::load::LoadError;
use sanctum_engine::load::{AdapterName, AdapterSource};
use sanctum_engine::schedule::Heartbeat;
use sanctum_engine::schedule::{Admission, STOP_REQUESTED};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::error::SwapError;
use super::memory_split::MemorySplit;
use super::registry::{Models, Ready, RetiringEngine, Served};
use super::spec::ModelSpec;
use crate::shutdown::Shutdown;
use crate::thread_priority;

/// Swaps the adapters of a server's models. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct AdapterSwaps(Arc<SwapState>);

struct SwapState {
    models: Arc<Models>,
    /// How the models are loaded again.
    swappable: BTreeMap<ModelId, Swappable>,
    options: LaunchOptions,
    /// The folder of the adapters that may be swapped in; none: none may.
    folder: Option<PathBuf>,
    shutdown: Shutdown,
}

/// A model whose adapter may be swapped.
struct Swappable {
    spec: ModelSpec,
    /// One swap at a time: each needs the memory that the one before releases.
    lock: Arc<Mutex<()>>,
}

impl AdapterSwaps {
    /// Swaps between the adapters of `folder`, for models that are loaded again as `specs` and `options` say.
    pub(crate) fn new(
        models: Arc<Models>,
        specs: &[ModelSpec],
        options: LaunchOptions,
        folder: Option<PathBuf>,
        shutdown: Shutdown,
    ) -> Self {
        let swappable = specs.iter().map(|spec| {
            let swappable = Swappable {
                spec: spec.clone(),
                lock: Arc::default(),
            };
            (spec.id.clone(), swappable)
        });
        Self(Arc::new(SwapState {
            models,
            swappable: swappable.collect(),
            options,
            folder,
            shutdown,
        }))
    }

    /// The adapters that a model may have: those of the folder, and the one that it was started with. It reads the disk.
    pub(crate) fn names(&self, model: &ModelId) -> Vec<AdapterName> {
        let Some(folder) = &self.0.folder else {
            return Vec::new();
        };
        let entries = fs::read_dir(folder).inspect_err(|error| {
            tracing::error!(folder = %folder.display(), %error, "the folder of adapters cannot be read");
        });
        let mut names: Vec<AdapterName> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|name| {
                let inside = self.inside(name);
                inside.is_some_and(|found| found.join("adapter_config.json").is_file())
            })
            .collect();
        names.extend(self.own(model).map(|own| own.name.clone()));
        names.sort();
        names.dedup();
        names
    }

    /// The adapter that a model was started with.
    fn own(&self, model: &ModelId) -> Option<&AdapterSource> {
        self.0.swappable.get(model)?.spec.adapter.as_ref()
    }

    /// The folder of an adapter. A name is never a path, and neither the folder nor a file in it is a link that leads out of
    /// the folder of adapters: the operator decides what may be loaded, not the client. No adapter has two names.
    fn inside(&self, name: &AdapterName) -> Option<PathBuf> {
        let folder = self.0.folder.as_ref()?.canonicalize().ok()?;
        let found = folder.join(name.as_str()).canonicalize().ok()?;
        let is_own = found.is_dir() && found == folder.join(name.as_str());
        let stays = |file: &str| match found.join(file).canonicalize() {
            Ok(target) => target.starts_with(&folder),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        (is_own && AdapterSource::FILES.iter().all(|file| stays(file))).then_some(found)
    }

    /// The adapter of a name. It reads the disk.
    fn find(&self, model: &ModelId, name: &AdapterName) -> Result<AdapterSource, SwapError> {
        if let Some(own) = self.own(model).filter(|own| own.name == *name) {
            return Ok(own.clone());
        }
        let missing = || {
            let names = self.names(model);
            let known = || names.iter().map(AdapterName::as_str);
            let near = did_you_mean(name.as_str(), known());
            let known: Vec<&str> = known().collect();
            SwapError::NotFound {
                name: name.to_string(),
                fix: match known.is_empty() {
                    true => {
                        "; the server's folder of adapters has none that can be read".to_owned()
                    }
                    false => format!("{near}; this model can have {}", known.join(", ")),
                },
            }
        };
        let folder = self.inside(name).ok_or_else(missing)?;
        Ok(AdapterSource {
            name: name.clone(),
            folder,
        })
    }

    /// Waits until no swap is running.
    pub(crate) async fn settled(&self) {
        for swappable in self.0.swappable.values() {
            drop(swappable.lock.lock().await);
        }
    }

    /// Gives a model another adapter, or none, and returns the model as it is then. Once loading has begun it is completed
    /// even if the client disconnects meanwhile.
    ///
    /// # Errors
    /// If the adapter was not swapped; the model stays as it was.
    pub(crate) async fn swap(
        &self,
        id: ModelId,
        name: Option<AdapterName>,
    ) -> Result<Arc<Ready>, SwapError> {
        let SwapState {
            models,
            swappable,
            shutdown,
            ..
        } = &*self.0;
        let served = models.exact(Some(id.as_str()))?;
        let is_done = |ready: &Ready| name.is_none() && ready.adapter.is_none();
        let (Some(swappable), Some(_)) = (swappable.get(&id), &self.0.folder) else {
            let ready = served.ready()?;
            return match is_done(&ready) {
                true => Ok(ready),
                false => Err(SwapError::Disabled),
            };
        };
        let Ok(lock) = swappable.lock.clone().try_lock_owned() else {
            return Err(SwapError::Running { id: id.to_string() });
        };
        // Not held: the engine could not end while this waits.
        let ready = served.ready()?;
        if is_done(&ready) {
            return Ok(ready);
        }
        drop(ready);
        let source = match name {
            None => None,
            Some(name) => {
                let (swaps, id) = (self.clone(), id.clone());
                let find = move || {
                    let source = swaps.find(&id, &name)?;
                    let bytes = source.bytes();
                    Ok::<_, SwapError>((source, bytes))
                };
                let found = tokio::task::spawn_blocking(find).await;
                Some(found.map_err(|error| SwapError::Task(error.to_string()))??)
            }
        };
        // The engine before the last may still run, and then there would be three.
        if served.is_replacing() {
            let requests = served.pulse().in_flight;
            tracing::info!(model = %id, requests, "a swap waits for requests on the weights before the last swap");
        }
        tokio::select! {
            biased;
            () = shutdown.draining() => return Err(SwapError::ShuttingDown),
            () = served.settled() => {}
        }
        let (swaps, spec) = (self.clone(), swappable.spec.clone());
        let work = tokio::spawn(async move { swaps.reload(spec, source, lock).await });
        tokio::select! {
            done = work => done.unwrap_or_else(|error| Err(SwapError::Task(error.to_string()))),
            // What is loaded by now will not be served.
            () = shutdown.draining() => Err(SwapError::ShuttingDown),
        }
    }

    /// Loads the model again, with an adapter that has so many bytes, and switches over to it.
    async fn reload(
        &self,
        spec: ModelSpec,
        source: Option<(AdapterSource, u64)>,
        lock: OwnedMutexGuard<()>,
    ) -> Result<Arc<Ready>, SwapError> {
        let SwapState {
            models,
            options,
            shutdown,
            ..
        } = &*self.0;
        let id = spec.id.clone();
        let served = models.exact(Some(id.as_str()))?;
        let before = served.ready()?;
        let (source, bytes) = source.unzip();
        let name = source.as_ref().map(|source| source.name.clone());
        let adapter = name.as_ref().map_or("none", AdapterName::as_str);
        let began = Instant::now();
        let room = MemorySplit::make(before.memory, &before.engine, bytes.unwrap_or(0));
        let room = room.map_err(SwapError::NoMemory)?;
        let mut lowered = LoweredBudget(Some(before.engine.admission().clone()));
        tracing::info!(model = %id, adapter, "swapping");
        let options = LaunchOptions {
            beside: room.beside,
            ..options.clone()
        };
        let launched = load(spec, source, options).await.map_err(|error| {
            tracing::error!(model = %id, adapter, %error, "not swapped: the model stays as it was");
            swap_error(name.as_ref(), &error)
        })?;
        if shutdown.is_draining() {
            tracing::info!(model = %id, adapter, "not swapped: the server is stopping");
            // Dropping an engine waits for its thread.
            let _ = tokio::task::spawn_blocking(move || drop(launched)).await;
            return Err(SwapError::ShuttingDown);
        }
        let ready = Arc::new(Ready::new(launched));
        ready.engine.admission().expect(room.beside);
        lowered.0 = None;
        let retiring = served.replace(ready.clone());
        drop(before);
        if shutdown.is_draining() {
            ready.engine.drain();
        }
        // A client that reads the log line may swap again.
        drop(lock);
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(model = %id, adapter, seconds, fingerprint = ready.fingerprint, "swapped");
        if let Some(retiring) = retiring {
            let models = models.clone();
            let engine = ready.engine.admission().clone();
            tokio::spawn(async move {
                if let Ok(served) = models.exact(Some(id.as_str())) {
                    retire(served, retiring, &engine).await;
                }
            });
        }
        Ok(ready)
    }
}

/// Lowers what a running engine may take while another is loaded beside it, and restores it unless that one replaces it.
struct LoweredBudget(Option<Arc<Admission>>);

impl Drop for LoweredBudget {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.restore();
        }
    }
}

/// Waits until the engine before has finished its requests, and gives its memory to the one after it.
async fn retire(served: &Served, mut engine: RetiringEngine, successor: &Admission) {
    let reason = (&mut engine.stopped).await;
    // No other swap has begun: each waits until this is done.
    successor.restore();
    served.retire(&engine);
    let model = served.id();
    match reason == STOP_REQUESTED {
        true => tracing::info!(%model, "the engine before the swap has finished"),
        false => {
            tracing::error!(%model, reason, "the engine before the swap has ended, and its requests with it")
        }
    }
}

/// Loads a model on a thread of its own, as at the start.
async fn load(
    spec: ModelSpec,
    adapter: Option<AdapterSource>,
    options: LaunchOptions,
) -> Result<Launched, LaunchError> {
    let (done, loaded) = oneshot::channel();
    let work = move || {
        thread_priority::lower();
        let heartbeat = Arc::new(Heartbeat::new());
        let adapter = adapter.as_ref();
        let launched = launch(&spec.source, adapter, &options, heartbeat, |_, _| {});
        let _ = done.send(launched.and_then(|launched| {
            if let Some(verified) = &launched.verified {
                verified.unchanged().map_err(LoadError::from)?;
            }
            Ok(launched)
        }));
    };
    std::thread::Builder::new()
        .name("swap".into())
        .spawn(work)?;
    loaded.await.unwrap_or_else(|_| {
        Err(io::Error::other("loading ended without a result; see the log for the reason").into())
    })
}

fn swap_error(name: Option<&AdapterName>, error: &LaunchError) -> SwapError {
    match (error, name) {
        (LaunchError::Load(LoadError::Adapter { source, .. }), Some(name)) => SwapError::Unusable {
            name: name.to_string(),
            why: source.message_for_clients(),
        },
        (
            LaunchError::NoRoomBeside { .. }
            | LaunchError::TooLarge { .. }
            | LaunchError::CopiesTooLarge { .. },
            _,
        ) => SwapError::NoMemory(error.to_string()),
        _ => SwapError::Load,
    }
}
