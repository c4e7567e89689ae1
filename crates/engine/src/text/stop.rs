//! Stop strings, wherever token boundaries split them.

use crate::text::partial_match::begun;

/// Finds stop strings in a text that arrives in pieces.
///
/// The string that is complete first ends the text, as if the text arrived character by character; of several that are
/// complete at the same character, the one that began first. The text ends where that string begins. How the
/// text was cut into pieces makes no difference.
#[derive(Clone, Debug)]
pub struct StopBuffer {
    stops: Vec<String>,
    /// The end of the text so far, while it may become a stop string.
    held: String,
    /// The stop string that ended the text.
    hit: Option<usize>,
}

impl StopBuffer {
    /// A buffer at the start of a text. Empty stop strings are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|s| !s.is_empty()).collect(),
            held: String::new(),
            hit: None,
        }
    }

    /// Adds a piece. Returns the text that belongs to no stop string, and whether a stop string
    /// is complete; after that there is no more text.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.hit.is_some() {
            return (String::new(), true);
        }
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .enumerate()
            .filter_map(|(index, stop)| {
                let at = self.held.find(stop.as_str())?;
                Some((at + stop.len(), at, index))
            })
            .min();
        if let Some((_, at, index)) = first {
            self.hit = Some(index);
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| begun(&self.held, stop))
            .max()
            .unwrap_or(0);
        let held = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// The stop string that ended the text.
    pub fn stop(&self) -> Option<&str> {
        self.hit.map(|index| self.stops[index].as_str())
    }

    /// Ends the text and returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buffer(stops: &[&str]) -> StopBuffer {
        StopBuffer::new(stops.iter().map(|s| s.to_string()))
    }

    #[test]
    fn text_waits_only_while_it_may_become_a_stop_string() {
        let mut buffer = buffer(&["END"]);
        assert_eq!(buffer.push("one E"), ("one ".into(), false));
        assert_eq!(buffer.push("N"), (String::new(), false));
        assert_eq!(buffer.push("E"), ("EN".into(), false));
        assert_eq!(buffer.push("ND of"), (String::new(), true));
        assert_eq!(buffer.push("more"), (String::new(), true));
        assert_eq!(buffer.finish(), "");
    }

    #[test]
    fn what_waits_at_the_end_is_text() {
        let mut buffer = buffer(&["\n\n"]);
        assert_eq!(buffer.push("line\n"), ("line".into(), false));
        assert_eq!(buffer.finish(), "\n");
    }

    #[test]
    fn first_complete_stop_string_ends_the_text() {
        assert_eq!(buffer(&["abcd", "bc"]).push("xabcd"), ("xa".into(), true));
        assert_eq!(buffer(&["c", "abc"]).push("xabc"), ("x".into(), true));
    }

    #[test]
    fn no_stop_strings_hold_nothing_back() {
        assert_eq!(buffer(&[""]).push("text"), ("text".into(), false));
    }

    /// All of the text at once: the specification.
    fn naive(text: &str, stops: &[String]) -> (String, bool) {
        let first = stops
            .iter()
            .filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at)))
            .min();
        match first {
            Some((_, at)) => (text[..at].to_owned(), true),
            None => (text.to_owned(), false),
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(
            pieces in prop::collection::vec("[abé日]{0,4}", 0..12),
            stops in prop::collection::vec("[abé日]{1,5}", 0..4),
        ) {
            let mut buffer = StopBuffer::new(stops.clone());
            let mut text = String::new();
            let mut hit = false;
            for piece in &pieces {
                let (emit, now) = buffer.push(piece);
                text.push_str(&emit);
                hit = now;
            }
            text.push_str(&buffer.finish());
            prop_assert_eq!((text, hit), naive(&pieces.concat(), &stops));
        }
    }
}
