//! The models of a server: each is loading, loaded, or has an engine that replaces another.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sanctum_config::{ModelAlias, ModelId, did_you_mean};
use sanctum_engine::launch::{Launched, MemoryShare};
use sanctum_engine::load::AdapterInfo;
use sanctum_engine::schedule::Engine;
use sanctum_engine::schedule::{EnginePhase, Heartbeat, Pulse};
use tokio::sync::{Notify, watch};

use super::engine_figures::{Capacity, EngineFigures, Totals};
use super::error::ModelError;
use crate::model_names::{self, NamedModel};
use crate::unix_time;

/// Characters of an unknown id that an error repeats.
const LONGEST_SHOWN: usize = 200;

/// All models, that this server has, in the order of the configuration.
pub(crate) struct Models {
    served: Vec<Served>,
    /// Ids of models that only other servers have.
    elsewhere: Vec<String>,
    /// The first model answers to every name.
    any: bool,
}

/// A model, loaded or not yet.
pub(crate) struct Served {
    id: ModelId,
    aliases: Vec<ModelAlias>,
    /// Beats from the first byte that is loaded to the last layer that the first engine computes.
    heartbeat: Arc<Heartbeat>,
    current: watch::Sender<Option<Arc<Ready>>>,
    replaced: Mutex<Replaced>,
    /// Notified when an engine that was replaced has ended.
    retired: Notify,
}

/// A model that is loaded.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// Computes its answers.
    pub engine: Engine,
    /// Names weights and arithmetic: the `system_fingerprint` of its answers.
    pub fingerprint: String,
    /// When it was loaded, in Unix seconds.
    pub created: u64,
    /// The adapter that is merged into its weights.
    pub adapter: Option<AdapterInfo>,
    /// Its memory.
    pub memory: MemoryShare,
}

/// Engines that were replaced.
#[derive(Default)]
struct Replaced {
    /// Those that finish their requests.
    running: Vec<EngineFigures>,
    /// What those have done that have ended.
    ended: Totals,
}

/// An engine that was replaced and finishes its requests.
pub(crate) struct RetiringEngine {
    stats: EngineFigures,
    /// Resolves to the reason when the engine has ended.
    pub stopped: Pin<Box<dyn Future<Output = String> + Send>>,
}

impl Models {
    /// Models that are to be loaded; none where only other servers have models. With `any`, the first answers to every name that
    /// no other has.
    pub(crate) fn new(
        named: impl IntoIterator<Item = (ModelId, Vec<ModelAlias>)>,
        any: bool,
    ) -> Self {
        let served = named.into_iter();
        Self {
            served: served
                .map(|(id, aliases)| Served::new(id, aliases))
                .collect(),
            elsewhere: Vec::new(),
            any,
        }
    }

    /// The same where other servers have these models, which errors name.
    pub(crate) fn beside(self, elsewhere: impl IntoIterator<Item = ModelId>) -> Self {
        let elsewhere = elsewhere.into_iter().map(|id| id.to_string()).collect();
        Self { elsewhere, ..self }
    }

    /// The model that a request names, by its id or an alias; the first if it names none, or if any name will do. Of several
    /// aliases that match, an exact one wins, and then the longest.
    ///
    /// # Errors
    /// [`ModelError::NotFound`].
    pub(crate) fn pick(&self, name: Option<&str>) -> Result<&Served, ModelError> {
        let Some(name) = name else {
            return self.exact(None);
        };
        let first = self.served.first().filter(|_| self.any);
        match self.named(name).or(first) {
            Some(served) => Ok(served),
            None => self.exact(Some(name)),
        }
    }

    /// The model with this id; the first if there is none. What changes a model must name it exactly.
    ///
    /// # Errors
    /// [`ModelError::NotFound`].
    pub(crate) fn exact(&self, id: Option<&str>) -> Result<&Served, ModelError> {
        let id = match (id, self.served.first()) {
            (None, Some(first)) => return Ok(first),
            (None, None) => "",
            (Some(id), _) => id,
        };
        self.iter()
            .find(|served| served.id().as_str() == id)
            .ok_or_else(|| {
                let known = || {
                    let here = self.iter().map(|served| served.id().as_str());
                    here.chain(self.elsewhere.iter().map(String::as_str))
                };
                let near = did_you_mean(id, known());
                let known: Vec<&str> = known().collect();
                ModelError::NotFound {
                    id: id.chars().take(LONGEST_SHOWN).collect(),
                    fix: format!(
                        "{near}; this server has {}; to serve other names, add `aliases` to a model in fleet.toml, or \
                         start it with --any-model",
                        known.join(", ")
                    ),
                }
            })
    }

