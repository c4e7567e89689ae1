//! Tools: rendered by the template, their results part of the prompt.

use async_openai::types::chat::{
    ChatCompletionMessageToolCall, ChatCompletionMessageToolCalls,
    ChatCompletionRequestAssistantMessage, ChatCompletionRequestToolMessage, ChatCompletionTool,
    ChatCompletionToolChoiceOption, ChatCompletionTools, CreateChatCompletionRequest, FunctionCall,
    FunctionObject, ToolChoiceOptions,
};
use sanctum_tests::Server;
use serde_json::json;

use crate::openai::{SUM, ask, chat, joined, said, stream, user};

fn weather() -> FunctionObject {
    FunctionObject {
        name: "weather".into(),
        description: Some("The weather in a city".into()),
        parameters: Some(
            json!({ "type": "object", "properties": { "city": { "type": "string" } } }),
        ),
        strict: None,
    }
}

fn with_tools() -> CreateChatCompletionRequest {
    let tool = ChatCompletionTool {
        function: weather(),
    };
    CreateChatCompletionRequest {
        tools: Some(vec![ChatCompletionTools::Function(tool)]),
        ..ask(SUM)
    }
}

#[tokio::test]
async fn tools_are_in_the_prompt_unless_forbidden() {
    let server = Server::start([""; 0]).await;
    let tokens = async |request| chat(&server, request).await.usage.unwrap().prompt_tokens;
    let without = tokens(ask(SUM)).await;
    assert!(tokens(with_tools()).await > without + 20);
    let forbidden = CreateChatCompletionRequest {
        tool_choice: Some(ChatCompletionToolChoiceOption::Mode(
            ToolChoiceOptions::None,
        )),
        ..with_tools()
    };
    assert_eq!(tokens(forbidden).await, without);
}

#[tokio::test]
async fn tool_result_is_read_in_its_place() {
    let server = Server::start([""; 0]).await;
    let call = ChatCompletionMessageToolCall {
        id: "call_1".into(),
        function: FunctionCall {
            name: "weather".into(),
            arguments: r#"{"city": "Oslo", "days": 2}"#.into(),
        },
    };
    let called = ChatCompletionRequestAssistantMessage {
        tool_calls: Some(vec![ChatCompletionMessageToolCalls::Function(call)]),
        ..Default::default()
    };
    let answered = ChatCompletionRequestToolMessage {
        content: "Snow.".into(),
        tool_call_id: "call_1".into(),
    };
    let request = CreateChatCompletionRequest {
        messages: vec![user("How is it in Oslo?"), called.into(), answered.into()],
        max_completion_tokens: Some(20),
        ..with_tools()
    };
    let chat = chat(&server, request.clone()).await;
    assert_eq!(joined(&stream(&server, request).await), said(&chat));

    // The tool is rendered verbatim, with its keys in the order in which they were sent.
    let tool = json!({ "type": "function", "function": weather() }).to_string();
    let tool = tool.replace("\":", "\": ").replace(",\"", ", \"");
    let prompt = format!(
        "<|im_start|>system\n# Tools\n\nYou have access to the following functions:\n\n<tools>\n{tool}\n</tools>\n\n\
         To call one, reply in this form only:\n\n<tool_call>\n<function=name>\n<parameter=name>\nvalue\n</parameter>\n\
         </function>\n</tool_call><|im_end|>\n\
         <|im_start|>user\nHow is it in Oslo?<|im_end|>\n\
         <|im_start|>assistant\n<think>\n\n</think>\n\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n\
         </parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call><|im_end|>\n\
         <|im_start|>user\n<tool_response>\nSnow.\n</tool_response><|im_end|>\n\
         <|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
    let body = json!({ "prompt": prompt, "temperature": 0, "max_tokens": 20 });
    let text = server.http().post("/v1/completions", &body).await.json();
    assert_eq!(
        text["usage"]["prompt_tokens"],
        chat.usage.as_ref().unwrap().prompt_tokens
    );
    assert_eq!(text["choices"][0]["text"], said(&chat));
}
