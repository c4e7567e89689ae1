//! Where in the client's body a part of the chat body came from.

use std::collections::HashMap;

use super::client_path::Path;

/// Maps places of a chat body to places of the client's body.
///
/// An entry holds for everything below its place: with `tools[0].function.parameters` → `tools[2].input_schema`, the
/// place `tools[0].function.parameters.properties.x` maps to `tools[2].input_schema.properties.x`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names(HashMap<String, FieldOrigin>);

#[derive(Clone, Debug, PartialEq)]
struct FieldOrigin {
    path: String,
    /// The client's value has another shape inside: what is below the place maps to the path itself.
    opaque: bool,
}

impl Names {
    /// The place `chat` of the chat body, and everything below it, came from `client`.
    pub(crate) fn insert(&mut self, chat: impl Into<String>, client: &Path) {
        let path = client.to_string();
        let opaque = client.field("x") == *client;
        self.0.insert(chat.into(), FieldOrigin { path, opaque });
    }

    /// The place `chat` came from `client`, which has another shape inside: everything below it maps to `client`.
    pub(crate) fn insert_whole(&mut self, chat: impl Into<String>, client: &Path) {
        let path = client.to_string();
        self.0
            .insert(chat.into(), FieldOrigin { path, opaque: true });
    }

    /// The client's name of a place in the chat body. A place without an entry keeps its name: the field was passed
    /// on as it came.
    pub(crate) fn client(&self, chat: &str) -> String {
        let mut end = chat.len();
        loop {
            let (place, below) = chat.split_at(end);
            if let Some(origin) = self.0.get(place) {
                let below = if origin.opaque { "" } else { below };
                return format!("{}{below}", origin.path);
            }
            match place.rfind(['.', '[']) {
                Some(cut) => end = cut,
                None => return chat.to_owned(),
            }
        }
    }

    /// An error message of the chat parser about `chat`, with the client's names in place of the chat body's: of this place and of
    /// other fields that it names.
    pub(crate) fn message(&self, chat: &str, message: &str) -> String {
        let is_field = |part: &str| !part.contains(['.', '[']) && self.0.contains_key(part);
        let named = message
            .split('`')
            .map(|part| match part == chat || is_field(part) {
                true => self.client(part),
                false => part.to_owned(),
            });
        named.collect::<Vec<_>>().join("`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_longest_entry_wins_and_rest_is_kept() {
        let mut names = Names::default();
        let tool = Path::root("tools").index(3);
        names.insert("tools[1]", &tool);
        names.insert("tools[1].function.parameters", &tool.field("input_schema"));
        names.insert_whole("messages[0].content", &Path::root("instructions"));
        names.insert("messages[1]", &Path::opaque("previous_response_id"));
        for (chat, client) in [
            (
                "tools[1].function.parameters.properties.a.b[0]",
                "tools[3].input_schema.properties.a.b[0]",
            ),
            ("tools[1].type", "tools[3].type"),
            ("tools[2].type", "tools[2].type"),
            ("messages[0].content[0].text", "instructions"),
            ("messages[1].tool_calls[0]", "previous_response_id"),
            ("temperature", "temperature"),
            ("", ""),
        ] {
            assert_eq!(names.client(chat), client, "{chat}");
        }
    }

    #[test]
    fn message_chat_name_becomes_client_name() {
        let mut names = Names::default();
        names.insert("stop", &Path::root("stop_sequences"));
        assert_eq!(
            names.message("stop[2]", "`stop[2]` must be a string, not 3"),
            "`stop_sequences[2]` must be a string, not 3"
        );
        names.insert("response_format", &Path::root("text").field("format"));
        assert_eq!(
            names.message(
                "guided_regex",
                "`guided_regex` and `response_format` both constrain the answer; send `one`"
            ),
            "`guided_regex` and `text.format` both constrain the answer; send `one`"
        );
    }
}
