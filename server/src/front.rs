//! Models that other servers have: requests for them are passed on, to the next server if one fails.
//!
//! The rules: a server is skipped while its circuit is open; the next one is tried after a connection that fails, a response
//! of 5xx, 429, 401 or 403, a first byte that does not come, or probes that find the server gone meanwhile. Never after another
//! 4xx, which is about the request, and never once the first byte of the response has been passed on. A request that failed may have been
//! computed by a server that is gone, but its client gets one answer.

mod circuit;
mod model_field;
mod reported_usage;
mod response;
mod spec;
mod stall;
mod upstream;
mod whole_events;

use std::sync::Arc;

use sanctum_config::{ModelAlias, ModelId};

use crate::model_names::{self, NamedModel};
use crate::random;

pub(crate) use circuit::CircuitState;
pub(crate) use model_field::ModelField;
pub(crate) use reported_usage::{AnswerCopy, ReportedUsage};
pub(crate) use response::{is_event_stream, retry_after};
pub(crate) use spec::{FrontSpec, UpstreamSpec};
pub(crate) use upstream::{
    Attempt, Fallback, InFlight, Upstream, UpstreamResponse, UpstreamStatus,
};
pub(crate) use whole_events::{EventProtocol, WholeEvents};

/// The models with upstreams.
pub(crate) struct Fronts {
    /// Names this process to other servers, so that a request that comes back is noticed.
    id: String,
    /// Goes into the scopes of prefixes that upstreams see, so that no other program can name a client's. Another after a
    /// restart.
    scope_key: String,
    models: Vec<FrontModel>,
    /// Models that only this server has, whose names are theirs.
    local: Vec<(ModelId, Vec<ModelAlias>)>,
    /// Answers requests that name no model.
    first: Option<ModelId>,
    /// The first model answers to every name.
    any: bool,
}

/// A model with upstreams.
pub(crate) struct FrontModel {
    /// The id that requests name it by.
    pub id: ModelId,
    /// Its other names.
    pub aliases: Vec<ModelAlias>,
    /// Whether this server has it too, and is asked first.
    pub is_local: bool,
    /// In the order in which they are tried.
    pub upstreams: Vec<Arc<Upstream>>,
}

impl Fronts {
    /// Beside the models that this server has. The first of those, or of all, answers requests that name none; with `any`, also
    /// every name that no model has.
    pub(crate) fn new(
        specs: Vec<FrontSpec>,
        local: impl IntoIterator<Item = (ModelId, Vec<ModelAlias>)>,
        any: bool,
    ) -> Self {
        let mut local: Vec<_> = local.into_iter().collect();
        let first = local
            .first()
            .map(|(id, _)| id)
            .or(specs.first().map(|spec| &spec.id));
        let first = first.cloned();
        local.retain(|(id, _)| specs.iter().all(|spec| spec.id != *id));
        Self {
            id: random::id(""),
            scope_key: random::id(""),
            local,
            first,
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

    /// None.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self::new(Vec::new(), [], false)
    }

    /// Names this process to other servers.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The secret of this process's scopes of prefixes.
    pub(crate) fn scope_key(&self) -> &str {
        &self.scope_key
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FrontModel> {
        self.models.iter()
    }

    /// The model that a request names, if it has upstreams.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<&FrontModel> {
        let with_id = |id: &ModelId| self.iter().find(|model| model.id == *id);
        let first = || with_id(self.first.as_ref()?);
        let Some(name) = name else {
            return first();
        };
        let fronts = self.iter().map(|model| NamedModel {
            id: &model.id,
            aliases: &model.aliases,
            model: Some(model),
        });
        let local = self.local.iter().map(|(id, aliases)| NamedModel {
            id,
            aliases,
            model: None,
        });
        let named = model_names::resolve(fronts.chain(local), name);
        named.unwrap_or_else(|| first().filter(|_| self.any))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, aliases: &[&str]) -> FrontSpec {
        FrontSpec {
            id: id.parse().unwrap(),
            aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
            is_local: false,
            upstreams: Vec::new(),
        }
    }

    #[test]
    fn name_means_one_model_of_all_local_or_not() {
        let specs = vec![
            spec("big", &["gpt-*"]),
            spec("small", &["gpt-4o-*", "gpt-4o"]),
        ];
        let local = ("local".parse().unwrap(), vec!["gpt-4.1".parse().unwrap()]);
        for any in [false, true] {
            let fronts = Fronts::new(specs.clone(), [local.clone()], any);
            let found = |name| fronts.find(name).map(|model| model.id.as_str());
            assert_eq!(found(Some("gpt-4o")), Some("small"));
            assert_eq!(found(Some("gpt-4o-mini")), Some("small"));
            assert_eq!(found(Some("gpt-5")), Some("big"));
            // These are the local model's.
            for name in [Some("local"), Some("gpt-4.1"), Some("other"), None] {
                assert_eq!(found(name), None, "{name:?} {any}");
            }
        }
        let fronts = Fronts::new(specs, [], true);
        assert_eq!(fronts.find(Some("other")).unwrap().id.as_str(), "big");
        assert_eq!(fronts.find(None).unwrap().id.as_str(), "big");
    }
}
