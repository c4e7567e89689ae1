//! Log probabilities in OpenAI's two shapes.

use std::sync::Arc;

use sanctum_engine::schedule::KeptMemory;
use sanctum_engine::schedule::TokenLogprob;
use sanctum_engine::text::Text;
use serde_json::{Map, Value, json};

/// JSON has no infinity: a probability of 0 is written as OpenAI's clients expect a very small one.
const IMPOSSIBLE: f32 = -9999.0;

/// Tokens that are written at once.
const PART: usize = 64;

/// The tokens of a whole completion, and the memory that is reserved for them until they are written.
pub(crate) struct KeptTokens {
    list: Box<[TokenLogprob]>,
    _memory: KeptMemory,
}

impl KeptTokens {
    /// Releases the memory that they do not need.
    pub(crate) fn new(list: Vec<TokenLogprob>, memory: KeptMemory) -> Self {
        memory.shrink(list.len());
        Self {
            list: list.into(),
            _memory: memory,
        }
    }
}

/// The log probabilities of a chunk of a chat completion.
pub(crate) fn chat(tokens: &[TokenLogprob], text: &Text) -> Value {
    let tokens: Vec<Value> = tokens.iter().map(|token| chat_token(token, text)).collect();
    json!({ "content": tokens, "refusal": null })
}

/// The same for a whole chat completion, as text in parts.
pub(crate) fn chat_parts(
    tokens: KeptTokens,
    text: Text,
) -> impl Iterator<Item = String> + Send + 'static {
    let content = list(Arc::new(tokens), move |token| chat_token(token, &text));
    once("{\"content\":[")
        .chain(content)
        .chain(once("],\"refusal\":null}"))
}

/// One token of a chat completion: an element of `logprobs.content`.
fn chat_token(token: &TokenLogprob, text: &Text) -> Value {
    let likelihood = |id, logprob| {
        let bytes = bytes(text, id);
        json!({ "token": shown(bytes), "logprob": finite(logprob), "bytes": bytes })
    };
    let mut body = likelihood(token.id, token.logprob);
    let top = token.top.iter();
    body["top_logprobs"] = top.map(|&(id, logprob)| likelihood(id, logprob)).collect();
    body
}

/// The tokens of a text completion: four columns, each with one entry a token.
#[derive(Clone)]
pub(crate) struct Columns {
    text: Text,
    tokens: Vec<TokenLogprob>,
    offsets: Offsets,
}

/// Where tokens begin, in characters.
#[derive(Clone, Debug, Default)]
struct Offsets {
    /// Characters of all tokens so far.
    offset: usize,
    /// Bytes at the end that are not a whole character yet.
    unfinished: Vec<u8>,
}

impl Columns {
    /// No tokens, of a model with this text.
    pub(crate) fn new(text: Text) -> Self {
        Self {
            text,
            tokens: Vec::new(),
            offsets: Offsets::default(),
        }
    }

    /// Adds tokens.
    pub(crate) fn extend(&mut self, tokens: impl IntoIterator<Item = TokenLogprob>) {
        self.tokens.extend(tokens);
    }

    /// What was added since the last call; nothing if that is nothing.
    pub(crate) fn take(&mut self) -> Option<Value> {
        let tokens = std::mem::take(&mut self.tokens);
        if tokens.is_empty() {
            return None;
        }
        let text = &self.text;
        let column = |of: &dyn Fn(&TokenLogprob) -> Value| tokens.iter().map(of).collect::<Value>();
        let offsets: Vec<usize> = tokens
            .iter()
            .map(|token| self.offsets.next(bytes(text, token.id)))
            .collect();
        Some(json!({
            "tokens": column(&|token| shown(bytes(text, token.id)).into()),
            "token_logprobs": column(&|token| finite(token.logprob).into()),
            "top_logprobs": column(&|token| top(token, text)),
            "text_offset": offsets,
        }))
    }

    /// The same for a whole completion, as text in parts; none if there are no tokens. Their memory is reserved as long as
    /// the parts exist.
    pub(crate) fn parts(
        self,
        memory: KeptMemory,
    ) -> Option<impl Iterator<Item = String> + Send + 'static> {
        if self.tokens.is_empty() {
            return None;
        }
        let tokens = Arc::new(KeptTokens::new(self.tokens, memory));
        let (text, mut offsets) = (self.text, self.offsets);
        let (names, tops) = (text.clone(), text.clone());
        let all = once("{\"tokens\":[")
            .chain(list(tokens.clone(), move |token| {
                shown(bytes(&names, token.id)).into()
            }))
            .chain(once("],\"token_logprobs\":["))
            .chain(list(tokens.clone(), |token| finite(token.logprob).into()))
            .chain(once("],\"top_logprobs\":["))
            .chain(list(tokens.clone(), move |token| top(token, &tops)))
            .chain(once("],\"text_offset\":["))
            .chain(list(tokens, move |token| {
                offsets.next(bytes(&text, token.id)).into()
            }))
            .chain(once("]}"));
        Some(all)
    }
}

/// The most likely tokens by their text, and the one that was chosen even where it is not among them.
fn top(token: &TokenLogprob, text: &Text) -> Value {
    let all = token.top.iter().copied().chain([(token.id, token.logprob)]);
    let all: Map<String, Value> = all
        .map(|(id, logprob)| (shown(bytes(text, id)), finite(logprob).into()))
        .collect();
    all.into()
}

