//! `GET` and `POST /v1/adapters`: lists the adapters that a model can have, and swaps them.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use sanctum_engine::load::AdapterName;
use serde_json::{Value, json};

use super::body::JsonBody;
use super::error::ApiError;
use super::fields::JsonFields;
use super::models::card;
use super::state::AppState;
use crate::gate::GenerationRecord;

/// The body of a swap.
#[derive(Debug, PartialEq)]
pub(crate) struct SwapRequest {
    /// The model; none: the first.
    model: Option<String>,
    /// The adapter; none: the model without one.
    adapter: Option<AdapterName>,
}

impl SwapRequest {
    /// Parses a body. `adapter` is required, even if it is null: where it is absent, it was probably forgotten.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = JsonFields::parse(body)?;
        let is_present = fields.has("adapter");
        let model = fields
            .take("model")
            .map(|field| field.string())
            .transpose()?;
        let adapter = match fields.take("adapter") {
            Some(field) => {
                let name = field.string()?.parse();
                let wrong = |error| ApiError::invalid("adapter", format!("`adapter`: {error}"));
                Some(
                    name.map_err(|error: sanctum_engine::load::InvalidAdapterName| {
                        wrong(error.to_string())
                    })?,
                )
            }
            None if is_present => None,
            None => {
                return Err(ApiError::invalid(
                    "adapter",
                    "`adapter` is missing; name one, or send null for none",
                ));
            }
        };
        fields.finish_exact()?;
        Ok(Self { model, adapter })
    }
}

/// Answers `GET /v1/adapters`: for each model that is loaded, the adapters that it can have and the one that it has.
pub(crate) async fn list(State(app): State<Arc<AppState>>) -> Result<Json<Value>, ApiError> {
    let list = move || adapters(&app);
    let models = tokio::task::spawn_blocking(list).await;
    let models = models.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(Json(json!({ "object": "list", "data": models })))
}

fn adapters(app: &AppState) -> Vec<Value> {
    app.models
        .iter()
        .filter_map(|served| {
            let ready = served.ready().ok()?;
            let names = app.swaps.names(served.id());
            let names: Vec<&str> = names.iter().map(AdapterName::as_str).collect();
            let current = ready.adapter.as_ref().map(|adapter| adapter.name.as_str());
            Some(json!({ "model": served.id().as_str(), "adapter": current, "available": names }))
        })
        .collect()
}

/// Answers `POST /v1/adapters` with the model after the swap.
pub(crate) async fn swap(
    State(app): State<Arc<AppState>>,
    Extension(record): Extension<GenerationRecord>,
    body: JsonBody,
) -> Result<Json<Value>, ApiError> {
    let request = SwapRequest::parse(&body.bytes)?;
    let id = app.models.exact(request.model.as_deref())?.id().clone();
    record.model(&match &request.adapter {
        None => id.to_string(),
        Some(adapter) => format!("{id}+{adapter}"),
    });
    let ready = app.swaps.swap(id.clone(), request.adapter).await?;
    Ok(Json(card(app.models.exact(Some(id.as_str()))?, &ready)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_names_an_adapter_or_null() {
        let parse = |body: Value| SwapRequest::parse(body.to_string().as_bytes());
        let radio = SwapRequest {
            model: Some("a".into()),
            adapter: Some("radio".parse().unwrap()),
        };
        assert_eq!(
            parse(json!({ "model": "a", "adapter": "radio" })),
            Ok(radio)
        );
        let none = SwapRequest {
            model: None,
            adapter: None,
        };
        assert_eq!(parse(json!({ "adapter": null })), Ok(none));
        for wrong in [
            json!({}),
            json!({ "adapter": "../radio" }),
            json!({ "adapter": "/a" }),
            json!({ "adapter": 1 }),
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.body()["error"]["param"], "adapter");
        }
        let error = parse(json!({ "adapter": null, "path": "/" })).unwrap_err();
        assert_eq!(error.body()["error"]["code"], "unknown_parameter");
    }
}
