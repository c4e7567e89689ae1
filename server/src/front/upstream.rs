//! One other server: its circuit, its health, and how a request is sent to it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use sanctum_client::{Client, ClientError, ForwardedResponse, Forwarder, Liveness, ServerPhase};
use sanctum_config::UntrustedText;
use tokio::sync::watch;

use super::circuit::{Circuit, CircuitState, MOST_MISSED};
use super::response::{self, ResponseFailure};
use super::spec::UpstreamSpec;
use super::stall::StallCheck;

/// How often each upstream is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long nothing may come of an answer that has begun while the upstream answers no probe.
const SILENCE_LIMIT: Duration = Duration::from_secs(4);
/// How often credentials are read again, so that renewed files count.
const RELOAD_EVERY: Duration = Duration::from_secs(300);
/// Characters of an error that are shown.
const SHOWN: usize = 300;

/// One other server.
pub(crate) struct Upstream {
    /// How it is configured.
    pub spec: UpstreamSpec,
    state: Mutex<UpstreamState>,
    /// False while it answers no probe. Requests that wait for their first byte then try another upstream. One that answers and
    /// accepts no new requests is up: it finishes those that it has.
    is_up: watch::Sender<bool>,
    /// Whether its last probe found a heartbeat, which is answered within milliseconds whatever it computes.
    has_heartbeat: AtomicBool,
    stall: Arc<StallCheck>,
    in_flight: AtomicUsize,
}

struct UpstreamState {
    circuit: Circuit,
    /// Probes in a row that it has not answered.
    unanswered: u32,
    /// Why it is not asked, if it is not.
    problem: Option<String>,
    since: Instant,
    forwarder: Option<(Forwarder, Instant)>,
}

/// How an upstream is, for `/health`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Whether requests are sent to it.
    pub circuit: CircuitState,
    /// Requests that it has.
    pub in_flight: usize,
    /// Since its circuit changed.
    pub since_seconds: f64,
    /// Why none are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Where a request can go if an upstream does not answer it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// To the next upstream.
    Next,
    /// This is the last one in their order.
    Last,
    /// Nowhere: all others have failed.
    Nowhere,
}

/// What came of sending a request to it.
pub(crate) enum Attempt {
    /// An answer, which is the client's whatever it says.
    Answer(UpstreamResponse),
    /// It has no room: its message, and when to try again, in seconds.
    Full(String, Option<u64>),
    /// It has refused this server's own credentials.
    Denied(StatusCode),
    /// It is not asked at present. `on_trial`: it is asked if nothing else is left.
    Skipped {
        /// Why.
        problem: String,
        /// Another request decides just now whether it works.
        on_trial: bool,
    },
    /// It answered 500, which may be about the request.
    Broke(String),
    /// It did not answer, or failed.
    Failed(String),
}

/// Why a probe failed.
struct ProbeFailure {
    /// For clients.
    problem: String,
    /// For the log.
    detail: String,
    /// Whether it or its host answered, and accepts no requests.
    is_answer: bool,
}

/// An answer that has begun.
pub(crate) struct UpstreamResponse {
    /// The rest of it.
    pub response: ForwardedResponse,
    /// Its first piece.
    pub first: Option<Vec<u8>>,
    /// Counts it until it is dropped.
    pub in_flight: InFlight,
}

/// Counts a request that an upstream has.
pub(crate) struct InFlight(Arc<Upstream>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl InFlight {
    /// Waits until the upstream answers no probe and nothing has come of the answer for a while. `last`: when something came.
    pub(crate) async fn lost(&self, last: Instant) {
        loop {
            self.0.gone().await;
            tokio::time::sleep_until((last + SILENCE_LIMIT).into()).await;
            if !*self.0.is_up.borrow() {
                return;
            }
        }
    }
}

/// Tells the circuit that a request had no outcome, unless it had one.
struct PendingOutcome<'a>(Option<&'a Upstream>);

impl Drop for PendingOutcome<'_> {
    fn drop(&mut self) {
        if let Some(upstream) = self.0 {
            upstream.state().circuit.abandoned();
        }
    }
}

impl Upstream {
    /// An upstream that is assumed to work.
    pub(crate) fn new(spec: UpstreamSpec) -> Arc<Self> {
        Arc::new(Self {
            spec,
            state: Mutex::new(UpstreamState {
                circuit: Circuit::default(),
                unanswered: 0,
                problem: None,
                since: Instant::now(),
                forwarder: None,
            }),
            is_up: watch::Sender::new(true),
            has_heartbeat: AtomicBool::new(false),
            stall: StallCheck::new(),
            in_flight: AtomicUsize::new(0),
        })
    }

