//! The body of an answer while it is sent: what must last as long as it does, lasts in it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use super::Held;
use crate::audit::Entry;

/// A body with the request's place among its client's and its line in the audit log. Both end with the body: when its
/// last byte is taken, or when the client goes and it is dropped.
pub struct Sending {
    body: Body,
    entry: Entry,
    _held: Option<Held>,
}

impl Sending {
    /// Wraps a body.
    pub fn of(body: Body, mut entry: Entry, held: Option<Held>) -> Body {
        if body.is_end_stream() {
            // Nobody will ask for the end of what is empty.
            entry.sent();
        }
        Body::new(Self {
            body,
            entry,
            _held: held,
        })
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.entry.sent();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
