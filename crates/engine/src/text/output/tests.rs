//! The parser as a whole.

mod formats;
mod properties;
mod recoveries;
mod reference;
mod stop_strings;
mod streaming;
mod values;

use serde_json::{Value, json};

use super::fuzz::joined;
use super::literal::{Syntax, members};
use super::{OutputEnd, OutputEvent, OutputOptions, OutputParser};

/// A whole output, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ParsedOutput {
    reasoning: String,
    text: String,
    calls: Vec<ParsedCall>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ParsedCall {
    name: String,
    arguments: String,
    ended: bool,
}

fn call(name: &str, arguments: &str) -> ParsedCall {
    ParsedCall {
        name: name.into(),
        arguments: arguments.into(),
        ended: true,
    }
}

fn open_call(name: &str, arguments: &str) -> ParsedCall {
    ParsedCall {
        ended: false,
        ..call(name, arguments)
    }
}

fn tools() -> Vec<Value> {
    vec![
        json!({"type": "function", "function": {"name": "get_weather", "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "note": {"type": ["string", "null"]},
                "units": {"anyOf": [{"type": "array", "items": {}}, {"type": "null"}]},
                "extra": {},
            }
        }}}),
        json!({"type": "function", "function": {"name": "write", "parameters": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "path": {"type": "string"}}
        }}}),
    ]
}

fn collect(events: Vec<OutputEvent>) -> ParsedOutput {
    let mut output = ParsedOutput::default();
    for event in events {
        match event {
            OutputEvent::Reasoning(text) => output.reasoning.push_str(&text),
            OutputEvent::Text(text) => output.text.push_str(&text),
            OutputEvent::CallStart { index, name } => {
                assert_eq!(index, output.calls.len());
                output.calls.push(open_call(&name, ""));
            }
            OutputEvent::CallArguments { index, delta } => {
                assert_eq!(index + 1, output.calls.len());
                output.calls[index].arguments.push_str(&delta);
            }
            OutputEvent::CallEnd { index } => {
                assert_eq!(index + 1, output.calls.len());
                assert!(!std::mem::replace(&mut output.calls[index].ended, true));
                let arguments = &output.calls[index].arguments;
                assert!(members(arguments, Syntax::Json).is_some(), "{arguments}");
            }
        }
    }
    output
}

/// Reads an output, as a whole and character by character.
fn read_with(options: OutputOptions, end: OutputEnd, text: &str) -> ParsedOutput {
    let whole = joined([text], options, end);
    let chars: Vec<String> = text.chars().map(String::from).collect();
    let by_char = joined(chars.iter().map(String::as_str), options, end);
    assert_eq!(whole, by_char);
    collect(whole)
}

fn read(text: &str) -> ParsedOutput {
    let tools = tools();
    let options = OutputOptions {
        tools: &tools,
        ..OutputOptions::default()
    };
    read_with(options, OutputEnd::Stop, text)
}

fn read_thinking(text: &str) -> ParsedOutput {
    let tools = tools();
    let options = OutputOptions {
        tools: &tools,
        thinking: true,
        ..OutputOptions::default()
    };
    read_with(options, OutputEnd::Stop, text)
}

/// An output of calls alone.
fn calls(text: &str) -> Vec<ParsedCall> {
    let output = read(text);
    assert_eq!((output.reasoning.as_str(), output.text.as_str()), ("", ""));
    output.calls
}

fn assert_text(text: &str) {
    let expected = ParsedOutput {
        text: text.into(),
        ..ParsedOutput::default()
    };
    assert_eq!(read(text), expected);
}

const WEATHER: &str = "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n\
    <parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";

fn weather() -> ParsedCall {
    call("get_weather", r#"{"city":"Rome","days":3}"#)
}

/// `<parameter=NAME>` and its value, as the template writes them.
fn parameter(name: &str, value: &str) -> String {
    format!("<parameter={name}>\n{value}\n</parameter>\n")
}

/// A block that calls a function with this text between its tags.
fn block(function: &str, body: &str) -> String {
    format!("<tool_call>\n<function={function}>\n{body}</function>\n</tool_call>")
}

/// The arguments of the one call of a function with one parameter.
fn value(function: &str, name: &str, value: &str) -> String {
    let [call] = &calls(&block(function, &parameter(name, value)))[..] else {
        panic!("one call");
    };
    call.arguments.clone()
}
