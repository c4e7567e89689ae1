//! `messages` and `tools`, in the form that chat templates expect.
//!
//! Templates were written against Python dictionaries: a message's content is one string, and the arguments of a tool
//! call are a mapping, where OpenAI's wire format has a list of parts and a string of JSON.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::{JsonField, JsonFields};
use super::json::{JsonBudget, Malformed};
use super::reasoning_effort::ReasoningEffort;

/// What a chat template renders into a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conversation {
    /// At least one message, in the form that templates expect.
    pub messages: Vec<Value>,
    /// The tools that the model may call.
    pub tools: Vec<Value>,
    /// Further variables of the template.
    pub variables: Map<String, Value>,
    /// How much the model is to reason, if the request says so.
    pub effort: Option<ReasoningEffort>,
    /// Whether the last message, the assistant's, is continued instead of answered.
    pub continues: bool,
}

/// Takes `messages`: at least one.
pub(crate) fn take_messages(fields: &mut JsonFields) -> Result<Vec<Value>, ApiError> {
    let mut budget = fields.take_budget();
    let messages = fields.need("messages")?.array()?;
    if messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "`messages` is empty; send one at least",
        ));
    }
    let parsed = messages
        .into_iter()
        .map(|field| message(field, &mut budget))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(join_leading_system(parsed))
}

/// Several system messages at the beginning become one: templates accept one.
fn join_leading_system(messages: Vec<Value>) -> Vec<Value> {
    let is_system = |message: &&Value| message["role"] == "system";
    let leading = messages.iter().take_while(is_system).count();
    if leading < 2 {
        return messages;
    }
    let texts: Vec<&str> = messages[..leading].iter().map(text_of).collect();
    let mut first = messages[0].clone();
    first["content"] = texts.join("\n\n").into();
    std::iter::once(first)
        .chain(messages.into_iter().skip(leading))
        .collect()
}

