//! A connection to a mail server that fails when a response is larger than those of mail servers.
//!
//! lettre checks the length of a line when the line has ended, and a server that never ends one would fill this host's
//! memory. RFC 5321, section 4.5.3.1.5, allows 512 octets a line.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes of one response, TLS included: more than the 100 kB that lettre accepts.
const MAX_RESPONSE: usize = 128 << 10;

/// A connection whose responses are bounded. A response ends when the next command is written.
#[derive(Debug)]
pub(super) struct MailStream {
    stream: TcpStream,
    /// Bytes of this response.
    received: usize,
}

impl MailStream {
    /// Connects to a server, at the first of its addresses that answers.
    ///
    /// # Errors
    /// If no address does.
    pub(super) async fn connect(server: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((server, port)).await?;
        Ok(Self {
            stream,
            received: 0,
        })
    }
}

impl AsyncRead for MailStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received > MAX_RESPONSE {
            let why = format!(
                "its response is longer than {} KiB, which no mail server sends",
                MAX_RESPONSE >> 10
            );
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received += buffer.filled().len() - before;
        read
    }
}

impl AsyncWrite for MailStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.received = 0;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for MailStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
