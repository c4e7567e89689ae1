//! The record of one request, from its head to its end, whatever the end is.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, Utc};
use sanctum_config::UntrustedText;
use sanctum_engine::schedule::Usage;

use super::auth_method::AuthMethod;
use super::forwarded::Forwarded;
use super::refusal::Refusal;
use super::request_limit::RequestPermit;
use crate::activity::{ClientVisit, HasBegun, RecentClients, RecentRefusals, RefusedRequest};
use crate::audit::{AuditLine, AuditLog, RequestOutcome};
use crate::client_key::ClientKey;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::power::RunningRequest;
use crate::random;
use crate::route::Route;
use crate::tracked_body::EndOfBody;

/// Characters of a client's name that operators see, at most.
const LONGEST_NAME: usize = 200;

/// One request. It is dropped with the body of its response, or when the client disconnects before there is one; then it
/// is counted, its line is written to the audit log, and its permits are released.
pub(crate) struct RequestRecord {
    id: String,
    time: SystemTime,
    began: Instant,
    route: Route,
    method: AuthMethod,
    peer: Option<Peer>,
    /// The client of the server of our fleet that sent it, if it comes from one.
    on_behalf_of: Option<String>,
    refusal: Option<&'static str>,
    status: Option<StatusCode>,
    complete: bool,
    generation: GenerationRecord,
    audit: AuditLog,
    metrics: Arc<Metrics>,
    refusals: Arc<RecentRefusals>,
    /// Lists its client; none where it was not accepted.
    visit: Option<ClientVisit>,
    /// None where requests are not counted.
    pub(super) permit: Option<RequestPermit>,
    /// None for what watchdogs and operators request, which happens all the time.
    pub(super) running: Option<RunningRequest>,
}

/// What becomes of a request's generation: a handle for those who work on it.
#[derive(Clone)]
pub(crate) struct GenerationRecord(Arc<GenerationState>);

struct GenerationState {
    request_id: String,
    began: Instant,
    metrics: Arc<Metrics>,
    has_begun: HasBegun,
    facts: Mutex<Facts>,
}

/// What is known so far.
#[derive(Default)]
struct Facts {
    model: Option<String>,
    /// The upstream that answers it.
    served_by: Option<String>,
    /// None until the engine has accepted it.
    usage: Option<Usage>,
    /// Tokens of the prompt and of the answer, as an upstream reports them.
    reported: (Option<usize>, Option<usize>),
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    tokens: u32,
    end: Option<RecordedEnd>,
}

/// How a generation ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordedEnd {
    /// It is complete; the finish reason.
    Finished(&'static str),
    /// The server cancelled it: its drain limit has passed.
    Cancelled,
    /// The engine failed.
    Failed,
}

impl RequestRecord {
    /// A request whose head has just arrived.
    pub(crate) fn new(
        route: Route,
        method: AuthMethod,
        peer: Option<Peer>,
        audit: AuditLog,
        metrics: Arc<Metrics>,
        refusals: Arc<RecentRefusals>,
    ) -> Self {
        let began = Instant::now();
        let id = random::id("req_");
        let generation = GenerationState {
            request_id: id.clone(),
            began,
            metrics: metrics.clone(),
            has_begun: HasBegun::default(),
            facts: Mutex::default(),
        };
        Self {
            id,
            time: SystemTime::now(),
            began,
            route,
            method,
            peer,
            on_behalf_of: None,
            refusal: None,
            status: None,
            complete: false,
            generation: GenerationRecord(Arc::new(generation)),
            audit,
            metrics,
            refusals,
            visit: None,
            permit: None,
            running: None,
        }
    }

    /// Another server of the fleet has passed it on. Before the first handle is handed out.
    pub(crate) fn forwarded(&mut self, said: Forwarded) {
        self.on_behalf_of = said.client;
        if let (Some(id), Some(generation)) = (said.id, Arc::get_mut(&mut self.generation.0)) {
            generation.request_id.clone_from(&id);
            self.id = id;
        }
    }

    /// Its id, which no other request has, unless another server of the fleet has passed it on with its own.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The handle for those who generate its response.
    pub(crate) fn generation(&self) -> GenerationRecord {
        self.generation.clone()
    }

    /// The gate accepts it: it counts for its client to its end.
    pub(super) fn enter(&mut self, clients: &Arc<RecentClients>, client: ClientKey) {
        let is_generation = self.route.is_inference();
        let has_begun = is_generation.then(|| self.generation.0.has_begun.clone());
        self.visit = Some(clients.enter(client, self.method.as_str(), has_begun));
    }

