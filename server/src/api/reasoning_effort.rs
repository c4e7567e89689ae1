//! How much the model reasons before it answers: from the names that clients have for it to the level that the chat template
//! accepts.
//!
//! Clients send the levels of OpenAI and Anthropic. A template may accept a few levels only and raise an error for any other:
//! Qwen3.8's accepts `low`, `medium` and `xhigh`. A level that the template refuses is replaced by its neighbour of the same
//! meaning ([`neighbours`]); without one the request is refused.

use sanctum_engine::text::ChatTemplate;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::fields::{JsonField, JsonFields, shown};

/// The template's variable.
const VARIABLE: &str = "reasoning_effort";

/// What clients send, besides `none`.
const LEVELS: [&str; 6] = ["minimal", "low", "medium", "high", "xhigh", "max"];

/// A level that a request names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReasoningEffort {
    /// One of [`LEVELS`]; anything in `chat_template_kwargs`.
    level: Value,
    /// The field that named it.
    field: String,
}

/// Whether the model is to reason, and how much; none where the request does not say.
#[derive(Debug)]
pub(crate) struct RequestedReasoning {
    /// Whether at all.
    pub enabled: Option<bool>,
    /// How much.
    pub effort: Option<ReasoningEffort>,
}

impl RequestedReasoning {
    /// Takes the fields that say it: `enable_thinking`, `reasoning_effort` and OpenRouter's `reasoning`, the first of them
    /// first.
    pub(crate) fn take(fields: &mut JsonFields) -> Result<Self, ApiError> {
        let enabled = fields
            .take("enable_thinking")
            .map(JsonField::bool)
            .transpose()?;
        let mut taken = Self {
            enabled,
            effort: None,
        };
        if let Some(field) = fields.take("reasoning_effort") {
            let effort = effort(&field)?;
            taken.enabled.get_or_insert(effort.is_some());
            taken.effort = effort;
        }
        if let Some(field) = fields.take("reasoning") {
            let mut reasoning = field.object()?;
            let enabled = reasoning.take("enabled").map(JsonField::bool).transpose()?;
            let wanted = reasoning.take("effort").map(|field| effort(&field));
            let wanted = wanted.transpose()?;
            let reasons = enabled.or(wanted.as_ref().map(Option::is_some));
            if let Some(reasons) = reasons {
                taken.enabled.get_or_insert(reasons);
            }
            taken.effort = taken.effort.or(wanted.flatten());
        }
        Ok(taken)
    }
}

/// The level of a field; none for `none`.
fn effort(field: &JsonField) -> Result<Option<ReasoningEffort>, ApiError> {
    match field.value().as_str() {
        Some("none") => Ok(None),
        Some(level) if LEVELS.contains(&level) => Ok(Some(ReasoningEffort {
            level: level.into(),
            field: field.path().to_owned(),
        })),
        _ => Err(field
            .must_be("\"none\", \"minimal\", \"low\", \"medium\", \"high\", \"xhigh\" or \"max\"")),
    }
}

/// Adds the level to the template's variables, as one that the template accepts. Nothing is added where the model does not
/// reason or the template has no levels. A level in `chat_template_kwargs` takes precedence.
///
/// # Errors
/// Where the template accepts neither the level nor a neighbour of it: names the field, with the levels that it accepts.
pub(crate) fn add_to(
    variables: &mut Map<String, Value>,
    requested: Option<ReasoningEffort>,
    template: &ChatTemplate,
    has_tools: bool,
) -> Result<(), ApiError> {
    let enabled = variables.get("enable_thinking") == Some(&Value::Bool(true));
    let reasons = enabled || !template.reads("enable_thinking");
    if !reasons || !template.reads(VARIABLE) {
        return Ok(());
    }
    let own = variables.get(VARIABLE).map(|level| ReasoningEffort {
        level: level.clone(),
        field: format!("chat_template_kwargs.{VARIABLE}"),
    });
    let Some(ReasoningEffort { level, field }) = own.or(requested) else {
        return Ok(());
    };
    let accepts = |level: &Value| template.accepts_reasoning_effort(level, has_tools);
    let others = neighbours(&level).iter().copied().map(Value::from);
    let accepted = std::iter::once(level.clone()).chain(others).find(accepts);
    let Some(accepted) = accepted else {
        let levels = LEVELS
            .into_iter()
            .filter(|&level| accepts(&Value::from(level)));
        let levels: Vec<String> = levels.map(|level| format!("\"{level}\"")).collect();
        let fix = match levels.as_slice() {
            [] => "leave it out".to_owned(),
            [one] => format!("send {one}"),
            [others @ .., last] => format!("send {} or {last}", others.join(", ")),
        };
        let message = format!(
            "`{field}` is {}, which this model's chat template does not accept; {fix}",
            shown(&level)
        );
        return Err(ApiError::invalid(field, message));
    };
    variables.insert(VARIABLE.to_owned(), accepted);
    Ok(())
}

/// The levels that may replace one, the nearest first: the same end of the scale under the names of other models.
fn neighbours(level: &Value) -> &'static [&'static str] {
    match level.as_str() {
        Some("minimal") => &["low"],
        Some("high") => &["xhigh", "max"],
        Some("xhigh") => &["max", "high"],
        Some("max") => &["xhigh", "high"],
        _ => &[],
    }
}
