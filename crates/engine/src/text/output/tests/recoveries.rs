//! What models leave out, and what they write instead.

use super::*;

#[test]
fn call_in_reasoning_ends_the_reasoning() {
    let output = read_thinking(&format!("I look.\n{WEATHER}\n</think>\n\nDone.</think>"));
    assert_eq!(
        (output.reasoning.as_str(), output.text.as_str()),
        ("I look.", "Done.</think>")
    );
    assert_eq!(output.calls, [weather()]);
}

#[test]
fn undeclared_call_in_reasoning_stays_reasoning() {
    let output = read_thinking("A <tool_call>\n<function=f>\n</function> b</think>\n\nc");
    assert_eq!(
        output.reasoning,
        "A <tool_call>\n<function=f>\n</function> b"
    );
    assert_eq!(output.text, "c");
}

#[test]
fn function_without_block_in_reasoning_stays_reasoning() {
    let output = read_thinking("A <function=write></function></think>");
    assert_eq!(output.reasoning, "A <function=write></function>");
}

#[test]
fn second_think_close_is_dropped() {
    let output = read_thinking("A</think>\n\n</think>\n\nB");
    assert_eq!(
        (output.reasoning.as_str(), output.text.as_str()),
        ("A", "B")
    );
    assert_eq!(read_thinking("A</think>B</think> C").text, "B C");
}

#[test]
fn missing_parameter_close_before_a_new_property_ends_the_value() {
    let output = "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n<parameter=days>\n3\n</parameter>\n\
        </function>\n</tool_call>";
    assert_eq!(calls(output), [weather()]);
}

#[test]
fn parameter_tag_that_is_no_new_property_at_line_start_is_kept() {
    for tag in [
        "<parameter=text>",
        "<parameter=unknown>",
        " <parameter=path>",
    ] {
        let text = format!("a\n{tag}\nb");
        let expected = json!({ "text": text }).to_string();
        assert_eq!(value("write", "text", &text), expected);
    }
}

#[test]
fn parameter_close_in_mid_line_before_a_new_property_ends_the_value() {
    let output = "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome</parameter>\n<parameter=days>\n3</parameter>\n\
        </function>\n</tool_call>";
    assert_eq!(calls(output), [weather()]);
}

#[test]
fn inline_values_are_read() {
    let output = "<tool_call><function=get_weather><parameter=city>Rome</parameter><parameter=days>3</parameter>\
        </function></tool_call>";
    assert_eq!(calls(output), [weather()]);
}

#[test]
fn missing_parameter_close_before_function_close_ends_the_value() {
    let output = "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n\
        </function>\n</tool_call>";
    assert_eq!(calls(output), [weather()]);
    assert_eq!(
        calls(output.trim_end_matches("\n</tool_call>")),
        [weather()]
    );
}

