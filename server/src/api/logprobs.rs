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
    /// The first token of a prompt, which nothing predicts.
    first: Option<u32>,
    tokens: Vec<TokenLogprob>,
    /// How many of `tokens` are the prompt's.
    prompt: usize,
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
            first: None,
            tokens: Vec::new(),
            prompt: 0,
            offsets: Offsets::default(),
        }
    }

    /// Adds the first token of a prompt, before all others.
    pub(crate) fn begin(&mut self, first: Option<u32>) {
        self.first = self.first.or(first);
    }

    /// Adds further tokens of the prompt.
    pub(crate) fn extend_prompt(&mut self, tokens: Vec<TokenLogprob>) {
        self.prompt += tokens.len();
        self.tokens.extend(tokens);
    }

    /// Adds tokens of the answer.
    pub(crate) fn extend(&mut self, tokens: impl IntoIterator<Item = TokenLogprob>) {
        self.tokens.extend(tokens);
    }

    /// What was added since the last call; nothing if that is nothing.
    pub(crate) fn take(&mut self) -> Option<Value> {
        let (first, tokens) = (self.first.take(), std::mem::take(&mut self.tokens));
        let prompt = std::mem::take(&mut self.prompt);
        if first.is_none() && tokens.is_empty() {
            return None;
        }
        let text = &self.text;
        let column = |first: Option<Value>, of: &dyn Fn(&TokenLogprob) -> Value| {
            let rest = tokens.iter().map(of);
            first.into_iter().chain(rest).collect::<Value>()
        };
        let mut offsets = Vec::with_capacity(tokens.len() + 1);
        offsets.extend(first.map(|id| self.offsets.next(bytes(text, id))));
        for (index, token) in tokens.iter().enumerate() {
            if index == prompt {
                self.offsets.end_prompt();
            }
            offsets.push(self.offsets.next(bytes(text, token.id)));
        }
        let nothing = first.map(|_| Value::Null);
        Some(json!({
            "tokens": column(
                first.map(|id| shown(bytes(text, id)).into()),
                &|token| shown(bytes(text, token.id)).into(),
            ),
            "token_logprobs": column(nothing.clone(), &|token| finite(token.logprob).into()),
            "top_logprobs": column(nothing, &|token| top(token, text)),
            "text_offset": offsets,
        }))
    }

    /// The same for a whole completion, as text in parts; none if there are no tokens. Their memory is reserved as long as
    /// the parts exist.
    pub(crate) fn parts(
        self,
        memory: KeptMemory,
    ) -> Option<impl Iterator<Item = String> + Send + 'static> {
        if self.first.is_none() && self.tokens.is_empty() {
            return None;
        }
        let tokens = Arc::new(KeptTokens::new(self.tokens, memory));
        let (text, mut offsets) = (self.text, self.offsets);
        let (names, tops) = (text.clone(), text.clone());
        // The entry of the first token of a prompt, before others if there are any.
        let separator = match tokens.list.is_empty() {
            true => "",
            false => ",",
        };
        let first = |entry: &dyn Fn(u32) -> Value| {
            let entry = self.first.map(|id| format!("{}{separator}", entry(id)));
            entry.into_iter()
        };
        let first_name = first(&|id| shown(bytes(&text, id)).into());
        let first_offset = self.first.map(|id| offsets.next(bytes(&text, id)));
        let first_offset = first(&|_| first_offset.into());
        let nothing = [(); 2].map(|()| first(&|_| Value::Null));
        let [no_logprob, no_top] = nothing;
        let (mut index, prompt) = (0, self.prompt);
        let all = once("{\"tokens\":[")
            .chain(first_name)
            .chain(list(tokens.clone(), move |token| {
                shown(bytes(&names, token.id)).into()
            }))
            .chain(once("],\"token_logprobs\":["))
            .chain(no_logprob)
            .chain(list(tokens.clone(), |token| finite(token.logprob).into()))
            .chain(once("],\"top_logprobs\":["))
            .chain(no_top)
            .chain(list(tokens.clone(), move |token| top(token, &tops)))
            .chain(once("],\"text_offset\":["))
            .chain(first_offset)
            .chain(list(tokens, move |token| {
                if index == prompt {
                    offsets.end_prompt();
                }
                index += 1;
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
    /// The answer begins. A character that the prompt leaves unfinished is written as one U+FFFD.
    fn end_prompt(&mut self) {
        self.offset += usize::from(!self.unfinished.is_empty());
        self.unfinished.clear();
    }

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
    use sanctum_engine::backend::ExtraCost;
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
    fn first_token_of_a_prompt_has_no_log_probability() {
        let mut columns = Columns::new(model_text());
        columns.begin(Some(b'a'.into()));
        columns.extend_prompt(vec![token(0xe2, &[]), token(0x82, &[])]);
        columns.extend([token(b'x', &[]), token(b'y', &[])]);
        let expected = json!({
            "tokens": ["a", "bytes:\\xe2", "bytes:\\x82", "x", "y"],
            "token_logprobs": [null, -0.5, -0.5, -0.5, -0.5],
            "top_logprobs": [null, {"bytes:\\xe2": -0.5}, {"bytes:\\x82": -0.5}, {"x": -0.5}, {"y": -0.5}],
            // The text is "a\u{fffd}xy".
            "text_offset": [0, 1, 1, 2, 3],
        });
        let memory = Arc::new(Admission::unlimited());
        let memory = memory.reserve(1, 1, ExtraCost::default()).unwrap().kept();
        let parts: String = columns.clone().parts(memory.clone()).unwrap().collect();
        assert_eq!(serde_json::from_str::<Value>(&parts).unwrap(), expected);
        assert_eq!(columns.take(), Some(expected));
        // A prompt of one token, and no answer.
        let mut columns = Columns::new(model_text());
        columns.begin(Some(b'a'.into()));
        let parts: String = columns.clone().parts(memory).unwrap().collect();
        let whole = columns.take().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&parts).unwrap(), whole);
        assert_eq!(whole["token_logprobs"], json!([null]));
        assert_eq!(whole["text_offset"], json!([0]));
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
                .reserve(1, 1, ExtraCost::default())
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
