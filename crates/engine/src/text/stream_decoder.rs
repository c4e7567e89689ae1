//! Text that arrives token by token, never half a character.

use std::sync::Arc;

use crate::text::tokenizer::Tokenizer;

/// Turns a sequence's tokens into text as they come.
///
/// Its output never changes afterwards: bytes that may become a character are held back (three at most), bytes that cannot
/// become one are emitted as U+FFFD, and all its text together is what
/// [`Tokenizer::decode`] makes of all the tokens. The work a token costs depends on that token's length only.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// The beginning of a character.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a text, which leaves control tokens out if `skip_special`.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            pending: Vec::new(),
        }
    }

    /// Adds a token and returns the text that is final with it.
    pub fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        self.pending
            .extend_from_slice(self.tokenizer.token_bytes(id));
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(invalid) = error.error_len() else {
                        self.pending = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[invalid..];
                }
            }
        }
    }

    /// Ends the text: bytes that were held back become U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::tokenizer::tests::bytes_only;

    #[test]
    fn character_is_emitted_whole() {
        let mut decoder = StreamDecoder::new(bytes_only(), true);
        let mut pieces: Vec<String> = "é🦙"
            .bytes()
            .map(|byte| decoder.push(byte.into()))
            .collect();
        pieces.push(decoder.finish());
        assert_eq!(pieces, ["", "é", "", "", "", "🦙", ""]);
    }

    #[test]
    fn bytes_of_no_character_are_emitted_at_once() {
        let mut decoder = StreamDecoder::new(bytes_only(), true);
        assert_eq!(decoder.push(0xff), "\u{fffd}");
        assert_eq!(decoder.push(0xf0), "");
        assert_eq!(decoder.push(0x9f), "");
        assert_eq!(decoder.push(u32::from(b'a')), "\u{fffd}a");
        assert_eq!(decoder.push(0xc3), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn control_tokens_are_left_out_on_request() {
        let mut silent = StreamDecoder::new(bytes_only(), true);
        assert_eq!(silent.push(258), "");
        assert_eq!(silent.push(259), "<think>");
        let mut verbose = StreamDecoder::new(bytes_only(), false);
        assert_eq!(verbose.push(258), "<|im_end|>");
    }

    proptest! {
        #[test]
        fn pieces_concatenate_to_the_whole(
            ids in prop::collection::vec(prop_oneof![0u32..262, 0xc0u32..0x100, 0x80u32..0xc0], 0..60),
            skip in any::<bool>(),
        ) {
            let tokenizer = bytes_only();
            let mut decoder = StreamDecoder::new(tokenizer.clone(), skip);
            let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
            text.push_str(&decoder.finish());
            prop_assert_eq!(text, tokenizer.decode(&ids, skip));
        }
    }
}
