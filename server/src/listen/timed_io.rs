//! A connection's socket and the bodies of its requests, with time limits. Both report what happens to the
//! [`ConnectionState`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Sleep, sleep};

use super::phase::{BODY, ConnectionState};
use crate::peer::RequestBodyError;

/// How long a client may read nothing of what was sent to it. A client that reads slowly reads something now and then.
pub(crate) const STALL: Duration = Duration::from_secs(120);

/// A socket whose writes fail when the client has read nothing for [`STALL`].
pub(crate) struct TimedSocket<S> {
    inner: S,
    state: Arc<ConnectionState>,
    /// Runs while the client reads nothing.
    stall: Option<Pin<Box<Sleep>>>,
}

/// The body of a request, which must arrive within [`BODY`].
pub(crate) struct TimedBody {
    inner: Incoming,
    state: Arc<ConnectionState>,
    limit: Pin<Box<Sleep>>,
}

impl<S> TimedSocket<S> {
    /// Around a stream of bytes, encrypted or not.
    pub(crate) fn new(inner: S, state: Arc<ConnectionState>) -> Self {
        Self {
            inner,
            state,
            stall: None,
        }
    }

    /// Turns a wait that is too long into an error.
    fn limit_stall<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl TimedBody {
    /// The body of a request whose head has just arrived.
    pub(crate) fn new(inner: Incoming, state: Arc<ConnectionState>) -> Self {
        Self {
            inner,
            state,
            limit: Box::pin(sleep(BODY)),
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        match &frame {
            Poll::Pending if self.limit.as_mut().poll(cx).is_ready() => {
                return Poll::Ready(Some(Err(RequestBodyError::Timeout(BODY))));
            }
            Poll::Ready(None) => self.state.body_received(),
            _ if self.inner.is_end_stream() => self.state.body_received(),
            _ => {}
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(RequestBodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        self.state.body_received();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.state.bytes_received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.limit_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.limit_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.limit_stall(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn write_to_a_client_that_reads_nothing_fails_and_to_a_slow_one_does_not() {
        let (near, mut far) = duplex(1);
        let mut socket = TimedSocket::new(near, Arc::new(ConnectionState::new(false)));
        let slow = async {
            for _ in 0..4 {
                tokio::time::sleep(STALL - Duration::from_secs(1)).await;
                far.read_u8().await.unwrap();
            }
        };
        let (sent, ()) = tokio::join!(socket.write_all(b"abcd"), slow);
        sent.unwrap();
        let began = Instant::now();
        let error = socket.write_all(b"abcd").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), STALL);
    }
}
