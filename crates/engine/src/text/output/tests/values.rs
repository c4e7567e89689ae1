//! The values of parameters: literal tags inside of them, and their types.

use super::*;

#[test]
fn literal_tags_in_a_value_are_kept() {
    for text in [
        WEATHER,
        &format!("Write:\n{WEATHER}\nor {WEATHER} and\n\n"),
        "</parameter> in mid-line",
        "a\n</parameter>\nb",
        "</parameter></function>",
        "</parameter>\n</function>\nb",
        "a\n</function>\nb",
        "</tool_call>\n",
        "<tool_call>",
        "<tool_call>\n<function=",
        "<function=write>\n<parameter=text>\nx\n</parameter>\n</function>\nb",
        "<think>\n</think>",
        "<tool_call>\n{\"name\": \"write\"}\n</tool_call>",
        "<",
        "\n\n </parameter",
    ] {
        let expected = json!({ "text": text }).to_string();
        assert_eq!(value("write", "text", text), expected);
        let body = format!("{}{}", parameter("text", text), parameter("path", "/"));
        let expected = json!({ "text": text, "path": "/" }).to_string();
        if !text.contains("</parameter></function>") {
            assert_eq!(
                calls(&block("write", &body)),
                [call("write", &expected)],
                "{text}"
            );
        }
    }
}

#[test]
fn nested_call_that_is_not_closed_ends_with_the_output() {
    let text = "Start with\n<tool_call>\n<function=write>\n<parameter=text>";
    let expected = json!({ "text": text }).to_string();
    assert_eq!(value("write", "text", text), expected);
}

#[test]
fn value_is_typed_by_the_schema() {
    for (name, text, expected) in [
        ("days", "5.0", "5"),
        ("days", "12345678901234567890123", "12345678901234567890123"),
        ("days", "five", "\"five\""),
        ("days", "1.5", "\"1.5\""),
        ("units", "['a', 'b']", r#"["a","b"]"#),
        ("units", "None", "null"),
        ("units", "[1, {\"a\": 2}]", r#"[1,{"a":2}]"#),
        ("note", "null", "null"),
        ("note", "nothing", "\"nothing\""),
        ("note", "3", "\"3\""),
        ("extra", "{\"k\": 1.0}", "{\"k\":1.0}"),
        ("extra", "12", "\"12\""),
        ("unlisted", "12", "\"12\""),
        ("unlisted", "{}", "\"{}\""),
    ] {
        let arguments = format!("{{\"{name}\":{expected}}}");
        assert_eq!(value("get_weather", name, text), arguments);
    }
}

#[test]
fn large_integer_in_json_form_keeps_its_digits() {
    let output = r#"<tool_call>{"name": "get_weather", "arguments": {"days": 12345678901234567890123}}</tool_call>"#;
    assert_eq!(
        calls(output)[0].arguments,
        r#"{"days":12345678901234567890123}"#
    );
}

#[test]
fn parameter_given_twice_keeps_the_last() {
    let body = format!("{}{}", parameter("text", "a"), parameter("text", "b"));
    let arguments = &calls(&block("write", &body))[0].arguments;
    let parsed: Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(parsed, json!({"text": "b"}));
}
