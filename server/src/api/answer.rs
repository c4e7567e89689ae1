//! Generated text, told apart as it comes: what was thought, what is said, and which tools are called.

use sanctum_engine::schedule::FinishReason;
use sanctum_engine::text::{OutputPiece, ReasoningSplitter, Split, ToolCall, ToolCallParser};
use serde_json::Value;

use super::wire::{Call, Delta, Function, finish_reason};
use crate::random;

/// Reads one answer.
pub struct Answer {
    reasoning: ReasoningSplitter,
    /// Only where the request brought tools: elsewhere text that looks like a call is text.
    calls: Option<ToolCallParser>,
    called: usize,
}

impl Answer {
    /// For the answer to `prompt`, with the request's `tools`. Whether the model thinks first is seen from the prompt:
    /// the template decides, and ends it with an open think block.
    pub fn new(prompt: &str, tools: &[Value]) -> Self {
        Self {
            reasoning: ReasoningSplitter::new(prompt.trim_end().ends_with("<think>")),
            calls: (!tools.is_empty()).then(|| ToolCallParser::new(tools)),
            called: 0,
        }
    }

    /// Takes the next piece of text and returns what became certain with it.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        let split = self.reasoning.push(text);
        self.deltas(split, false)
    }

    /// Takes the last piece of text and returns all that was held back.
    pub fn finish(&mut self, text: &str) -> Vec<Delta> {
        let mut split = self.reasoning.push(text);
        let rest = self.reasoning.finish();
        split.reasoning.push_str(&rest.reasoning);
        split.content.push_str(&rest.content);
        self.deltas(split, true)
    }

    /// Why it ended, in OpenAI's words: calls count only if the answer was not cut off behind them.
    pub fn finish_reason(&self, reason: FinishReason) -> &'static str {
        match reason {
            FinishReason::Stop if self.called > 0 => "tool_calls",
            reason => finish_reason(reason),
        }
    }

    fn deltas(&mut self, split: Split, at_end: bool) -> Vec<Delta> {
        let mut deltas = Vec::new();
        if !split.reasoning.is_empty() {
            deltas.push(Delta {
                reasoning_content: Some(split.reasoning),
                ..Delta::default()
            });
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
                OutputPiece::Text(text) => deltas.push(Delta {
                    content: Some(text),
                    ..Delta::default()
                }),
                OutputPiece::Call(call) => deltas.push(self.call(call)),
            }
        }
        deltas
    }

    fn call(&mut self, call: ToolCall) -> Delta {
        let index = self.called;
        self.called += 1;
        let call = Call {
            index: Some(index),
            id: random::id("call_"),
            r#type: "function",
            function: Function {
                name: call.name,
                arguments: call.arguments,
            },
        };
        Delta {
            tool_calls: vec![call],
            ..Delta::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CALL: &str =
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>";

    /// Pushes the text in pieces of `size` characters and puts the deltas of each kind together.
    fn read(mut answer: Answer, text: &str, size: usize) -> (String, String, Vec<Call>, Answer) {
        let letters: Vec<char> = text.chars().collect();
        let mut deltas = Vec::new();
        for piece in letters.chunks(size) {
            deltas.extend(answer.push(&piece.iter().collect::<String>()));
        }
        deltas.extend(answer.finish(""));
        let text = |of: fn(&Delta) -> &Option<String>| {
            deltas.iter().filter_map(|d| of(d).as_deref()).collect()
        };
        let calls = deltas.iter().flat_map(|d| d.tool_calls.clone()).collect();
        (
            text(|d| &d.reasoning_content),
            text(|d| &d.content),
            calls,
            answer,
        )
    }

    #[test]
    fn thoughts_words_and_calls_however_they_are_cut() {
        let tools = [json!({ "type": "function", "function": { "name": "add" } })];
        for size in [1, 3, 1000] {
            let answer = Answer::new("<|im_start|>assistant\n<think>\n", &tools);
            let text = format!("Add.\n</think>\n\nLet me see.\n{CALL}");
            let (thoughts, words, calls, answer) = read(answer, &text, size);
            assert_eq!((thoughts.as_str(), words.as_str()), ("Add.", "Let me see."));
            assert_eq!(calls[0].function.name, "add");
            assert_eq!(calls[0].index, Some(0));
            assert_eq!(answer.finish_reason(FinishReason::Stop), "tool_calls");
            assert_eq!(answer.finish_reason(FinishReason::Length), "length");
        }
    }

    #[test]
    fn without_tools_a_call_is_text() {
        let answer = Answer::new("<think>\n\n</think>\n\n", &[]);
        let (thoughts, words, calls, answer) = read(answer, CALL, 5);
        assert_eq!((thoughts.as_str(), words.as_str()), ("", CALL));
        assert!(calls.is_empty());
        assert_eq!(answer.finish_reason(FinishReason::Stop), "stop");
    }
}
