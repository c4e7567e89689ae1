//! Adapters swapped while a model is served.
//!
//! A second engine is loaded beside the first, from the same checkpoint with the other adapter merged, and takes its place in
//! one step: requests that run finish on the weights they began with, new ones get the new. Until then nothing changes, so
//! that a swap that fails leaves the model as it was. A new engine has new slots: nothing that was computed with other
//! weights outlives a swap. Both must fit into the model's memory for that time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sanctum_config::{ModelId, did_you_mean};
use sanctum_engine::launch::{LaunchError, LaunchOptions, Launched, MemoryShare, launch};
use sanctum_engine::load::{AdapterName, AdapterSource, LoadError};
use sanctum_engine::schedule::{Admission, Engine, Heartbeat, HeldMemory, STOP_REQUESTED};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use crate::api::{self, ApiError, App};
use crate::models::{Departing, Ready, Served};
use crate::serve::yield_to_http;
use crate::settings::{ModelSettings, Settings};

/// How models are loaded once more, and which adapters there are for them.
#[derive(Default)]
pub struct Swaps {
    models: BTreeMap<ModelId, Swapped>,
    options: LaunchOptions,
    folder: Option<PathBuf>,
}

/// A model that may be given another adapter.
struct Swapped {
    settings: ModelSettings,
    /// One swap at a time: each needs the memory that the one before gives back.
    turn: Arc<Mutex<()>>,
}

impl Swaps {
    /// Those of a server.
    pub fn new(settings: &Settings) -> Self {
        let models = settings.models.iter().map(|model| {
            let swapped = Swapped {
                settings: model.clone(),
                turn: Arc::default(),
            };
            (model.id.clone(), swapped)
        });
        Self {
            models: models.collect(),
            options: settings.options.clone(),
            folder: settings.adapters.clone(),
        }
    }

