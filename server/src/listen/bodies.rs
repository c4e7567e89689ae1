//! The bodies of requests and answers, watched on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::phase::{BODY, Progress};

/// A request's body, which must come in time.
pub struct Arriving {
    inner: Incoming,
    progress: Arc<Progress>,
    limit: Pin<Box<Sleep>>,
}

/// An answer's body, which tells when it is gone.
pub struct Leaving {
    inner: Body,
    progress: Arc<Progress>,
}

/// Why a body is not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// It took too long.
    #[error("it did not arrive within {} s", BODY.as_secs())]
    Late,
    /// The connection failed, or what came is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl Arriving {
    /// The body of a request whose head has just been read.
    pub fn new(inner: Incoming, progress: Arc<Progress>) -> Self {
        Self {
            inner,
            progress,
            limit: Box::pin(sleep(BODY)),
        }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = ArrivalError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ArrivalError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        match &frame {
            Poll::Pending if self.limit.as_mut().poll(cx).is_ready() => {
                return Poll::Ready(Some(Err(ArrivalError::Late)));
            }
            Poll::Ready(None) => self.progress.received(),
            _ if self.inner.is_end_stream() => self.progress.received(),
            _ => {}
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(ArrivalError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.progress.received();
    }
}

impl Leaving {
    /// The body of an answer.
    pub fn new(inner: Body, progress: Arc<Progress>) -> Self {
        Self { inner, progress }
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.progress.answered();
    }
}
