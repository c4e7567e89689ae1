//! What was refused last: requests that were answered with an error, and connections that were closed.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

/// Refusals that are kept.
const MOST: usize = 64;

/// The last refusals of a server. Equal ones are counted instead of repeated, so that one client does not displace the
/// refusals of all others.
#[derive(Debug, Default)]
pub(crate) struct RecentRefusals(Mutex<VecDeque<CountedRefusal>>);

#[derive(Debug)]
struct CountedRefusal {
    refused: RefusedRequest,
    count: u64,
    last: SystemTime,
}

/// A request, or a connection before its first request, that was refused. Nothing in it is text of the client but the
/// name in its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedRequest {
    /// The client as far as it is known: the name in its certificate, else how it was to be authenticated.
    pub client: String,
    /// The address of its socket.
    pub address: Option<IpAddr>,
    /// Method and route; none for a connection.
    pub route: Option<(&'static str, String)>,
    /// The status of the answer; none for a connection.
    pub status: Option<u16>,
    /// The code of the error, or the label of `sanctum_connections_refused_total`.
    pub code: &'static str,
}

/// A refusal, for operators.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RefusalStatus {
    /// When it was last refused, RFC 3339.
    pub time: String,
    /// How long ago that was.
    pub age_seconds: f64,
    /// How often.
    pub count: u64,
    /// The name in the client's certificate, else `bearer`, `loopback`, `disabled` or `none`.
    pub client: String,
    /// The address of its socket.
    pub address: Option<IpAddr>,
    /// The HTTP method; null for a connection.
    pub method: Option<&'static str>,
    /// The route; null for a connection.
    pub route: Option<String>,
    /// The status; null for a connection.
    pub status: Option<u16>,
    /// Why.
    pub code: &'static str,
}

impl RecentRefusals {
    /// One more.
    pub(crate) fn push(&self, refused: RefusedRequest) {
        let mut kept = self.kept();
        let same = kept.iter().position(|one| one.refused == refused);
        let before = same.and_then(|index| kept.remove(index));
        kept.truncate(MOST - 1);
        kept.push_front(CountedRefusal {
            refused,
            count: before.map_or(0, |before| before.count) + 1,
            last: SystemTime::now(),
        });
    }

    /// The last one first.
    pub(crate) fn read(&self) -> Vec<RefusalStatus> {
        let now = SystemTime::now();
        let kept = self.kept();
        kept.iter().map(|one| one.status(now)).collect()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<CountedRefusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CountedRefusal {
    fn status(&self, now: SystemTime) -> RefusalStatus {
        let time: DateTime<Utc> = self.last.into();
        // The clock may have been set back.
        let age = now.duration_since(self.last).unwrap_or_default();
        let refused = self.refused.clone();
        let (method, route) = refused.route.unzip();
        RefusalStatus {
            time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
            age_seconds: age.as_secs_f64(),
            count: self.count,
            client: refused.client,
            address: refused.address,
            method,
            route,
            status: refused.status,
            code: refused.code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(client: &str, code: &'static str) -> RefusedRequest {
        RefusedRequest {
            client: client.into(),
            address: Some([192, 0, 2, 7].into()),
            route: Some(("POST", "/v1/chat/completions".into())),
            status: Some(401),
            code,
        }
    }

    #[test]
    fn equal_refusals_are_counted_and_the_last_is_first() {
        let refusals = RecentRefusals::default();
        for (client, code) in [("ada", "a"), ("bob", "a"), ("ada", "b"), ("ada", "a")] {
            refusals.push(refused(client, code));
        }
        let all = refusals.read();
        let seen: Vec<_> = all
            .iter()
            .map(|one| (one.client.as_str(), one.code, one.count))
            .collect();
        assert_eq!(seen, [("ada", "a", 2), ("ada", "b", 1), ("bob", "a", 1)]);
        assert_eq!(all[0].method, Some("POST"));
        assert!(all[0].time.ends_with('Z') && all[0].age_seconds < 60.0);
    }

    #[test]
    fn refusals_are_bounded_and_the_oldest_are_dropped() {
        let refusals = RecentRefusals::default();
        for n in 0..10 * MOST {
            refusals.push(refused(&n.to_string(), "a"));
        }
        let all = refusals.read();
        assert_eq!(all.len(), MOST);
        assert_eq!(all[0].client, (10 * MOST - 1).to_string());
    }

    #[test]
    fn refused_connection_has_no_route() {
        let refusals = RecentRefusals::default();
        refusals.push(RefusedRequest {
            route: None,
            status: None,
            ..refused("none", "unknown_ca")
        });
        let one = &refusals.read()[0];
        assert_eq!((&one.route, one.method, one.status), (&None, None, None));
    }
}