    fn named(&self, name: &str) -> Option<&Served> {
        let named = self.iter().map(|served| NamedModel {
            id: &served.id,
            aliases: &served.aliases,
            model: served,
        });
        model_names::resolve(named, name)
    }

    /// Each model.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Served> {
        self.served.iter()
    }

    /// The engines that run already.
    pub(crate) fn engines(&self) -> impl Iterator<Item = Engine> {
        self.iter()
            .filter_map(|served| Some(served.ready().ok()?.engine.clone()))
    }
}

impl Ready {
    /// A model that was just loaded.
    pub(crate) fn new(launched: Launched) -> Self {
        Self {
            engine: launched.engine,
            fingerprint: launched.fingerprint,
            created: unix_time::now(),
            adapter: launched.adapter,
            memory: launched.memory,
        }
    }
}

impl Served {
    /// A model that is to be loaded.
    pub(crate) fn new(id: ModelId, aliases: Vec<ModelAlias>) -> Self {
        Self {
            id,
            aliases,
            heartbeat: Arc::new(Heartbeat::new()),
            current: watch::Sender::new(None),
            replaced: Mutex::default(),
            retired: Notify::new(),
        }
    }

    /// The id that requests name it by.
    pub(crate) fn id(&self) -> &ModelId {
        &self.id
    }

    /// Other names by which requests may name it.
    pub(crate) fn aliases(&self) -> &[ModelAlias] {
        &self.aliases
    }

