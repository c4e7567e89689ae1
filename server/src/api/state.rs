//! What all requests share.

use std::sync::Arc;

use axum::extract::FromRef;
use sanctum_config::fleet::PrefixCacheScope;

use super::body::BodyLimit;
use super::response_store::ResponseStore;
use crate::front::Fronts;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::models::{AdapterSwaps, Models};
use crate::prepare::PreparationQueue;
use crate::shutdown::Shutdown;

/// What all requests share.
pub(crate) struct AppState {
    /// The models that are served.
    pub models: Arc<Models>,
    /// Those that other servers have.
    pub fronts: Fronts,
    /// Swaps their adapters.
    pub swaps: AdapterSwaps,
    /// Which clients share computed prefixes of prompts.
    pub sharing: PrefixCacheScope,
    /// The bodies in memory.
    pub bodies: BodyLimit,
    /// Responses that clients can continue.
    pub responses: ResponseStore,
    /// Conversations that clients of Anthropic's API can continue.
    pub threads: ResponseStore,
    /// Parses, renders and tokenizes requests.
    pub preparing: PreparationQueue,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The stage of the server's life.
    pub shutdown: Shutdown,
    /// Accepts and refuses requests.
    pub gate: Arc<Gate>,
    /// Refuses requests that have unknown fields.
    pub strict_fields: bool,
}

impl FromRef<Arc<AppState>> for BodyLimit {
    fn from_ref(app: &Arc<AppState>) -> Self {
        app.bodies.clone()
    }
}
