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
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use sanctum_config::{ModelId, did_you_mean};
use sanctum_engine::adapter::{AdapterName, AdapterSource};
use sanctum_engine::engine::Engine;
use sanctum_engine::heartbeat::Heartbeat;
use sanctum_engine::launch::{LaunchError, LaunchOptions, Launched, Share, launch};
use sanctum_engine::load::LoadError;
use tokio::sync::{Mutex, oneshot};

use crate::api::{self, ApiError, App};
use crate::models::{Departing, Ready};
use crate::serve::yield_to_http;
use crate::settings::{ModelSettings, Settings};

/// How models are loaded once more, and which adapters there are for them.
#[derive(Default)]
pub struct Swaps {
    models: BTreeMap<ModelId, ModelSettings>,
    options: LaunchOptions,
    folder: Option<PathBuf>,
    /// One at a time: each needs the memory that the one before gives back.
    turn: Mutex<()>,
}

impl Swaps {
    /// Those of a server.
    pub fn new(settings: &Settings) -> Self {
        let models = settings.models.iter();
        Self {
            models: models
                .map(|model| (model.id.clone(), model.clone()))
                .collect(),
            options: settings.options.clone(),
            folder: settings.adapters.clone(),
            turn: Mutex::default(),
        }
    }

    /// The adapters that a model may be given: those of the folder, and the one that it was started with.
    pub fn names(&self, model: &ModelId) -> Vec<AdapterName> {
        let folder = self
            .folder
            .as_ref()
            .and_then(|folder| fs::read_dir(folder).ok());
        let mut names: Vec<AdapterName> = folder
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("adapter_config.json").is_file())
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        let own = self
            .models
            .get(model)
            .and_then(|model| model.adapter.as_ref());
        names.extend(own.map(|own| own.name.clone()));
        names.sort();
        names.dedup();
        names
    }

    /// The adapter of a name. A name is never a path, and no link leads out of the folder: what may be loaded is the
    /// operator's choice, not the client's.
    fn find(&self, model: &ModelId, name: &AdapterName) -> Result<AdapterSource, ApiError> {
        let own = self
            .models
            .get(model)
            .and_then(|model| model.adapter.as_ref());
        if let Some(own) = own.filter(|own| own.name == *name) {
            return Ok(own.clone());
        }
        let inside = self.folder.as_ref().and_then(|folder| {
            let folder = folder.canonicalize().ok()?;
            let found = folder.join(name.as_str()).canonicalize().ok()?;
            (found.is_dir() && found.starts_with(&folder)).then_some(found)
        });
        let missing = || {
            let names = self.names(model);
            let known = || names.iter().map(AdapterName::as_str);
            let near = did_you_mean(name.as_str(), known());
            let known: Vec<&str> = known().collect();
            ApiError::AdapterNotFound {
                name: name.to_string(),
                mend: match known.is_empty() {
                    true => "; this server may load none: start it with --adapter-dir".to_owned(),
                    false => format!("{near}; this model can have {}", known.join(", ")),
                },
            }
        };
        let folder = inside.ok_or_else(missing)?;
        Ok(AdapterSource {
            name: name.clone(),
            folder,
        })
    }
}

