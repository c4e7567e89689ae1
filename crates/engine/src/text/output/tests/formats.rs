//! Well-formed output.

use super::*;

#[test]
fn call_is_typed_and_its_layout_is_dropped() {
    let output = read(&format!("Let me look.\n\n{WEATHER}\n{WEATHER}\n"));
    assert_eq!(output.text, "Let me look.");
    assert_eq!(output.calls, [weather(), weather()]);
}

#[test]
fn json_form_is_read() {
    let output = "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"a\": [1, \"</tool_call>\"]}}\n</tool_call>";
    assert_eq!(
        calls(output),
        [call("write", r#"{"a":[1,"</tool_call>"]}"#)]
    );
    let quoted = r#"<tool_call>{"name": "write", "arguments": "{\"a\": 1}"}</tool_call>"#;
    assert_eq!(calls(quoted), [call("write", r#"{"a":1}"#)]);
    let empty = r#"<tool_call>{"name": "write"}</tool_call>"#;
    assert_eq!(calls(empty), [call("write", "{}")]);
}

#[test]
fn value_with_tags_and_lines_is_kept() {
    let value = "\n<p></parameter>\n</tool_call>\n  x\n";
    assert_eq!(
        calls(&block("write", &parameter("text", value))),
        [call(
            "write",
            r#"{"text":"\n<p></parameter>\n</tool_call>\n  x\n"}"#
        )]
    );
}

#[test]
fn value_loses_one_line_break_on_each_side() {
    let inline = |text: &str| {
        let output = format!(
            "<tool_call><function=write><parameter=text>{text}</parameter></function></tool_call>"
        );
        calls(&output)[0].arguments.clone()
    };
    assert_eq!(inline("\nx\n"), r#"{"text":"x"}"#);
    assert_eq!(inline("\n\n x \n\n"), r#"{"text":"\n x \n"}"#);
    assert_eq!(inline("x"), r#"{"text":"x"}"#);
    assert_eq!(inline("\n"), r#"{"text":""}"#);
    assert_eq!(inline(""), r#"{"text":""}"#);
    assert_eq!(inline("\r\nx\t\n"), r#"{"text":"\r\nx\t"}"#);
}

#[test]
fn text_that_is_not_a_call_stays_text() {
    for output in [
        "a <tool_call> is a tag </tool_call>",
        "<tool_call>\n<function=f>\n<parameter=a>\n1",
        "<tool_call>\n<function=>\n</function>\n</tool_call>",
        "<tool_call>\n<function=f>\nwords\n</function>\n</tool_call>",
        "<tool_call>{\"name\": \"write\", \"arguments\": 3}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>[]</tool_call>",
        "a \n<tool_c",
        " \n",
        "",
        "``` `x` ```rust\nfn\n```\n",
        "{\"name\": \"write\"}",
    ] {
        assert_text(output);
    }
}

#[test]
fn call_after_a_malformed_block_is_found() {
    let output = read(&format!("<tool_call>\n<tool_call>\n{WEATHER}done"));
    assert_eq!(output.text, "<tool_call>\n<tool_call>done");
    assert_eq!(output.calls, [weather()]);
}

#[test]
fn call_after_an_unclosed_string_is_found() {
    let output = read(&format!("<tool_call>{{\"name\": \"x}}\n{WEATHER}"));
    assert_eq!(output.text, "<tool_call>{\"name\": \"x}");
    assert_eq!(output.calls, [weather()]);
}

#[test]
fn function_without_parameters_has_empty_arguments() {
    assert_eq!(calls(&block("write", "")), [call("write", "{}")]);
}

#[test]
fn reasoning_is_separated_from_the_answer() {
    for output in [
        "Two and\ntwo.\n</think>\n\n4",
        "<think>\nTwo and\ntwo.\n</think>\n\n4",
    ] {
        let output = read_thinking(output);
        assert_eq!(
            (output.reasoning.as_str(), output.text.as_str()),
            ("Two and\ntwo.", "4")
        );
    }
}

#[test]
fn reasoning_that_is_not_closed_stays_reasoning() {
    for (text, reasoning) in [
        ("So </thi", "So </thi"),
        ("So \n", "So"),
        ("\n<thi", "<thi"),
        (" \n", ""),
        ("So\n```x\n", "So\n```x"),
    ] {
        let output = read_thinking(text);
        assert_eq!(
            (output.reasoning.as_str(), output.text.as_str()),
            (reasoning, "")
        );
    }
}

#[test]
fn output_without_thinking_is_text() {
    assert_text("\n a</think>");
    assert_text("<think>\n a</think>");
}

#[test]
fn reasoning_text_and_call_are_separated() {
    let output = read_thinking(&format!("Add.\n</think>\n\nLet me see.\n{WEATHER}"));
    assert_eq!(
        (output.reasoning.as_str(), output.text.as_str()),
        ("Add.", "Let me see.")
    );
    assert_eq!(output.calls, [weather()]);
}

#[test]
fn request_without_tools_has_no_calls() {
    let output = read_with(OutputOptions::default(), OutputEnd::Stop, WEATHER);
    assert_eq!(output.text, WEATHER);
    assert!(output.calls.is_empty());
}
