//! Server-sent events that break off: a client gets whole events only, and then an error event.

use serde_json::Value;

use super::reported_usage::ReportedUsage;
use crate::route;

/// The most of an unfinished event that is held back, in bytes. Longer ones are passed on in pieces.
const MOST_HELD: usize = 1 << 20;
/// Bytes of the stream's end that are kept, to see whether it was complete.
const MOST_KEPT: usize = 64 << 10;

/// The protocol of a stream of events: how it ends, and how it reports an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventProtocol {
    /// Chat and text completions.
    OpenAi,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Anthropic,
}

/// Passes on whole events.
#[derive(Debug)]
pub(crate) struct WholeEvents {
    protocol: EventProtocol,
    /// What has come of an event that is not whole.
    held: Vec<u8>,
    /// The last events that were passed on.
    kept: Vec<u8>,
    /// The event that ends a stream was passed on.
    is_ended: bool,
    /// The client has the beginning of an event.
    is_partial: bool,
    usage: ReportedUsage,
}

impl EventProtocol {
    /// That of a route.
    pub(crate) fn of(route: &str) -> Self {
        match route {
            route::RESPONSES => Self::Responses,
            route::MESSAGES => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }

    /// Whether this event is the last one.
    fn is_last(self, event: &[u8]) -> bool {
        let names: &[&str] = match self {
            Self::OpenAi => return field(event, b"data").is_some_and(|data| data == b"[DONE]"),
            Self::Responses => &[
                "response.completed",
                "response.failed",
                "response.incomplete",
                "error",
            ],
            Self::Anthropic => &["message_stop", "error"],
        };
        field(event, b"event").is_some_and(|name| names.iter().any(|n| n.as_bytes() == name))
    }

    /// Whether the data of this event shows that nothing is missing: some servers send neither `[DONE]` nor names of events.
    fn shows_end(self, data: &Value) -> bool {
        let kind = data["type"].as_str().unwrap_or_default();
        match self {
            Self::OpenAi => {
                let mut choices = data["choices"].as_array().into_iter().flatten();
                !data["error"].is_null() || choices.any(|one| !one["finish_reason"].is_null())
            }
            Self::Responses => {
                kind == "error"
                    || ["completed", "failed", "incomplete"]
                        .iter()
                        .any(|end| kind.strip_prefix("response.") == Some(end))
            }
            Self::Anthropic => ["message_stop", "error"].contains(&kind),
        }
    }
}

/// The value of the first field of this name in an event.
fn field<'a>(event: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = event.split(|&byte| byte == b'\n' || byte == b'\r');
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))?;
    Some(value.trim_ascii())
}

impl WholeEvents {
    /// Those of a stream that begins.
    pub(crate) fn new(protocol: EventProtocol) -> Self {
        Self {
            protocol,
            held: Vec::new(),
            kept: Vec::new(),
            is_ended: false,
            is_partial: false,
            usage: ReportedUsage::default(),
        }
    }

    /// The tokens that the events have reported so far.
    pub(crate) fn usage(&self) -> ReportedUsage {
        self.usage
    }

    /// What can be passed on with another piece of the stream; often all of it.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        // An end may have begun in the bytes before.
        let scanned = self.held.len().saturating_sub(3);
        self.held.extend_from_slice(piece);
        let mut start = 0;
        for end in scanned + 1..=self.held.len() {
            if is_end(&self.held[start..end]) {
                let event = &self.held[start..end];
                self.is_ended |= self.protocol.is_last(event);
                if let Some(data) = field(event, b"data") {
                    self.usage.read(data);
                }
                keep(&mut self.kept, event);
                start = end;
                self.is_partial = false;
            }
        }
        if self.held.len() - start > MOST_HELD {
            self.is_ended |= self.protocol.is_last(&self.held[start..]);
            start = self.held.len();
            self.is_partial = true;
        }
        let rest = self.held.split_off(start);
        std::mem::replace(&mut self.held, rest)
    }

    /// What remains at the end of the stream. None if the upstream has ended it before it was complete.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.held);
        // The line break that ends the last event may be missing.
        keep(&mut self.kept, &rest);
        if let Some(data) = field(&rest, b"data") {
            self.usage.read(data);
        }
        let is_whole = self.is_ended
            || self.protocol.is_last(&rest)
            || self.kept.split(|&byte| byte == b'\n').any(|line| {
                let data = line.strip_prefix(b"data:");
                let data = data.and_then(|data| serde_json::from_slice(data).ok());
                data.is_some_and(|data: Value| self.protocol.shows_end(&data))
            });
        is_whole.then_some(rest)
    }

    /// What must come before an event of our own.
    pub(crate) fn separator(&self) -> &'static str {
        match self.is_partial {
            true => "\n\n",
            false => "",
        }
    }
}

