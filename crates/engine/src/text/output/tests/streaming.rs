//! What is reported when.

use super::*;

fn parser(tools: &[Value], thinking: bool) -> OutputParser {
    OutputParser::new(OutputOptions {
        tools,
        thinking,
        ..OutputOptions::default()
    })
}

fn text(text: &str) -> OutputEvent {
    OutputEvent::Text(text.into())
}

fn arguments(delta: &str) -> OutputEvent {
    OutputEvent::CallArguments {
        index: 0,
        delta: delta.into(),
    }
}

#[test]
fn certain_text_does_not_wait() {
    let tools = tools();
    let mut parser = parser(&tools, false);
    assert_eq!(parser.push("Hello wor"), [text("Hello wor")]);
    assert_eq!(parser.push("ld <tool"), [text("ld")]);
    assert_eq!(parser.push("s>"), [text(" <tools>")]);
    assert_eq!(parser.push("<tool_call>\n"), []);
    assert_eq!(parser.push("is"), [text("<tool_call>\nis")]);
}

#[test]
fn certain_reasoning_does_not_wait() {
    let mut parser = parser(&[], true);
    let reasoning = |text: &str| OutputEvent::Reasoning(text.into());
    assert_eq!(parser.push("I think <"), [reasoning("I think")]);
    assert_eq!(parser.push("/b>"), [reasoning(" </b>")]);
    assert_eq!(parser.push("</think>A <b>"), [text("A <b>")]);
}

#[test]
fn block_without_tools_does_not_wait() {
    let mut parser = parser(&[], false);
    assert_eq!(parser.push("<tool_call>{"), [text("<tool_call>{")]);
}

#[test]
fn call_streams_name_then_arguments() {
    let tools = tools();
    let mut parser = parser(&tools, false);
    assert_eq!(parser.push("<tool_call>\n<function=write"), []);
    let start = OutputEvent::CallStart {
        index: 0,
        name: "write".into(),
    };
    assert_eq!(parser.push(">"), [start]);
    assert_eq!(
        parser.push("\n<parameter=text>\n"),
        [arguments("{\"text\":\"")]
    );
    assert_eq!(parser.push("say \"hi\"\n"), [arguments("say \\\"hi\\\"")]);
    assert_eq!(parser.push("<b>\n</parameter>"), [arguments("\\n<b>")]);
    assert_eq!(
        parser.push("\n<parameter=unlisted>1"),
        [arguments("\",\"unlisted\":\"1")]
    );
    assert_eq!(parser.push("</parameter></function></tool_"), []);
    assert_eq!(
        parser.push("call>"),
        [arguments("\"}"), OutputEvent::CallEnd { index: 0 }]
    );
    assert_eq!(parser.finish(OutputEnd::Stop), []);
    assert_eq!(parser.calls(), 1);
}

#[test]
fn typed_value_is_reported_at_its_end() {
    let tools = tools();
    let mut parser = parser(&tools, false);
    parser.push("<tool_call>\n<function=get_weather>\n");
    assert_eq!(parser.push("<parameter=days>\n1"), []);
    assert_eq!(
        parser.push("2\n</parameter>\n<parameter=city>"),
        [arguments("{\"days\":12,\"city\":\"")]
    );
}

#[test]
fn json_form_is_reported_when_its_object_closes() {
    let tools = tools();
    let mut parser = parser(&tools, false);
    assert_eq!(
        parser.push("<tool_call>{\"name\": \"write\", \"arguments\": {}"),
        []
    );
    assert_eq!(
        parser.push("}"),
        [
            OutputEvent::CallStart {
                index: 0,
                name: "write".into()
            },
            arguments("{}"),
            OutputEvent::CallEnd { index: 0 }
        ]
    );
}

#[test]
fn finished_parser_reports_nothing_more() {
    let mut parser = parser(&[], false);
    parser.push("a <");
    assert_eq!(parser.finish(OutputEnd::Stop), [text(" <")]);
    assert_eq!(parser.push("b"), []);
    assert_eq!(parser.finish(OutputEnd::Stop), []);
}
