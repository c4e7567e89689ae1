//! The id at the end of a path, such as that of `GET /v1/models/{id}`.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::error::ApiError;

/// An id, decoded.
pub(crate) struct PathId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(error) => {
                let why = error.body_text();
                let message = format!(
                    "the id in the path cannot be read: {why}; send it as UTF-8, percent-encoded"
                );
                Err(ApiError::invalid("id", message))
            }
        }
    }
}
