//! The body of a request, translated to a chat body.

use serde_json::{Map, Value, json};

use super::{block, options, system, tools};
use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{
    ChatMessages, Message, ProtocolFields, Translated, TranslationError, required_object, text,
};

/// ProtocolFields that have no effect on this server by design: they account, advise, or choose hardware.
const INERT: [&str; 14] = [
    "anthropic_beta",
    "anthropic_version",
    "betas",
    "billing_policy",
    "cache_control",
    "diagnostics",
    "fallback_credit_token",
    "fallbacks",
    "inference_geo",
    "metadata",
    "service_tier",
    "speed",
    "user_profile_id",
    "workspace_id",
];
/// ProtocolFields that change the answer of Anthropic's servers and have no effect on this one.
const WITHOUT_EFFECT: [&str; 3] = ["container", "context_management", "mcp_servers"];

/// The largest `max_tokens`: more than any context holds.
const MOST_TOKENS: f64 = u32::MAX as f64;

/// Translates the body of `POST /v1/messages`.
///
/// # Errors
/// A body that does not have the shape of a Messages request, or asks for what this server does not have.
pub(crate) fn translate(body: Map<String, Value>) -> Result<Translated, TranslationError> {
    let mut fields = ProtocolFields::new(body);
    let Some(max_tokens) = fields.take("max_tokens") else {
        return Err(TranslationError::missing(&Path::root("max_tokens")));
    };
    // The chat parser would accept -1, for as many as fit.
    let is_limit = |tokens: &f64| tokens.fract() == 0.0 && (1.0..=MOST_TOKENS).contains(tokens);
    if max_tokens.as_f64().filter(is_limit).is_none() {
        let what = format!("a whole number from 1 to {MOST_TOKENS}");
        let path = Path::root("max_tokens");
        return Err(TranslationError::must_be_not(&path, &what, &max_tokens));
    }
    if fields.take("compaction").is_some() {
        let path = Path::root("compaction");
        let fix = "this server does not summarize conversations; remove it, or ask for a summary in a message";
        return Err(TranslationError::unsupported(&path, fix));
    }
    let mut translated = translate_fields(fields)?;
    translated.chat.insert("max_tokens".into(), max_tokens);
    Ok(translated)
}

/// Translates the body of `POST /v1/messages/count_tokens`: the prompt of the chat body is what is counted.
///
/// # Errors
/// As [`translate`]; `max_tokens`, `stream` and `compaction` have no effect.
pub(crate) fn translate_count(body: Map<String, Value>) -> Result<Translated, TranslationError> {
    let mut fields = ProtocolFields::new(body);
    fields.discard(&["max_tokens", "stream", "compaction"]);
    translate_fields(fields)
}

/// The answer of `POST /v1/messages/count_tokens`.
pub(crate) fn count_answer(tokens: usize) -> Value {
    json!({ "input_tokens": tokens })
}

fn translate_fields(mut fields: ProtocolFields) -> Result<Translated, TranslationError> {
    fields.refuse_chat_only("messages")?;
    let mut chat = Map::new();
    let mut names = Names::default();
    let mut ignored = Vec::new();

    if let Some(model) = fields.take("model") {
        chat.insert("model".into(), model);
    }
    let continues = messages(&mut fields, &mut chat, &mut names)?;
    if continues {
        chat.insert("continue_final_message".into(), true.into());
        names.insert_whole("continue_final_message", &Path::root("messages"));
    }
    tools::translate(&mut fields, &mut chat, &mut names, &mut ignored)?;
    options::translate(&mut fields, &mut chat, &mut names, &mut ignored)?;
    if let Some(stop) = fields.take("stop_sequences") {
        names.insert("stop", &Path::root("stop_sequences"));
        chat.insert("stop".into(), stop);
    }
    fields.discard_reported(&WITHOUT_EFFECT, &mut ignored);
    // Content blocks carry no log probabilities.
    fields.discard_reported(&["logprobs", "top_logprobs"], &mut ignored);
    fields.discard(&INERT);
    fields.discard(&["stream_options"]);
    let known = fields.pass_on(&mut chat, &mut ignored);
    Ok(Translated {
        chat,
        names,
        known,
        ignored,
    })
}