fn text_of(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

/// System messages behind the first, for templates that refuse them there: each becomes a reminder in the user's turn
/// after it, or in one of its own. None if there is no such message.
///
/// In their place they leave what precedes them as it was, which merging them into the first message would not.
pub(crate) fn fold_later_system(messages: &[Value]) -> Option<Vec<Value>> {
    let is_system = |message: &Value| message["role"] == "system";
    if !messages.iter().skip(1).any(is_system) {
        return None;
    }
    let mut folded: Vec<Value> = Vec::with_capacity(messages.len());
    let mut reminders = String::new();
    for (index, message) in messages.iter().enumerate() {
        if index > 0 && is_system(message) {
            reminders += &format!(
                "<system-reminder>\n{}\n</system-reminder>\n",
                text_of(message)
            );
            continue;
        }
        let mut message = message.clone();
        if !reminders.is_empty() {
            let reminders = std::mem::take(&mut reminders);
            match message["role"] == "user" {
                true => message["content"] = format!("{reminders}{}", text_of(&message)).into(),
                false => folded.push(reminder(&reminders)),
            }
        }
        folded.push(message);
    }
    if !reminders.is_empty() {
        folded.push(reminder(&reminders));
    }
    Some(folded)
}

fn reminder(text: &str) -> Value {
    json!({ "role": "user", "content": text.trim_end() })
}

fn message(field: JsonField, budget: &mut JsonBudget) -> Result<Value, ApiError> {
    let mut fields = field.object()?;
    let role = fields.need("role")?;
    let role = match role.value().as_str() {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool") => "tool",
        _ => {
            return Err(
                role.must_be("\"system\", \"developer\", \"user\", \"assistant\" or \"tool\"")
            );
        }
    };
    let mut message = Map::new();
    message.insert("role".into(), role.into());
    // An assistant that only called tools has no content; every other message needs it.
    let text = match role {
        "assistant" => fields.take("content").map_or(Ok(String::new()), content)?,
        _ => content(fields.need("content")?)?,
    };
    message.insert("content".into(), text.into());
    if let Some(name) = fields.take("name") {
        message.insert("name".into(), name.string()?.into());
    }
    if role == "assistant" {
        // Servers have two names for it, and templates two others.
        let names = (fields.take("reasoning_content"), fields.take("reasoning"));
        if let (Some(reasoning), _) | (None, Some(reasoning)) = names {
            let reasoning = reasoning.string()?;
            message.insert("thinking".into(), reasoning.clone().into());
            message.insert("reasoning_content".into(), reasoning.into());
        }
        if let Some(calls) = fields.take("tool_calls") {
            let calls = calls.array()?.into_iter();
            let calls: Result<Vec<Value>, _> = calls.map(|call| tool_call(call, budget)).collect();
            let calls = calls?;
            if !calls.is_empty() {
                message.insert("tool_calls".into(), calls.into());
            }
        }
        fields.refuse("audio", |_| false, "this model reads text only")?;
        fields.refuse("function_call", |_| false, "send `tool_calls` instead")?;
    }
    if role == "tool" {
        let id = fields.need("tool_call_id")?.string()?;
        message.insert("tool_call_id".into(), id.into());
    }
    // Other fields are ignored, whatever their names: clients send back what other servers sent.
    Ok(message.into())
}

/// A string, or the concatenated texts of parts.
fn content(field: JsonField) -> Result<String, ApiError> {
    match field.value() {
        Value::String(_) => field.string(),
        Value::Array(_) => field.array()?.into_iter().map(part).collect(),
        _ => Err(field.must_be("a string or an array of text parts")),
    }
}

fn part(field: JsonField) -> Result<String, ApiError> {
    let path = field.path().to_owned();
    let mut fields = field.object()?;
    let kind = fields.need("type")?.string()?;
    match kind.as_str() {
        "text" => fields.need("text")?.string(),
        "refusal" => fields.need("refusal")?.string(),
        _ => Err(ApiError::unsupported(
            path,
            "this model reads text parts only",
        )),
    }
}

fn tool_call(field: JsonField, budget: &mut JsonBudget) -> Result<Value, ApiError> {
    let mut fields = field.object()?;
    let id = fields.need("id")?.string()?;
    only_functions(&mut fields)?;
    let mut function = fields.need("function")?.object()?;
    let name = function.need("name")?.string()?;
    let arguments = function.need("arguments")?;
    let parsed = match arguments.value().as_str().map(str::trim) {
        // Clients send this for a call without arguments.
        Some("") => Map::new(),
        Some(text) => match budget.parse(text.as_bytes(), arguments.path()) {
            Ok(Value::Object(map)) => map,
            Err(Malformed::Refused(refusal)) => return Err(refusal),
            Ok(_) | Err(Malformed::Syntax(_)) => return Err(not_an_object(&arguments)),
        },
        None => return Err(not_an_object(&arguments)),
    };
    Ok(json!({
        "id": id,
        "type": "function",
        "function": { "name": name, "arguments": parsed },
    }))
}

fn not_an_object(arguments: &JsonField) -> ApiError {
    arguments.must_be("a string that holds a JSON object")
}

/// Takes `tools` unchanged: the template shows them to the model verbatim.
pub(crate) fn take_tools(fields: &mut JsonFields) -> Result<Vec<Value>, ApiError> {
    let Some(tools) = fields.take("tools") else {
        return Ok(Vec::new());
    };
    let mut names = HashSet::new();
    let mut taken = Vec::new();
    for field in tools.array()? {
        let path = format!("{}.function.name", field.path());
        let tool = tool(field)?;
        let name = tool["function"]["name"].as_str().unwrap_or_default();
        if !names.insert(name.to_owned()) {
            let message =
                format!("`{path}` declares the function `{name}` once more; names must differ");
            return Err(ApiError::invalid(path, message));
        }
        taken.push(tool);
    }
    Ok(taken)
}

/// Whether a function's name can be written in a call and read back: OpenAI's rule and Anthropic's, and `.`.
fn is_function_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (1..=128).contains(&name.len()) && name.chars().all(is_part)
}

fn tool(field: JsonField) -> Result<Value, ApiError> {
    let whole = field.value().clone();
    let mut fields = field.object()?;
    only_functions(&mut fields)?;
    let mut function = fields.need("function")?.object()?;
    let name = function.need("name")?;
    if !name.value().as_str().is_some_and(is_function_name) {
        return Err(name.must_be("a string of 1 to 128 letters, digits, `_`, `-` and `.`"));
    }
    if let Some(description) = function.take("description") {
        description.string()?;
    }
    if let Some(parameters) = function.take("parameters") {
        parameters.map()?;
    }
    if let Some(strict) = function.take("strict") {
        strict.bool()?;
    }
    Ok(whole)
}

