//! The tokens that an upstream reports in its answer, for the audit log.

use serde::Deserialize;

/// The longest answer whose tokens are read, in bytes, unless it is a stream.
const LONGEST: usize = 256 << 10;

/// Tokens, as far as an upstream has reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReportedUsage {
    /// Of the prompt, cached ones included.
    pub prompt_tokens: Option<usize>,
    /// Generated.
    pub completion_tokens: Option<usize>,
}

/// A copy of an answer that is no stream, as it passes.
#[derive(Debug, Default)]
pub(crate) struct AnswerCopy {
    bytes: Vec<u8>,
    is_too_long: bool,
}

/// An answer, or the data of an event.
#[derive(Deserialize)]
struct ReportedAnswer {
    usage: Option<ReportedTokens>,
    /// In an event of the Responses API.
    response: Option<ReportedPart>,
    /// In the first event of the Messages API.
    message: Option<ReportedPart>,
}

/// The part of an event that has the usage.
#[derive(Deserialize)]
struct ReportedPart {
    usage: Option<ReportedTokens>,
}

/// The usage in each protocol.
#[derive(Deserialize)]
struct ReportedTokens {
    prompt_tokens: Option<usize>,
    completion_tokens: Option<usize>,
    input_tokens: Option<usize>,
    output_tokens: Option<usize>,
    /// In the Messages API the input excludes these.
    cache_read_input_tokens: Option<usize>,
    cache_creation_input_tokens: Option<usize>,
}

impl ReportedUsage {
    /// Takes what an answer or the data of an event reports. Later events report more.
    pub(super) fn read(&mut self, json: &[u8]) {
        let name = b"\"usage\"";
        if !json.windows(name.len()).any(|window| window == name) {
            return;
        }
        let Ok(answer) = serde_json::from_slice::<ReportedAnswer>(json) else {
            return;
        };
        let part = answer.response.or(answer.message);
        let Some(tokens) = answer.usage.or(part.and_then(|part| part.usage)) else {
            return;
        };
        let cached = [
            tokens.cache_read_input_tokens,
            tokens.cache_creation_input_tokens,
        ];
        let cached = cached.into_iter().flatten().fold(0, usize::saturating_add);
        let input = tokens
            .input_tokens
            .map(|input| input.saturating_add(cached));
        let output = tokens.completion_tokens.or(tokens.output_tokens);
        self.prompt_tokens = tokens.prompt_tokens.or(input).or(self.prompt_tokens);
        self.completion_tokens = output.or(self.completion_tokens);
    }
}

impl AnswerCopy {
    /// Another piece of it.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.is_too_long |= self.bytes.len() + piece.len() > LONGEST;
        match self.is_too_long {
            true => self.bytes = Vec::new(),
            false => self.bytes.extend_from_slice(piece),
        }
    }

    /// What the whole answer reports.
    pub(crate) fn usage(&self) -> ReportedUsage {
        let mut usage = ReportedUsage::default();
        usage.read(&self.bytes);
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_an_answer_is_read_in_each_protocol() {
        for (answer, prompt, completion) in [
            (
                r#"{"choices":[{"text":"\"usage\""}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#,
                Some(7),
                Some(3),
            ),
            (
                r#"{"output":[],"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":5},"output_tokens":3}}"#,
                Some(7),
                Some(3),
            ),
            (
                r#"{"type":"message","usage":{"input_tokens":2,"cache_read_input_tokens":5,"output_tokens":3}}"#,
                Some(7),
                Some(3),
            ),
            (r#"{"choices":[],"usage":null}"#, None, None),
            (r#"{"usage":"much"}"#, None, None),
            (r#"{"input_tokens":7}"#, None, None),
            (r#"{"usage":{"prompt_tokens":7"#, None, None),
        ] {
            let mut copy = AnswerCopy::default();
            let (first, rest) = answer.as_bytes().split_at(answer.len() / 2);
            copy.push(first);
            copy.push(rest);
            let usage = copy.usage();
            assert_eq!(
                (usage.prompt_tokens, usage.completion_tokens),
                (prompt, completion),
                "{answer}"
            );
        }
        let mut long = AnswerCopy::default();
        long.push(&vec![b' '; LONGEST]);
        long.push(br#"{"usage":{"prompt_tokens":7}}"#);
        assert_eq!(long.usage(), ReportedUsage::default());
        assert_eq!(long.bytes.capacity(), 0);
    }

    #[test]
    fn later_events_report_more() {
        let mut usage = ReportedUsage::default();
        let mut read = |data: &str| {
            usage.read(data.as_bytes());
            (usage.prompt_tokens, usage.completion_tokens)
        };
        let start =
            r#"{"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}"#;
        assert_eq!(read(start), (Some(7), Some(1)));
        let delta = r#"{"type":"message_delta","usage":{"output_tokens":3}}"#;
        assert_eq!(read(delta), (Some(7), Some(3)));
        assert_eq!(read(r#"{"choices":[],"usage":null}"#), (Some(7), Some(3)));
        let completed = r#"{"type":"response.completed","response":{"usage":{"input_tokens":8,"output_tokens":4}}}"#;
        assert_eq!(read(completed), (Some(8), Some(4)));
    }
}
