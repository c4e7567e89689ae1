//! Output that ends where a stop string began.

use super::*;

fn stopped(thinking: bool, stop: &str, text: &str) -> ParsedOutput {
    let tools = tools();
    let options = OutputOptions {
        tools: &tools,
        thinking,
        ..OutputOptions::default()
    };
    read_with(options, OutputEnd::StopString(stop), text)
}

fn texts(output: &ParsedOutput) -> (&str, &str, usize) {
    (&output.reasoning, &output.text, output.calls.len())
}

#[test]
fn opened_call_before_a_stop_string_is_dropped_with_its_layout() {
    for (opened, stop) in [
        ("<tool_call>\n", "<function"),
        ("<tool_call>\n<", "function"),
        ("<tool_call>\n<function=", "get_weather"),
        ("<tool_call>\n<function=undeclared", ">"),
        ("```xml\n<tool_call>\n", "<function"),
        ("<tool_call>\n```json\n", "{"),
        (
            "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"text\": \"a <b",
            "x",
        ),
        ("<tool_call>\n{\"name\": \"write\", \"arguments\": {}", "}"),
        ("<function=write>\n", "<parameter"),
    ] {
        let output = stopped(false, stop, &format!("Let me see.\n\n{opened}"));
        assert_eq!(texts(&output), ("", "Let me see.", 0), "{opened}");
        let output = stopped(false, stop, &format!("{WEATHER}\n{opened}"));
        assert_eq!(texts(&output), ("", "", 1), "{opened}");
        assert_eq!(output.calls, [weather()]);
    }
}

#[test]
fn tag_that_a_stop_string_cuts_is_dropped() {
    for (text, stop) in [
        ("<", "tool_call>"),
        ("<", "function="),
        ("<tool_", "call"),
        ("</", "think>"),
    ] {
        let output = stopped(false, stop, &format!("a b{text}"));
        assert_eq!(texts(&output), ("", "a b", 0), "{text}");
    }
    for (text, stop) in [
        ("<", "b>"),
        ("<", "to"),
        ("<tool_", "kit>"),
        ("<function=x is a name", " END"),
    ] {
        let output = stopped(false, stop, &format!("a b{text}"));
        let whole = format!("a b{text}");
        assert_eq!(texts(&output), ("", whole.as_str(), 0), "{text}");
    }
    // Without functions these tags are text.
    let options = OutputOptions::default();
    let output = read_with(options, OutputEnd::StopString("tool_call>"), "a <");
    assert_eq!(texts(&output), ("", "a <", 0));
}

#[test]
fn stop_string_in_the_reasoning_leaves_no_tag_and_no_answer() {
    for (text, stop) in [
        ("<think>\nI look.\n", "Then"),
        ("<think>\nI look.\n", "</think>"),
        ("I look.\n</", "think>"),
        ("I look.\n<tool_call>\n", "<function"),
    ] {
        let output = stopped(true, stop, text);
        assert_eq!(texts(&output), ("I look.", "", 0), "{text}");
    }
    assert_eq!(texts(&stopped(true, "think>", "<")), ("", "", 0));
}

#[test]
fn call_that_has_started_is_left_open_by_a_stop_string() {
    let output = stopped(
        false,
        "Rome",
        "a\n<tool_call>\n<function=get_weather>\n<parameter=city>\nin ",
    );
    assert_eq!(output.text, "a");
    assert_eq!(output.calls, [open_call("get_weather", r#"{"city":"in "#)]);
    let output = stopped(
        false,
        "}",
        &block("write", "{\"text\": \"x\"").replace("</function>\n</tool_call>", ""),
    );
    assert_eq!(output.text, "");
    assert_eq!(output.calls, [open_call("write", "")]);
}
