//! Stop strings that end an answer within a tool call.

use sanctum_engine::schedule::{Event, FinishReason};
use serde_json::{Value, json};

use super::fixture::{TestServer, finished, token};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const OPEN: &str = "<tool_call>\n<function=f>\n<parameter=city>\n";
const CLOSED: &str = "Rome\n</parameter>\n</function>\n</tool_call>";

/// The answer to a request of each protocol whose engine stops at `stop` after these words.
async fn answer(route: &str, words: &[&str], stop: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let user = json!([{ "role": "user", "content": "hi" }]);
    let body = match route {
        CHAT => {
            let function = json!({ "name": "f", "parameters": schema });
            json!({ "messages": user, "stop": [stop], "tools": [{ "type": "function", "function": function }] })
        }
        RESPONSES => {
            let tool = json!({ "type": "function", "name": "f", "parameters": schema });
            json!({ "input": "hi", "stop": [stop], "tools": [tool] })
        }
        _ => json!({
            "messages": user, "max_tokens": 50, "stop_sequences": [stop], "tools": [{ "name": "f", "input_schema": schema }],
        }),
    };
    let mut events: Vec<Event> = words.iter().map(|word| token(word)).collect();
    let mut last = finished(FinishReason::Stop, "");
    if let Event::Finished { stop: stopped, .. } = &mut last {
        *stopped = Some(stop.into());
    }
    events.push(last);
    let server = TestServer::new();
    let (_, answer) = server.ask(route, body, events).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn stop_string_within_a_call_reports_itself_and_not_a_call() {
    let words = [OPEN, "in "];
    let chat = answer(CHAT, &words, "Rome").await;
    assert_eq!(chat["choices"][0]["finish_reason"], "stop", "{chat}");
    assert_eq!(chat["choices"][0]["message"]["tool_calls"], Value::Null);
    let message = answer(MESSAGES, &words, "Rome").await;
    assert_eq!(message["stop_reason"], "stop_sequence", "{message}");
    assert_eq!(message["stop_sequence"], "Rome");
    assert_eq!(message["content"], json!([]));
    let response = answer(RESPONSES, &words, "Rome").await;
    assert_eq!(response["status"], "completed", "{response}");
    // Its arguments are not whole: no client should run it.
    assert_eq!(response["output"][0]["type"], "function_call");
    assert_eq!(response["output"][0]["status"], "incomplete");
    let arguments = response["output"][0]["arguments"].as_str().unwrap();
    assert!(!arguments.ends_with('}'), "{arguments}");
}

#[tokio::test]
async fn stop_string_before_a_call_starts_leaves_the_text_before_its_tags() {
    let words = ["Let me see.\n\n", "<tool_call>", "\n"];
    let chat = answer(CHAT, &words, "<function").await;
    let choice = &chat["choices"][0];
    assert_eq!(choice["finish_reason"], "stop", "{chat}");
    assert_eq!(choice["message"]["content"], "Let me see.", "{chat}");
    let message = answer(MESSAGES, &words, "<function").await;
    assert_eq!(message["stop_reason"], "stop_sequence", "{message}");
    let content = json!([{ "type": "text", "text": "Let me see." }]);
    assert_eq!(message["content"], content);
    let response = answer(RESPONSES, &words, "<function").await;
    assert_eq!(response["status"], "completed", "{response}");
    let text = &response["output"][0]["content"][0]["text"];
    assert_eq!(text, "Let me see.", "{response}");
}

#[tokio::test]
async fn stop_string_in_a_second_call_leaves_the_first() {
    let words = [OPEN, CLOSED, "\n", OPEN];
    let chat = answer(CHAT, &words, "Rome").await;
    assert_eq!(chat["choices"][0]["finish_reason"], "stop", "{chat}");
    let calls = &chat["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls.as_array().map(Vec::len), Some(1), "{chat}");
    let message = answer(MESSAGES, &words, "Rome").await;
    assert_eq!(message["stop_reason"], "stop_sequence", "{message}");
    assert_eq!(message["content"].as_array().map(Vec::len), Some(1));
    assert_eq!(message["content"][0]["input"], json!({ "city": "Rome" }));
}

#[tokio::test]
async fn stop_string_after_a_call_leaves_the_call() {
    let words = [OPEN, CLOSED, "\n"];
    let chat = answer(CHAT, &words, "Done").await;
    assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls", "{chat}");
    let message = answer(MESSAGES, &words, "Done").await;
    assert_eq!(message["stop_reason"], "tool_use", "{message}");
    assert_eq!(message["content"][0]["input"], json!({ "city": "Rome" }));
    let response = answer(RESPONSES, &words, "Done").await;
    assert_eq!(response["output"][0]["status"], "completed", "{response}");
}
