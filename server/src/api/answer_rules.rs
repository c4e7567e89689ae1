//! What form an answer must have: `response_format`, `tool_choice`, `parallel_tool_calls`, strict tools, and the
//! `guided_…` fields that vLLM introduced. All of them become [`Rules`], which the engine enforces token by token.

use sanctum_grammar::{CallRules, Format, Rules, Tool};
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{JsonField, JsonFields};

/// Takes the fields that constrain the answer. `tools` are the request's, already checked; those that may not be called are
/// removed from it.
///
/// # Errors
/// The field that is wrong.
pub(crate) fn take_rules(
    fields: &mut JsonFields,
    tools: &mut Vec<Value>,
) -> Result<Rules, ApiError> {
    let choice = ToolChoice::take(fields, tools)?;
    let parallel = fields.take("parallel_tool_calls");
    let parallel = parallel.map_or(Ok(true), JsonField::bool)?;
    let answer = take_format(fields)?;
    if choice.kind == ChoiceKind::None {
        tools.clear();
    }
    let declared = tools.len();
    let may_call = |name: &str| match &choice.names {
        None => true,
        Some(names) => names.iter().any(|allowed| allowed == name),
    };
    let callable: Vec<Tool> = tools
        .iter()
        .enumerate()
        .map(|(index, tool)| callable(index, tool))
        .filter(|tool| may_call(&tool.name))
        .collect();
    let callable_count = callable.len();
    let calls = (!callable.is_empty()).then_some(CallRules {
        tools: callable,
        required: choice.kind == ChoiceKind::Required,
        parallel: parallel && !choice.is_named,
        subset: callable_count < declared,
    });
    Ok(Rules { answer, calls })
}

