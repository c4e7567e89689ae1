//! Generated text, divided as it arrives into reasoning, content and tool calls.

use sanctum_engine::text::output::{OutputEnd, OutputEvent, OutputOptions, OutputParser};
use sanctum_grammar::CallRules;
use serde_json::Value;

use crate::random;

/// A part of a reply that is certain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ReplyPart {
    /// More of the reasoning.
    Reasoning(String),
    /// More of the content.
    Content(String),
    /// A call of a tool begins.
    CallStart {
        /// Which call of the reply it is, from 0.
        index: usize,
        /// The id that the tool's result refers to.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of a call's arguments, the text of a JSON object.
    CallArguments {
        /// Which call of the reply it is.
        index: usize,
        /// The text.
        delta: String,
    },
    /// A call is complete.
    CallEnd {
        /// Which call of the reply it is.
        index: usize,
    },
}

/// Divides one reply.
#[derive(Clone, Debug)]
pub(crate) struct ReplyParser {
    /// None where all text is content.
    parser: Option<OutputParser>,
    called: bool,
    /// Whether a call has begun and is not complete.
    is_calling: bool,
}

impl ReplyParser {
    /// For the reply to a conversation with these `tools`, under `rules` about calls; `reasons` if the model reasons first.
    pub(crate) fn of_conversation(
        reasons: bool,
        rules: Option<&CallRules>,
        tools: &[Value],
    ) -> Self {
        // What may not be called is text.
        let is_callable = |tool: &&Value| {
            let name = &tool["function"]["name"];
            rules.is_some_and(|rules| rules.tools.iter().any(|tool| *name == *tool.name))
        };
        let tools: Vec<Value> = tools.iter().filter(is_callable).cloned().collect();
        let options = OutputOptions {
            tools: &tools,
            thinking: reasons,
            forced: rules.is_some_and(|rules| rules.required),
            exact: rules.is_some_and(CallRules::constrain),
        };
        Self {
            parser: Some(OutputParser::new(options)),
            called: false,
            is_calling: false,
        }
    }

    /// For text that is content whatever it contains.
    pub(crate) fn of_text() -> Self {
        Self {
            parser: None,
            called: false,
            is_calling: false,
        }
    }

    /// The parts that became certain with the next piece of text.
    pub(crate) fn push(&mut self, text: String) -> Vec<ReplyPart> {
        match &mut self.parser {
            Some(parser) => {
                let events = parser.push(&text);
                self.parts(events)
            }
            None => content(text),
        }
    }

    /// The parts that became certain with the last piece of text: all that remain.
    pub(crate) fn finish(&mut self, text: String, end: OutputEnd) -> Vec<ReplyPart> {
        match &mut self.parser {
            Some(parser) => {
                let mut events = parser.push(&text);
                events.extend(parser.finish(end));
                self.parts(events)
            }
            None => content(text),
        }
    }

    /// Whether the reply is still in its reasoning.
    pub(crate) fn is_reasoning(&self) -> bool {
        self.parser.as_ref().is_some_and(OutputParser::is_reasoning)
    }

    /// Whether a call has begun and is not complete: after the end of the reply, it was cut.
    pub(crate) fn is_calling(&self) -> bool {
        self.is_calling
    }

    /// Whether a tool was called.
    pub(crate) fn has_called(&self) -> bool {
        self.called
    }

    fn parts(&mut self, events: Vec<OutputEvent>) -> Vec<ReplyPart> {
        let part = |event| match event {
            OutputEvent::Reasoning(text) => ReplyPart::Reasoning(text),
            OutputEvent::Text(text) => ReplyPart::Content(text),
            OutputEvent::CallStart { index, name } => ReplyPart::CallStart {
                index,
                id: random::id("call_"),
                name,
            },
            OutputEvent::CallArguments { index, delta } => {
                ReplyPart::CallArguments { index, delta }
            }
            OutputEvent::CallEnd { index } => ReplyPart::CallEnd { index },
        };
        let parts: Vec<_> = events.into_iter().map(part).collect();
        let ended = |part: &ReplyPart| matches!(part, ReplyPart::CallEnd { .. });
        self.called |= parts.iter().any(ended);
        for part in &parts {
            match part {
                ReplyPart::CallStart { .. } => self.is_calling = true,
                ReplyPart::CallEnd { .. } => self.is_calling = false,
                _ => {}
            }
        }
        parts
    }
}

