//! `async-openai` as a client of the server under test, and the requests that most tests use.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::{ApiErrorResponse, OpenAIError};
use async_openai::types::chat::{
    ChatCompletionRequestMessage, ChatCompletionRequestUserMessage, ChatCompletionResponseStream,
    CreateChatCompletionRequest, CreateChatCompletionResponse, CreateChatCompletionStreamResponse,
};
use futures_util::StreamExt;
use sanctum_tests::{Server, within};

/// A question that the built-in model answers with one or two tokens.
pub(crate) const SUM: &str = "What is 2+2? Respond with only the number.";
/// A question with an answer of some length.
pub(crate) const COUNT: &str = "Count from 5 to 15.";

/// A client of this server.
pub(crate) fn client(server: &Server) -> Client<OpenAIConfig> {
    let config = OpenAIConfig::new()
        .with_api_base(format!("{}/v1", server.http().base()))
        .with_api_key("none is needed");
    Client::with_config(config)
}

/// A message of the user.
pub(crate) fn user(text: &str) -> ChatCompletionRequestMessage {
    ChatCompletionRequestUserMessage::from(text).into()
}

/// A question at temperature 0.
pub(crate) fn ask(question: &str) -> CreateChatCompletionRequest {
    CreateChatCompletionRequest {
        model: Server::BUILT_IN.into(),
        messages: vec![user(question)],
        temperature: Some(0.0),
        ..Default::default()
    }
}

/// Sends a request and returns the complete response.
pub(crate) async fn chat(
    server: &Server,
    request: CreateChatCompletionRequest,
) -> CreateChatCompletionResponse {
    let client = client(server);
    within("an answer", client.chat().create(request))
        .await
        .expect("the server answers")
}

/// Sends a streaming request and returns its chunks.
pub(crate) async fn stream(
    server: &Server,
    request: CreateChatCompletionRequest,
) -> Vec<CreateChatCompletionStreamResponse> {
    let client = client(server);
    let mut stream: ChatCompletionResponseStream =
        within("an answer", client.chat().create_stream(request))
            .await
            .expect("the server answers");
    let mut chunks = Vec::new();
    while let Some(chunk) = within("the next chunk", stream.next()).await {
        chunks.push(chunk.expect("every event is a chunk"));
    }
    chunks
}

/// Sends a request that is refused, and returns the error.
pub(crate) async fn refusal(
    server: &Server,
    request: CreateChatCompletionRequest,
) -> ApiErrorResponse {
    let client = client(server);
    match within("an answer", client.chat().create(request)).await {
        Err(OpenAIError::ApiError(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

/// The text of a response.
pub(crate) fn said(answer: &CreateChatCompletionResponse) -> &str {
    answer.choices[0].message.content.as_deref().expect("words")
}

/// The text of all chunks.
pub(crate) fn joined(chunks: &[CreateChatCompletionStreamResponse]) -> String {
    let choices = chunks.iter().flat_map(|chunk| &chunk.choices);
    choices
        .filter_map(|choice| choice.delta.content.as_deref())
        .collect()
}