/// A tool in the form that the grammar needs.
fn callable(index: usize, tool: &Value) -> Tool {
    let function = &tool["function"];
    Tool {
        name: function["name"].as_str().unwrap_or_default().to_owned(),
        parameters: Some(function["parameters"].clone()).filter(|schema| !schema.is_null()),
        strict: function["strict"] == true,
        path: format!("tools[{index}].function.parameters"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChoiceKind {
    /// No tool may be called.
    None,
    /// The model decides.
    Auto,
    /// A tool must be called.
    Required,
}

/// `tool_choice`.
struct ToolChoice {
    kind: ChoiceKind,
    /// The tools that may be called; none: all.
    names: Option<Vec<String>>,
    /// One function is named: it is called once.
    is_named: bool,
}

impl ToolChoice {
    fn take(fields: &mut JsonFields, tools: &[Value]) -> Result<Self, ApiError> {
        let any = |kind| Self {
            kind,
            names: None,
            is_named: false,
        };
        let Some(field) = fields.take("tool_choice") else {
            return Ok(any(ChoiceKind::Auto));
        };
        let path = field.path().to_owned();
        let choice = match field.value() {
            Value::String(word) => match word.as_str() {
                "auto" => any(ChoiceKind::Auto),
                "none" => any(ChoiceKind::None),
                "required" => any(ChoiceKind::Required),
                _ => return Err(wrong(&field)),
            },
            Value::Object(_) => Self::of_object(field)?,
            _ => return Err(wrong(&field)),
        };
        let declared = |name: &String| tools.iter().any(|tool| tool["function"]["name"] == **name);
        if let Some(name) = choice.names.iter().flatten().find(|name| !declared(name)) {
            let shown: String = name.chars().take(64).collect();
            return Err(ApiError::invalid(
                path,
                format!("`tool_choice` names the function `{shown}`, which is not among `tools`"),
            ));
        }
        let none_allowed = choice.names.as_ref().is_some_and(Vec::is_empty);
        if choice.kind == ChoiceKind::Required && (tools.is_empty() || none_allowed) {
            let empty = match tools.is_empty() {
                true => "`tools` is empty; send tools",
                false => "no function is allowed; name one at least",
            };
            let message = format!("`{path}` requires a call, and {empty}");
            return Err(ApiError::invalid(path, message));
        }
        Ok(choice)
    }

    fn of_object(field: JsonField) -> Result<Self, ApiError> {
        let whole = field.value().clone();
        let mut fields = field.object()?;
        let kind = fields.need("type")?;
        match kind.value().as_str() {
            Some("function") => {
                let mut function = fields.need("function")?.object()?;
                let name = function.need("name")?.string()?;
                Ok(Self {
                    kind: ChoiceKind::Required,
                    names: Some(vec![name]),
                    is_named: true,
                })
            }
            Some("allowed_tools") => {
                let mut allowed = fields.need("allowed_tools")?.object()?;
                let mode = allowed.need("mode")?;
                let kind = match mode.value().as_str() {
                    Some("auto") => ChoiceKind::Auto,
                    Some("required") => ChoiceKind::Required,
                    _ => return Err(mode.must_be("\"auto\" or \"required\"")),
                };
                let name = |tool: JsonField| {
                    let mut tool = tool.object()?;
                    tool.need("function")?.object()?.need("name")?.string()
                };
                let names = allowed.need("tools")?.array()?.into_iter().map(name);
                Ok(Self {
                    kind,
                    names: Some(names.collect::<Result<_, _>>()?),
                    is_named: false,
                })
            }
            // Anthropic's and older forms, which some clients send here.
            _ if whole == json!({ "type": "auto" }) => Ok(Self {
                kind: ChoiceKind::Auto,
                names: None,
                is_named: false,
            }),
            _ => Err(kind.must_be("\"function\" or \"allowed_tools\"")),
        }
    }
}

fn wrong(field: &JsonField) -> ApiError {
    field.must_be(
        "\"auto\", \"none\", \"required\", or an object that names a function or the allowed tools",
    )
}

/// Takes the form of the answer's text: at most one of the fields that name it.
///
/// # Errors
/// The field that is wrong.
pub(crate) fn take_format(fields: &mut JsonFields) -> Result<Option<Format>, ApiError> {
    let mut found: Option<(&'static str, Format)> = None;
    let mut add = |name: &'static str, format: Format| match found.replace((name, format)) {
        None => Ok(()),
        Some((other, _)) => Err(ApiError::invalid(
            name,
            format!("`{name}` and `{other}` both constrain the answer; send one of them"),
        )),
    };
    if let Some(field) = fields.take("response_format")
        && let Some(format) = response_format(field)?
    {
        add("response_format", format)?;
    }
    // llama.cpp's name comes second.
    for name in ["guided_json", "json_schema"] {
        let Some(field) = fields.take(name) else {
            continue;
        };
        let path = field.path().to_owned();
        // vLLM accepts the schema as text too.
        let schema = match field.value() {
            Value::String(text) => {
                serde_json::from_str(text).map_err(|_| field.must_be("a JSON schema"))?
            }
            schema => schema.clone(),
        };
        let format = Format::Schema {
            schema,
            lenient: false,
            path,
        };
        add(name, format)?;
    }
    if let Some(field) = fields.take("guided_regex") {
        add("guided_regex", Format::Regex(field.string()?))?;
    }
    if let Some(field) = fields.take("guided_choice") {
        let choices = field.array()?.into_iter().map(JsonField::string);
        let choices = choices.collect::<Result<Vec<_>, _>>()?;
        add("guided_choice", Format::Choice(choices))?;
    }
    if let Some(field) = fields.take("guided_grammar") {
        add("guided_grammar", Format::Lark(field.string()?))?;
    }
    fields.refuse(
        "grammar",
        |grammar| *grammar == "",
        "GBNF is not read; send `guided_grammar`, in llguidance's dialect of Lark",
    )?;
    Ok(found.map(|(_, format)| format))
}

/// `response_format`, in OpenAI's form.
fn response_format(field: JsonField) -> Result<Option<Format>, ApiError> {
    let mut format = field.object()?;
    let kind = format.need("type")?;
    match kind.value().as_str() {
        Some("text") => Ok(None),
        Some("json_object") => {
            // llama.cpp's form: a schema beside the type.
            let schema = format.take("schema");
            Ok(Some(schema.map_or(Format::Json, |schema| Format::Schema {
                path: schema.path().to_owned(),
                schema: schema.value().clone(),
                lenient: false,
            })))
        }
        Some("json_schema") => {
            let mut named = format.need("json_schema")?.object()?;
            let schema = named.need("schema")?;
            let strict = named.take("strict").map(JsonField::bool).transpose()?;
            Ok(Some(Format::Schema {
                path: schema.path().to_owned(),
                schema: schema.value().clone(),
                lenient: strict == Some(false),
            }))
        }
        _ => Err(kind.must_be("\"text\", \"json_object\" or \"json_schema\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Value> {
        vec![
            json!({"type": "function", "function": {"name": "add", "strict": true, "parameters": {"type": "object"}}}),
            json!({"type": "function", "function": {"name": "now"}}),
        ]
    }

    fn rules(body: Value) -> Result<(Rules, Vec<Value>), ApiError> {
        let mut fields = JsonFields::parse(body.to_string().as_bytes()).unwrap();
        let mut tools = tools();
        let rules = take_rules(&mut fields, &mut tools)?;
        fields.finish()?;
        Ok((rules, tools))
    }

    fn calls(body: Value) -> CallRules {
        rules(body).unwrap().0.calls.unwrap()
    }

    #[test]
    fn tool_choice_in_each_form_selects_tools() {
        let names = |rules: &CallRules| -> Vec<String> {
            rules.tools.iter().map(|tool| tool.name.clone()).collect()
        };
        let auto = calls(json!({}));
        assert_eq!(
            (names(&auto), auto.required, auto.parallel),
            (vec!["add".into(), "now".into()], false, true)
        );
        let required = calls(json!({"tool_choice": "required", "parallel_tool_calls": false}));
        assert_eq!((required.required, required.parallel), (true, false));
        let named =
            calls(json!({"tool_choice": {"type": "function", "function": {"name": "now"}}}));
        assert_eq!(
            (names(&named), named.required, named.parallel),
            (vec!["now".into()], true, false)
        );
        let allowed =
            json!({"mode": "auto", "tools": [{"type": "function", "function": {"name": "add"}}]});
        let allowed =
            calls(json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}));
        assert_eq!(
            (names(&allowed), allowed.required),
            (vec!["add".into()], false)
        );
        assert!(allowed.tools[0].strict);
        assert!(allowed.subset && !auto.subset);
        assert!(allowed.constrain());
        let (none, kept) = rules(json!({"tool_choice": "none"})).unwrap();
        assert_eq!((none.calls, kept.len()), (None, 0));
    }

    #[test]
    fn format_in_each_form_is_taken() {
        let format = |body| rules(body).unwrap().0.answer;
        assert_eq!(format(json!({"response_format": {"type": "text"}})), None);
        assert_eq!(
            format(json!({"response_format": {"type": "json_object"}})),
            Some(Format::Json)
        );
        let schema = json!({"type": "object"});
        let named = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}});
        let expected = Format::Schema {
            schema: schema.clone(),
            lenient: false,
            path: "response_format.json_schema.schema".into(),
        };
        assert_eq!(format(json!({"response_format": named})), Some(expected));
        assert_eq!(
            format(json!({"guided_regex": "[a-z]+"})),
            Some(Format::Regex("[a-z]+".into()))
        );
        let choice = json!({"guided_choice": ["a", "b"]});
        assert_eq!(
            format(choice),
            Some(Format::Choice(vec!["a".into(), "b".into()]))
        );
    }

    #[test]
    fn wrong_constraint_is_named() {
        for (body, name) in [
            (json!({"tool_choice": "maybe"}), "tool_choice"),
            (json!({"tool_choice": 3}), "tool_choice"),
            (
                json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}}),
                "tool_choice",
            ),
            (
                json!({"tool_choice": {"type": "function", "function": {"name": "x"}}}),
                "tool_choice",
            ),
            (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls"),
            (
                json!({"response_format": {"type": "xml"}}),
                "response_format.type",
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format.json_schema",
            ),
            (
                json!({"response_format": {"type": "json_object"}, "guided_regex": "a"}),
                "guided_regex",
            ),
            (json!({"guided_choice": "a"}), "guided_choice"),
        ] {
            assert_eq!(
                rules(body.clone()).unwrap_err().param(),
                Some(name),
                "{body}"
            );
        }
    }
}