/// Translates `system` and `messages`. Returns whether the answer continues the last message.
fn messages(
    fields: &mut ProtocolFields,
    chat: &mut Map<String, Value>,
    names: &mut Names,
) -> Result<bool, TranslationError> {
    let path = Path::root("messages");
    let system = fields.take("system");
    let turns = match fields.take("messages") {
        None => return Err(TranslationError::missing(&path)),
        Some(Value::Array(turns)) => turns,
        Some(_) => return Err(TranslationError::must_be(&path, "an array of messages")),
    };
    let mut conversation = ChatMessages::default();
    let mut leading = Message::new("system", Path::root("system"));
    if let Some(system) = &system {
        system::add_blocks(system, &Path::root("system"), &mut leading)?;
    }
    let mut turns = turns.iter().enumerate().peekable();
    // System turns before all others belong to the leading system message.
    while let Some((index, turn)) = turns.next_if(|(_, turn)| turn["role"] == "system") {
        let path = path.index(index);
        let content = required_object(turn, &path)?
            .get("content")
            .unwrap_or(&Value::Null);
        system::add_blocks(content, &path.field("content"), &mut leading)?;
    }
    if leading.has_text() {
        conversation.push(leading, names);
    }

    let mut thread = Thread::default();
    for (index, turn) in turns {
        let path = path.index(index);
        let turn = required_object(turn, &path)?;
        let content = turn.get("content").unwrap_or(&Value::Null);
        match text(turn, "role", &path)? {
            "user" => thread.user(block::user(content, path)?),
            "assistant" => thread.assistant(block::assistant(content, path)?),
            "system" => thread.system(content, &path)?,
            _ => {
                let roles = "\"user\", \"assistant\" or \"system\"";
                return Err(TranslationError::must_be(&path.field("role"), roles));
            }
        }
    }
    let messages = thread.finish();
    let continued = messages.last().filter(|last| last.role == "assistant");
    let continues = continued.is_some();
    let is_blank = |last: &&Message| last.texts().all(|text| text.trim().is_empty());
    if let Some(last) = continued.filter(|last| last.has_calls() || is_blank(last)) {
        let message = format!(
            "`{}` is the last message and has no text to continue; end with a user message, with a `tool_result` block \
             for each tool call",
            last.path
        );
        return Err(TranslationError::new(&last.path, message));
    }
    for message in messages {
        conversation.push(message, names);
    }
    chat.insert("messages".into(), conversation.into_messages().into());
    Ok(continues)
}

/// The messages after the leading system message, with system turns folded into user turns.
#[derive(Default)]
struct Thread {
    messages: Vec<Message>,
    /// Whether the last message is the end of a user turn: reminders are added to it.
    in_user_turn: bool,
    /// Reminders that no user turn precedes: the next one begins with them.
    reminders: Vec<(String, Path)>,
}

impl Thread {
    fn user(&mut self, turn: block::UserTurn) {
        let block::UserTurn { results, mut text } = turn;
        let reminders = std::mem::take(&mut self.reminders);
        if !reminders.is_empty() {
            text.prepend(reminders);
        }
        let has_results = !results.is_empty();
        self.messages.extend(results);
        let last = self.messages.last_mut();
        match last.filter(|_| has_results && text.texts().all(system::is_reminder)) {
            Some(result) => result.append(text),
            None if has_results && !text.has_text() => {}
            None => self.messages.push(text),
        }
        self.in_user_turn = true;
    }

    fn assistant(&mut self, message: Message) {
        self.flush_reminders();
        self.messages.push(message);
        self.in_user_turn = false;
    }

    fn system(&mut self, content: &Value, path: &Path) -> Result<(), TranslationError> {
        let Some(reminder) = system::reminder(content, &path.field("content"))? else {
            return Ok(());
        };
        let path = path.field("content");
        match self.messages.last_mut().filter(|_| self.in_user_turn) {
            // A user's text or the result of a tool.
            Some(last) => last.push_separated("\n", &reminder, path),
            None => self.reminders.push((reminder, path)),
        }
        Ok(())
    }

    /// Reminders that are followed by an assistant turn or by nothing become a user turn of their own.
    fn flush_reminders(&mut self) {
        let reminders = std::mem::take(&mut self.reminders);
        if let Some((_, path)) = reminders.first() {
            let mut message = Message::new("user", path.clone());
            message.prepend(reminders);
            self.messages.push(message);
        }
    }

    fn finish(mut self) -> Vec<Message> {
        self.flush_reminders();
        self.messages
    }
}
