//! Server-sent events that break off: a client gets whole events only, and then an error event.

/// The most of an unfinished event that is held back, in bytes. Longer ones are passed on in pieces.
const MOST_HELD: usize = 1 << 20;

/// Passes on whole events.
#[derive(Debug, Default)]
pub(crate) struct WholeEvents {
    held: Vec<u8>,
}

impl WholeEvents {
    /// What can be passed on with another piece of the stream; often all of it.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let end = match self.held.len() > MOST_HELD {
            true => self.held.len(),
            false => last_boundary(&self.held),
        };
        let rest = self.held.split_off(end);
        std::mem::replace(&mut self.held, rest)
    }

    /// What remains at the end of a stream that is complete.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// The end of the last whole event: an empty line ends each.
fn last_boundary(bytes: &[u8]) -> usize {
    let is_end = |at: &usize| {
        let before = &bytes[..*at];
        before.ends_with(b"\n\n") || before.ends_with(b"\r\n\r\n") || before.ends_with(b"\r\r")
    };
    (1..=bytes.len()).rev().find(is_end).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_event_is_held_back_until_it_is_whole() {
        let mut events = WholeEvents::default();
        assert_eq!(events.push(b"data: 1\n\ndata: 2"), b"data: 1\n\n");
        assert_eq!(events.push(b"\n"), b"");
        assert_eq!(events.push(b"\n"), b"data: 2\n\n");
        assert_eq!(events.push(b"data: 3\r\n\r\n: ping"), b"data: 3\r\n\r\n");
        assert_eq!(events.finish(), b": ping");
    }

    #[test]
    fn event_longer_than_the_limit_is_passed_on() {
        let mut events = WholeEvents::default();
        let piece = vec![b'x'; MOST_HELD + 1];
        assert_eq!(events.push(&piece).len(), MOST_HELD + 1);
    }
}