#[test]
fn every_missing_closer_at_the_end_is_a_call() {
    for closers in [
        "\n</parameter>\n</function>\n",
        "\n</parameter>\n",
        "\n</parameter>\n</tool_call>",
        "\n</function>",
        "\n</tool_call>\n",
        "\n",
        "",
    ] {
        let output = format!("<tool_call>\n<function=write>\n<parameter=text>\nx{closers}");
        assert_eq!(
            calls(&output),
            [call("write", r#"{"text":"x"}"#)],
            "{closers}"
        );
        assert_eq!(
            calls(&output["<tool_call>\n".len()..]),
            [call("write", r#"{"text":"x"}"#)]
        );
    }
    assert_eq!(
        calls("<tool_call>\n<function=write>"),
        [call("write", "{}")]
    );
}

#[test]
fn output_cut_in_a_call_leaves_it_open() {
    let tools = tools();
    let options = OutputOptions {
        tools: &tools,
        ..OutputOptions::default()
    };
    for (output, arguments) in [
        ("", ""),
        ("<parameter=text>\na\nb\n</para", r#"{"text":"a\nb"#),
        (
            "<parameter=text>\na\n</parameter>\n</function>\n",
            r#"{"text":"a"#,
        ),
        (
            "<parameter=text>\na\n</parameter>\n<parameter=path>",
            r#"{"text":"a","path":""#,
        ),
    ] {
        let output = format!("<tool_call>\n<function=write>\n{output}");
        let read = read_with(options, OutputEnd::Length, &output);
        assert_eq!(read.calls, [open_call("write", arguments)]);
        assert_eq!(read.text, "");
    }
}

#[test]
fn output_cut_before_a_call_starts_is_text() {
    let tools = tools();
    let options = OutputOptions {
        tools: &tools,
        ..OutputOptions::default()
    };
    for output in [
        "a\n<tool_call>\n<function=wri",
        "<tool_call>\n{\"name\": \"write\", \"arguments\": {}",
        "<function=write>\n",
    ] {
        let read = read_with(options, OutputEnd::Length, output);
        assert_eq!((read.text.as_str(), read.calls.len()), (output, 0));
    }
}

#[test]
fn function_without_block_is_a_call() {
    let bare = WEATHER.trim_start_matches("<tool_call>\n");
    let function = bare.trim_end_matches("\n</tool_call>");
    for output in [
        format!("Look.\n{bare}\nDone."),
        format!("Look.\n{function}\nDone."),
    ] {
        let output = read(&output);
        assert_eq!(
            (output.text.as_str(), &output.calls[..]),
            ("Look.Done.", &[weather()][..])
        );
    }
    assert_eq!(
        calls(&format!("{function}\n{function}")),
        [weather(), weather()]
    );
    assert_eq!(
        read(&format!("{function}\n</tool_call>\n</tool_call>")).text,
        "</tool_call>"
    );
}

#[test]
fn function_tag_in_prose_is_text() {
    assert_text("Write `<function=write>` and then a parameter.");
    assert_text("<function=write>");
    assert_text("<function=undeclared>\n<parameter=a>\n1\n</parameter>\n</function>");
}

#[test]
fn two_functions_in_a_block_are_two_calls() {
    let output = WEATHER.replace(
        "</function>",
        "</function>\n<function=write>\n<parameter=text>\nx\n</parameter>\n</function>",
    );
    assert_eq!(
        calls(&output),
        [weather(), call("write", r#"{"text":"x"}"#)]
    );
    let unclosed = output.replace(
        "</parameter>\n</function>\n<function",
        "</parameter>\n<function",
    );
    assert_eq!(
        calls(&unclosed),
        [weather(), call("write", r#"{"text":"x"}"#)]
    );
    let objects = "<tool_call>{\"name\": \"write\"}\n{\"name\": \"get_weather\"}</tool_call>";
    assert_eq!(
        calls(objects),
        [call("write", "{}"), call("get_weather", "{}")]
    );
}

#[test]
fn next_block_without_closing_the_last_is_two_calls() {
    for closers in ["\n</function>\n</tool_call>", "\n</tool_call>"] {
        let unclosed = WEATHER.trim_end_matches(closers);
        assert_eq!(
            calls(&format!("{unclosed}\n{WEATHER}")),
            [weather(), weather()]
        );
    }
    let unclosed = "<tool_call>{\"name\": \"write\"}";
    assert_eq!(
        calls(&format!("{unclosed}\n{WEATHER}")),
        [call("write", "{}"), weather()]
    );
}

#[test]
fn missing_bracket_after_a_name_is_read() {
    assert_eq!(calls(&WEATHER.replace("city>", "city")), [weather()]);
    assert_eq!(calls(&WEATHER.replace("weather>", "weather")), [weather()]);
}

#[test]
fn empty_block_and_undeclared_name_are_text() {
    let undeclared = WEATHER.replace("get_weather", "get_wether");
    let tools = tools();
    for forced in [false, true] {
        let options = OutputOptions {
            tools: &tools,
            forced,
            ..OutputOptions::default()
        };
        for output in [
            "<tool_call></tool_call>",
            "<tool_call>\n</tool_call>\n",
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"<function=write></function>\"}}</tool_call>",
            &undeclared,
        ] {
            let read = read_with(options, OutputEnd::Stop, output);
            assert_eq!((read.text.as_str(), read.calls.len()), (output, 0));
        }
    }
}

#[test]
fn tag_with_spaces_is_accepted() {
    let output = WEATHER
        .replace("<parameter=city>", "< parameter = city >")
        .replace("</parameter>", "</ parameter >")
        .replace("<function=get_weather>", "<function = get_weather>")
        .replace("tool_call>", "tool_call >");
    assert_eq!(calls(&output), [weather()]);
}

#[test]
fn json_synonyms_for_arguments_are_read() {
    for key in ["arguments", "parameters", "args", "input"] {
        let output = format!(
            "<tool_call>\n{{\"{key}\": {{\"city\": \"Rome\", \"days\": 3.0}}, \"name\": \"get_weather\"}}\n</tool_call>"
        );
        assert_eq!(calls(&output), [weather()]);
    }
}

#[test]
fn json_without_its_last_brace_is_a_call() {
    let output =
        "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rome\", \"days\": 3}";
    assert_eq!(calls(output), [weather()]);
    assert_eq!(calls(&format!("{output}\n</tool_call>")), [weather()]);
    assert_text(&format!("{output}, oops"));
}

#[test]
fn json_between_function_tags_is_its_arguments() {
    assert_eq!(
        calls(&block("get_weather", "{\"city\": \"Rome\", \"days\": 3}\n")),
        [weather()]
    );
}

#[test]
fn words_inside_a_started_call_are_text_after_it() {
    let output = read(&block("write", "some words\n"));
    assert_eq!(output.text, "some words");
    assert_eq!(output.calls, [call("write", "{}")]);
}

#[test]
fn code_fence_around_a_call_is_dropped() {
    for fence in ["```\n", "```xml\n", "```tool_call \n\n", "```"] {
        let output = read(&format!("See:\n{fence}{WEATHER}\n{WEATHER}\n```\nDone."));
        assert_eq!(output.text, "See:Done.", "{fence}");
        assert_eq!(output.calls, [weather(), weather()]);
    }
    let inside = "<tool_call>\n```json\n{\"name\": \"write\"}\n```\n</tool_call>";
    assert_eq!(calls(inside), [call("write", "{}")]);
    let inside = WEATHER
        .replace("<tool_call>", "<tool_call>\n```xml")
        .replace("</tool_call>", "```\n</tool_call>");
    assert_eq!(calls(&inside), [weather()]);
}

#[test]
fn code_fence_without_a_call_is_text() {
    assert_text("```xml\n<tool_call>\n```");
    assert_text("```rust\nfn main() {}\n```\n");
    assert_eq!(read(&format!("{WEATHER}\n```\nx\n```")).text, "```\nx\n```");
}

#[test]
fn object_without_block_is_a_call_only_if_forced() {
    let tools = tools();
    let object = "{\"name\": \"write\", \"arguments\": {\"text\": \"x\"}}";
    assert_text(object);
    let options = OutputOptions {
        tools: &tools,
        forced: true,
        thinking: true,
        exact: false,
    };
    for output in [
        format!("A\n</think>\n\n{object}\n"),
        format!("A</think>```json\n{object}\n```"),
        format!("A</think>{}", object.trim_end_matches('}')) + "}",
    ] {
        let read = read_with(options, OutputEnd::Stop, &output);
        assert_eq!((read.reasoning.as_str(), read.text.as_str()), ("A", ""));
        assert_eq!(read.calls, [call("write", r#"{"text":"x"}"#)]);
    }
    let output = read_with(
        options,
        OutputEnd::Stop,
        &format!("</think>{{\"a\": 1}} {object}"),
    );
    assert_eq!(output.text, format!("{{\"a\": 1}} {object}"));
}

#[test]
fn exact_call_is_read_as_a_grammar_wrote_it() {
    let tools = [json!({"name": "f", "parameters": {"properties": {
        "a": {"type": "string"}, "n": {"type": "integer"}, "l": {"type": "array"},
    }}})];
    let options = OutputOptions {
        tools: &tools,
        exact: true,
        ..OutputOptions::default()
    };
    for text in [
        "foo\n<parameter=n>\nabc",
        "",
        "\n",
        "x</parameter>\n</function>",
        "a\n</parameter> b",
        "<tool_call>\n<function=f>\n<parameter=a>",
        "a\n</function>\n</tool_call>\n<tool_call>",
        "</think><think>```",
        "a\n< /parameter >\nb",
    ] {
        let output = format!(
            "<tool_call>\n<function=f>\n<parameter=a>\n{text}\n</parameter>\n<parameter=n>\n3\n</parameter>\n\
             <parameter=l>\n[\"<tool_call>\", \"</parameter>\"]\n</parameter>\n</function>\n</tool_call>"
        );
        for size in [1, 7, 1000] {
            let chars: Vec<char> = output.chars().collect();
            let pieces: Vec<String> = chars
                .chunks(size)
                .map(|piece| piece.iter().collect())
                .collect();
            let read = collect(joined(
                pieces.iter().map(String::as_str),
                options,
                OutputEnd::Stop,
            ));
            assert_eq!(read.calls.len(), 1, "{output}");
            let arguments: Value = serde_json::from_str(&read.calls[0].arguments).unwrap();
            let list = json!(["<tool_call>", "</parameter>"]);
            assert_eq!(arguments, json!({"a": text, "n": 3, "l": list}), "{output}");
        }
    }
}

#[test]
fn exact_output_has_no_call_without_a_block() {
    let tools = [json!({"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}}})];
    let options = OutputOptions {
        tools: &tools,
        exact: true,
        forced: true,
        ..OutputOptions::default()
    };
    for output in [
        "so\n<function=f>\n<parameter=n>\nNaN\n</parameter>\n</function>",
        "{\"name\": \"f\", \"arguments\": {\"n\": \"x\"}}",
    ] {
        let read = collect(joined([output], options, OutputEnd::Stop));
        assert_eq!((read.calls.len(), read.text.as_str()), (0, output));
    }
}
