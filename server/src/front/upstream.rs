//! One other server: its circuit, its health, and how a request is sent to it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use sanctum_client::{Client, ClientError, ForwardedResponse, Forwarder, Liveness, ServerPhase};
use sanctum_config::UntrustedText;
use tokio::sync::watch;

use super::circuit::{Circuit, CircuitState};
use super::spec::UpstreamSpec;

/// How often each upstream is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How often credentials are read again, so that renewed files count.
const RELOAD_EVERY: Duration = Duration::from_secs(300);
/// Characters of an error that are shown.
const SHOWN: usize = 300;

/// One other server.
pub(crate) struct Upstream {
    /// How it is configured.
    pub spec: UpstreamSpec,
    state: Mutex<UpstreamState>,
    /// False from the probe on that finds it gone. Requests that wait for their first byte then try another one.
    is_up: watch::Sender<bool>,
    in_flight: AtomicUsize,
}

struct UpstreamState {
    circuit: Circuit,
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

/// What came of sending a request to it.
pub(crate) enum Attempt {
    /// An answer, which is the client's whatever it says.
    Answer(UpstreamResponse),
    /// Its queue is full; when to try again, in seconds.
    Full(Option<u64>),
    /// It has refused this server's own credentials.
    Denied(StatusCode),
    /// It is not asked at present.
    Skipped(String),
    /// It did not answer, or failed.
    Failed(String),
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
    /// Waits until a probe finds the upstream gone.
    pub(crate) async fn gone(&self) {
        self.0.gone().await;
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
                problem: None,
                since: Instant::now(),
                forwarder: None,
            }),
            is_up: watch::Sender::new(true),
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
                    Err(problem) if after == CircuitState::Open => {
                        state.problem = Some(problem.clone());
                    }
                    Err(_) => {}
                }
                (before, after)
            };
            self.is_up.send_replace(after != CircuitState::Open);
            let (name, url) = (&self.spec.name, &self.spec.base);
            match (before == CircuitState::Open, after == CircuitState::Open) {
                (false, true) => {
                    let problem = probed.err().unwrap_or_default();
                    tracing::warn!(upstream = %name, %url, problem, "the upstream is gone: requests go to the next one; check it with GET /health there");
                }
                (true, false) => tracing::info!(upstream = %name, %url, "the upstream is back"),
                _ => {}
            }
        }
    }

    async fn probe_once(&self) -> Result<(), String> {
        let shown = |error: ClientError| -> String {
            UntrustedText::bounded(&error.to_string(), SHOWN).into()
        };
        let limit = PROBE_LIMIT;
        // The credentials are read for each probe, so that an expired certificate is named.
        let client = Client::at(&self.spec.base, &self.spec.credentials, limit).map_err(shown)?;
        match client.liveness().await.map_err(shown)?.value {
            Liveness::Heartbeat(health) => match health.together.phase {
                ServerPhase::Ready => Ok(()),
                ServerPhase::Loading => Err("it is loading its model".to_owned()),
                ServerPhase::Draining => Err("it is shutting down".to_owned()),
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

    /// Sends a request to it.
    pub(crate) async fn attempt(
        self: &Arc<Self>,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Attempt {
        let forwarder = {
            let mut state = self.state();
            if !state.circuit.admit() {
                let problem = state.problem.clone();
                return Attempt::Skipped(problem.unwrap_or_else(|| "it has failed".to_owned()));
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
        let posted = tokio::select! {
            posted = forwarder.post(path, headers, body) => posted,
            () = self.gone() => {
                pending.0 = None;
                return Attempt::Failed("it no longer answers GET /health".to_owned());
            }
        };
        pending.0 = None;
        let (response, first) = match posted {
            Ok(posted) => posted,
            Err(error) => return self.failed(&error),
        };
        let status = response.status();
        match status.as_u16() {
            429 => {
                self.state().circuit.succeeded();
                let seconds = response.headers().get(header::RETRY_AFTER);
                let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
                Attempt::Full(seconds)
            }
            401 | 403 => {
                self.state().circuit.succeeded();
                Attempt::Denied(status)
            }
            500.. => self.fail(format!("it answered {status}")),
            _ => {
                self.state().circuit.succeeded();
                Attempt::Answer(UpstreamResponse {
                    response,
                    first,
                    in_flight,
                })
            }
        }
    }

    fn failed(&self, error: &ClientError) -> Attempt {
        self.fail(UntrustedText::bounded(&error.to_string(), SHOWN).into())
    }

    fn fail(&self, problem: String) -> Attempt {
        let mut state = self.state();
        let before = state.circuit.state();
        state.circuit.failed();
        if state.circuit.state() == CircuitState::Open && before != CircuitState::Open {
            state.since = Instant::now();
            state.problem = Some(problem.clone());
            tracing::warn!(upstream = %self.spec.name, url = %self.spec.base, problem, "the upstream fails: nothing is sent to it until its health shows that it works");
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
