//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sanctum_config::ModelAlias;
use serde_json::{Value, json};

use super::error::ApiError;
use super::path_id::PathId;
use super::state::AppState;
use crate::front::FrontModel;
use crate::models::{Ready, Served};

/// Answers `GET /v1/models`: those that are loaded.
pub(crate) async fn list(State(app): State<Arc<AppState>>) -> Json<Value> {
    let models: Vec<Value> = app
        .models
        .iter()
        .filter_map(|served| {
            let ready = served.ready().ok()?;
            Some(card(served, &ready))
        })
        .chain(elsewhere(&app))
        .collect();
    Json(json!({ "object": "list", "data": models }))
}

/// Models that only other servers have.
fn elsewhere(app: &AppState) -> impl Iterator<Item = Value> {
    let models = app.fronts.iter().filter(|model| !model.is_local);
    models.map(card_elsewhere)
}

fn card_elsewhere(model: &FrontModel) -> Value {
    let names = model
        .upstreams
        .iter()
        .map(|upstream| upstream.spec.name.as_str());
    json!({
        "id": model.id.as_str(),
        "aliases": model.aliases.iter().map(ModelAlias::as_str).collect::<Vec<_>>(),
        "object": "model",
        "created": 0,
        "owned_by": "sanctum",
        "upstreams": names.collect::<Vec<_>>(),
    })
}

/// Answers `GET /v1/models/{id}`: for an alias, with the model that answers to it.
pub(crate) async fn one(
    State(app): State<Arc<AppState>>,
    PathId(id): PathId,
) -> Result<Json<Value>, ApiError> {
    if let Some(model) = app.fronts.find(Some(&id)).filter(|model| !model.is_local) {
        return Ok(Json(card_elsewhere(model)));
    }
    let served = app.models.pick(Some(&id))?;
    let ready = served.ready()?;
    Ok(Json(card(served, &ready)))
}

/// OpenAI's four fields, other names of the model, the context in tokens under the name that other open servers use, the weights and the adapter.
pub(crate) fn card(served: &Served, ready: &Ready) -> Value {
    let adapter = ready.adapter.as_ref().map(|adapter| {
        json!({
            "name": adapter.name.as_str(),
            "rank": adapter.rank,
            "alpha": adapter.alpha,
            "pairs": adapter.pairs,
        })
    });
    json!({
        "id": served.id().as_str(),
        "aliases": served.aliases().iter().map(ModelAlias::as_str).collect::<Vec<_>>(),
        "object": "model",
        "created": ready.created,
        "owned_by": "sanctum",
        "max_model_len": ready.engine.limits().context,
        "system_fingerprint": ready.fingerprint,
        "adapter": adapter,
    })
}
