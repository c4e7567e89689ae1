//! The body of a request in parts, so that a part of it can be replaced without a copy of the others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Parts that are sent one after the other. The length of all is known.
#[derive(Debug)]
pub(crate) struct BodyParts(VecDeque<Bytes>);

impl BodyParts {
    /// These parts.
    pub(crate) fn new(parts: &[Bytes]) -> Self {
        let parts = parts.iter().filter(|part| !part.is_empty());
        Self(parts.cloned().collect())
    }
}

impl Body for BodyParts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}
