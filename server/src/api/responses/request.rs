//! The body of a request, translated to a chat body.

use serde_json::{Map, Value};

use super::response::RepeatedFields;
use super::{format, item, tools};
use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{ChatMessages, Message, ProtocolFields, Translated, TranslationError};
use crate::api::response_store::{ConversationHistory, PendingTurn};

/// ProtocolFields that have no effect on this server by design: they account, advise, or configure hosted tools.
const INERT: [&str; 9] = [
    "access_programs",
    "background_options",
    "client_metadata",
    "context_management",
    "image",
    "max_tool_calls",
    "moderation",
    "prompt_cache_options",
    "stream_options",
];

/// A translated request.
#[derive(Debug)]
pub(crate) struct ResponsesRequest {
    /// What the chat parser reads.
    pub translated: Translated,
    /// What the answer repeats of the request.
    pub echo: RepeatedFields,
    /// What to add to the [`Store`](super::Store) when the answer is complete. `None` with `store: false`.
    pub pending: Option<PendingTurn>,
}

/// Translates a body. `recall` finds the stored response with an id, for the client that sends the request:
/// [`Store::recall`](super::Store::recall).
///
/// # Errors
/// A body that does not have the shape of a Responses request, or asks for what this server does not have.
pub(crate) fn translate(
    body: Map<String, Value>,
    recall: &mut dyn FnMut(&str) -> Option<ConversationHistory>,
) -> Result<ResponsesRequest, TranslationError> {
    let mut fields = ProtocolFields::new(body);
    fields.refuse_chat_only("input")?;
    refuse_server_state(&mut fields)?;
    let mut echo = RepeatedFields::before(&fields)?;
    let mut chat = Map::new();
    let mut names = Names::default();
    let mut ignored = Vec::new();

    if let Some(model) = fields.take("model") {
        chat.insert("model".into(), model);
    }
    let store = fields.take_bool("store", true)?;
    let previous = previous(&mut fields, recall)?;
    let instructions = instructions(&mut fields)?;
    let input = input(&mut fields)?;
    let mut conversation = ChatMessages::default();
    if let Some(text) = &instructions {
        let message = Message::of_text("system", text, Path::root("instructions"));
        conversation.push(message, &mut names);
    }
    let history = previous.iter().flat_map(|(_, history)| history.items());
    let history = history.map(|item| (item, Path::opaque("previous_response_id")));
    let current = input.iter().enumerate();
    let current = current.map(|(index, item)| (item, input_path(item, index)));
    item::translate(history.chain(current), &mut conversation, &mut names)?;
    names.insert("messages", &Path::root("input"));
    chat.insert("messages".into(), conversation.into_messages().into());

    tools::translate(&mut fields, &mut chat, &mut names, &mut echo, &mut ignored)?;
    format::translate(&mut fields, &mut chat, &mut names, &mut echo, &mut ignored)?;
    if let Some(most) = fields.take("max_output_tokens") {
        names.insert("max_completion_tokens", &Path::root("max_output_tokens"));
        chat.insert("max_completion_tokens".into(), most);
    }
    include(&mut fields, &mut ignored)?;
    if fields
        .take("truncation")
        .is_some_and(|mode| mode != "disabled")
    {
        ignored.push("truncation".into());
    }
    // An item of the assistant at the end of the input is a turn of its own, as in OpenAI's API.
    if fields.get("continue_final_message").is_none() {
        chat.insert("continue_final_message".into(), false.into());
    }
    // GenerationOutput items carry no log probabilities here.
    fields.discard_reported(&["top_logprobs", "logprobs"], &mut ignored);
    fields.discard(&INERT);
    let known = fields.pass_on(&mut chat, &mut ignored);
    let continues = chat["continue_final_message"] == true
        && input.last().is_some_and(|last| last["role"] == "assistant");

    echo.set("store", store.into());
    let previous = previous.map(|(id, history)| {
        echo.set("previous_response_id", id.into());
        history
    });
    Ok(ResponsesRequest {
        translated: Translated {
            chat,
            names,
            known,
            ignored,
        },
        echo,
        pending: store
            .then(|| PendingTurn::new(previous.unwrap_or_default(), input).continuing(continues)),
    })
}

/// Refuses fields that refer to state which this server does not have.
fn refuse_server_state(fields: &mut ProtocolFields) -> Result<(), TranslationError> {
    for (name, fix) in [
        (
            "conversation",
            "conversations are not stored here; send `previous_response_id` or the whole `input`",
        ),
        (
            "prompt",
            "prompts are not stored here; send `instructions` and `input`",
        ),
    ] {
        if fields.take(name).is_some() {
            return Err(TranslationError::unsupported(&Path::root(name), fix));
        }
    }
    if fields.take_bool("background", false)? {
        let path = Path::root("background");
        return Err(TranslationError::unsupported(
            &path,
            "remove it, or send `stream: true`",
        ));
    }
    Ok(())
}

fn previous(
    fields: &mut ProtocolFields,
    recall: &mut dyn FnMut(&str) -> Option<ConversationHistory>,
) -> Result<Option<(String, ConversationHistory)>, TranslationError> {
    let path = Path::root("previous_response_id");
    match fields.take("previous_response_id") {
        None => Ok(None),
        Some(Value::String(id)) => match recall(&id) {
            Some(history) => Ok(Some((id, history))),
            None => Err(TranslationError::new(
                &path,
                "`previous_response_id` names no response of yours that is still stored: responses are kept in memory \
                 for a limited time; send the whole conversation in `input` instead",
            )
            .with_code("previous_response_not_found")),
        },
        Some(_) => Err(TranslationError::must_be(&path, "a string")),
    }
}

fn instructions(fields: &mut ProtocolFields) -> Result<Option<String>, TranslationError> {
    match fields.take("instructions") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(TranslationError::must_be(
            &Path::root("instructions"),
            "a string",
        )),
    }
}

/// The input items. A string stays a string: it is an item of its own kind to [`item::translate`].
fn input(fields: &mut ProtocolFields) -> Result<Vec<Value>, TranslationError> {
    match fields.take("input") {
        None => Ok(Vec::new()),
        Some(text @ Value::String(_)) => Ok(vec![text]),
        Some(Value::Array(items)) => match items.iter().position(Value::is_string) {
            Some(index) => {
                let path = Path::root("input").index(index);
                Err(TranslationError::must_be(&path, "an object"))
            }
            None => Ok(items),
        },
        Some(_) => Err(TranslationError::must_be(
            &Path::root("input"),
            "a string or an array of items",
        )),
    }
}

fn input_path(item: &Value, index: usize) -> Path {
    let root = Path::root("input");
    match item {
        Value::String(_) => root,
        _ => root.index(index),
    }
}

/// Reports the parts of the answer that a client asks to include and does not get. Reasoning is sent in plain text, so
/// encrypted reasoning is not missed.
fn include(fields: &mut ProtocolFields, ignored: &mut Vec<String>) -> Result<(), TranslationError> {
    let path = Path::root("include");
    for (index, part) in fields.take_array("include")?.iter().enumerate() {
        if part != "reasoning.encrypted_content" {
            ignored.push(path.index(index).to_string());
        }
    }
    Ok(())
}
