//! Parses the model's output while it streams, into reasoning, text and tool calls.
//!
//! [`OutputParser`] takes the output in pieces and returns [`OutputEvent`]s. How the output was cut into pieces makes
//! no difference to the joined events, only to when they come.
//!
//! ```
//! # use sanctum_engine::text::output::{OutputEnd, OutputEvent, OutputOptions, OutputParser};
//! let tools = [serde_json::json!({"type": "function", "function": {"name": "add", "parameters": {
//!     "properties": {"a": {"type": "integer"}}
//! }}})];
//! let options = OutputOptions { tools: &tools, thinking: true, ..OutputOptions::default() };
//! let mut parser = OutputParser::new(options);
//! let mut events = parser.push("Add.\n</think>\n\n<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n");
//! events.extend(parser.push("</function>\n</tool_call>"));
//! events.extend(parser.finish(OutputEnd::Stop));
//! assert_eq!(events, [
//!     OutputEvent::Reasoning("Add.".into()),
//!     OutputEvent::CallStart { index: 0, name: "add".into() },
//!     OutputEvent::CallArguments { index: 0, delta: "{\"a\":1}".into() },
//!     OutputEvent::CallEnd { index: 0 },
//! ]);
//! ```
//!
//! # The two formats of a call
//!
//! Qwen3.5 writes the XML form, which its chat template teaches. Earlier models write JSON. Both are always accepted.
//!
//! ```text
//! <tool_call>                                <tool_call>
//! <function=get_weather>                     {"name": "get_weather", "arguments": {"city": "Rome"}}
//! <parameter=city>                           </tool_call>
//! Rome
//! </parameter>
//! </function>
//! </tool_call>
//! ```
//!
//! A call in the XML form starts when the name of its function is complete. A parameter that can only be a string
//! streams. Any other parameter is reported at its end, when its type is known. A call in the JSON form is reported when
//! its object closes, because until then it may turn out not to be a call.
//!
//! # It never invents a call
//!
//! - Only a function that the request declares is called. Anything else that resembles a call is text.
//! - Nothing is lost. What is not a call is text, character by character, except for layout: the white space around
//!   the reasoning and between a call and its neighbours, the line breaks before the answer, the code fence around a
//!   call, and stray closing tags inside a call.
//! - What was reported does not change. Text that could be part of a tag is held until it is decided.
//! - The arguments of a call that ends are one JSON object. A value that is not of the schema's type is a string with
//!   the text as written; nothing else is validated. A parameter that is given twice is written twice: JSON parsers keep
//!   the last.
//!
//! # What is recovered
//!
//! | The model writes | Result |
//! | --- | --- |
//! | `<tool_call>` and a function or object in the reasoning, without `</think>` | the reasoning ends there; a call |
//! | a second `</think>`, in the answer | dropped; a third is text |
//! | no `</parameter>` before a parameter that starts a line and is a property not given yet | the value ends there |
//! | no `</parameter>` before `</function>` and `</tool_call>` | the value ends there |
//! | no `</parameter>`, `</function>` or `</tool_call>` at the end of output that was not cut | a complete call |
//! | no `</function>` or `</tool_call>` before the next function or `<tool_call>` | two calls |
//! | several functions, or several objects, in one block | several calls |
//! | no `<tool_call>` before `<function=…>`, in the answer, and a parameter or closing tag follows | a call |
//! | no `>` after a name at the end of a line, in a block | the name ends there |
//! | spaces inside a tag | the tag |
//! | tags inside a value, even whole calls | part of the value; module `value` defines where a value ends |
//! | a value on one line, `<parameter=a>1</parameter>` | the value |
//! | a line break after the opening and before the closing tag of a value | dropped; other white space is kept |
//! | `parameters`, `args` or `input` for `arguments` | the arguments |
//! | arguments as a string | parsed once more |
//! | an object without arguments | `{}`, or the properties of the function beside its name |
//! | an object without its last `}`, before a tag or at the end | a call |
//! | one JSON object between the tags of a function | its arguments |
//! | a code fence around the call, or inside the block | dropped |
//! | an object without a block, if `tool_choice` forces a call and no text precedes it | a call |
//! | `5.0` for an integer | `5` |
//! | an integer of any length | its digits |
//! | `True`, `None`, `['a']`, `{'k': 1}`, where the schema has such a type | JSON |
//! | a string in the JSON form, where the schema has no strings | a value of the schema's type, if it is one |
//! | a value that is a string of the schema's `enum` or `const` | that string |
//! | a value whose schema has no type | a JSON object or array, if it is one, else a string |
//! | a parameter that the schema does not list | a string |
//! | other words inside a call that has started | text after the call |
//!
//! With [`OutputOptions::exact`] nothing of this is recovered: a grammar has constrained the calls, and the parser reads
//! them as the grammar did.
//!
//! # Output that is cut
//!
//! [`OutputEnd::Length`] leaves a call that has started open. There is no [`OutputEvent::CallEnd`], and nothing closes the
//! object: the arguments are what was reported so far. A client that parses them finds that they are incomplete. A call
//! that has not started is text.
//!
//! [`OutputEnd::StopString`] leaves a call that has started open as well. What has opened a call that did not start is
//! dropped, with the layout before it, and so is a tag that the stop string cuts: the client asked for the text before it.
//!
//! # Cost
//!
//! Time is linear in the output, for any text and any pieces. The parser holds back a tag of at most 512 bytes, a run of
//! white space, a value that is not a string, or a call in the JSON form. Held text is scanned once more when it is
//! released; a malformed object at most three times.

mod events;
mod fuzz;
mod json;
mod layout;
mod literal;
mod parser;
mod references;
mod schema;
mod tags;
mod types;
mod value;
mod xml;

#[cfg(test)]
mod tests;

pub use events::{OutputEnd, OutputEvent};
pub use fuzz::fuzz_output;
pub use parser::{OutputOptions, OutputParser};
