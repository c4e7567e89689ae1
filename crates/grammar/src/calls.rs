//! Tool calls as a grammar.
//!
//! Qwen3.5 writes a call as XML:
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
//! The grammar accepts the declared functions only, each parameter at most once and in any order, and the end of a
//! function only after its required parameters. A string stands as it is, any other value as JSON (`values`).
//! The set of parameters that were written is the parameter of a Lark rule: a word of 64 bits.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::GrammarError;
use crate::constraint::Marks;
use crate::literal::quote;
use crate::schema::Schema;
use crate::values::ParameterValues;

/// A function that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments, an object; none if it takes none.
    pub parameters: Option<Value>,
    /// Whether the arguments must satisfy the schema. If not, what cannot be enforced is left out.
    pub strict: bool,
    /// Where `parameters` are in the request, for messages.
    pub path: String,
}

/// Which calls an answer may or must have.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRules {
    /// The functions that may be called.
    pub tools: Vec<Tool>,
    /// Whether the answer must begin with a call.
    pub required: bool,
    /// Whether there may be several.
    pub parallel: bool,
    /// Whether the prompt shows the model other functions too, which must not be called.
    pub subset: bool,
}

/// Rules of Lark for calls.
pub(crate) struct Written {
    /// The right side of a rule for all the calls of an answer.
    pub(crate) calls: String,
    /// The right side of a rule for one call, without its opening tag.
    pub(crate) body: String,
    /// The rules that both use.
    pub(crate) rules: String,
}

/// The field of a request that has the functions.
const TOOLS: &str = "tools";

/// Parameters of one function in any order; of more, each has its fixed place.
const MAX_UNORDERED: usize = 64;

impl CallRules {
    /// Whether they forbid anything. If so, every call of the answer is in Qwen's XML form.
    pub fn constrain(&self) -> bool {
        self.required || !self.parallel || self.subset || self.tools.iter().any(|tool| tool.strict)
    }

    /// The same without the schemas of functions that are not strict and that `compiles` refuses: their parameters may have
    /// any text.
    pub(crate) fn relaxed(&self, compiles: impl Fn(&Self) -> bool) -> Self {
        let relax = |tool: &Tool| {
            let alone = Self {
                tools: vec![tool.clone()],
                ..self.clone()
            };
            if tool.strict || compiles(&alone) {
                return tool.clone();
            }
            let schema = tool.parameters.as_ref();
            let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
            let names = properties
                .into_iter()
                .flat_map(|properties| properties.keys());
            let properties: Map<String, Value> = names
                .map(|name| (name.clone(), json!({"type": "string"})))
                .collect();
            let required = schema.and_then(|schema| schema.get("required")).cloned();
            let parameters = json!({
                "type": "object", "properties": properties, "required": required.unwrap_or(json!([])),
            });
            Tool {
                parameters: Some(parameters),
                ..tool.clone()
            }
        };
        Self {
            tools: self.tools.iter().map(relax).collect(),
            ..self.clone()
        }
    }

    /// Where they are in the request, for messages: the schema of the only function, or the list of functions.
    pub(crate) fn path(&self) -> &str {
        match self.tools.as_slice() {
            [tool] if tool.parameters.is_some() => &tool.path,
            _ => TOOLS,
        }
    }

    /// The schemas that must be enforced, for messages.
    pub(crate) fn schemas(&self) -> Vec<Schema> {
        let strict = self.tools.iter().filter(|tool| tool.strict);
        strict
            .filter_map(|tool| Schema::check(tool.parameters.as_ref()?, &tool.path, false).ok())
            .collect()
    }

    /// As rules of Lark.
    pub(crate) fn lark(&self, marks: &Marks) -> Result<Written, GrammarError> {
        if self.tools.is_empty() {
            return Err(GrammarError::Refused {
                path: "tool_choice".into(),
                reason: "a call is required, and no tool is declared".into(),
            });
        }
        let tag = |id: Option<u32>, text: &str| match id {
            Some(id) => format!("<[{id}]>"),
            None => quote(text),
        };
        let open = tag(marks.open_call, "<tool_call>");
        let close = tag(marks.close_call, "</tool_call>");
        let mut rules = String::new();
        let mut names = Vec::new();
        for (index, tool) in self.tools.iter().enumerate() {
            names.push(format!("f{index}"));
            function(index, tool, &mut rules)?;
        }
        let body = format!("\"\\n<function=\" fn \"</function>\\n\" {close}");
        let _ = writeln!(rules, "fn: {}", names.join(" | "));
        let calls = match self.parallel {
            true => "call (\"\\n\"? call)*".to_owned(),
            false => "call".to_owned(),
        };
        let _ = writeln!(rules, "call: {open} {body}");
        // A string parameter's text: everything up to the closing tag. It never backtracks.
        let _ = writeln!(rules, "text[suffix=\"\\n</parameter>\\n\"]: /(?s:.*)/");
        Ok(Written { calls, body, rules })
    }
}

/// The rules of one function: `fN`, and `fNpM` for each of its parameters.
fn function(index: usize, tool: &Tool, rules: &mut String) -> Result<(), GrammarError> {
    let head = quote(&format!("{}>\n", tool.name));
    let empty = Value::Object(Default::default());
    let schema = Schema::check(
        tool.parameters.as_ref().unwrap_or(&empty),
        &tool.path,
        !tool.strict,
    )?;
    let values = ParameterValues::new(&schema, tool.strict, format!("V{index}"));
    let (parameters, is_open_ended) = values.parameters()?;
    let open_ended = is_open_ended && !tool.strict;
    let mut names = Vec::new();
    for (number, parameter) in parameters.iter().enumerate() {
        let rule = format!("f{index}p{number}");
        let open = quote(&format!("<parameter={}>\n", parameter.name));
        let _ = writeln!(rules, "{rule}: {open} ({})", parameter.value);
        names.push((rule, parameter.required));
    }
    for terminal in values.terminals() {
        let _ = writeln!(rules, "{terminal}");
    }
    // What is required first, so that it is the low bits of the word.
    names.sort_by_key(|(_, required)| !required);
    let required = names.iter().filter(|(_, required)| *required).count();
    if names.is_empty() {
        let more = match open_ended {
            true => " other*",
            false => "",
        };
        let _ = writeln!(rules, "f{index}: {head}{more}");
    } else if names.len() <= MAX_UNORDERED {
        let _ = writeln!(rules, "f{index}: {head} f{index}w::0x0");
        let end = match required {
            0 => String::new(),
            _ => format!(" %if is_ones([0:{required}])"),
        };
        let _ = write!(rules, "f{index}w::_ : \"\"{end}");
        for (bit, (rule, _)) in names.iter().enumerate() {
            let _ = write!(
                rules,
                "\n    | {rule} f{index}w::set_bit({bit}) %if bit_clear({bit})"
            );
        }
        rules.push('\n');
    } else {
        let sequence: Vec<_> = names
            .iter()
            .map(|(rule, required)| match required {
                true => rule.clone(),
                false => format!("{rule}?"),
            })
            .collect();
        let _ = writeln!(rules, "f{index}: {head} {}", sequence.join(" "));
    }
    if open_ended && names.is_empty() && !rules.contains("\nother:") {
        let _ = writeln!(
            rules,
            "other: \"<parameter=\" /[A-Za-z_][A-Za-z0-9_.-]{{0,63}}/ \">\\n\" text"
        );
    }
    Ok(())
}