/// Gives a model another adapter, or none. It is done even if the client goes meanwhile.
pub async fn swap(app: Arc<App>, id: ModelId, name: Option<AdapterName>) -> Result<(), ApiError> {
    let work = async move {
        let _turn = app.swaps.turn.lock().await;
        let served = app.models.pick(Some(id.as_str()))?;
        // The one before the last may still run, and then there would be three.
        while served.is_replacing() && !app.shutdown.is_draining() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if app.shutdown.is_draining() {
            return Err(ApiError::ShuttingDown);
        }
        let before = served.ready()?;
        let source = name
            .as_ref()
            .map(|name| app.swaps.find(&id, name))
            .transpose()?;
        let Some(model) = app.swaps.models.get(&id) else {
            return Err(ApiError::Engine("this model cannot be loaded again".into()));
        };
        let began = Instant::now();
        tracing::info!(model = %id, adapter = name.as_ref().map(ToString::to_string), "swapping");
        let old = before.engine.admission().budget();
        let room = Room::of(before.memory, &before.engine).map_err(ApiError::NoRoom)?;
        before.engine.admission().set_budget(room.old);
        let options = LaunchOptions {
            beside: room.beside,
            ..app.swaps.options.clone()
        };
        let launched = load(model.clone(), source, options).await;
        let launched = launched.inspect_err(|error| {
            before.engine.admission().set_budget(old);
            tracing::error!(model = %id, %error, "the adapter was not swapped");
        });
        let Launched {
            engine,
            fingerprint,
            adapter,
            memory,
            ..
        } = launched.map_err(|error| refusal(name.as_ref(), &error))?;
        let departing = served.replace(Ready {
            engine,
            fingerprint: fingerprint.clone(),
            created: api::now(),
            adapter,
            memory,
        });
        drop(before);
        tracing::info!(model = %id, seconds = began.elapsed().as_secs_f64(), fingerprint, "swapped");
        if let Some(departing) = departing {
            let app = app.clone();
            tokio::spawn(async move { see_off(&app, &id, departing, room.beside).await });
        }
        Ok(())
    };
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(ApiError::Engine(format!("the swap ended early: {error}"))))
}

/// Waits until the engine before has finished what it had, and leaves its memory to the one after it.
async fn see_off(app: &App, id: &ModelId, mut departing: Departing, bytes: u64) {
    let reason = (&mut departing.stopped).await;
    let Ok(served) = app.models.pick(Some(id.as_str())) else {
        return;
    };
    // No other swap has begun: each waits until this is done.
    if let Ok(ready) = served.ready() {
        let admission = ready.engine.admission();
        admission.set_budget(admission.budget().saturating_add(bytes));
    }
    served.departed(&departing);
    tracing::info!(model = %id, reason, "the engine before the swap has ended");
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
                why: source.to_string(),
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
    /// Running sequences keep what they have reserved; what is left is shared evenly, and the new engine can take at least one
    /// sequence of a usual length.
    fn of(memory: Share, engine: &Engine) -> Result<Self, String> {
        let admission = engine.admission();
        let least = admission.cost.of(engine.limits().context.min(1024));
        Self::share(memory, admission.reserved.load(Relaxed), least)
    }

    fn share(memory: Share, reserved: u64, least: u64) -> Result<Self, String> {
        let both = memory.weights.saturating_mul(2);
        let needed = both.saturating_add(reserved).saturating_add(least);
        if needed > memory.most {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(format!(
                "a swap needs {} MiB of memory for a while (two times {} MiB of weights, {} MiB of running requests, {} MiB for a \
                 new one) and this model has {} MiB; wait until fewer requests run, raise --metal-memory-limit-mb, or restart \
                 with --adapter-path",
                mib(needed),
                mib(memory.weights),
                mib(reserved),
                mib(least),
                memory.most >> 20,
            ));
        }
        let room = memory.most - both;
        let old = (room / 2).max(reserved).min(room - least);
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
        let share = |weights, most, reserved| Room::share(Share { weights, most }, reserved, 10);
        let room = |old| {
            Ok(Room {
                old,
                beside: 100 + old,
            })
        };
        assert_eq!(share(100, 300, 0), room(50));
        assert_eq!(share(100, 300, 80), room(80));
        assert_eq!(share(100, 300, 90), room(90));
        let error = share(100 << 20, 300 << 20, 91 << 20).map(|room| room.old);
        assert_eq!(error, Ok(91 << 20));
        let error = share(100 << 20, 300 << 20, 100 << 20).unwrap_err();
        assert!(
            error.contains("needs 301 MiB") && error.contains("has 300 MiB"),
            "{error}"
        );
        assert!(share(u64::MAX, 300, 0).is_err());
        assert!(share(0, u64::MAX, 0).is_ok());
    }
}
