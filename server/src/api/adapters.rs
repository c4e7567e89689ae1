//! `GET` and `POST /v1/adapters`: which adapters a model can have, and another one for it.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use sanctum_engine::load::AdapterName;
use serde_json::{Value, json};

use super::App;
use super::body::JsonBody;
use super::error::ApiError;
use super::fields::Fields;
use super::listing::card;
use crate::audit::Account;
use crate::swaps;

/// What is wanted.
#[derive(Debug, PartialEq)]
pub struct SwapRequest {
    /// Of which model; none: the first.
    model: Option<String>,
    /// Which adapter; none: the model as it is without.
    adapter: Option<AdapterName>,
}

impl SwapRequest {
    /// Reads a body. `adapter` must be there, even if it is null: to leave it out is a slip.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let said = fields.has("adapter");
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
            None if said => None,
            None => {
                return Err(ApiError::invalid(
                    "adapter",
                    "`adapter` is missing; name one, or send null for none",
                ));
            }
        };
        fields.finish()?;
        Ok(Self { model, adapter })
    }
}

/// Answers `GET /v1/adapters`: for each model that is loaded those it can have, and the one that it has.
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let look = move || adapters(&app);
    let models = tokio::task::spawn_blocking(look).await;
    let models = models.map_err(|error| ApiError::Engine(error.to_string()))?;
    Ok(Json(json!({ "object": "list", "data": models })))
}

fn adapters(app: &App) -> Vec<Value> {
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

/// Answers `POST /v1/adapters` with the model as it is from now on, once it is.
pub async fn swap(
    State(app): State<Arc<App>>,
    Extension(account): Extension<Account>,
    body: JsonBody,
) -> Result<Json<Value>, ApiError> {
    let request = SwapRequest::parse(&body.bytes)?;
    let id = app.models.pick(request.model.as_deref())?.id().clone();
    account.model(&match &request.adapter {
        None => id.to_string(),
        Some(adapter) => format!("{id}+{adapter}"),
    });
    let ready = swaps::swap(app.clone(), id.clone(), request.adapter).await?;
    Ok(Json(card(app.models.pick(Some(id.as_str()))?, &ready)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_named_or_said_to_be_none() {
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
