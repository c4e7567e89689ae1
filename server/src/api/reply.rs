//! Generated text, divided as it arrives into reasoning, content and tool calls.

use sanctum_engine::text::{OutputPiece, ToolCall, ToolCallParser};
use sanctum_engine::text::{ReasoningSplitter, Split};
use serde_json::Value;

use crate::random;

/// A part of a reply that is certain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ReplyPart {
    /// More of the reasoning.
    Reasoning(String),
    /// More of the content.
    Content(String),
    /// A call of a tool.
    ToolCall {
        /// Which call of the reply it is, from 0.
        index: usize,
        /// The id that the tool's result refers to.
        id: String,
        /// The tool and its arguments.
        call: ToolCall,
    },
}

/// Divides one reply.
pub(crate) struct ReplyParser {
    /// None where all text is content.
    reasoning: Option<ReasoningSplitter>,
    /// Only where the request has tools: elsewhere text that looks like a call is text.
    calls: Option<ToolCallParser>,
    called: usize,
}

impl ReplyParser {
    /// For the reply to a conversation that was rendered into `prompt`, with its `tools`. The prompt shows whether the model
    /// reasons first: the template decides it, and ends the prompt with an open think block.
    pub(crate) fn of_conversation(prompt: &str, tools: &[Value]) -> Self {
        let reasons = prompt.trim_end().ends_with("<think>");
        Self {
            reasoning: Some(ReasoningSplitter::new(reasons)),
            calls: (!tools.is_empty()).then(|| ToolCallParser::new(tools)),
            called: 0,
        }
    }

    /// For text that is content whatever it contains.
    pub(crate) fn of_text() -> Self {
        Self {
            reasoning: None,
            calls: None,
            called: 0,
        }
    }

    /// The parts that became certain with the next piece of text.
    pub(crate) fn push(&mut self, text: String) -> Vec<ReplyPart> {
        let split = match &mut self.reasoning {
            Some(reasoning) => reasoning.push(&text),
            None => content(text),
        };
        self.parts(split, false)
    }

    /// The parts that became certain with the last piece of text: all that remain.
    pub(crate) fn finish(&mut self, text: String) -> Vec<ReplyPart> {
        let split = match &mut self.reasoning {
            Some(reasoning) => {
                let mut split = reasoning.push(&text);
                let rest = reasoning.finish();
                split.reasoning.push_str(&rest.reasoning);
                split.content.push_str(&rest.content);
                split
            }
            None => content(text),
        };
        self.parts(split, true)
    }

    /// Whether tools were called.
    pub(crate) fn has_called(&self) -> bool {
        self.called > 0
    }

    fn parts(&mut self, split: Split, at_end: bool) -> Vec<ReplyPart> {
        let mut parts = Vec::new();
        if !split.reasoning.is_empty() {
            parts.push(ReplyPart::Reasoning(split.reasoning));
        }
        let pieces = match &mut self.calls {
            None => vec![OutputPiece::Text(split.content)],
            Some(calls) => {
                let mut pieces = calls.push(&split.content);
                if at_end {
                    pieces.extend(calls.finish());
                }
                pieces
            }
        };
        for piece in pieces {
            match piece {
                OutputPiece::Text(text) if text.is_empty() => {}
                OutputPiece::Text(text) => parts.push(ReplyPart::Content(text)),
                OutputPiece::Call(call) => parts.push(self.call(call)),
            }
        }
        parts
    }

    fn call(&mut self, call: ToolCall) -> ReplyPart {
        let index = self.called;
        self.called += 1;
        ReplyPart::ToolCall {
            index,
            id: random::id("call_"),
            call,
        }
    }
}

fn content(text: String) -> Split {
    Split {
        reasoning: String::new(),
        content: text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CALL: &str =
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>";

    /// Pushes the text in pieces of `size` characters, and returns all reasoning, all content, and the names of the calls.
    fn parse(parser: &mut ReplyParser, text: &str, size: usize) -> (String, String, Vec<String>) {
        let letters: Vec<char> = text.chars().collect();
        let mut parts = Vec::new();
        for piece in letters.chunks(size) {
            parts.extend(parser.push(piece.iter().collect()));
        }
        parts.extend(parser.finish(String::new()));
        let (mut reasoning, mut content, mut calls) = (String::new(), String::new(), Vec::new());
        for part in parts {
            match part {
                ReplyPart::Reasoning(text) => reasoning += &text,
                ReplyPart::Content(text) => content += &text,
                ReplyPart::ToolCall { index, call, .. } => {
                    assert_eq!(index, calls.len());
                    calls.push(call.name);
                }
            }
        }
        (reasoning, content, calls)
    }

    #[test]
    fn reply_is_divided_alike_however_its_text_is_cut() {
        let tools = [json!({ "type": "function", "function": { "name": "add" } })];
        for size in [1, 3, 1000] {
            let mut parser =
                ReplyParser::of_conversation("<|im_start|>assistant\n<think>\n", &tools);
            let text = format!("Add.\n</think>\n\nLet me see.\n{CALL}");
            let (reasoning, content, calls) = parse(&mut parser, &text, size);
            assert_eq!(
                (reasoning.as_str(), content.as_str()),
                ("Add.", "Let me see.")
            );
            assert_eq!(calls, ["add"]);
            assert!(parser.has_called());
        }
    }

    #[test]
    fn call_is_content_where_the_request_has_no_tools() {
        let mut parser = ReplyParser::of_conversation("<think>\n\n</think>\n\n", &[]);
        assert_eq!(
            parse(&mut parser, CALL, 7),
            (String::new(), CALL.into(), Vec::new())
        );
        assert!(!parser.has_called());
    }

    #[test]
    fn text_is_content_whatever_it_contains() {
        let text = format!("<think>a</think>{CALL}");
        let mut parser = ReplyParser::of_text();
        assert_eq!(
            parse(&mut parser, &text, 7),
            (String::new(), text, Vec::new())
        );
    }
}