fn content(text: String) -> Vec<ReplyPart> {
    match text.is_empty() {
        true => Vec::new(),
        false => vec![ReplyPart::Content(text)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sanctum_grammar::Tool;
    use serde_json::json;

    const CALL: &str =
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>";

    /// Pushes the text in pieces of `size` characters, and returns all reasoning, all content, and the calls.
    fn parse(parser: &mut ReplyParser, text: &str, size: usize) -> (String, String, Vec<String>) {
        let letters: Vec<char> = text.chars().collect();
        let mut parts = Vec::new();
        for piece in letters.chunks(size) {
            parts.extend(parser.push(piece.iter().collect()));
        }
        parts.extend(parser.finish(String::new(), OutputEnd::Stop));
        let (mut reasoning, mut content, mut calls) = (String::new(), String::new(), Vec::new());
        for part in parts {
            match part {
                ReplyPart::Reasoning(text) => reasoning += &text,
                ReplyPart::Content(text) => content += &text,
                ReplyPart::CallStart { index, name, .. } => {
                    assert_eq!(index, calls.len());
                    calls.push(name);
                }
                ReplyPart::CallArguments { index, delta } => calls[index] += &delta,
                ReplyPart::CallEnd { index } => calls[index] += ";",
            }
        }
        (reasoning, content, calls)
    }

    fn rules(name: &str) -> CallRules {
        let tool = Tool {
            name: name.into(),
            parameters: None,
            strict: false,
            path: "tools[0].function.parameters".into(),
        };
        CallRules {
            tools: vec![tool],
            required: false,
            parallel: true,
            subset: false,
        }
    }

    #[test]
    fn call_of_a_tool_that_may_not_be_called_is_content() {
        let declared = ["add", "sub"];
        let declared =
            declared.map(|name| json!({ "type": "function", "function": { "name": name } }));
        let mut parser = ReplyParser::of_conversation(false, Some(&rules("sub")), &declared);
        let (_, content, calls) = parse(&mut parser, CALL, 5);
        assert_eq!((content.as_str(), calls.len()), (CALL, 0));
    }

    #[test]
    fn reply_is_divided_alike_however_its_text_is_cut() {
        let tools = [json!({ "type": "function", "function": { "name": "add" } })];
        let rules = rules("add");
        for size in [1, 3, 1000] {
            let mut parser = ReplyParser::of_conversation(true, Some(&rules), &tools);
            let text = format!("Add.\n</think>\n\nLet me see.\n{CALL}");
            let (reasoning, content, calls) = parse(&mut parser, &text, size);
            assert_eq!(
                (reasoning.as_str(), content.as_str()),
                ("Add.", "Let me see.")
            );
            assert_eq!(calls, ["add{\"a\":\"1\"};"]);
            assert!(parser.has_called());
        }
    }

    #[test]
    fn call_without_tools_is_content() {
        let mut parser = ReplyParser::of_conversation(false, None, &[]);
        let parsed = parse(&mut parser, CALL, 5);
        assert_eq!(parsed, (String::new(), CALL.into(), Vec::new()));
        assert!(!parser.has_called());
    }

    #[test]
    fn text_is_content_whatever_it_contains() {
        let text = format!("a</think>b{CALL}");
        let mut parser = ReplyParser::of_text();
        assert_eq!(
            parse(&mut parser, &text, 7),
            (String::new(), text, Vec::new())
        );
    }
}
