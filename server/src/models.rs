//! The models that this server serves: which there are, how far each is loaded, and which one a request means.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use sanctum_config::{ModelId, did_you_mean};
use sanctum_engine::launch::MemoryShare;
use sanctum_engine::load::AdapterInfo;
use sanctum_engine::schedule::{Admission, Engine, EnginePhase, EngineStats, Heartbeat, Pulse};
use tokio::sync::{Notify, watch};

use crate::api::ApiError;

/// All of them, in the order in which they were named: one at least.
pub struct Models(Vec<Served>);

/// One of them, loaded or not yet.
pub struct Served {
    id: ModelId,
    /// Beats from the first byte that is loaded to the last layer that the first engine computes.
    heartbeat: Arc<Heartbeat>,
    current: watch::Sender<Option<Arc<Ready>>>,
    replaced: Mutex<Replaced>,
    /// One that was replaced has ended.
    left: Notify,
}

/// A model that is loaded.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Computes its answers.
    pub engine: Engine,
    /// Names weights and arithmetic: the `system_fingerprint` of its answers.
    pub fingerprint: String,
    /// When it was loaded, in Unix seconds.
    pub created: u64,
    /// What is merged into its weights.
    pub adapter: Option<AdapterInfo>,
    /// Its memory.
    pub memory: MemoryShare,
}

/// Engines that another one has taken the place of.
#[derive(Default)]
struct Replaced {
    /// Those that still finish what they have.
    running: Vec<Pulsing>,
    /// What those did that are gone.
    ended: Totals,
}

/// What is still to be seen of an engine that nobody can ask any more.
#[derive(Clone)]
struct Pulsing {
    heartbeat: Arc<Heartbeat>,
    stats: Arc<EngineStats>,
    memory: Arc<Admission>,
    slots: usize,
}

/// What a model's engines have at this moment, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Sequences that can be generated at once.
    pub slots: usize,
    /// Bytes that sequences may take.
    pub limit: u64,
    /// Bytes that running ones have reserved.
    pub reserved: u64,
}

/// An engine that was replaced.
pub struct Departing {
    pulsing: Pulsing,
    /// Says why it ended, once it has.
    pub stopped: Pin<Box<dyn Future<Output = String> + Send>>,
}

/// What a model's engines have done since the start, all of them together: it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Layers computed, as in [`Pulse::progress`].
    pub progress: u64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Forward passes.
    pub passes: u64,
}

impl Pulsing {
    fn of(engine: &Engine) -> Self {
        Self {
            heartbeat: engine.heartbeat().clone(),
            stats: engine.stats().clone(),
            memory: engine.admission().clone(),
            slots: engine.limits().slots,
        }
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            slots: self.slots,
            limit: self.memory.budget(),
            reserved: self.memory.reserved(),
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            progress: self.heartbeat.read().progress,
            prompt_tokens: self.stats.prompt_tokens.load(Relaxed),
            generated_tokens: self.stats.generated_tokens.load(Relaxed),
            passes: self.stats.passes.load(Relaxed),
        }
    }
}

impl std::ops::Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            progress: self.progress + other.progress,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            generated_tokens: self.generated_tokens + other.generated_tokens,
            passes: self.passes + other.passes,
        }
    }
}

impl Models {
    /// Models that are still to be loaded.
    ///
    /// # Panics
    /// Without any: the command line always yields one.
    pub fn new(ids: impl IntoIterator<Item = ModelId>) -> Self {
        let models: Vec<Served> = ids.into_iter().map(Served::new).collect();
        assert!(!models.is_empty(), "a server serves one model at least");
        Self(models)
    }

