//! From a client's body to a generation, and from a generation's end to a protocol's.

use serde_json::{Map, Value};

use super::{AnswerEnd, AnswerUsage, Failure, FailureKind, Translated, TranslationError};
use crate::api::chat;
use crate::api::error::ApiError;
use crate::api::fields::JsonFields;
use crate::api::generation::{GenerationEnd, GenerationRequest, GenerationUsage};
use crate::api::names::Names;

/// Parses a body by way of its translation. `translate` also returns what the answer needs.
///
/// # Errors
/// The field that is wrong, by the client's own name for it.
pub(crate) fn parse<T>(
    body: &[u8],
    translate: impl FnOnce(Map<String, Value>) -> Result<(Translated, T), TranslationError>,
) -> Result<(GenerationRequest, Names, T), ApiError> {
    let (map, budget) = JsonFields::parse(body)?.into_parts();
    let (translated, rest) = translate(map)?;
    let Translated {
        chat,
        names,
        known,
        ignored,
    } = translated;
    let parsed = chat::parse_fields(JsonFields::from_parts(chat, budget, known));
    let mut request = parsed.map_err(|error| error.renamed(&names))?;
    request.ignored.extend(ignored);
    Ok((request, names, rest))
}

impl From<TranslationError> for ApiError {
    fn from(refusal: TranslationError) -> Self {
        let error = match refusal.param {
            Some(param) => Self::invalid(param, refusal.message),
            None => Self::bad_request(refusal.message),
        };
        match refusal.code {
            Some(code) => error.with_code(code),
            None => error,
        }
    }
}

impl AnswerEnd {
    /// The end of a generation.
    pub(crate) fn of(end: GenerationEnd, usage: GenerationUsage) -> Self {
        Self {
            reason: end,
            usage: AnswerUsage {
                prompt: usage.tokens.prompt_tokens,
                cached: usage.tokens.cached_tokens,
                completion: usage.tokens.completion_tokens,
                reasoning: usage.reasoning_tokens,
            },
        }
    }
}

impl Failure {
    /// The failure of a generation.
    pub(crate) fn of(error: &ApiError) -> Self {
        let kind = match error.status().as_u16() {
            400..=499 => FailureKind::Invalid,
            503 => FailureKind::Overloaded,
            _ => FailureKind::Server,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}
