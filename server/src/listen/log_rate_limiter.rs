//! Limits the rate of log lines that clients can cause.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use crate::client_key::ClientKey;

/// Lines in each interval.
const LINES: u32 = 20;
/// Of those, lines that one client may cause, so that it does not hide the lines of others.
const LINES_PER_CLIENT: u32 = 10;
/// The interval.
const INTERVAL: Duration = Duration::from_secs(60);

/// Limits the rate of log lines and counts those that are left out.
#[derive(Debug, Default)]
pub(crate) struct LogRateLimiter(Mutex<Interval>);

#[derive(Debug, Default)]
struct Interval {
    began: Option<Instant>,
    written: u32,
    /// Lines written by client: no more entries than lines.
    by_client: HashMap<ClientKey, u32>,
    left_out: u64,
}

impl LogRateLimiter {
    /// Whether to write a line that `client` caused (none: the system did), and if so how many were left out since the
    /// last one.
    pub(crate) fn permit(&self, client: Option<&ClientKey>) -> Option<u64> {
        let now = Instant::now();
        let mut interval = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if interval.began.is_none_or(|began| now - began >= INTERVAL) {
            interval.began = Some(now);
            interval.written = 0;
            interval.by_client.clear();
        }
        let own = client.and_then(|client| interval.by_client.get(client));
        if interval.written == LINES || own.is_some_and(|&own| own == LINES_PER_CLIENT) {
            interval.left_out += 1;
            return None;
        }
        interval.written += 1;
        if let Some(client) = client {
            *interval.by_client.entry(client.clone()).or_default() += 1;
        }
        Some(std::mem::take(&mut interval.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> ClientKey {
        let address: std::net::IpAddr = address.parse().unwrap();
        ClientKey::of_address((address, 9).into())
    }

    #[tokio::test(start_paused = true)]
    async fn lines_left_out_are_reported_with_the_next_line() {
        let limiter = LogRateLimiter::default();
        let written = (0..1000).filter(|_| limiter.permit(None).is_some()).count();
        assert_eq!(written, 20);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limiter.permit(None), Some(980));
        assert_eq!(limiter.permit(None), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_ipv6_network_does_not_hide_another_client() {
        let limiter = LogRateLimiter::default();
        let written = (0..1000)
            .map(|host| client(&format!("2001:db8::{host:x}")))
            .filter(|client| limiter.permit(Some(client)).is_some())
            .count();
        assert_eq!(written, 10);
        assert_eq!(limiter.permit(Some(&client("192.0.2.1"))), Some(990));
    }
}
