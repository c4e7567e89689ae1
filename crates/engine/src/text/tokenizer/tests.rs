//! Encoding, decoding and what is refused.

use std::sync::{Arc, LazyLock};

use super::alphabet::Alphabet;
use super::cuts::LONGEST_PIECE;
use super::*;
use crate::text::production;

/// 256 single bytes, two merges and two control tokens: small enough to read.
pub(crate) fn bytes_only() -> Arc<Tokenizer> {
    static MADE: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
        let json = bytes_only_json(258).to_string();
        Arc::new(Tokenizer::from_bytes(json.as_bytes()).unwrap())
    });
    MADE.clone()
}

pub(crate) fn bytes_only_json(first_added: u32) -> serde_json::Value {
    let alphabet = Alphabet::new();
    let mut vocab: serde_json::Map<String, serde_json::Value> = (0..=u8::MAX)
        .map(|byte| (alphabet.char_of(byte).to_string(), byte.into()))
        .collect();
    vocab.insert("ab".into(), 256.into());
    vocab.insert("Ġab".into(), 257.into());
    let added = |id: u32, content: &str, special: bool| {
        serde_json::json!({"id": id, "content": content, "special": special, "normalized": false,
            "lstrip": false, "rstrip": false, "single_word": false})
    };
    serde_json::json!({
        "version": "1.0",
        "added_tokens": [added(first_added, "<|im_end|>", true), added(first_added + 1, "<think>", false)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"], ["Ġ", "ab"]]},
    })
}

/// Qwen3.5's own tokenizer.
pub(crate) fn qwen() -> Option<&'static Tokenizer> {
    static QWEN: LazyLock<Option<Tokenizer>> = LazyLock::new(|| {
        let json = production::file("tokenizer.json")?;
        Some(Tokenizer::from_bytes(&json).unwrap())
    });
    QWEN.as_ref()
}

#[test]
fn control_tokens_in_the_text_become_their_ids() {
    let tokenizer = bytes_only();
    let ids = tokenizer.encode("ab ab<|im_end|>\n<think>").unwrap();
    assert_eq!(ids, [256, 257, 258, u32::from(b'\n'), 259]);
    assert_eq!(tokenizer.token_id("<|im_end|>"), Some(258));
    assert_eq!(tokenizer.decode(&ids, false), "ab ab<|im_end|>\n<think>");
    assert_eq!(tokenizer.decode(&ids, true), "ab ab\n<think>");
}

#[test]
fn a_long_text_is_tokenized_up_to_the_limit_only() {
    let tokenizer = bytes_only();
    let text = "ab ".repeat(100_000);
    let mut pieces = 0;
    let error = tokenizer.encode_within(&text, 1000, || {
        pieces += 1;
        true
    });
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("the text has at least "), "{error}");
    assert_eq!(pieces, 1);
    let fits = tokenizer.encode_within(&text, usize::MAX, || true).unwrap();
    assert_eq!(fits, tokenizer.encode(&text).unwrap());
}

#[test]
fn tokenizing_stops_when_the_caller_says_so() {
    let text = "ab ".repeat(100_000);
    let mut left = 3;
    let error = bytes_only().encode_within(&text, usize::MAX, || {
        left -= 1;
        left > 0
    });
    assert!(matches!(error, Err(TokenizerError::Stopped)));
    assert_eq!(left, 0);
}

#[test]
fn a_word_of_megabytes_is_refused_by_name() {
    let text = "=".repeat(LONGEST_PIECE + 1);
    let error = bytes_only().encode_within(&text, usize::MAX, || true);
    assert!(matches!(error, Err(TokenizerError::Indivisible)));
}

#[test]
fn word_that_has_more_tokens_than_fit_is_too_long() {
    let text = "=".repeat(LONGEST_PIECE + 1);
    // The longest token is `<|im_end|>`.
    let fewest = text.len() / 10;
    let error = bytes_only().encode_within(&text, fewest - 1, || true);
    assert!(
        matches!(error, Err(TokenizerError::TooLong { at_least }) if at_least == fewest),
        "{error:?}"
    );
    let error = bytes_only().encode_within(&text, fewest, || true);
    assert!(matches!(error, Err(TokenizerError::Indivisible)));
}

#[test]
fn long_text_is_refused_if_the_tokenizer_cannot_split_it() {
    let mut json = bytes_only_json(258);
    json["pre_tokenizer"] = serde_json::json!({ "type": "Whitespace" });
    let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
    let text = "ab ".repeat(LONGEST_PIECE / 3 + 1);
    let error = tokenizer.encode_within(&text, usize::MAX, || true);
    assert!(matches!(error, Err(TokenizerError::NotDivided)));
    json["pre_tokenizer"] = bytes_only_json(258)["pre_tokenizer"].clone();
    json["normalizer"] = serde_json::json!({ "type": "Lowercase" });
    let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
    let error = tokenizer.encode_within(&text, 1000, || true);
    assert!(matches!(error, Err(TokenizerError::NotDivided)));
}

