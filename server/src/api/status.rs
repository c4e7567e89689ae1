//! `GET /status`: what the console shows, in one page. docs/console.md describes the fields.
//!
//! Counters only grow; a reader computes rates from two readings and `uptime_seconds`. Nothing here waits for an engine.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use sanctum_engine::prefix::PrefixState;
use sanctum_engine::schedule::EnginePhase;
use serde::Serialize;

use super::health::{self, FrontHealth};
use super::state::AppState;
use crate::activity::{ClientStatus, RefusalStatus};
use crate::models::Served;
use crate::prepare::PreparingStatus;

/// The page.
#[derive(Serialize)]
pub(crate) struct StatusPage {
    version: &'static str,
    /// `ok`, `loading` or `draining`, as in `/health`.
    status: &'static str,
    uptime_seconds: f64,
    /// Connections that are open.
    connections: u64,
    /// Requests on their way to an engine.
    preparing: PreparingStatus,
    models: Vec<ModelStatus>,
    /// The models that other servers have, as in `/health`.
    fronts: Vec<FrontHealth>,
    /// Null without MLX.
    mlx_memory: Option<MlxMemory>,
    clients: Vec<ClientStatus>,
    refusals: Vec<RefusalStatus>,
}

/// A model of this server.
#[derive(Serialize)]
struct ModelStatus {
    id: String,
    phase: EnginePhase,
    /// Sequences that hold a slot.
    in_flight: usize,
    /// Requests that wait for a slot.
    queued: usize,
    /// Since the engine last moved.
    progress_age_seconds: f64,
    slots: usize,
    prompt_tokens_total: u64,
    completion_tokens_total: u64,
    memory: ModelMemory,
    prefix_cache: PrefixCacheStatus,
}

#[derive(Serialize)]
struct ModelMemory {
    /// 0 while it loads.
    weights_bytes: u64,
    sequences_limit_bytes: u64,
    sequences_reserved_bytes: u64,
}

#[derive(Serialize)]
struct PrefixCacheStatus {
    enabled: bool,
    hits_total: u64,
    /// Prompt tokens that were reused instead of computed.
    hit_tokens_total: u64,
    snapshots: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    /// Why no prefix is written to the `cache_dir` at present, and the fix, with paths. Null if they are written, or there is none.
    disk_problem: Option<String>,
}

#[derive(Serialize)]
struct MlxMemory {
    active_bytes: u64,
    cache_bytes: u64,
    peak_bytes: u64,
}

/// Answers `GET /status`.
pub(crate) async fn status(
    State(app): State<Arc<AppState>>,
) -> ([(HeaderName, HeaderValue); 1], Json<StatusPage>) {
    let mlx = sanctum_engine::backend::memory_usage();
    let page = StatusPage {
        version: env!("CARGO_PKG_VERSION"),
        status: health::word(health::phase(&app)),
        uptime_seconds: app.metrics.uptime().as_secs_f64(),
        connections: app.metrics.open_connections(),
        preparing: app.preparing.read(),
        models: app.models.iter().map(ModelStatus::of).collect(),
        fronts: health::fronts(&app),
        mlx_memory: mlx.map(|usage| MlxMemory {
            active_bytes: usage.active,
            cache_bytes: usage.cache,
            peak_bytes: usage.peak,
        }),
        clients: app.gate.clients().read(),
        refusals: app.gate.refusals().read(),
    };
    let uncached = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    ([uncached], Json(page))
}

impl ModelStatus {
    fn of(served: &Served) -> Self {
        let (pulse, totals, capacity) = (served.pulse(), served.totals(), served.capacity());
        let ready = served.ready().ok();
        let prefixes = ready.as_ref().map(|ready| ready.engine.prefix_state());
        let disk = ready.as_ref().map(|ready| ready.engine.prefix_disk());
        Self {
            id: served.id().to_string(),
            phase: served.phase(),
            in_flight: pulse.in_flight,
            queued: pulse.queued,
            progress_age_seconds: pulse.age.as_secs_f64(),
            slots: capacity.slots,
            prompt_tokens_total: totals.prompt_tokens,
            completion_tokens_total: totals.generated_tokens,
            memory: ModelMemory {
                weights_bytes: ready.as_ref().map_or(0, |ready| ready.memory.weights),
                sequences_limit_bytes: capacity.limit,
                sequences_reserved_bytes: capacity.reserved,
            },
            prefix_cache: PrefixCacheStatus {
                enabled: matches!(prefixes, Some(PrefixState::On)),
                hits_total: totals.prefixes.hits,
                hit_tokens_total: totals.prefixes.hit_tokens,
                snapshots: capacity.prefixes.snapshots,
                memory_bytes: capacity.prefixes.memory,
                disk_bytes: capacity.prefixes.disk,
                disk_problem: disk.and_then(|disk| disk.problem),
            },
        }
    }
}
