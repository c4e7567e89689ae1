//! The body of a chat request.

use serde_json::{Map, Value};

use crate::api::conversation::{Conversation, take_messages, take_tools};
use crate::api::error::ApiError;
use crate::api::fields::{JsonField, JsonFields};
use crate::api::generation::{GenerationRequest, PromptInput};
use crate::api::parameters::{GenerationParameters, take_bool};

/// The template's own variables, which `chat_template_kwargs` must not touch.
const RESERVED: [&str; 12] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "raise_exception",
    "strftime_now",
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Parses a body.
///
/// # Errors
/// The field that is wrong.
pub(crate) fn parse(body: &[u8]) -> Result<GenerationRequest, ApiError> {
    let mut fields = JsonFields::parse(body)?;
    refuse_what_changes_the_answer(&mut fields)?;
    let model = fields.take("model").map(JsonField::string).transpose()?;
    let messages = take_messages(&mut fields)?;
    let mut tools = take_tools(&mut fields)?;
    if !may_call(&mut fields)? {
        tools.clear();
    }
    let calls = !tools.is_empty();
    fields.refuse(
        "parallel_tool_calls",
        |parallel| !calls || *parallel == true,
        "the model decides how many calls it makes; leave it out",
    )?;
    let conversation = Conversation {
        messages,
        tools,
        variables: template_variables(&mut fields)?,
    };
    let request = GenerationRequest {
        model,
        prompt: PromptInput::Conversation(conversation),
        prompt_field: "messages",
        logprobs: logprobs(&mut fields)?,
        parameters: GenerationParameters::take(&mut fields)?,
    };
    fields.finish()?;
    Ok(request)
}

fn refuse_what_changes_the_answer(fields: &mut JsonFields) -> Result<(), ApiError> {
    let text_only = "this model reads and writes text only";
    fields.refuse("audio", |_| false, text_only)?;
    let only_text = |list: &Value| {
        list.as_array()
            .is_some_and(|list| list.iter().all(|kind| kind == "text"))
    };
    fields.refuse("modalities", only_text, text_only)?;
    fields.refuse(
        "response_format",
        |format| format["type"] == "text",
        "answers cannot be constrained to a format; ask for it in a message",
    )?;
    fields.refuse("functions", |_| false, "send `tools` instead")?;
    fields.refuse("function_call", |_| false, "send `tool_choice` instead")?;
    fields.refuse(
        "reasoning_effort",
        |effort| effort == "none",
        "send `chat_template_kwargs: {\"enable_thinking\": true}` to have the model think",
    )?;
    fields.refuse(
        "verbosity",
        |verbosity| verbosity == "medium",
        "ask for it in a message",
    )?;
    fields.refuse("web_search_options", |_| false, "there is no web search")
}

/// Whether `tool_choice` allows the model to call tools.
fn may_call(fields: &mut JsonFields) -> Result<bool, ApiError> {
    let Some(choice) = fields.take("tool_choice") else {
        return Ok(true);
    };
    match choice.value().as_str() {
        Some("auto") => Ok(true),
        Some("none") => Ok(false),
        Some("required") => Err(ApiError::unsupported(
            "tool_choice",
            "a call cannot be forced; send \"auto\" or \"none\"",
        )),
        None if choice.value().is_object() => Err(ApiError::unsupported(
            "tool_choice",
            "a call cannot be forced; send \"auto\" or \"none\"",
        )),
        _ => Err(choice.must_be("\"auto\" or \"none\"")),
    }
}

fn template_variables(fields: &mut JsonFields) -> Result<Map<String, Value>, ApiError> {
    let variables = match fields.take("chat_template_kwargs") {
        Some(field) => field.map()?,
        None => Map::new(),
    };
    if let Some(name) = RESERVED.iter().find(|name| variables.contains_key(**name)) {
        let param = format!("chat_template_kwargs.{name}");
        let message = format!("`{param}` is set by the server; remove it");
        return Err(ApiError::invalid(param, message));
    }
    let thinking = variables.get("enable_thinking");
    if thinking.is_some_and(|thinking| !thinking.is_boolean()) {
        return Err(ApiError::invalid(
            "chat_template_kwargs.enable_thinking",
            "`chat_template_kwargs.enable_thinking` must be true or false",
        ));
    }
    Ok(variables)
}