    /// How it is.
    pub(crate) fn status(&self) -> UpstreamStatus {
        let state = self.state();
        UpstreamStatus {
            name: self.spec.name.clone(),
            circuit: state.circuit.state(),
            in_flight: self.in_flight.load(Relaxed),
            since_seconds: state.since.elapsed().as_secs_f64(),
            problem: state.problem.clone(),
        }
    }

    /// Probes it for ever.
    pub(crate) async fn probe(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let probed = self.probe_once().await;
            let (before, after) = {
                let mut state = self.state();
                let before = state.circuit.state();
                match &probed {
                    Ok(()) => state.circuit.probe_succeeded(),
                    Err(_) => state.circuit.probe_failed(),
                }
                let after = state.circuit.state();
                if after != before {
                    state.since = Instant::now();
                }
                match &probed {
                    Ok(()) => state.problem = None,
                    Err(failure) if after == CircuitState::Open => {
                        state.problem = Some(failure.problem.clone());
                    }
                    Err(_) => {}
                }
                let is_unanswered = probed.as_ref().is_err_and(|failure| !failure.is_answer);
                state.unanswered = match is_unanswered {
                    true => state.unanswered + 1,
                    false => 0,
                };
                // Within the lock, so that no request is admitted between the two.
                self.is_up.send_replace(state.unanswered < MOST_MISSED);
                (before, after)
            };
            let (name, url) = (&self.spec.name, &self.spec.base);
            match (before == CircuitState::Open, after == CircuitState::Open) {
                (false, true) => {
                    let problem = probed
                        .err()
                        .map(|failure| failure.detail)
                        .unwrap_or_default();
                    tracing::warn!(upstream = %name, %url, problem, "the upstream is gone: requests go to the next one; check it with GET /health there");
                }
                (true, false) => tracing::info!(upstream = %name, %url, "the upstream is back"),
                _ => {}
            }
        }
    }

    async fn probe_once(&self) -> Result<(), ProbeFailure> {
        let failure = |error: ClientError| ProbeFailure {
            problem: problem(&error),
            detail: detail(&error),
            // One that refuses connections is shutting down, or has ended and with it its connections.
            is_answer: error.is_answer()
                || matches!(
                    error,
                    ClientError::Unreachable {
                        is_refused: true,
                        ..
                    }
                ),
        };
        let phase = |problem: &str| ProbeFailure {
            problem: problem.to_owned(),
            detail: problem.to_owned(),
            is_answer: true,
        };
        let limit = PROBE_LIMIT;
        // The credentials are read for each probe, so that an expired certificate is named.
        let client = Client::at(&self.spec.base, &self.spec.credentials, limit).map_err(failure)?;
        let alive = client.liveness().await.map_err(failure)?.value;
        let has_heartbeat = matches!(alive, Liveness::Heartbeat(_));
        self.has_heartbeat.store(has_heartbeat, Relaxed);
        self.stall.answered();
        match alive {
            Liveness::Heartbeat(health) => match health.together.phase {
                ServerPhase::Ready => Ok(()),
                ServerPhase::Loading => Err(phase("it is loading its model")),
                ServerPhase::Draining => Err(phase("it is shutting down")),
            },
            Liveness::Models(_) => Ok(()),
        }
    }

    /// Waits until a probe finds it gone.
    async fn gone(&self) {
        let mut up = self.is_up.subscribe();
        // The sender lives as long as `self` does.
        let _ = up.wait_for(|up| !up).await;
    }

    /// Returns when a request that waits for its first byte should try another upstream: this one has a heartbeat, and has not
    /// answered for half the time that a connection may take.
    async fn stalled(self: &Arc<Self>) {
        let half = self.spec.connect / 2;
        let check = || {
            let upstream = self.clone();
            async move { !upstream.has_heartbeat.load(Relaxed) || upstream.is_answering(half).await }
        };
        self.stall.unanswered(check).await;
    }

    /// Whether it answers `GET /health` within `limit`, whatever it says.
    async fn is_answering(&self, limit: Duration) -> bool {
        match Client::at(&self.spec.base, &self.spec.credentials, limit) {
            Ok(client) => match client.health().await {
                Ok(_) => true,
                Err(error) => error.is_answer(),
            },
            // The next request and the next probe report it.
            Err(_) => true,
        }
    }

    /// Sends a request to it. If it can go to another upstream, this one's heartbeat is checked while the request waits.
    pub(crate) async fn attempt(
        self: &Arc<Self>,
        path: &str,
        headers: HeaderMap,
        body: &[Bytes],
        fallback: Fallback,
    ) -> Attempt {
        if fallback == Fallback::Next && self.stall.is_overdue() {
            return Attempt::Skipped {
                problem: "its answer to GET /health is overdue".to_owned(),
                on_trial: false,
            };
        }
        let forwarder = {
            let mut state = self.state();
            if !state.circuit.admit(fallback == Fallback::Nowhere) {
                let problem = state.problem.clone();
                return Attempt::Skipped {
                    problem: problem.unwrap_or_else(|| "it has failed".to_owned()),
                    on_trial: state.circuit.state() == CircuitState::Trial,
                };
            }
            self.forwarder(&mut state)
        };
        let mut pending = PendingOutcome(Some(self));
        let forwarder = match forwarder {
            Ok(forwarder) => forwarder,
            Err(error) => {
                pending.0 = None;
                return self.failed(&error);
            }
        };
        self.in_flight.fetch_add(1, Relaxed);
        let in_flight = InFlight(self.clone());
        let repeated = || {
            let (upstream, url) = (&self.spec.name, &self.spec.base);
            tracing::info!(
                %upstream, %url,
                "the upstream has closed a kept connection without a response: the request is sent once more"
            );
        };
        let begun = async {
            let posted = forwarder.post(path, headers, body, repeated).await;
            let (response, first) = posted.map_err(ResponseFailure::Unanswered)?;
            response::whole(response, first).await
        };
        let begun = tokio::select! {
            begun = begun => begun,
            () = self.gone() => {
                // The probes have opened the circuit already.
                return Attempt::Failed("it no longer answers GET /health".to_owned());
            }
            () = self.stalled(), if fallback == Fallback::Next => {
                pending.0 = None;
                let half = (self.spec.connect / 2).as_secs_f64();
                let problem = format!("it has not begun to answer, and GET /health was not answered within {half} s");
                return self.fail(problem.clone(), &problem);
            }
        };
        let (mut response, first) = match begun {
            Ok(begun) => begun,
            Err(ResponseFailure::Unanswered(error)) => {
                pending.0 = None;
                return self.failed(&error);
            }
            Err(ResponseFailure::Broken(problem)) => {
                pending.0 = None;
                return self.fail(problem.to_owned(), problem);
            }
        };
        let status = response.status();
        if status.as_u16() == 500 {
            // It may be about the request, so that it is no reason to send no others.
            return Attempt::Broke(format!("it answered {status}"));
        }
        pending.0 = None;
        if let Some(problem) = response::unusable(&response, first.as_deref()) {
            return self.fail(problem.clone(), &problem);
        }
        self.state().circuit.succeeded();
        match status.as_u16() {
            429 => {
                let seconds = response::retry_after(response.headers());
                let message = response::message(&mut response).await;
                Attempt::Full(
                    message.unwrap_or_else(|| "it has no room (429)".to_owned()),
                    seconds,
                )
            }
            401 | 403 => Attempt::Denied(status),
            _ => Attempt::Answer(UpstreamResponse {
                response,
                first,
                in_flight,
            }),
        }
    }

    fn failed(&self, error: &ClientError) -> Attempt {
        self.fail(problem(error), &detail(error))
    }

    /// `problem` is for clients, `detail` for the log.
    fn fail(&self, problem: String, detail: &str) -> Attempt {
        let (upstream, url) = (&self.spec.name, &self.spec.base);
        let mut state = self.state();
        let before = state.circuit.state();
        state.circuit.failed();
        if state.circuit.state() == CircuitState::Open && before != CircuitState::Open {
            state.since = Instant::now();
            state.problem = Some(problem.clone());
            tracing::warn!(%upstream, %url, problem = detail, "the upstream fails: nothing is sent to it until its health shows that it works");
        } else {
            tracing::info!(%upstream, %url, problem = detail, "the upstream has failed with a request");
        }
        Attempt::Failed(problem)
    }

    fn forwarder(&self, state: &mut UpstreamState) -> Result<Forwarder, ClientError> {
        if let Some((forwarder, since)) = &state.forwarder
            && since.elapsed() < RELOAD_EVERY
        {
            return Ok(forwarder.clone());
        }
        let UpstreamSpec {
            base,
            credentials,
            connect,
            first_byte,
            ..
        } = &self.spec;
        let forwarder = Forwarder::new(base, credentials, *connect, *first_byte)?;
        state.forwarder = Some((forwarder.clone(), Instant::now()));
        Ok(forwarder)
    }

    fn state(&self) -> MutexGuard<'_, UpstreamState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failure as clients see it. Paths, addresses and causes are for the log.
fn problem(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { .. } => "it cannot be reached".to_owned(),
        ClientError::Timeout { limit, .. } => {
            format!("it gave no answer within {} s", limit.as_secs_f64())
        }
        ClientError::Credentials(_) => {
            "this server's credentials for it cannot be used; see this server's log".to_owned()
        }
        other => match other.status() {
            Some(status) => format!("it answered {status}"),
            None => "it sent an unexpected answer".to_owned(),
        },
    }
}

fn detail(error: &ClientError) -> String {
    UntrustedText::bounded(&error.to_string(), SHOWN).into()
}