    /// The heartbeat of loading and of the first engine.
    pub(crate) fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.heartbeat
    }

    /// The pulse of its engines together: of those with work, the age of the one that has not moved for longest.
    pub(crate) fn pulse(&self) -> Pulse {
        // Locked throughout, so that no engine is counted twice or not at all while it is replaced.
        let replaced = self.replaced();
        let current = self.current.borrow().clone();
        let heartbeat = current.as_ref().map(|ready| ready.engine.heartbeat());
        let mut pulse = heartbeat.unwrap_or(&self.heartbeat).read();
        pulse.progress += replaced.ended.progress;
        for other in &replaced.running {
            let other = other.pulse();
            let works = |pulse: &Pulse| pulse.in_flight + pulse.queued > 0;
            pulse.age = match (works(&pulse), works(&other)) {
                (_, false) => pulse.age,
                (false, true) => other.age,
                (true, true) => pulse.age.max(other.age),
            };
            pulse.progress += other.progress;
            pulse.in_flight += other.in_flight;
            pulse.queued += other.queued;
        }
        pulse
    }

    /// What its engines have done.
    pub(crate) fn totals(&self) -> Totals {
        let replaced = self.replaced();
        let all = self.running(&replaced);
        all.fold(replaced.ended, |sum, engine| sum + engine.totals())
    }

    /// What its engines have.
    pub(crate) fn capacity(&self) -> Capacity {
        let replaced = self.replaced();
        let all = self.running(&replaced).map(|engine| engine.capacity());
        all.fold(Capacity::default(), |sum, one| sum + one)
    }

    /// Each engine that runs; none can be replaced meanwhile.
    fn running(&self, replaced: &Replaced) -> impl Iterator<Item = EngineFigures> {
        let current = self.current.borrow().clone();
        let current = current.map(|ready| EngineFigures::of(&ready.engine));
        replaced.running.iter().cloned().chain(current)
    }

    /// The loaded model.
    ///
    /// # Errors
    /// [`ModelError::Loading`].
    pub(crate) fn ready(&self) -> Result<Arc<Ready>, ModelError> {
        let current = self.current.borrow().clone();
        current.ok_or_else(|| ModelError::Loading {
            id: self.id.to_string(),
        })
    }

    /// It is loaded and serves from now on.
    pub(crate) fn loaded(&self, ready: Ready) {
        self.current.send_replace(Some(Arc::new(ready)));
    }

    /// New requests go to `ready` from now on; the engine before it finishes its requests.
    pub(crate) fn replace(&self, ready: Arc<Ready>) -> Option<RetiringEngine> {
        let mut replaced = self.replaced();
        let before = self.current.send_replace(Some(ready))?;
        before.engine.release();
        let stats = EngineFigures::of(&before.engine);
        replaced.running.push(stats.clone());
        Some(RetiringEngine {
            stats,
            stopped: Box::pin(before.engine.stopped()),
        })
    }

    /// An engine that was replaced has ended: its totals are kept.
    pub(crate) fn retire(&self, engine: &RetiringEngine) {
        let mut replaced = self.replaced();
        replaced
            .running
            .retain(|other| !other.is_same(&engine.stats));
        replaced.ended = replaced.ended + engine.stats.totals();
        self.retired.notify_waiters();
    }

    /// Whether an engine that was replaced still has work, or memory.
    pub(crate) fn is_replacing(&self) -> bool {
        !self.replaced().running.is_empty()
    }

    /// Waits until no engine that was replaced has work or memory.
    pub(crate) async fn settled(&self) {
        loop {
            let mut retired = pin!(self.retired.notified());
            retired.as_mut().enable();
            if !self.is_replacing() {
                return;
            }
            retired.await;
        }
    }

    /// Waits until the engine that serves the model has ended, and returns the reason. An engine that was replaced may
    /// end.
    pub(crate) async fn death(&self) -> String {
        let mut current = self.current.subscribe();
        loop {
            let ready = current.borrow_and_update().clone();
            // The engine is not held: a replaced one ends when its last handle is dropped.
            let stopped = ready.map(|ready| ready.engine.stopped());
            let Some(stopped) = stopped else {
                let _ = current.changed().await;
                continue;
            };
            tokio::select! {
                biased;
                _ = current.changed() => {}
                reason = stopped => return reason,
            }
        }
    }

    /// Its phase; it is loading until it is ready, whatever its heartbeat says.
    pub(crate) fn phase(&self) -> EnginePhase {
        match self.ready() {
            Err(_) => EnginePhase::Loading,
            Ok(_) => self.pulse().phase,
        }
    }

    fn replaced(&self) -> MutexGuard<'_, Replaced> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        named(false)
    }

    fn named(any: bool) -> Models {
        let aliases = |aliases: &[&str]| aliases.iter().map(|a| a.parse().unwrap()).collect();
        let models = [
            ("council".parse().unwrap(), aliases(&["gpt-*", "claude-*"])),
            ("tiny".parse().unwrap(), aliases(&["gpt-4o", "gpt-4o-m*"])),
        ];
        Models::new(models, any)
    }

    #[test]
    fn alias_names_its_model_and_the_longest_wins() {
        let models = models();
        for (name, id) in [
            ("gpt-4o", "tiny"),
            ("gpt-4o-mini", "tiny"),
            ("gpt-4.1", "council"),
            ("claude-x", "council"),
        ] {
            assert_eq!(models.pick(Some(name)).unwrap().id().as_str(), id, "{name}");
        }
        assert!(models.pick(Some("gpt")).is_err());
        assert!(models.exact(Some("gpt-4o")).is_err());
    }

    #[test]
    fn any_name_gets_the_first_model_where_that_is_configured() {
        let models = named(true);
        assert_eq!(models.pick(Some("llama")).unwrap().id().as_str(), "council");
        assert_eq!(models.pick(Some("gpt-4o")).unwrap().id().as_str(), "tiny");
        assert!(models.exact(Some("llama")).is_err());
    }

    #[test]
    fn request_without_a_model_gets_the_first() {
        let models = models();
        assert_eq!(models.pick(None).unwrap().id().as_str(), "council");
        assert_eq!(models.pick(Some("tiny")).unwrap().id().as_str(), "tiny");
    }

    #[test]
    fn unknown_model_is_refused_with_the_known_ones() {
        let error = models().pick(Some("counsil")).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the model `counsil` does not exist; did you mean `council`?; this server has council, tiny; \
             to serve other names, add `aliases` to a model in fleet.toml, or start it with --any-model"
        );
    }

    #[test]
    fn model_that_loads_is_not_ready() {
        let models = models();
        let served = models.pick(None).unwrap();
        assert_eq!(served.phase(), EnginePhase::Loading);
        let id = "council".to_owned();
        assert_eq!(served.ready().err(), Some(ModelError::Loading { id }));
    }
}