    /// The adapters that a model may be given: those of the folder, and the one that it was started with. It looks at the
    /// disk.
    pub fn names(&self, model: &ModelId) -> Vec<AdapterName> {
        let Some(folder) = &self.folder else {
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
        self.models.get(model)?.settings.adapter.as_ref()
    }

    /// The folder of a name. A name is never a path, and neither it nor a file in it is a link that leads out of the folder:
    /// what may be loaded is the operator's choice, not the client's. Nor has one adapter two names.
    fn inside(&self, name: &AdapterName) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?.canonicalize().ok()?;
        let found = folder.join(name.as_str()).canonicalize().ok()?;
        let its_own = found.is_dir() && found == folder.join(name.as_str());
        let stays = |file: &str| match found.join(file).canonicalize() {
            Ok(target) => target.starts_with(&folder),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        (its_own && AdapterSource::FILES.iter().all(|file| stays(file))).then_some(found)
    }

    /// The adapter of a name. It looks at the disk.
    fn find(&self, model: &ModelId, name: &AdapterName) -> Result<AdapterSource, ApiError> {
        if let Some(own) = self.own(model).filter(|own| own.name == *name) {
            return Ok(own.clone());
        }
        let missing = || {
            let names = self.names(model);
            let known = || names.iter().map(AdapterName::as_str);
            let near = did_you_mean(name.as_str(), known());
            let known: Vec<&str> = known().collect();
            ApiError::AdapterNotFound {
                name: name.to_string(),
                mend: match known.is_empty() {
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

    /// Waits until no swap is under way.
    pub async fn over(&self) {
        for swapped in self.models.values() {
            drop(swapped.turn.lock().await);
        }
    }
}

/// Gives a model another adapter, or none, and returns it as it is then. Once loading has begun it is done even if the client
/// goes meanwhile.
pub async fn swap(
    app: Arc<App>,
    id: ModelId,
    name: Option<AdapterName>,
) -> Result<Arc<Ready>, ApiError> {
    let served = app.models.pick(Some(id.as_str()))?;
    let idle = |ready: &Ready| name.is_none() && ready.adapter.is_none();
    let swapped = app.swaps.models.get(&id);
    let (Some(swapped), Some(_)) = (swapped, &app.swaps.folder) else {
        return served.ready().and_then(|ready| match idle(&ready) {
            true => Ok(ready),
            false => Err(ApiError::AdaptersOff),
        });
    };
    let Ok(turn) = swapped.turn.clone().try_lock_owned() else {
        return Err(ApiError::SwapRunning { id: id.to_string() });
    };
    // Not held on to: it could not end while this waits.
    let ready = served.ready()?;
    if idle(&ready) {
        return Ok(ready);
    }
    drop(ready);
    let source = match &name {
        None => None,
        Some(name) => {
            let (app, id, name) = (app.clone(), id.clone(), name.clone());
            let find = move || {
                let source = app.swaps.find(&id, &name)?;
                let bytes = source.bytes();
                Ok((source, bytes))
            };
            let found = tokio::task::spawn_blocking(find).await;
            Some(found.map_err(|error| ApiError::Engine(error.to_string()))??)
        }
    };
    // The one before the last may still run, and then there would be three.
    if served.is_replacing() {
        let requests = served.pulse().in_flight;
        tracing::info!(model = %id, requests, "a swap waits for requests on the weights before the last swap");
    }
    tokio::select! {
        biased;
        () = app.shutdown.draining() => return Err(ApiError::ShuttingDown),
        () = served.settled() => {}
    }
    let settings = swapped.settings.clone();
    let working = app.clone();
    let work = tokio::spawn(async move { reload(&working, settings, source, turn).await });
    tokio::select! {
        done = work => {
            done.unwrap_or_else(|error| Err(ApiError::Engine(format!("the swap ended early: {error}"))))
        }
        // What is loaded by now will not be served.
        () = app.shutdown.draining() => Err(ApiError::ShuttingDown),
    }
}

/// A running engine has less memory while another is loaded beside it, and gets it back unless that takes over.
struct Lowered(Option<Arc<Admission>>);

impl Drop for Lowered {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.restore();
        }
    }
}

/// Loads the model once more, with an adapter that has so many bytes, and lets it take over.
async fn reload(
    app: &Arc<App>,
    model: ModelSettings,
    source: Option<(AdapterSource, u64)>,
    turn: OwnedMutexGuard<()>,
) -> Result<Arc<Ready>, ApiError> {
    let id = model.id.clone();
    let served = app.models.pick(Some(id.as_str()))?;
    let before = served.ready()?;
    let (source, bytes) = source.unzip();
    let name = source.as_ref().map(|source| source.name.clone());
    let adapter = name.as_ref().map_or("none", AdapterName::as_str);
    let began = Instant::now();
    let room = Room::make(before.memory, &before.engine, bytes.unwrap_or(0));
    let room = room.map_err(ApiError::NoRoom)?;
    let mut lowered = Lowered(Some(before.engine.admission().clone()));
    tracing::info!(model = %id, adapter, "swapping");
    let options = LaunchOptions {
        beside: room.beside,
        ..app.swaps.options.clone()
    };
    let launched = load(model, source, options).await.map_err(|error| {
        tracing::error!(model = %id, adapter, %error, "not swapped: the model goes on as it was");
        refusal(name.as_ref(), &error)
    })?;
    if app.shutdown.is_draining() {
        tracing::info!(model = %id, adapter, "not swapped: the server is stopping");
        // Dropping an engine waits for its thread.
        let _ = tokio::task::spawn_blocking(move || drop(launched)).await;
        return Err(ApiError::ShuttingDown);
    }
    let Launched {
        engine,
        fingerprint,
        adapter: merged,
        memory,
        ..
    } = launched;
    engine.admission().expect(room.beside);
    let ready = Arc::new(Ready {
        engine,
        fingerprint,
        created: api::now(),
        adapter: merged,
        memory,
    });
    lowered.0 = None;
    let departing = served.replace(ready.clone());
    drop(before);
    if app.shutdown.is_draining() {
        ready.engine.drain();
    }
    // Who reads the line may swap again.
    drop(turn);
    let seconds = began.elapsed().as_secs_f64();
    tracing::info!(model = %id, adapter, seconds, fingerprint = ready.fingerprint, "swapped");
    if let Some(departing) = departing {
        let app = app.clone();
        let engine = ready.engine.admission().clone();
        tokio::spawn(async move {
            if let Ok(served) = app.models.pick(Some(id.as_str())) {
                see_off(served, departing, &engine).await;
            }
        });
    }
    Ok(ready)
}

/// Waits until the engine before has finished what it had, and leaves its memory to the one after it.
async fn see_off(served: &Served, mut departing: Departing, heir: &Admission) {
    let reason = (&mut departing.stopped).await;
    // No other swap has begun: each waits until this is done.
    heir.restore();
    served.departed(&departing);
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
    model: ModelSettings,
    adapter: Option<AdapterSource>,
    options: LaunchOptions,
) -> Result<Launched, LaunchError> {
    let (done, loaded) = oneshot::channel();
    let work = move || {
        yield_to_http();
        let heartbeat = Arc::new(Heartbeat::new());
        let adapter = adapter.as_ref();
        let launched = launch(&model.source, adapter, &options, heartbeat, |_, _| {});
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
        Err(io::Error::other("loading ended without a result; the log says where").into())
    })
}

fn refusal(name: Option<&AdapterName>, error: &LaunchError) -> ApiError {
    match (error, name) {
        (LaunchError::Load(LoadError::Adapter { source, .. }), Some(name)) => {
            ApiError::AdapterUnusable {
                name: name.to_string(),
                why: source.message_for_clients(),
            }
        }
        (LaunchError::NoRoomBeside { .. } | LaunchError::TooLarge { .. }, _) => {
            ApiError::NoRoom(error.to_string())
        }
        _ => ApiError::Engine(
            "the model cannot be loaded again and goes on as it was; the server's log says why"
                .into(),
        ),
    }
}

/// How a model's memory is divided while two of its engines run.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    /// For the sequences of the engine that runs.
    old: u64,
    /// What that engine takes in all, which the new one must leave to it.
    beside: u64,
}

impl Room {
    /// Divides it, and lowers what the running engine may take.
    fn make(memory: MemoryShare, engine: &Engine, adapter: u64) -> Result<Self, String> {
        let admission = engine.admission();
        let least = admission.cost.of(engine.limits().context.min(1024));
        admission.lower(|held| {
            let room = Self::share(memory, held, least, adapter)?;
            Ok((room.old, room))
        })
    }

