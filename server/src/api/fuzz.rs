//! The fuzz entry point for the bodies of requests.

use super::adapters::SwapRequest;
use super::{chat, completions};

/// A body of any protocol: whatever is wrong is the client's error, in OpenAI's shape.
pub fn request(bytes: &[u8]) {
    let errors = [
        chat::parse(bytes).err(),
        completions::parse(bytes).err(),
        SwapRequest::parse(bytes).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.status().is_client_error(), "{error}");
        assert!(error.body()["error"]["message"].is_string(), "{error}");
    }
}