    /// The gate refuses it.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.refusal = Some(refusal.reason());
    }

    /// A response with this status begins; `code` is that of the error, if it is one.
    pub(crate) fn responded(&mut self, status: StatusCode, code: Option<&'static str>) {
        self.status = Some(status);
        if let Some(code) = code {
            self.refusals.push(RefusedRequest {
                client: self.client_name(),
                address: self
                    .peer
                    .as_ref()
                    .map(|peer| peer.address.ip().to_canonical()),
                route: Some((self.route.method, self.route.path.clone())),
                status: Some(status.as_u16()),
                code,
            });
        }
        let Route { method, path } = &self.route;
        self.metrics.request(method, path, status.as_u16());
    }

    /// The name in its client's certificate, with the client for whom that one asks; else how it was authenticated.
    fn client_name(&self) -> String {
        let identity = self.peer.as_ref().and_then(|peer| peer.identity.as_ref());
        let name = identity.map_or(self.method.as_str(), |identity| identity.name());
        let name = match &self.on_behalf_of {
            Some(client) => format!("{name} for {client}"),
            None => name.to_owned(),
        };
        UntrustedText::bounded(&name, LONGEST_NAME).into()
    }

    fn outcome(&self, end: Option<RecordedEnd>) -> RequestOutcome {
        match (self.status, end) {
            (_, Some(RecordedEnd::Failed)) => RequestOutcome::Failed,
            (_, Some(RecordedEnd::Cancelled)) => RequestOutcome::Cancelled,
            (Some(StatusCode::INTERNAL_SERVER_ERROR), _) if self.refusal.is_none() => {
                RequestOutcome::Failed
            }
            (Some(status), _) if !status.is_success() => RequestOutcome::Refused,
            (Some(_), _) if self.complete => RequestOutcome::Finished,
            _ => RequestOutcome::ClientGone,
        }
    }

    fn audit(&self, facts: &Facts) {
        let time: DateTime<Utc> = self.time.into();
        let identity = self.peer.as_ref().and_then(|peer| peer.identity.as_ref());
        let auth = self.method.as_str();
        self.audit.write(&AuditLine {
            time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
            request: &self.id,
            auth,
            who: identity.map_or(auth, |identity| identity.name()),
            peer: self.peer.as_ref().map(|peer| peer.address),
            method: self.route.method,
            route: &self.route.path,
            model: facts.model.as_deref(),
            served_by: facts.served_by.as_deref(),
            on_behalf_of: self.on_behalf_of.as_deref(),
            prompt_tokens: match facts.usage {
                Some(usage) => Some(usage.prompt_tokens),
                None => facts.reported.0,
            },
            completion_tokens: match facts.usage {
                Some(usage) => Some(usage.completion_tokens),
                None => facts.reported.1,
            },
            duration_ms: self.began.elapsed().as_millis() as u64,
            status: self.status.map(|status| status.as_u16()),
            outcome: self.outcome(facts.end),
            reason: self.refusal,
            finish_reason: match facts.end {
                Some(RecordedEnd::Finished(reason)) => Some(reason),
                _ => None,
            },
        });
    }
}

impl EndOfBody for RequestRecord {
    fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let facts = self.generation.facts();
        facts.count(&self.metrics);
        if self.audit.is_on() && (self.refusal.is_some() || self.route.is_audited()) {
            self.audit(&facts);
        }
    }
}

impl GenerationRecord {
    /// The id of the request.
    pub(crate) fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// The request is for this model.
    pub(crate) fn model(&self, id: &str) {
        self.facts().model = Some(id.to_owned());
    }

    /// So many of its fields had no effect.
    pub(crate) fn ignored_fields(&self, count: usize) {
        if count > 0 {
            self.0.metrics.ignored_fields(count);
        }
    }

    /// This upstream answers it.
    pub(crate) fn served_by(&self, upstream: &str) {
        self.0.has_begun.store(true, Relaxed);
        self.facts().served_by = Some(upstream.to_owned());
    }

    /// The upstream that answers it has reported so many tokens. They are not counted as this server's.
    pub(crate) fn reported(&self, prompt: Option<usize>, completion: Option<usize>) {
        self.facts().reported = (prompt, completion);
    }

    /// The engine has accepted it, with a prompt of so many tokens.
    pub(crate) fn submitted(&self, prompt_tokens: usize) {
        self.facts().usage = Some(Usage {
            prompt_tokens,
            completion_tokens: 0,
            cached_tokens: 0,
        });
    }

    /// One more token was generated.
    pub(crate) fn token(&self) {
        let now = Instant::now();
        let mut facts = self.facts();
        facts.tokens += 1;
        facts.last_token = Some(now);
        if let Some(usage) = &mut facts.usage {
            usage.completion_tokens += 1;
        }
        if facts.first_token.is_none() {
            facts.first_token = Some(now);
            self.0.has_begun.store(true, Relaxed);
            let model = facts.model.as_deref().unwrap_or_default();
            self.0.metrics.first_token(model, now - self.0.began);
        }
    }

    /// It is complete.
    pub(crate) fn finished(&self, reason: &'static str, usage: Usage) {
        let mut facts = self.facts();
        facts.usage = Some(usage);
        facts.end = Some(RecordedEnd::Finished(reason));
    }

    /// The server cancels it.
    pub(crate) fn cancelled(&self) {
        self.facts().end = Some(RecordedEnd::Cancelled);
    }

    /// The engine has failed.
    pub(crate) fn failed(&self) {
        self.facts().end = Some(RecordedEnd::Failed);
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// Counts the generation, if there was one.
    fn count(&self, metrics: &Metrics) {
        let (Some(model), Some(_)) = (&self.model, self.usage) else {
            return;
        };
        let outcome = match self.end {
            Some(RecordedEnd::Finished(reason)) => reason,
            Some(RecordedEnd::Failed) => "failed",
            Some(RecordedEnd::Cancelled) | None => "cancelled",
        };
        let per_token = match (self.first_token, self.last_token) {
            (Some(first), Some(last)) if self.tokens > 1 => {
                Some((last - first) / (self.tokens - 1))
            }
            _ => None,
        };
        tracing::debug!(%model, outcome, tokens = self.tokens, "generation");
        metrics.generation(model, outcome, per_token);
    }
}

#[cfg(test)]
mod tests;