    /// What was promised to requests stays theirs; what is left is shared evenly, and the new engine can take at least one
    /// sequence of a usual length.
    fn share(
        memory: MemoryShare,
        held: HeldMemory,
        least: u64,
        adapter: u64,
    ) -> Result<Self, String> {
        let both = memory.weights.saturating_mul(2).saturating_add(adapter);
        let held = held.running.max(held.largest_waiting);
        let needed = both.saturating_add(held).saturating_add(least);
        if needed > memory.most {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(format!(
                "a swap needs {} MiB of memory for a while (two times {} MiB of weights, {} MiB of the adapter's, {} MiB of \
                 requests, {} MiB for a new one) and this model has {} MiB; wait until fewer requests run, raise \
                 --metal-memory-limit-mb, or restart with --adapter-path",
                mib(needed),
                mib(memory.weights),
                mib(adapter),
                mib(held),
                mib(least),
                memory.most >> 20,
            ));
        }
        let room = memory.most - both;
        let old = (room / 2).max(held).min(room - least);
        Ok(Self {
            old,
            beside: memory.weights + old,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_never_have_more_than_there_is() {
        let share = |weights, most, held| Room::share(MemoryShare { weights, most }, held, 10, 0);
        let running = |running| HeldMemory {
            running,
            largest_waiting: 0,
        };
        let room = |old| {
            Ok(Room {
                old,
                beside: 100 + old,
            })
        };
        assert_eq!(share(100, 300, running(0)), room(50));
        assert_eq!(share(100, 300, running(80)), room(80));
        assert_eq!(share(100, 300, running(90)), room(90));
        let waiting = HeldMemory {
            running: 20,
            largest_waiting: 85,
        };
        assert_eq!(share(100, 300, waiting), room(85));
        let adapter = Room::share(
            MemoryShare {
                weights: 100,
                most: 300,
            },
            waiting,
            10,
            6,
        );
        assert!(adapter.unwrap_err().contains("has 0 MiB"));
        let error = share(100 << 20, 300 << 20, running(91 << 20)).map(|room| room.old);
        assert_eq!(error, Ok(91 << 20));
        let error = share(100 << 20, 300 << 20, running(100 << 20)).unwrap_err();
        assert!(
            error.contains("needs 301 MiB") && error.contains("has 300 MiB"),
            "{error}"
        );
        assert!(share(u64::MAX, 300, running(0)).is_err());
        assert!(share(0, u64::MAX, running(0)).is_ok());
    }
}