fn only_functions(fields: &mut JsonFields) -> Result<(), ApiError> {
    let kind = fields.need("type")?;
    if kind.value() != "function" {
        return Err(kind.must_be("\"function\""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(list: Value) -> Result<Vec<Value>, ApiError> {
        let body = json!({ "messages": list }).to_string();
        take_messages(&mut JsonFields::parse(body.as_bytes()).unwrap())
    }

    fn tools(list: Value) -> Result<Vec<Value>, ApiError> {
        let body = json!({ "tools": list }).to_string();
        take_tools(&mut JsonFields::parse(body.as_bytes()).unwrap())
    }

    fn param<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().param().unwrap().to_owned()
    }

    #[test]
    fn text_parts_become_one_string_and_developer_messages_system_messages() {
        let parts = json!([{ "type": "text", "text": "Hel" }, { "type": "text", "text": "lo" }]);
        let taken = messages(json!([
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "content": parts },
        ]));
        let expected = [
            json!({ "role": "system", "content": "Be brief." }),
            json!({ "role": "user", "content": "Hello" }),
        ];
        assert_eq!(taken.unwrap(), expected);
    }

    #[test]
    fn leading_system_messages_are_joined_and_later_ones_folded() {
        let taken = messages(json!([
            { "role": "system", "content": "a" }, { "role": "developer", "content": "b" },
            { "role": "user", "content": "hi" }, { "role": "system", "content": "c" },
            { "role": "assistant", "content": "ok" }, { "role": "system", "content": "d" },
            { "role": "user", "content": "more" },
        ]))
        .unwrap();
        assert_eq!((taken.len(), &taken[0]["content"]), (6, &json!("a\n\nb")));
        let folded = fold_later_system(&taken).unwrap();
        let shown: Vec<(&str, &str)> = folded
            .iter()
            .map(|message| (message["role"].as_str().unwrap(), text_of(message)))
            .collect();
        assert_eq!(
            shown,
            [
                ("system", "a\n\nb"),
                ("user", "hi"),
                ("user", "<system-reminder>\nc\n</system-reminder>"),
                ("assistant", "ok"),
                ("user", "<system-reminder>\nd\n</system-reminder>\nmore"),
            ]
        );
        assert_eq!(fold_later_system(&taken[..2]), None);
    }

    #[test]
    fn reasoning_has_both_names_that_templates_read() {
        let names = ["reasoning_content", "reasoning"];
        for name in names {
            let mut message = json!({ "role": "assistant", "content": "4" });
            message[name] = json!("2+2");
            let taken = messages(json!([message])).unwrap();
            assert_eq!(taken[0]["reasoning_content"], "2+2");
            assert_eq!(taken[0]["thinking"], "2+2");
        }
    }

    #[test]
    fn arguments_of_a_tool_call_become_a_mapping_in_their_order() {
        let taken = messages(json!([
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"b\": 1, \"a\": [2]}" } }
            ]},
            { "role": "tool", "tool_call_id": "c1", "content": "ok" },
        ]))
        .unwrap();
        assert_eq!(taken[0]["content"], "");
        let arguments = &taken[0]["tool_calls"][0]["function"]["arguments"];
        assert_eq!(arguments.to_string(), r#"{"b":1,"a":[2]}"#);
        assert_eq!(taken[1]["tool_call_id"], "c1");
    }

    #[test]
    fn message_that_cannot_be_read_is_named() {
        let image = json!([{ "type": "image_url", "image_url": { "url": "data:" } }]);
        for (list, name) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!([{ "content": "hi" }]), "messages[0].role"),
            (
                json!([{ "role": "robot", "content": "hi" }]),
                "messages[0].role",
            ),
            (json!([{ "role": "user" }]), "messages[0].content"),
            (
                json!([{ "role": "user", "content": 3 }]),
                "messages[0].content",
            ),
            (
                json!([{ "role": "user", "content": image }]),
                "messages[0].content[0]",
            ),
            (
                json!([{ "role": "user", "contant": "" }]),
                "messages[0].content",
            ),
            (
                json!([{ "role": "tool", "content": "" }]),
                "messages[0].tool_call_id",
            ),
            (
                json!([{ "role": "assistant", "tool_calls": [
                    { "id": "c", "type": "function", "function": { "name": "f", "arguments": "[1]" } }
                ]}]),
                "messages[0].tool_calls[0].function.arguments",
            ),
        ] {
            assert_eq!(param(messages(list.clone())), name, "{list}");
        }
    }

    #[test]
    fn tools_are_checked_and_taken_unchanged() {
        let add = json!({ "type": "function", "function": { "name": "add", "parameters": { "type": "object" } } });
        assert_eq!(tools(json!([add])).unwrap(), [add]);
        for (list, name) in [
            (json!([{ "type": "web_search" }]), "tools[0].type"),
            (
                json!([{ "type": "function", "function": {} }]),
                "tools[0].function.name",
            ),
            (
                json!([{ "type": "function", "function": { "name": "f</function>" } }]),
                "tools[0].function.name",
            ),
            (
                json!([{ "type": "function", "function": { "name": "f " } }]),
                "tools[0].function.name",
            ),
            (
                json!([
                    { "type": "function", "function": { "name": "f" } },
                    { "type": "function", "function": { "name": "f" } },
                ]),
                "tools[1].function.name",
            ),
            (
                json!([{ "type": "function", "function": { "name": "f", "strict": "yes" } }]),
                "tools[0].function.strict",
            ),
        ] {
            assert_eq!(param(tools(list.clone())), name, "{list}");
        }
    }
}
