//! Which final messages of an assistant are continued, in every protocol, and how the prompt ends then.

use sanctum_engine::schedule::{Event, FinishReason};
use serde_json::{Value, json};

use super::fixture::{TestServer, finished, token};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn done(words: &[&str]) -> Vec<Event> {
    let words = words.iter().map(|word| token(word));
    words.chain([finished(FinishReason::Stop, "")]).collect()
}

/// A user's question and the beginning of an assistant's answer. The template of the tests ends a prompt that is not
/// continued with the number of tools.
fn begun(content: impl Into<Value>) -> Value {
    json!({
        "messages": [{ "role": "user", "content": "hi" }, { "role": "assistant", "content": content.into() }],
        "tools": [{ "type": "function", "function": { "name": "f" } }],
    })
}

/// The prompt that reaches the engine.
async fn prompt(server: &TestServer, route: &str, body: Value, words: &[&str]) -> (String, Value) {
    let shown = body.to_string();
    let (job, answer) = server.ask(route, body, done(words)).await;
    assert_eq!(answer.status, 200, "{shown}: {}", answer.text);
    let bytes = job.request.prompt.iter().map(|&id| id as u8).collect();
    (String::from_utf8(bytes).unwrap(), answer.json())
}

#[tokio::test]
async fn continued_prompt_ends_with_the_message_whatever_the_message_is() {
    for content in ["<", ">", "tools", "s>1", "assistant", "<tools>1", "user"] {
        let server = TestServer::new();
        let (prompt, _) = prompt(&server, CHAT, begun(content), &["x"]).await;
        assert_eq!(prompt, format!("<user>hi<assistant>{content}"));
    }
}

#[tokio::test]
async fn white_space_is_not_continued() {
    let server = TestServer::new();
    let (prompt, _) = prompt(&server, CHAT, begun(" \n"), &["x"]).await;
    assert_eq!(prompt, "<user>hi<assistant> \n<tools>1");
    let mut body = begun(" \n");
    body["continue_final_message"] = true.into();
    let refused = server.post(CHAT, body).await;
    let error = (400, json!("continue_final_message"), Value::Null);
    assert_eq!(refused.error(), error);
    let mut body = json!({ "messages": begun(" \n")["messages"], "max_tokens": 5 });
    for content in [json!(" \n"), json!([{ "type": "text", "text": "\t" }])] {
        body["messages"][1]["content"] = content;
        let refused = server.post(MESSAGES, body.clone()).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(
            refused.text.contains("no text to continue"),
            "{}",
            refused.text
        );
    }
}

#[tokio::test]
async fn empty_list_of_calls_is_no_call() {
    let server = TestServer::new();
    let mut body = begun("four");
    for calls in [json!([]), Value::Null] {
        body["messages"][1]["tool_calls"] = calls;
        let (prompt, _) = prompt(&server, CHAT, body.clone(), &["x"]).await;
        assert_eq!(prompt, "<user>hi<assistant>four");
    }
}

#[tokio::test]
async fn response_begins_a_new_turn_unless_the_request_continues_one() {
    let server = TestServer::new();
    let mut body = json!({
        "input": begun("four")["messages"], "tools": [{ "type": "function", "name": "f" }],
    });
    for continues in [None, Some(Value::Null), Some(json!(false))] {
        if let Some(continues) = continues {
            body["continue_final_message"] = continues;
        }
        let (prompt, _) = prompt(&server, RESPONSES, body.clone(), &["x"]).await;
        assert_eq!(prompt, "<user>hi<assistant>four<tools>1");
    }
    body["continue_final_message"] = true.into();
    let (prompt, _) = prompt(&server, RESPONSES, body, &["x"]).await;
    assert_eq!(prompt, "<user>hi<assistant>four");
}

#[tokio::test]
async fn continued_answer_is_one_turn_of_its_thread() {
    let server = TestServer::new();
    for content in [
        json!("The answer"),
        json!([{ "type": "text", "text": "The " }, { "type": "text", "text": "answer" }]),
    ] {
        let messages = json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": content }]);
        let body = json!({ "thread": { "type": "create" }, "messages": messages, "max_tokens": 5 });
        let (_, answer) = prompt(&server, MESSAGES, body, &[" is", " 4."]).await;
        assert_eq!(answer["content"][0]["text"], " is 4.");
        let thread = json!({ "type": "continue", "previous_message_id": answer["id"] });
        let messages = json!([{ "role": "user", "content": "b" }]);
        let body = json!({ "thread": thread, "messages": messages, "max_tokens": 5 });
        let (prompt, _) = prompt(&server, MESSAGES, body, &["x"]).await;
        assert_eq!(prompt, "<user>a<assistant>The answer is 4.<user>b");
    }
}

#[tokio::test]
async fn continued_answer_is_one_turn_of_its_response() {
    let server = TestServer::new();
    let body = json!({ "input": begun("The answer")["messages"], "continue_final_message": true });
    let (_, answer) = prompt(&server, RESPONSES, body, &[" is", " 4."]).await;
    let body = json!({ "input": "b", "previous_response_id": answer["id"] });
    let (prompt, _) = prompt(&server, RESPONSES, body, &["x"]).await;
    assert_eq!(prompt, "<user>hi<assistant>The answer is 4.<user>b");
}

#[tokio::test]
async fn thread_inherits_what_is_null_and_needs_a_message() {
    let server = TestServer::new();
    let user = json!([{ "role": "user", "content": "a" }]);
    let body = json!({
        "thread": { "type": "create" }, "system": "brief", "tools": [{ "name": "f", "input_schema": {} }],
        "messages": user, "max_tokens": 5,
    });
    let (_, answer) = prompt(&server, MESSAGES, body, &["x"]).await;
    let thread = json!({ "type": "continue", "previous_message_id": answer["id"] });
    let body = json!({
        "thread": thread, "system": null, "tools": null, "messages": user, "max_tokens": 5,
    });
    let (text, _) = prompt(&server, MESSAGES, body.clone(), &["x"]).await;
    assert_eq!(text, "<system>brief<user>a<assistant>x<user>a<tools>1");
    let mut empty = body;
    empty["messages"] = json!([]);
    let refused = server.post(MESSAGES, empty).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(
        refused.text.contains("`messages` is empty"),
        "{}",
        refused.text
    );
}
