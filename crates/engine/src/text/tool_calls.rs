//! Separates tool calls from text in the model's output while it streams.
//!
//! Qwen3.5 writes a call as XML, the form that its chat template teaches:
//!
//! ```text
//! <tool_call>
//! <function=get_weather>
//! <parameter=city>
//! Rome
//! </parameter>
//! </function>
//! </tool_call>
//! ```
//!
//! Earlier Qwen models write `<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>`.
//! Both are read, whichever the tools asked for. `block` knows the two forms, `schema` the types of the values.

mod block;
mod schema;

use crate::text::partial_match::begun;
use block::{Block, CLOSE, OPEN};
use schema::ToolSchemas;

/// A function that the model wants called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The function's name, as the model wrote it.
    pub name: String,
    /// A JSON object, as text.
    pub arguments: String,
}

/// A piece of the model's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputPiece {
    /// Text for the reader.
    Text(String),
    /// A complete call.
    Call(ToolCall),
}

/// Reads calls out of a text that arrives in pieces.
///
/// Text comes out as soon as it is certain to be text. A block that is malformed, or never closed, is text too:
/// nothing is lost. White space between a call and its neighbours is layout and left out. How the text was cut into
/// pieces makes no difference to what comes out, only to when.
#[derive(Clone, Debug)]
pub struct ToolCallParser {
    schemas: ToolSchemas,
    /// Text that is not certain yet.
    held: String,
    /// The held text is a block that has begun well: it cannot be decided before a closing tag comes.
    in_block: bool,
    /// A call has just ended, and no text has come since.
    after_call: bool,
}

impl ToolCallParser {
    /// A parser at the start of the output. `tools` are the request's, in OpenAI's form; the types of the arguments are
    /// read from their JSON schemas.
    pub fn new(tools: &[serde_json::Value]) -> Self {
        Self {
            schemas: ToolSchemas::new(tools),
            held: String::new(),
            in_block: false,
            after_call: false,
        }
    }

    /// Takes the next piece of the output.
    pub fn push(&mut self, text: &str) -> Vec<OutputPiece> {
        let fresh = self.held.len().saturating_sub(CLOSE.len());
        let fresh = self.held.floor_char_boundary(fresh);
        self.held.push_str(text);
        if self.in_block && !self.held[fresh..].contains(CLOSE) {
            return Vec::new();
        }
        self.advance(false)
    }

    /// Ends the output.
    pub fn finish(&mut self) -> Vec<OutputPiece> {
        self.advance(true)
    }

    fn advance(&mut self, at_end: bool) -> Vec<OutputPiece> {
        let mut pieces = Vec::new();
        self.in_block = false;
        loop {
            let Some(open) = self.held.find(OPEN) else {
                let certain = if at_end {
                    self.held.len()
                } else {
                    let certain = self.held.len() - begun(&self.held, OPEN);
                    self.held[..certain].trim_end().len()
                };
                self.emit_text(certain, &mut pieces);
                return pieces;
            };
            let body = open + OPEN.len();
            match Block::parse(&self.held[body..]) {
                Block::Complete {
                    len,
                    name,
                    parameters,
                } => {
                    let text = self.held[..open].trim_end().len();
                    self.emit_text(text, &mut pieces);
                    self.held.drain(..body + len - text);
                    let arguments = self.schemas.arguments(&name, parameters);
                    pieces.push(OutputPiece::Call(ToolCall { name, arguments }));
                    self.after_call = true;
                }
                Block::Incomplete if !at_end => {
                    self.in_block = Block::has_begun(&self.held[body..]);
                    let text = self.held[..open].trim_end().len();
                    self.emit_text(text, &mut pieces);
                    return pieces;
                }
                Block::Incomplete | Block::Malformed => self.emit_text(body, &mut pieces),
            }
        }
    }

