//! System text: the leading `system` and system turns.

use serde_json::Value;

use crate::api::client_path::Path;
use crate::api::protocol::{Message, TranslationError, required_object, text};

/// How the line begins that Claude Code puts before its system prompt.
const BILLING_HEADER: &str = "x-anthropic-billing-header";

const REMINDER_START: &str = "<system-reminder>";
const REMINDER_END: &str = "</system-reminder>";

/// Adds system text to `message`: a string, or text blocks, each a paragraph. Text that is empty without its billing
/// header is left out.
pub(crate) fn add_blocks(
    content: &Value,
    path: &Path,
    message: &mut Message,
) -> Result<(), TranslationError> {
    for (text, path) in texts(content, path)? {
        message.push_separated("\n\n", text, path);
    }
    Ok(())
}

/// The text of a system turn in tags that models take for instructions of the system; none if it is empty.
pub(crate) fn reminder(content: &Value, path: &Path) -> Result<Option<String>, TranslationError> {
    let texts = texts(content, path)?;
    if texts.is_empty() {
        return Ok(None);
    }
    let texts: Vec<&str> = texts.into_iter().map(|(text, _)| text.trim_end()).collect();
    let text = texts.join("\n\n");
    Ok(Some(format!("{REMINDER_START}\n{text}\n{REMINDER_END}")))
}

/// Whether a text is a reminder and nothing else.
pub(crate) fn is_reminder(text: &str) -> bool {
    let text = text.trim();
    text.starts_with(REMINDER_START) && text.ends_with(REMINDER_END)
}

fn texts<'a>(content: &'a Value, path: &Path) -> Result<Vec<(&'a str, Path)>, TranslationError> {
    let texts = match content {
        Value::Null => return Err(TranslationError::missing(path)),
        Value::String(text) => vec![(text.as_str(), path.clone())],
        Value::Array(blocks) => {
            let blocks = blocks.iter().enumerate();
            blocks
                .map(|(index, block)| text_block(block, path.index(index)))
                .collect::<Result<_, _>>()?
        }
        _ => {
            return Err(TranslationError::must_be(
                path,
                "a string or an array of text blocks",
            ));
        }
    };
    let without_header = texts
        .into_iter()
        .map(|(text, path)| (without_billing_header(text), path));
    Ok(without_header
        .filter(|(text, _)| !text.is_empty())
        .collect())
}

fn text_block(block: &Value, path: Path) -> Result<(&str, Path), TranslationError> {
    let block = required_object(block, &path)?;
    if text(block, "type", &path)? != "text" {
        return Err(TranslationError::must_be(&path.field("type"), "\"text\""));
    }
    Ok((text(block, "text", &path)?, path.field("text")))
}

/// The text without the billing header that it begins with: one line, and the empty lines after it.
fn without_billing_header(text: &str) -> &str {
    if !text.trim_start().starts_with(BILLING_HEADER) {
        return text;
    }
    let rest = text.trim_start().split_once('\n');
    rest.map_or("", |(_, rest)| rest.trim_start_matches(['\r', '\n']))
}
