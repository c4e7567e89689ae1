//! What all connections share.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;

use super::connection_limit::ConnectionLimit;
use super::log_rate_limiter::LogRateLimiter;
use crate::activity::{RecentRefusals, RefusedRequest};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// The service behind all listeners, and the limits on their connections.
#[derive(Clone)]
pub(crate) struct HttpServer {
    /// Answers requests.
    pub(super) router: Router,
    /// Ends connections when the server drains.
    pub(super) shutdown: Shutdown,
    /// Counts connections that are refused.
    pub(super) metrics: Arc<Metrics>,
    /// Lists connections that are refused.
    pub(super) refusals: Arc<RecentRefusals>,
    /// Connections that may be open at once.
    pub(super) limit: Arc<ConnectionLimit>,
    /// Bounds the log lines that clients can cause.
    pub(super) log_limiter: Arc<LogRateLimiter>,
}

impl HttpServer {
    /// Serves `router` to at most `max_connections` connections at once.
    pub(crate) fn new(
        router: Router,
        shutdown: Shutdown,
        metrics: Arc<Metrics>,
        refusals: Arc<RecentRefusals>,
        max_connections: usize,
    ) -> Self {
        Self {
            router,
            shutdown,
            limit: ConnectionLimit::new(max_connections, metrics.clone()),
            metrics,
            refusals,
            log_limiter: Arc::default(),
        }
    }

    /// Counts and lists a connection that is refused or closed before its time.
    pub(super) fn refused(&self, address: SocketAddr, reason: &'static str) {
        self.metrics.connection_refused(reason);
        self.refusals.push(RefusedRequest {
            client: "none".to_owned(),
            address: Some(address.ip().to_canonical()),
            route: None,
            status: None,
            code: reason,
        });
    }
}
