//! Connections that are kept for the next request: which requests got a new one, and whether one was closed meanwhile.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tower::{Layer, Service};

/// Counts the connections that a client has begun to make. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionCount(Arc<AtomicU64>);

/// A connector that is counted.
#[derive(Clone, Debug)]
pub(crate) struct CountedConnector<S> {
    connector: S,
    count: ConnectionCount,
}

impl ConnectionCount {
    /// How many.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<S> Layer<S> for ConnectionCount {
    type Service = CountedConnector<S>;

    fn layer(&self, connector: S) -> Self::Service {
        CountedConnector {
            connector,
            count: self.clone(),
        }
    }
}

impl<S: Service<Target>, Target> Service<Target> for CountedConnector<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> S::Future {
        self.count.0.fetch_add(1, Relaxed);
        self.connector.call(target)
    }
}

/// Whether a request failed because its connection was closed before the response came.
pub(crate) fn is_closed(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let is_cut = error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_incomplete_message);
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let is_broken = matches!(
            kind,
            Some(
                ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::UnexpectedEof
            )
        );
        if is_cut || is_broken {
            return true;
        }
        cause = error.source();
    }
    false
}
