//! The models that this server serves: which there are, how far each is loaded, and which one a request means.

use std::sync::{Arc, OnceLock};

use sanctum_config::{ModelId, did_you_mean};
use sanctum_engine::engine::Engine;
use sanctum_engine::heartbeat::{Heartbeat, Phase, Pulse};
use tokio::sync::Notify;

use crate::api::ApiError;

/// All of them, in the order in which they were named: one at least.
pub struct Models(Vec<Served>);

/// One of them, loaded or not yet.
pub struct Served {
    id: ModelId,
    /// Beats from the first byte that is loaded to the last layer that is computed.
    heartbeat: Arc<Heartbeat>,
    ready: OnceLock<Ready>,
    arrived: Notify,
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
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.iter()
            .filter_map(|served| Some(&served.ready.get()?.engine))
    }
}

impl Served {
    fn new(id: ModelId) -> Self {
        Self {
            id,
            heartbeat: Arc::new(Heartbeat::new()),
            ready: OnceLock::new(),
            arrived: Notify::new(),
        }
    }

    /// What requests call it.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// What loading and engine write their pulse to.
    pub fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.heartbeat
    }

    /// Its pulse.
    pub fn pulse(&self) -> Pulse {
        self.heartbeat.read()
    }

    /// The loaded model, or the answer that it is not loaded yet.
    pub fn ready(&self) -> Result<&Ready, ApiError> {
        self.ready.get().ok_or_else(|| ApiError::Loading {
            id: self.id.to_string(),
        })
    }

    /// It is loaded and serves from now on. Only the first call counts.
    pub fn loaded(&self, ready: Ready) {
        let _ = self.ready.set(ready);
        self.arrived.notify_waiters();
    }

    /// Waits until it is loaded.
    pub async fn arrival(&self) -> &Ready {
        loop {
            // Asked for before the look: an arrival between the two is not missed.
            let arrived = self.arrived.notified();
            if let Some(ready) = self.ready.get() {
                return ready;
            }
            arrived.await;
        }
    }

    /// Where it is in its life; loading until it is handed over, whatever its heartbeat says.
    pub fn phase(&self) -> Phase {
        match self.ready.get() {
            None => Phase::Loading,
            Some(_) => self.pulse().phase,
        }
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
        assert_eq!(served.phase(), Phase::Loading);
        assert_eq!(served.ready().err().unwrap().status(), 503);
    }
}
