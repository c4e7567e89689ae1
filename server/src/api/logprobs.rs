//! Log probabilities in OpenAI's two shapes.

use sanctum_engine::request::{Likelihood, TokenLogprob};
use serde_json::{Map, Value, json};

/// JSON knows no infinity: a probability of nothing is written as OpenAI's clients expect a very small one.
const IMPOSSIBLE: f32 = -9999.0;

/// One token of a chat answer: an element of `logprobs.content`.
pub fn chat_token(token: &TokenLogprob) -> Value {
    let mut body = likelihood(&token.chosen);
    body["top_logprobs"] = token.top.iter().map(likelihood).collect();
    body
}

fn likelihood(token: &Likelihood) -> Value {
    json!({
        "token": text(&token.bytes),
        "logprob": finite(token.logprob),
        "bytes": token.bytes,
    })
}

/// The tokens of a text completion: four columns, each with one entry a token.
#[derive(Debug, Default)]
pub struct Columns {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<usize>,
    /// Characters of all tokens so far: where the next one begins.
    offset: usize,
    /// Bytes at the end that are no whole character yet.
    unfinished: Vec<u8>,
}

impl Columns {
    /// Adds a token.
    pub fn push(&mut self, token: &TokenLogprob) {
        let chosen = text(&token.chosen.bytes);
        // The token that was chosen is there even where it is not among the likeliest.
        let top: Map<String, Value> = token
            .top
            .iter()
            .chain([&token.chosen])
            .map(|top| (text(&top.bytes), finite(top.logprob).into()))
            .collect();
        self.text_offset.push(self.offset);
        self.advance(&token.chosen.bytes);
        self.tokens.push(chosen);
        self.token_logprobs.push(finite(token.chosen.logprob));
        self.top_logprobs.push(top.into());
    }

    /// Moves on by the characters that these bytes complete.
    fn advance(&mut self, bytes: &[u8]) {
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
                break;
            }
        }
    }

    /// What was added since the last call; nothing if that is nothing.
    pub fn take(&mut self) -> Option<Value> {
        if self.tokens.is_empty() {
            return None;
        }
        Some(json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.token_logprobs),
            "top_logprobs": std::mem::take(&mut self.top_logprobs),
            "text_offset": std::mem::take(&mut self.text_offset),
        }))
    }
}

/// A token's text; a token that is no whole character is shown as OpenAI shows it, `bytes:\xe2\x82`.
fn text(bytes: &[u8]) -> String {
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

    fn likely(text: &[u8], logprob: f32) -> Likelihood {
        Likelihood {
            id: 0,
            bytes: text.to_vec(),
            logprob,
        }
    }

    fn token() -> TokenLogprob {
        TokenLogprob {
            chosen: likely("é".as_bytes(), -0.5),
            top: vec![
                likely("é".as_bytes(), -0.5),
                likely(b"\xe2\x82", f32::NEG_INFINITY),
            ],
        }
    }

    #[test]
    fn chat_has_text_and_bytes_of_each() {
        let expected = json!({
            "token": "é", "logprob": -0.5, "bytes": [0xc3, 0xa9],
            "top_logprobs": [
                { "token": "é", "logprob": -0.5, "bytes": [0xc3, 0xa9] },
                { "token": "bytes:\\xe2\\x82", "logprob": -9999.0, "bytes": [0xe2, 0x82] },
            ],
        });
        assert_eq!(chat_token(&token()), expected);
    }

    #[test]
    fn completions_have_columns_and_offsets_in_characters() {
        let mut columns = Columns::default();
        columns.push(&token());
        columns.push(&token());
        let first = columns.take().unwrap();
        assert_eq!(first["text_offset"], json!([0, 1]));
        assert_eq!(first["tokens"], json!(["é", "é"]));
        assert_eq!(first["top_logprobs"][0]["é"], -0.5);
        assert_eq!(columns.take(), None);
        columns.push(&token());
        assert_eq!(columns.take().unwrap()["text_offset"], json!([2]));
    }

    #[test]
    fn a_character_of_several_tokens_is_counted_once() {
        let mut columns = Columns::default();
        for bytes in [&b"\xe2"[..], b"\x82", b"\xac", b"x", b"\xff", b"y"] {
            columns.push(&TokenLogprob {
                chosen: likely(bytes, -0.5),
                top: Vec::new(),
            });
        }
        let columns = columns.take().unwrap();
        assert_eq!(columns["text_offset"], json!([0, 0, 0, 1, 2, 3]));
        assert_eq!(columns["top_logprobs"][3]["x"], -0.5);
    }
}
