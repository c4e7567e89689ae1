//! The fuzz target's entry point.

use serde_json::json;

use super::literal::{Syntax, members};
use super::{OutputEnd, OutputEvent, OutputOptions, OutputParser};

/// Checks that the way the output is cut makes no difference, and that ended calls have JSON arguments.
///
/// The first two bytes of `data` choose the options and the size of the pieces; the rest is the output.
///
/// # Panics
///
/// If the parser does.
pub fn fuzz_output(data: &[u8]) {
    let [flags, size, output @ ..] = data else {
        return;
    };
    let output = String::from_utf8_lossy(output);
    let tools = [
        json!({"type": "function", "function": {"name": "f", "parameters": {
            "type": "object",
            "properties": {
                "s": {"type": "string"}, "i": {"type": "integer"}, "a": {"type": "array"}, "u": {}
            }
        }}}),
    ];
    let options = OutputOptions {
        tools: &tools,
        thinking: flags & 1 != 0,
        forced: flags & 2 != 0,
        exact: flags & 8 != 0,
    };
    let end = match (flags & 4 != 0, flags & 16 != 0) {
        (true, _) => OutputEnd::Length,
        (false, true) => OutputEnd::StopString("call>"),
        (false, false) => OutputEnd::Stop,
    };
    let whole = joined([&*output], options, end);
    let size = usize::from(*size) % 16 + 1;
    let chars: Vec<char> = output.chars().collect();
    let pieces: Vec<String> = chars
        .chunks(size)
        .map(|piece| piece.iter().collect())
        .collect();
    let pieces = joined(pieces.iter().map(String::as_str), options, end);
    assert_eq!(whole, pieces, "pieces of {size} characters of {output:?}");
    for (at, event) in whole.iter().enumerate() {
        if let OutputEvent::CallEnd { .. } = event {
            match &whole[at - 1] {
                OutputEvent::CallArguments { delta, .. } => {
                    let parsed = members(delta, Syntax::Json);
                    assert!(parsed.is_some(), "{delta} from {output:?}");
                }
                event => panic!("a call ends after {event:?}"),
            }
        }
    }
}

/// The events of an output in pieces, adjacent ones joined.
pub(super) fn joined<'a>(
    pieces: impl IntoIterator<Item = &'a str>,
    options: OutputOptions,
    end: OutputEnd,
) -> Vec<OutputEvent> {
    let mut parser = OutputParser::new(options);
    let mut joined = Vec::new();
    for piece in pieces {
        join(&mut joined, parser.push(piece));
    }
    join(&mut joined, parser.finish(end));
    joined
}

fn join(joined: &mut Vec<OutputEvent>, events: Vec<OutputEvent>) {
    for event in events {
        match (joined.last_mut(), event) {
            (Some(OutputEvent::Text(last)), OutputEvent::Text(text))
            | (Some(OutputEvent::Reasoning(last)), OutputEvent::Reasoning(text)) => {
                last.push_str(&text)
            }
            (
                Some(OutputEvent::CallArguments { index, delta: last }),
                OutputEvent::CallArguments { index: next, delta },
            ) if *index == next => last.push_str(&delta),
            (_, event) => joined.push(event),
        }
    }
}
