//! Why a `config.json` cannot be served.

use sanctum_kernels::DimsError;

/// Why a `config.json` cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not a JSON object.
    #[error("config.json: {0}")]
    Json(#[from] serde_json::Error),
    /// It describes something that this engine does not compute, or a field cannot be used.
    #[error("config.json: {field} is {found}; {wanted}")]
    Unsupported {
        /// The offending field.
        field: String,
        /// Its value.
        found: String,
        /// What would do.
        wanted: String,
    },
    /// A shape that the kernels cannot run.
    #[error("config.json: {0}")]
    Dims(#[from] DimsError),
}

pub(super) fn unsupported(
    field: impl Into<String>,
    found: impl ToString,
    wanted: impl Into<String>,
) -> ConfigError {
    /// Longer values are cut in messages.
    const LONGEST: usize = 200;
    let mut found = found.to_string();
    if let Some((cut, _)) = found.char_indices().nth(LONGEST) {
        found.truncate(cut);
        found.push('…');
    }
    ConfigError::Unsupported {
        field: field.into(),
        found,
        wanted: wanted.into(),
    }
}
