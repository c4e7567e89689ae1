//! Models that other servers have: requests for them are passed on, to the next server if one fails.
//!
//! The rules: a server is skipped while its circuit is open; the next one is tried after a connection that fails, a response
//! of 5xx or 429, a first byte that does not come, or a probe that finds the server gone meanwhile. Never after another 4xx,
//! which is about the request, and never once the first byte of the response has come. A request that failed may have been
//! computed by a server that is gone, but its client gets one answer.

mod circuit;
mod model_field;
mod spec;
mod upstream;
mod whole_events;

use std::sync::Arc;

use sanctum_config::{ModelAlias, ModelId};

pub(crate) use circuit::CircuitState;
pub(crate) use model_field::ModelField;
pub(crate) use spec::{FrontSpec, UpstreamSpec};
pub(crate) use upstream::{Attempt, InFlight, Upstream, UpstreamResponse, UpstreamStatus};
pub(crate) use whole_events::WholeEvents;

/// The models with upstreams.
pub(crate) struct Fronts {
    models: Vec<FrontModel>,
    /// The model of requests that name none, if it is one of these.
    first: Option<ModelId>,
    /// It answers to every name.
    any: bool,
}

/// A model with upstreams.
pub(crate) struct FrontModel {
    /// The id that requests name it by.
    pub id: ModelId,
    aliases: Vec<ModelAlias>,
    /// Whether this server has it too, and is asked first.
    pub is_local: bool,
    /// In the order in which they are tried.
    pub upstreams: Vec<Arc<Upstream>>,
}

impl Fronts {
    /// `first` is the first model that this server has, if it has one. With `any`, the first model of all answers to every name
    /// that no other has.
    pub(crate) fn new(specs: Vec<FrontSpec>, first: Option<&ModelId>, any: bool) -> Self {
        let first = match first {
            Some(local) => specs.iter().find(|spec| spec.id == *local),
            None => specs.first(),
        };
        Self {
            first: first.map(|spec| spec.id.clone()),
            any,
            models: specs
                .into_iter()
                .map(|spec| FrontModel {
                    id: spec.id,
                    aliases: spec.aliases,
                    is_local: spec.is_local,
                    upstreams: spec.upstreams.into_iter().map(Upstream::new).collect(),
                })
                .collect(),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FrontModel> {
        self.models.iter()
    }

    /// The model that a request names by its id or an alias, if it has upstreams.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<&FrontModel> {
        let exact = |name: &str| self.iter().find(|model| model.id.as_str() == name);
        let first = || exact(self.first.as_ref()?.as_str());
        let Some(name) = name else {
            return first();
        };
        let has_alias = |model: &&FrontModel| model.aliases.iter().any(|alias| alias.matches(name));
        exact(name)
            .or_else(|| self.iter().find(has_alias))
            .or_else(|| first().filter(|_| self.any))
    }

    /// Starts to probe every upstream.
    pub(crate) fn start(&self) {
        for upstream in self.iter().flat_map(|model| &model.upstreams) {
            tokio::spawn(upstream.clone().probe());
        }
    }
}

impl FrontModel {
    /// Whether no server has it at present.
    pub(crate) fn is_gone(&self) -> bool {
        let is_open = |upstream: &Arc<Upstream>| upstream.status().circuit == CircuitState::Open;
        !self.is_local && self.upstreams.iter().all(is_open)
    }
}