fn logprobs(fields: &mut JsonFields) -> Result<Option<usize>, ApiError> {
    let wanted = take_bool(fields, "logprobs")?;
    match fields.take("top_logprobs") {
        None => Ok(wanted.then_some(0)),
        Some(_) if !wanted => Err(ApiError::invalid(
            "top_logprobs",
            "`top_logprobs` needs `logprobs: true`",
        )),
        Some(field) => Ok(Some(field.integer(0..=20)? as usize)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(extra: Value) -> Result<GenerationRequest, ApiError> {
        let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        super::parse(body.to_string().as_bytes())
    }

    fn conversation(extra: Value) -> Conversation {
        match parse(extra).unwrap().prompt {
            PromptInput::Conversation(conversation) => conversation,
            other => panic!("{other:?}"),
        }
    }

    fn refused(extra: Value) -> String {
        parse(extra).unwrap_err().param().unwrap().to_owned()
    }

    #[test]
    fn thinking_is_off_unless_asked_for() {
        let variables = |extra| conversation(extra).variables;
        assert!(variables(json!({})).is_empty());
        let on = json!({ "chat_template_kwargs": { "enable_thinking": true, "style": "brief" } });
        assert_eq!(variables(on.clone())["enable_thinking"], true);
        assert_eq!(variables(on)["style"], "brief");
        let odd = json!({ "chat_template_kwargs": { "enable_thinking": "yes" } });
        assert_eq!(refused(odd), "chat_template_kwargs.enable_thinking");
        let messages = json!({ "chat_template_kwargs": { "messages": [] } });
        assert_eq!(refused(messages), "chat_template_kwargs.messages");
    }

    #[test]
    fn field_that_would_change_the_answer_is_refused_by_name() {
        for (field, value) in [
            ("audio", json!({ "voice": "x" })),
            ("modalities", json!(["text", "audio"])),
            ("response_format", json!({ "type": "json_object" })),
            (
                "response_format",
                json!({ "type": "json_schema", "json_schema": {} }),
            ),
            ("functions", json!([])),
            ("function_call", json!("auto")),
            ("reasoning_effort", json!("high")),
            ("n", json!(3)),
            ("web_search_options", json!({})),
            ("tool_choice", json!("required")),
            (
                "tool_choice",
                json!({ "type": "function", "function": { "name": "f" } }),
            ),
            ("tool_choice", json!(3)),
            ("top_logprobs", json!(3)),
            ("colour", json!("red")),
        ] {
            assert_eq!(refused(json!({ field: value })), field);
        }
    }

    #[test]
    fn field_without_effect_is_accepted() {
        let harmless = json!({
            "user": "u", "store": true, "metadata": {}, "service_tier": "auto", "parallel_tool_calls": true,
            "response_format": { "type": "text" }, "modalities": ["text"], "n": 1, "tool_choice": "auto",
            "stream_options": null, "reasoning_effort": "none", "safety_identifier": "s",
        });
        assert!(parse(harmless).is_ok());
    }

    #[test]
    fn top_logprobs_is_read() {
        let k = |extra| parse(extra).unwrap().logprobs;
        assert_eq!(k(json!({})), None);
        assert_eq!(k(json!({ "logprobs": true })), Some(0));
        assert_eq!(k(json!({ "logprobs": true, "top_logprobs": 20 })), Some(20));
        assert_eq!(
            refused(json!({ "logprobs": true, "top_logprobs": 21 })),
            "top_logprobs"
        );
    }

    #[test]
    fn tool_choice_none_hides_the_tools() {
        let tool = json!({ "type": "function", "function": { "name": "f" } });
        let tools = |choice: &str| {
            conversation(json!({ "tools": [tool], "tool_choice": choice }))
                .tools
                .len()
        };
        assert_eq!((tools("auto"), tools("none")), (1, 0));
        let one_call = json!({ "tools": [tool], "parallel_tool_calls": false });
        assert_eq!(refused(one_call), "parallel_tool_calls");
    }

    /// JSON of any form, with the names of real fields among the keys.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z]{0,8}|text|function|user|tool".prop_map(Value::from),
        ];
        let key = "messages|role|content|tools|tool_calls|type|function|name|arguments|stop|logit_bias|stream|\
                   stream_options|temperature|chat_template_kwargs|[0-9]{1,12}|[a-z]{1,5}";
        leaf.prop_recursive(5, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(key, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_panics(body in any_json()) {
            let _ = super::parse(body.to_string().as_bytes());
        }

        #[test]
        fn no_value_of_a_field_panics(
            field in "messages|tools|tool_choice|stop|logit_bias|seed|top_k|max_tokens|stream_options|response_format",
            value in any_json(),
        ) {
            let _ = parse(json!({ field: value }));
        }

        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(super::parse(&body).is_err());
        }
    }
}
