//! A response body that reports its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

/// What depends on the end of a response. It is dropped with the body: when the last byte was taken, or when the client has
/// disconnected.
pub(crate) trait EndOfBody: Send + Unpin + 'static {
    /// The last byte was taken.
    fn complete(&mut self) {}
}

/// A response body, and what depends on its end.
pub(crate) struct TrackedBody<T> {
    body: Body,
    end: T,
}

impl<T: EndOfBody> TrackedBody<T> {
    /// Tracks `body`.
    pub(crate) fn new(body: Body, mut end: T) -> Self {
        if body.is_end_stream() {
            // An empty body is not polled.
            end.complete();
        }
        Self { body, end }
    }
}

impl<T: EndOfBody> HttpBody for TrackedBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.end.complete();
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
