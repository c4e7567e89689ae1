//! The events of the parser, and the list that collects them.

use super::literal::push_escaped;

/// A piece of the model's output, in the order in which the model wrote it.
///
/// Adjacent pieces of one kind belong together; where they are cut depends on how the output arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputEvent {
    /// Reasoning.
    Reasoning(String),
    /// Text of the answer.
    Text(String),
    /// A call of a declared function begins.
    CallStart {
        /// Counts the calls of this output from 0.
        index: usize,
        /// The function's name.
        name: String,
    },
    /// More of a call's arguments, which are the text of a JSON object.
    CallArguments {
        /// The call.
        index: usize,
        /// Joined, the deltas of a call that ends are one JSON object.
        delta: String,
    },
    /// A call is complete.
    CallEnd {
        /// The call.
        index: usize,
    },
}

/// How the output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputEnd<'a> {
    /// The model ended it.
    Stop,
    /// It ends where this stop string began.
    StopString(&'a str),
    /// It was cut off: by a limit on its length, or because the request was cancelled.
    Length,
}

/// Collects the events of one step, adjacent ones joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(Vec<OutputEvent>);

impl Events {
    pub(super) fn take(&mut self) -> Vec<OutputEvent> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn start(&mut self, index: usize, name: String) {
        self.0.push(OutputEvent::CallStart { index, name });
    }

    pub(super) fn end(&mut self, index: usize) {
        self.0.push(OutputEvent::CallEnd { index });
    }

    pub(super) fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.open_text().push_str(text);
        }
    }

    pub(super) fn reasoning(&mut self, text: &str) {
        if !text.is_empty() {
            self.open_reasoning().push_str(text);
        }
    }

    pub(super) fn arguments(&mut self, index: usize, delta: &str) {
        self.open_arguments(index).push_str(delta);
    }

    /// Adds text inside a JSON string of the arguments.
    pub(super) fn escaped(&mut self, index: usize, text: &str) {
        push_escaped(self.open_arguments(index), text);
    }

    fn open_text(&mut self) -> &mut String {
        if !matches!(self.0.last(), Some(OutputEvent::Text(_))) {
            self.0.push(OutputEvent::Text(String::new()));
        }
        match self.0.last_mut() {
            Some(OutputEvent::Text(text)) => text,
            _ => unreachable!("a text event was pushed"),
        }
    }

    fn open_reasoning(&mut self) -> &mut String {
        if !matches!(self.0.last(), Some(OutputEvent::Reasoning(_))) {
            self.0.push(OutputEvent::Reasoning(String::new()));
        }
        match self.0.last_mut() {
            Some(OutputEvent::Reasoning(text)) => text,
            _ => unreachable!("a reasoning event was pushed"),
        }
    }

    fn open_arguments(&mut self, index: usize) -> &mut String {
        let open = |event: &OutputEvent| matches!(event, OutputEvent::CallArguments { index: i, .. } if *i == index);
        if !self.0.last().is_some_and(open) {
            let delta = String::new();
            self.0.push(OutputEvent::CallArguments { index, delta });
        }
        match self.0.last_mut() {
            Some(OutputEvent::CallArguments { delta, .. }) => delta,
            _ => unreachable!("an arguments event was pushed"),
        }
    }
}
