//! An answer that continued an assistant's message: both are one turn of the conversation.

use serde_json::{Value, json};

/// Joins the first message of the output to the last item of the input, which it continues. Returns its index in the output;
/// none where the output has no message.
pub(super) fn join<'a>(
    input: &mut [Value],
    output: impl Iterator<Item = &'a Value>,
) -> Option<usize> {
    let begun = input.last_mut()?;
    let (index, answer) = output
        .enumerate()
        .find(|(_, item)| item["role"] == "assistant")?;
    let content = joined(&begun["content"], &answer["content"]);
    begun.as_object_mut()?.insert("content".into(), content);
    Some(index)
}

/// The content of both, as blocks. A text that continues a text is one text with it, without the white space between them,
/// which the prompt did not have.
fn joined(begun: &Value, answer: &Value) -> Value {
    let mut blocks = match begun {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    };
    let mut answer = answer.as_array().into_iter().flatten();
    if let Some(last) = blocks.last_mut()
        && let Some(text) = last["text"].as_str()
    {
        let mut whole = text.trim_end().to_owned();
        let first = answer.clone().next();
        if let Some(more) = first.and_then(|first| first["text"].as_str()) {
            whole += more;
            answer.next();
        }
        last["text"] = whole.into();
    }
    blocks.extend(answer.cloned());
    blocks.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_continues_the_last_text() {
        let text = |text: &str| json!({ "type": "text", "text": text });
        let call = json!({ "type": "tool_use", "id": "t" });
        for (begun, answer, whole) in [
            (
                json!("The "),
                json!([text(" answer")]),
                json!([text("The answer")]),
            ),
            (
                json!([text("The")]),
                json!([text(" answer"), call]),
                json!([text("The answer"), call]),
            ),
            (
                json!([text("a"), text("b")]),
                json!([text("c")]),
                json!([text("a"), text("bc")]),
            ),
            (json!("The"), json!([call]), json!([text("The"), call])),
            (json!([text("The")]), json!([]), json!([text("The")])),
            (json!("The "), json!([]), json!([text("The")])),
        ] {
            assert_eq!(joined(&begun, &answer), whole, "{begun} {answer}");
        }
    }

    #[test]
    fn first_message_of_the_output_is_joined() {
        let mut input = [
            json!("hi"),
            json!({ "role": "assistant", "content": "The" }),
        ];
        let output = [
            json!({ "type": "reasoning" }),
            json!({ "role": "assistant", "content": [{ "type": "output_text", "text": " answer" }] }),
        ];
        assert_eq!(join(&mut input, output.iter()), Some(1));
        assert_eq!(input[1]["content"][0]["text"], "The answer");
        assert_eq!(join(&mut input, output[..1].iter()), None);
        assert_eq!(join(&mut [], output.iter()), None);
    }
}