/// Appends an event, and drops whole ones from the beginning beyond the limit.
fn keep(kept: &mut Vec<u8>, event: &[u8]) {
    if event.len() > MOST_KEPT {
        kept.clear();
        return;
    }
    if kept.len() + event.len() > MOST_KEPT {
        kept.clear();
    }
    kept.extend_from_slice(event);
}

/// Whether an event ends here: an empty line ends each.
fn is_end(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n\n") || bytes.ends_with(b"\n\r\n") || bytes.ends_with(b"\r\r")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn openai() -> WholeEvents {
        WholeEvents::new(EventProtocol::OpenAi)
    }

    #[test]
    fn unfinished_event_is_held_back_until_it_is_whole() {
        let mut events = openai();
        assert_eq!(events.push(b"data: 1\n\ndata: 2"), b"data: 1\n\n");
        assert_eq!(events.push(b"\n"), b"");
        assert_eq!(events.push(b"\n"), b"data: 2\n\n");
        assert_eq!(events.push(b"data: 3\r\n\r\n: ping"), b"data: 3\r\n\r\n");
        assert_eq!(events.finish(), None);
    }

    #[test]
    fn event_longer_than_the_limit_is_passed_on_and_an_error_event_is_separated() {
        let mut events = openai();
        let piece = vec![b'x'; MOST_HELD + 1];
        assert_eq!(events.push(&piece).len(), MOST_HELD + 1);
        assert_eq!(events.separator(), "\n\n");
        events.push(b"\n\n");
        assert_eq!(events.separator(), "");
    }

    #[test]
    fn stream_is_complete_with_its_last_event_only() {
        use EventProtocol::{Anthropic, OpenAi, Responses};
        for (protocol, stream, is_complete) in [
            (
                OpenAi,
                "data: {\"choices\":[{\"finish_reason\":null}]}\n\n",
                false,
            ),
            (
                OpenAi,
                "data: {\"choices\":[{\"finish_reason\":null}]}\n\ndata: [DONE]\n\n",
                true,
            ),
            (OpenAi, "data: [DONE]", true),
            (
                OpenAi,
                "data: {\"choices\":[{\"finish_reason\": \"stop\"}]}\n\n: end\n\n",
                true,
            ),
            (OpenAi, "data: {\"error\":{\"message\":\"x\"}}\n\n", true),
            (OpenAi, "data: {\"choices\":[{\"finish_reason\":\"st", false),
            (OpenAi, "", false),
            (Responses, "event: response.created\ndata: {}\n\n", false),
            (Responses, "event: response.completed\ndata: {}\n\n", true),
            (
                Responses,
                "data: {\"type\":\"response.incomplete\"}\r\n\r\n",
                true,
            ),
            (Anthropic, "event: message_delta\ndata: {}\n\n", false),
            (Anthropic, "event: message_stop\r\ndata: {}\r\n\r\n", true),
            (Anthropic, "event: error\ndata: {}\n\n", true),
        ] {
            let mut events = WholeEvents::new(protocol);
            events.push(stream.as_bytes());
            assert_eq!(events.finish().is_some(), is_complete, "{stream}");
        }
    }

    #[test]
    fn usage_is_that_of_the_events_however_they_are_cut() {
        let stream = "data: {\"choices\":[],\"usage\":null}\n\n\
                      data: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";
        for size in [1, 10, 1000] {
            let mut events = openai();
            for piece in stream.as_bytes().chunks(size) {
                events.push(piece);
            }
            let usage = events.usage();
            assert_eq!(
                (usage.prompt_tokens, usage.completion_tokens),
                (Some(7), Some(3))
            );
        }
        let mut unfinished = openai();
        unfinished.push(b"data: {\"usage\":{\"completion_tokens\":3}}");
        unfinished.finish();
        assert_eq!(unfinished.usage().completion_tokens, Some(3));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_bytes(
            stream in "[a\r\n:]{0,40}",
            cuts in proptest::collection::vec(0..40usize, 0..6),
        ) {
            let whole = openai().push(stream.as_bytes());
            let mut events = openai();
            let mut passed = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < stream.len()).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts.into_iter().chain([stream.len()]) {
                passed.extend(events.push(&stream.as_bytes()[from..cut]));
                from = cut;
            }
            prop_assert_eq!(passed, whole);
        }
    }
}
