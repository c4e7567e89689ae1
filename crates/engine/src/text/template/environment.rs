//! minijinja with what transformers adds to Jinja (`_cached_compile_jinja_template` in
//! `transformers/utils/chat_template_utils.py`) and with Python's ways where minijinja has its own.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, StringInput, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use super::methods;
use super::python::{self, JsonStyle};

/// What a template says when it calls `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

/// An environment without templates.
pub(super) fn new() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(write_value);
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("pprint", python::pretty);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", to_string);
    environment.add_filter("trim", trim);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    Ok(environment)
}

/// A template as minijinja understands it: with `\n` at the ends of its lines, as Jinja reads all templates, and without
/// transformers' own tag.
pub(super) fn source(template: &str) -> String {
    without_generation_tags(&template.replace("\r\n", "\n").replace('\r', "\n"))
}

/// `{% generation %}` tells trainers what the assistant wrote and renders nothing. `with` blocks take its place: they
/// have the same scope and the same white space.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        result.push_str(before);
        let tag = match tag.strip_prefix(['-', '+']) {
            Some(after) => {
                result.push_str(&tag[..1]);
                after
            }
            None => tag,
        };
        rest = tag;
        for (from, to) in [("generation", " with "), ("endgeneration", " endwith ")] {
            let Some(after) = tag.trim_start().strip_prefix(from) else {
                continue;
            };
            let after = after.trim_start();
            if after.starts_with("%}") || after.starts_with("-%}") || after.starts_with("+%}") {
                result.push_str(to);
                rest = after;
            }
        }
    }
    result + rest
}

fn write_value(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&python::display(value)?),
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "out of memory"))
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let message = python::display(message)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The local time, formatted as C's `strftime` does.
fn strftime_now(format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let mut text = String::new();
    // An unknown specifier is an error here, and a panic in `to_string`.
    write!(text, "{}", chrono::Local::now().format(format)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now does not know the format {format:?}"),
        )
    })?;
    Ok(text)
}

/// `json.dumps` behind the signature that transformers gives the filter:
/// `tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn to_json(value: &Value, options: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let options = options.into_values();
    let (positional, named): (&[Value], Kwargs) = from_args(&options)?;
    let option = |position: usize, name: &str| -> Result<Option<Value>, Error> {
        let value = match positional.get(position) {
            Some(value) => Some(value.clone()),
            None => named.get(name)?,
        };
        Ok(value.filter(|value| !value.is_none()))
    };
    let ensure_ascii = option(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = match option(1, "indent")? {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(i64::try_from(indent)?.clamp(0, 64) as usize),
        }),
    };
    let (item, key) = match option(2, "separators")? {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(separators) => {
            let at = |index: usize| separators.get_item(&Value::from(index));
            (python::display(&at(0)?)?, python::display(&at(1)?)?)
        }
    };
    let sort_keys = option(3, "sort_keys")?.is_some_and(|v| v.is_true());
    named.assert_all_used()?;
    python::json(
        value,
        &JsonStyle {
            ensure_ascii,
            indent,
            item,
            key,
            sort_keys,
        },
    )
}

fn to_string(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ => python::display(value).map(Value::from),
    }
}

fn trim(text: StringInput, chars: Option<&str>) -> String {
    methods::strip(text.as_str(), chars, methods::Side::Both).to_owned()
}

/// Python's: whatever has a length and items.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined
    )
}

/// Python's: `None` is not, whatever minijinja makes of looping over it.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_blocks_without_effect() {
        let plain = "{% if a %}{{ '{%' }}{% generation_x %}{% endif %}{%";
        assert_eq!(without_generation_tags(plain), plain);
        assert_eq!(
            without_generation_tags("{%- generation -%}a{%+endgeneration%}"),
            "{%- with -%}a{%+ endwith %}"
        );
    }

    #[test]
    fn a_wrong_time_format_is_an_error() {
        assert!(strftime_now("%Y").is_ok());
        assert!(strftime_now("%!").is_err());
    }
}
