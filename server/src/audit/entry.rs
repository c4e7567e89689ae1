//! One request on its way to being a line.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::account::{Account, End};
use super::writer::Audit;
use crate::peer::Peer;
use crate::random;
use crate::route::Route;

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Caller {
    auth: &'static str,
    name: Option<String>,
    peer: Option<SocketAddr>,
}

impl Caller {
    /// `auth` is how they were let in, or tried to be.
    pub fn new(auth: &'static str, peer: Option<&Peer>) -> Self {
        let identity = peer.and_then(|peer| peer.identity.as_ref());
        Self {
            auth,
            name: identity.map(|identity| identity.name().to_owned()),
            peer: peer.map(|peer| peer.address),
        }
    }
}

/// A request that will be a line when this is dropped, if it is of the kind that is written down.
pub struct Entry {
    audit: Audit,
    account: Account,
    route: Route,
    caller: Caller,
    id: String,
    time: SystemTime,
    began: Instant,
    refusal: Option<&'static str>,
    status: Option<StatusCode>,
    sent: bool,
}

/// A line. The names are what operators' scripts read: docs/auth.md lists them.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request: &'a str,
    /// `mtls`, `bearer`, `loopback`, `disabled` or `none`.
    auth: &'static str,
    /// The certificate's name, else the same as `auth`.
    who: &'a str,
    peer: Option<SocketAddr>,
    method: &'static str,
    route: &'a str,
    model: Option<String>,
    prompt_tokens: Option<usize>,
    completion_tokens: Option<usize>,
    duration_ms: u64,
    /// None where the client went before an answer began.
    status: Option<u16>,
    outcome: Outcome,
    /// Why the gate refused it.
    reason: Option<&'static str>,
    finish_reason: Option<&'static str>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The answer was sent to its end.
    Finished,
    /// The server gave it up when it had to stop.
    Cancelled,
    /// The client went before the end of the answer.
    ClientGone,
    /// The gate or the API did not take it.
    Refused,
    /// The server could not do it.
    Failed,
}

impl Entry {
    /// A request that has just come.
    pub fn new(audit: Audit, account: Account, route: Route, caller: Caller) -> Self {
        Self {
            audit,
            account,
            route,
            caller,
            id: random::id("req_"),
            time: SystemTime::now(),
            began: Instant::now(),
            refusal: None,
            status: None,
            sent: false,
        }
    }

    /// Under which it is found: no other request has it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The gate refuses it.
    pub fn refused(&mut self, reason: &'static str, status: StatusCode) {
        self.refusal = Some(reason);
        self.status = Some(status);
    }

    /// An answer with this status begins.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The last byte of the answer was taken.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    fn outcome(&self, end: Option<End>) -> Outcome {
        match (self.status, end) {
            (_, Some(End::Failed)) => Outcome::Failed,
            (_, Some(End::Cancelled)) => Outcome::Cancelled,
            (Some(StatusCode::INTERNAL_SERVER_ERROR), _) if self.refusal.is_none() => {
                Outcome::Failed
            }
            (Some(status), _) if !status.is_success() => Outcome::Refused,
            (Some(_), _) if self.sent => Outcome::Finished,
            _ => Outcome::ClientGone,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.audit.is_on() || (self.refusal.is_none() && !self.route.is_written_down()) {
            return;
        }
        let facts = self.account.facts();
        let time: DateTime<Utc> = self.time.into();
        let line = Line {
            time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
            request: &self.id,
            auth: self.caller.auth,
            who: self.caller.name.as_deref().unwrap_or(self.caller.auth),
            peer: self.caller.peer,
            method: self.route.method,
            route: &self.route.path,
            prompt_tokens: facts.usage.map(|usage| usage.prompt_tokens),
            completion_tokens: facts.usage.map(|usage| usage.completion_tokens),
            duration_ms: self.began.elapsed().as_millis() as u64,
            status: self.status.map(|status| status.as_u16()),
            outcome: self.outcome(facts.end),
            reason: self.refusal,
            finish_reason: match facts.end {
                Some(End::Finished(reason)) => Some(reason),
                _ => None,
            },
            model: facts.model,
        };
        // Numbers and strings: there is nothing in it that JSON cannot say.
        if let Ok(line) = serde_json::to_vec(&line) {
            self.audit.write(line);
        }
    }
}
