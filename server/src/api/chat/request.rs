//! The body of a chat request.

use serde_json::{Map, Value};

use crate::api::answer_rules::take_rules;
use crate::api::conversation::{Conversation, take_messages, take_tools};
use crate::api::error::ApiError;
use crate::api::fields::{JsonField, JsonFields};
use crate::api::generation::{GenerationRequest, PromptInput};
use crate::api::names::Names;
use crate::api::parameters::{GenerationParameters, take_bool};
use crate::api::reasoning_effort::RequestedReasoning;

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

/// Members of `chat_template_kwargs`: each that the template does not read is compared with all that it reads.
const MOST_VARIABLES: usize = 256;

/// Parses a body.
///
/// # Errors
/// The field that is wrong.
pub(crate) fn parse(body: &[u8]) -> Result<GenerationRequest, ApiError> {
    parse_fields(JsonFields::parse(body)?)
}

/// Parses the fields of a body.
///
/// # Errors
/// The field that is wrong.
pub(crate) fn parse_fields(mut fields: JsonFields) -> Result<GenerationRequest, ApiError> {
    refuse_what_changes_the_answer(&mut fields)?;
    let model = fields.take("model").map(JsonField::string).transpose()?;
    let messages = take_messages(&mut fields)?;
    let mut tools = take_tools(&mut fields)?;
    let rules = take_rules(&mut fields, &mut tools)?;
    let is_assistant = |message: &Value| message["role"] == "assistant";
    let may_continue = messages.last().is_some_and(|last| {
        let has_text = last["content"]
            .as_str()
            .is_some_and(|text| !text.trim().is_empty());
        is_assistant(last) && last.get("tool_calls").is_none() && has_text
    });
    let continues = match fields.take("continue_final_message") {
        Some(field) if !may_continue && *field.value() == true => {
            return Err(field.must_be("false: the last message is not an assistant's with a text"));
        }
        Some(field) => field.bool()?,
        None => may_continue,
    };
    // vLLM's companion of it, which says nothing more.
    fields.ignore(&["add_generation_prompt"]);
    let variables = template_variables(&mut fields)?;
    let reasoning = RequestedReasoning::take(&mut fields)?;
    let conversation = Conversation {
        messages,
        tools,
        variables: with_thinking(variables, reasoning.enabled),
        effort: reasoning.effort,
        continues,
    };
    let mut request = GenerationRequest {
        model,
        prompts: vec![PromptInput::Conversation(conversation)],
        prompt_field: "messages",
        names: Names::default(),
        unknown: Vec::new(),
        ignored: Vec::new(),
        rules,
        logprobs: logprobs(&mut fields)?,
        echo: false,
        parameters: GenerationParameters::take(&mut fields)?,
    };
    request.unknown = fields.finish()?;
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
    fields.refuse("functions", |_| false, "send `tools` instead")?;
    fields.refuse("function_call", |_| false, "send `tool_choice` instead")?;
    fields.refuse("web_search_options", |_| false, "there is no web search")
}

fn template_variables(fields: &mut JsonFields) -> Result<Map<String, Value>, ApiError> {
    let mut variables = match fields.take("chat_template_kwargs") {
        Some(field) => field.map()?,
        None => Map::new(),
    };
    variables.retain(|_, value| !value.is_null());
    if variables.len() > MOST_VARIABLES {
        let message = format!(
            "`chat_template_kwargs` has {} members; {MOST_VARIABLES} at most",
            variables.len()
        );
        return Err(ApiError::invalid("chat_template_kwargs", message));
    }
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

/// The variables with `enable_thinking`, where they do not have it and the request says it in another field.
fn with_thinking(mut variables: Map<String, Value>, thinking: Option<bool>) -> Map<String, Value> {
    if let Some(thinking) = thinking {
        variables
            .entry("enable_thinking")
            .or_insert_with(|| thinking.into());
    }
    variables
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
        match parse(extra).unwrap().prompts.remove(0) {
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
            ("functions", json!([])),
            ("function_call", json!("auto")),
            ("web_search_options", json!({})),
            ("tool_choice", json!("required")),
            (
                "tool_choice",
                json!({ "type": "function", "function": { "name": "f" } }),
            ),
            ("tool_choice", json!(3)),
            ("top_logprobs", json!(3)),
            ("temprature", json!(0)),
            ("min_tokens", json!(5)),
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
            "verbosity": "low", "provider": {}, "keep_alive": "5m", "stop_token_ids": [], "min_tokens": 0,
        });
        assert_eq!(parse(harmless).unwrap().unknown, [""; 0]);
    }

    #[test]
    fn unknown_field_is_accepted_and_listed() {
        let request = parse(json!({ "colour": "red", "x_trace": 1 })).unwrap();
        assert_eq!(request.unknown, ["colour", "x_trace"]);
    }

    #[test]
    fn reasoning_by_any_name_enables_thinking() {
        let thinking = |extra| {
            conversation(extra)
                .variables
                .get("enable_thinking")
                .cloned()
        };
        assert_eq!(
            thinking(json!({ "reasoning_effort": "high" })),
            Some(true.into())
        );
        assert_eq!(
            thinking(json!({ "reasoning_effort": "none" })),
            Some(false.into())
        );
        assert_eq!(
            thinking(json!({ "enable_thinking": true })),
            Some(true.into())
        );
        assert_eq!(
            thinking(json!({ "reasoning": { "effort": "low" } })),
            Some(true.into())
        );
        let explicit = json!({ "reasoning_effort": "high", "chat_template_kwargs": { "enable_thinking": false } });
        assert_eq!(thinking(explicit), Some(false.into()));
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
