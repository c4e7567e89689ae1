//! The bodies of requests, for [`crate::surface`].

use super::adapters::SwapRequest;
use super::chat_request::ChatRequest;
use super::completions::CompletionRequest;

/// The body of a chat request, and of a completion's: whatever is wrong is the client's, and is told in OpenAI's shape.
pub fn request(bytes: &[u8]) {
    let errors = [
        ChatRequest::parse(bytes).err(),
        CompletionRequest::parse(bytes).err(),
        SwapRequest::parse(bytes).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.status().is_client_error(), "{error}");
        assert!(error.body()["error"]["message"].is_string(), "{error}");
    }
}