    /// Gives out the first `len` bytes of what is held.
    fn emit_text(&mut self, len: usize, pieces: &mut Vec<OutputPiece>) {
        let mut text: String = self.held.drain(..len).collect();
        if self.after_call {
            text.drain(..text.len() - text.trim_start().len());
        }
        if text.is_empty() {
            return;
        }
        self.after_call = false;
        match pieces.last_mut() {
            Some(OutputPiece::Text(last)) => last.push_str(&text),
            _ => pieces.push(OutputPiece::Text(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const WEATHER: &str = "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n\
        <parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";

    fn tools() -> Vec<serde_json::Value> {
        vec![
            json!({"type": "function", "function": {"name": "get_weather", "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}
            }}}),
        ]
    }

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Vec<OutputPiece> {
        let mut parser = ToolCallParser::new(&tools());
        let mut all: Vec<OutputPiece> = Vec::new();
        let mut add = |new: Vec<OutputPiece>| {
            for piece in new {
                match (all.last_mut(), piece) {
                    (Some(OutputPiece::Text(last)), OutputPiece::Text(text)) => {
                        last.push_str(&text)
                    }
                    (_, piece) => all.push(piece),
                }
            }
        };
        for piece in pieces {
            add(parser.push(piece));
        }
        add(parser.finish());
        all
    }

    fn text(text: &str) -> OutputPiece {
        OutputPiece::Text(text.into())
    }

    fn call(name: &str, arguments: &str) -> OutputPiece {
        OutputPiece::Call(ToolCall {
            name: name.into(),
            arguments: arguments.into(),
        })
    }

    #[test]
    fn a_call_comes_out_typed_and_its_layout_is_dropped() {
        let output = format!("Let me look.\n\n{WEATHER}\n{WEATHER}\n");
        let weather = call("get_weather", r#"{"city":"Rome","days":3}"#);
        assert_eq!(
            parse([output.as_str()]),
            [text("Let me look."), weather.clone(), weather]
        );
    }

    #[test]
    fn the_older_json_form_is_read_too() {
        let output = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"</tool_call>\"]}}\n</tool_call>";
        assert_eq!(parse([output]), [call("f", r#"{"a":[1,"</tool_call>"]}"#)]);
        let quoted = r#"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#;
        assert_eq!(parse([quoted]), [call("f", r#"{"a":1}"#)]);
        assert_eq!(
            parse([r#"<tool_call>{"name": "f"}</tool_call>"#]),
            [call("f", "{}")]
        );
    }

    #[test]
    fn values_may_hold_tags_and_lines() {
        let output = "<tool_call>\n<function=write>\n<parameter=text>\n\n<p></parameter>\n</tool_call>\n  x\n\n\
            </parameter>\n</function>\n</tool_call>";
        assert_eq!(
            parse([output]),
            [call(
                "write",
                r#"{"text":"\n<p></parameter>\n</tool_call>\n  x\n"}"#
            )]
        );
    }

    #[test]
    fn what_is_no_call_is_text() {
        for output in [
            "a <tool_call> is a tag </tool_call>",
            "<tool_call>\n<function=f>\n<parameter=a>\n1",
            "<tool_call>\n<function=>\n</function>\n</tool_call>",
            "<tool_call>\n<function=f>\nwords\n</function>\n</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": 3}</tool_call>",
            "<tool_call>{\"arguments\": {}}</tool_call>",
            "<tool_call>[]</tool_call>",
            "a \n<tool_c",
            " \n",
        ] {
            assert_eq!(parse([output]), [text(output)]);
        }
    }

    #[test]
    fn a_call_after_a_malformed_block_is_still_found() {
        let output = format!("<tool_call>\n<tool_call>\n{WEATHER}done");
        assert_eq!(
            parse([output.as_str()]),
            [
                text("<tool_call>\n<tool_call>"),
                call("get_weather", r#"{"city":"Rome","days":3}"#),
                text("done")
            ]
        );
    }

    #[test]
    fn certain_text_does_not_wait() {
        let mut parser = ToolCallParser::new(&[]);
        assert_eq!(parser.push("Hello wor"), [text("Hello wor")]);
        assert_eq!(parser.push("ld <tool"), [text("ld")]);
        assert_eq!(parser.push("s>"), [text(" <tools>")]);
        assert_eq!(parser.push("<tool_call>\n"), []);
        assert_eq!(parser.push("is"), [text("<tool_call>\nis")]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_result(
            pieces in prop::collection::vec(prop_oneof![
                Just(WEATHER.to_string()), Just("<tool_call>".into()), Just("</tool_call>".into()),
                Just("<function=f>".into()), Just("</function>".into()), Just("<parameter=days>".into()),
                Just("</parameter>".into()), Just("{\"name\": \"f\", \"arguments\": {\"x\": \"".into()),
                Just("\"}}".into()), Just("\n".into()), "[a é\n<\"\\\\]{0,3}",
            ], 0..16),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let whole = pieces.concat();
            let expected = parse([whole.as_str()]);
            let mut buffer = [0; 4];
            let mut parser = ToolCallParser::new(&tools());
            let mut by_char: Vec<OutputPiece> = whole.chars().flat_map(|c| parser.push(c.encode_utf8(&mut buffer))).collect();
            by_char.extend(parser.finish());
            prop_assert_eq!(calls(&by_char), calls(&expected));
            prop_assert_eq!(texts(&by_char), texts(&expected));

            let mut cuts: Vec<usize> =
                cuts.iter().map(|cut| whole.floor_char_boundary(cut.index(whole.len() + 1))).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(parse(cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]])), expected.clone());

            // Nothing is lost: without a call, the text is the output.
            if calls(&expected).is_empty() {
                prop_assert_eq!(texts(&expected), whole);
            }
        }
    }

    fn calls(pieces: &[OutputPiece]) -> Vec<&ToolCall> {
        pieces
            .iter()
            .filter_map(|piece| match piece {
                OutputPiece::Call(call) => Some(call),
                OutputPiece::Text(_) => None,
            })
            .collect()
    }

    fn texts(pieces: &[OutputPiece]) -> String {
        pieces
            .iter()
            .map(|piece| match piece {
                OutputPiece::Text(text) => text.as_str(),
                OutputPiece::Call(_) => "",
            })
            .collect()
    }
}