    /// The model that a request means: the one it names, or the first.
    pub fn pick(&self, id: Option<&str>) -> Result<&Served, ApiError> {
        let Some(id) = id else {
            return Ok(&self.0[0]);
        };
        self.iter()
            .find(|served| served.id.as_str() == id)
            .ok_or_else(|| {
                let known = || self.iter().map(|served| served.id.as_str());
                let near = did_you_mean(id, known());
                let known: Vec<&str> = known().collect();
                ApiError::ModelNotFound {
                    id: id.chars().take(200).collect(),
                    mend: format!("{near}; this server has {}", known.join(", ")),
                }
            })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Served> {
        self.0.iter()
    }

    /// The engines that run already.
    pub fn engines(&self) -> impl Iterator<Item = Engine> {
        self.iter()
            .filter_map(|served| Some(served.ready().ok()?.engine.clone()))
    }
}

impl Served {
    fn new(id: ModelId) -> Self {
        Self {
            id,
            heartbeat: Arc::new(Heartbeat::new()),
            current: watch::Sender::new(None),
            replaced: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// What requests call it.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// What loading and the first engine write their pulse to.
    pub fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.heartbeat
    }

    /// The pulse of its engines together: that of the one that stands still longest among those with work.
    pub fn pulse(&self) -> Pulse {
        // Held throughout, so that no engine is counted twice or not at all while it is replaced.
        let replaced = self.replaced();
        let current = self.current.borrow().clone();
        let heartbeat = current.as_ref().map(|ready| ready.engine.heartbeat());
        let mut pulse = heartbeat.unwrap_or(&self.heartbeat).read();
        pulse.progress += replaced.ended.progress;
        for other in &replaced.running {
            let other = other.heartbeat.read();
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
    pub fn totals(&self) -> Totals {
        let replaced = self.replaced();
        let all = self.running(&replaced);
        all.fold(replaced.ended, |sum, engine| sum + engine.totals())
    }

    /// What its engines have.
    pub fn capacity(&self) -> Capacity {
        let replaced = self.replaced();
        let all = self.running(&replaced).map(|engine| engine.capacity());
        all.fold(Capacity::default(), |sum, one| Capacity {
            slots: sum.slots + one.slots,
            limit: sum.limit.saturating_add(one.limit),
            reserved: sum.reserved.saturating_add(one.reserved),
        })
    }

    /// Each engine that runs, while none can be replaced.
    fn running(&self, replaced: &Replaced) -> impl Iterator<Item = Pulsing> {
        let current = self.current.borrow().clone();
        let current = current.map(|ready| Pulsing::of(&ready.engine));
        replaced.running.iter().cloned().chain(current)
    }

    /// The loaded model, or the answer that it is not loaded yet.
    pub fn ready(&self) -> Result<Arc<Ready>, ApiError> {
        let current = self.current.borrow().clone();
        current.ok_or_else(|| ApiError::Loading {
            id: self.id.to_string(),
        })
    }

    /// It is loaded and serves from now on.
    pub fn loaded(&self, ready: Ready) {
        self.current.send_replace(Some(Arc::new(ready)));
    }

    /// New requests go to `ready` from now on; the engine before it finishes what it has.
    pub fn replace(&self, ready: Arc<Ready>) -> Option<Departing> {
        let mut replaced = self.replaced();
        let before = self.current.send_replace(Some(ready))?;
        before.engine.release();
        let pulsing = Pulsing::of(&before.engine);
        replaced.running.push(pulsing.clone());
        Some(Departing {
            pulsing,
            stopped: Box::pin(before.engine.stopped()),
        })
    }

    /// An engine that was replaced has ended: what it did is kept.
    pub fn departed(&self, engine: &Departing) {
        let mut replaced = self.replaced();
        let same = |other: &Pulsing| Arc::ptr_eq(&other.heartbeat, &engine.pulsing.heartbeat);
        replaced.running.retain(|other| !same(other));
        replaced.ended = replaced.ended + engine.pulsing.totals();
        self.left.notify_waiters();
    }

    /// Whether an engine that was replaced still has work, or memory.
    pub fn is_replacing(&self) -> bool {
        !self.replaced().running.is_empty()
    }

    /// Waits until no engine that was replaced has work or memory.
    pub async fn settled(&self) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if !self.is_replacing() {
                return;
            }
            left.await;
        }
    }

    /// Waits until the engine that serves it has ended, and says why it did. One that was replaced may end.
    pub async fn death(&self) -> String {
        let mut current = self.current.subscribe();
        loop {
            let ready = current.borrow_and_update().clone();
            // Not held on to: a replaced engine ends when nobody can ask it any more.
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

    /// Where it is in its life; loading until it is handed over, whatever its heartbeat says.
    pub fn phase(&self) -> EnginePhase {
        match self.ready() {
            Err(_) => EnginePhase::Loading,
            Ok(_) => self.pulse().phase,
        }
    }

    fn replaced(&self) -> std::sync::MutexGuard<'_, Replaced> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        Models::new(["council", "tiny"].map(|id| id.parse().unwrap()))
    }

    #[test]
    fn a_request_means_the_model_it_names_or_the_first() {
        let models = models();
        assert_eq!(models.pick(None).unwrap().id().as_str(), "council");
        assert_eq!(models.pick(Some("tiny")).unwrap().id().as_str(), "tiny");
    }

    #[test]
    fn an_unknown_model_is_told_which_there_are() {
        let error = models().pick(Some("counsil")).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the model `counsil` does not exist; did you mean `council`?; this server has council, tiny"
        );
    }

    #[test]
    fn until_it_is_loaded_it_says_so() {
        let models = models();
        let served = models.pick(None).unwrap();
        assert_eq!(served.phase(), EnginePhase::Loading);
        assert_eq!(served.ready().err().unwrap().status(), 503);
    }
}