#[test]
fn long_text_is_split_beside_a_normalized_or_stripping_added_token() {
    for flag in ["normalized", "lstrip", "rstrip", "single_word"] {
        let mut json = bytes_only_json(258);
        json["added_tokens"][0][flag] = true.into();
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        let text = "ab ".repeat(LONGEST_PIECE / 3 + 1);
        let error = tokenizer.encode_within(&text, 10_000, || true);
        // One piece, not the whole.
        assert!(
            matches!(error, Err(TokenizerError::TooLong { at_least }) if at_least < 20_000),
            "{flag}: {error:?}"
        );
    }
}

#[test]
fn number_that_is_not_finite_is_read_where_it_does_not_matter() {
    let mut json = bytes_only_json(258);
    json["added_tokens"][0]["score"] = "NAN".into();
    let file = json.to_string().replace("\"NAN\"", "NaN");
    let tokenizer = Tokenizer::from_bytes(file.as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("ab").unwrap(), [256]);
    json["model"]["dropout"] = "NAN".into();
    let file = json.to_string().replace("\"NAN\"", "NaN");
    let error = Tokenizer::from_bytes(file.as_bytes()).unwrap_err();
    assert!(matches!(error, TokenizerError::Malformed(_)), "{error}");
}

#[test]
fn long_piece_that_waits_for_another_stops_when_its_client_leaves() {
    let tokenizer = bytes_only();
    let text = "=".repeat(4 * PIECE + 1);
    let guard = tokenizer.long_piece.lock_while(&mut || true).unwrap();
    let mut asked = 0;
    let error = tokenizer.encode_within(&text, usize::MAX, || {
        asked += 1;
        asked < 4
    });
    assert!(matches!(error, Err(TokenizerError::Stopped)));
    drop(guard);
    // Asked again with the lock held, which is released when the answer is no.
    let mut asked = 0;
    let error = tokenizer.encode_within(&text, usize::MAX, || {
        asked += 1;
        asked < 2
    });
    assert!(matches!(error, Err(TokenizerError::Stopped)));
    assert!(tokenizer.encode_within(&text, usize::MAX, || true).is_ok());
}

#[test]
fn every_id_has_bytes_or_is_empty() {
    let tokenizer = bytes_only();
    assert_eq!(tokenizer.vocab_size(), 260);
    assert_eq!(tokenizer.token_bytes(0), [0]);
    assert_eq!(tokenizer.token_bytes(0xff), [0xff]);
    assert_eq!(tokenizer.token_bytes(257), b" ab");
    assert_eq!(tokenizer.token_bytes(258), b"<|im_end|>");
    assert_eq!(tokenizer.token_bytes(260), b"");
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
}

#[test]
fn text_is_normalised_before_it_is_encoded() {
    let tokenizer = bytes_only();
    assert_eq!(tokenizer.encode("e\u{301}").unwrap(), [0xc3, 0xa9]);
}

#[test]
fn a_file_that_cannot_serve_is_refused_with_the_reason() {
    let refuse = |json: serde_json::Value| {
        Tokenizer::from_bytes(json.to_string().as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert!(refuse(serde_json::json!({})).starts_with("tokenizer.json: "));
    let model = serde_json::json!({"type": "BPE", "vocab": {"a": 0}, "merges": []});
    assert!(refuse(serde_json::json!({"model": model.clone()})).contains("ByteLevel"));
    let decoder =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false});
    assert!(refuse(serde_json::json!({"model": model, "decoder": decoder})).contains("byte 0x00"));
    let gap = refuse(bytes_only_json(300));
    assert!(gap.contains("<|im_end|>") && gap.contains("300"), "{gap}");
}

#[test]
fn qwen_encodes_as_hugging_face_does() {
    let (Some(tokenizer), Some(cases)) = (qwen(), production::file("tokenizer_cases.jsonl")) else {
        return;
    };
    let mut seen = 0;
    for line in String::from_utf8(cases).unwrap().lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        let cut = tokenizer.encode_pieces(text, 1, usize::MAX, || true);
        assert_eq!(cut.unwrap(), ids, "{text:?}");
        // NFC is the one thing that encoding does not keep.
        if tokenizer.decode(&ids, false) != text {
            let normalised = tokenizer.decode(&ids, false);
            assert_eq!(tokenizer.encode(&normalised).unwrap(), ids, "{text:?}");
        }
        seen += 1;
    }
    assert!(seen > 40, "{seen} cases");
}

#[test]
fn qwen_decodes_every_token_as_hugging_face_does() {
    let Some(tokenizer) = qwen() else { return };
    assert_eq!(tokenizer.vocab_size(), 151_669);
    for id in 0..tokenizer.vocab_size() as u32 {
        let theirs = tokenizer.inner.decode(&[id], false).unwrap();
        assert_eq!(tokenizer.decode(&[id], false), theirs, "token {id}");
    }
    let end = tokenizer.token_id("<|im_end|>").unwrap();
    assert!(tokenizer.is_special(end));
    assert!(!tokenizer.is_special(tokenizer.token_id("<think>").unwrap()));
}