fn once(text: &'static str) -> impl Iterator<Item = String> + Send + 'static {
    std::iter::once(text.to_owned())
}

/// The elements of an array without its brackets, a part at a time.
fn list(
    tokens: Arc<KeptTokens>,
    mut of: impl FnMut(&TokenLogprob) -> Value + Send + 'static,
) -> impl Iterator<Item = String> + Send + 'static {
    let starts = (0..tokens.list.len()).step_by(PART);
    starts.map(move |start| {
        let mut part = String::new();
        for (index, token) in tokens.list.iter().enumerate().skip(start).take(PART) {
            if index > 0 {
                part.push(',');
            }
            part.push_str(&of(token).to_string());
        }
        part
    })
}

impl Offsets {
    /// Where a token of these bytes begins.
    fn next(&mut self, bytes: &[u8]) -> usize {
        let begin = self.offset;
        self.unfinished.extend_from_slice(bytes);
        loop {
            let (whole, damaged) = match std::str::from_utf8(&self.unfinished) {
                Ok(text) => (text.len(), None),
                Err(error) => (error.valid_up_to(), error.error_len()),
            };
            let text = String::from_utf8_lossy(&self.unfinished[..whole]);
            self.offset += text.chars().count() + usize::from(damaged.is_some());
            self.unfinished.drain(..whole + damaged.unwrap_or(0));
            if damaged.is_none() {
                return begin;
            }
        }
    }
}

fn bytes(text: &Text, id: u32) -> &[u8] {
    text.tokenizer.token_bytes(text.shown(id))
}

/// A token's text; a token that is not a whole character is written as OpenAI writes it, `bytes:\xe2\x82`.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(String::from("bytes:"), |text, byte| {
            text + &format!("\\x{byte:02x}")
        }),
    }
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() {
        logprob
    } else {
        IMPOSSIBLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::fixture::tokenizer;
    use sanctum_engine::schedule::Admission;

    /// Ids are bytes.
    fn model_text() -> Text {
        Text::new(tokenizer(), None, Vec::new())
    }

    fn token(id: u8, top: &[(u8, f32)]) -> TokenLogprob {
        TokenLogprob {
            id: id.into(),
            logprob: -0.5,
            top: top.iter().map(|&(id, p)| (id.into(), p)).collect(),
        }
    }

    #[test]
    fn chat_has_text_and_bytes_of_each() {
        let tokens = [token(b'a', &[(b'a', -0.5), (0xe2, f32::NEG_INFINITY)])];
        let expected = json!({ "content": [{
            "token": "a", "logprob": -0.5, "bytes": [97],
            "top_logprobs": [
                { "token": "a", "logprob": -0.5, "bytes": [97] },
                { "token": "bytes:\\xe2", "logprob": -9999.0, "bytes": [0xe2] },
            ],
        }], "refusal": null });
        assert_eq!(chat(&tokens, &model_text()), expected);
    }

    #[test]
    fn completions_have_columns_and_offsets_in_characters() {
        let mut columns = Columns::new(model_text());
        columns.extend([token(b'a', &[(b'a', -0.5)]), token(b'b', &[])]);
        let first = columns.take().unwrap();
        assert_eq!(first["text_offset"], json!([0, 1]));
        assert_eq!(first["tokens"], json!(["a", "b"]));
        assert_eq!(first["top_logprobs"][1]["b"], -0.5);
        assert_eq!(columns.take(), None);
        columns.extend([token(b'c', &[])]);
        assert_eq!(columns.take().unwrap()["text_offset"], json!([2]));
    }

    #[test]
    fn character_of_several_tokens_is_counted_once() {
        let mut columns = Columns::new(model_text());
        columns.extend([0xe2, 0x82, 0xac, b'x', 0xff, b'y'].map(|byte| token(byte, &[])));
        let columns = columns.take().unwrap();
        assert_eq!(columns["text_offset"], json!([0, 0, 0, 1, 2, 3]));
        assert_eq!(columns["top_logprobs"][3]["x"], -0.5);
    }

    #[test]
    fn parts_of_a_long_completion_are_the_same_as_one_piece() {
        let tokens: Vec<TokenLogprob> = (0..3 * PART as u32 + 1)
            .map(|n| token(n as u8, &[(n as u8, -0.5), (7, -1.0)]))
            .collect();
        let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let whole = chat(&tokens, &model_text());
        let memory = || {
            Arc::new(Admission::unlimited())
                .reserve(1, 1, 0)
                .unwrap()
                .kept()
        };
        let kept = KeptTokens::new(tokens.clone(), memory());
        let parts: Vec<String> = chat_parts(kept, model_text()).collect();
        assert!(parts.len() > 4, "{}", parts.len());
        assert_eq!(parse(parts.concat()), whole);

        let mut columns = Columns::new(model_text());
        columns.extend(tokens.clone());
        let whole = columns.take();
        let mut columns = Columns::new(model_text());
        columns.extend(tokens);
        assert_eq!(
            parse(columns.parts(memory()).unwrap().collect()),
            whole.unwrap()
        );
        assert!(Columns::new(model_text()).parts(memory()).is_none());
    }
}
