//! Whether requests are sent to an upstream: a circuit breaker that the health probe closes again.

/// Failures in a row after which nothing is sent.
const MOST_FAILURES: u32 = 3;
/// Probes in a row that must fail before nothing is sent.
pub(super) const MOST_MISSED: u32 = 2;

/// The circuit of one upstream. Pure: the caller reports what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circuit {
    state: CircuitState,
    /// Requests that failed since one succeeded.
    failures: u32,
    /// Probes that failed since one succeeded.
    missed: u32,
}

/// The state of a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CircuitState {
    /// Requests are sent.
    #[default]
    Closed,
    /// None is sent, until a probe succeeds.
    Open,
    /// A probe has succeeded; one request at a time is sent, and decides.
    HalfOpen,
    /// That request is on its way.
    Trial,
}

impl Circuit {
    /// The state.
    pub(crate) fn state(&self) -> CircuitState {
        self.state
    }

    /// Whether a request may be sent now. If so, its outcome must be reported. A request that has nowhere else to go is `urgent`:
    /// it is sent beside one that decides.
    pub(crate) fn admit(&mut self, urgent: bool) -> bool {
        match self.state {
            CircuitState::Closed => true,
            CircuitState::HalfOpen => {
                self.state = CircuitState::Trial;
                true
            }
            CircuitState::Trial => urgent,
            CircuitState::Open => false,
        }
    }

    /// A request was answered, with whatever status shows that the upstream works.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        if self.state != CircuitState::Open {
            self.state = CircuitState::Closed;
        }
    }

    /// A request was not answered, or the upstream has failed with it.
    pub(crate) fn failed(&mut self) {
        self.failures += 1;
        if self.state == CircuitState::Trial || self.failures >= MOST_FAILURES {
            self.state = CircuitState::Open;
        }
    }

    /// A request ended without an outcome: its client has disconnected.
    pub(crate) fn abandoned(&mut self) {
        if self.state == CircuitState::Trial {
            self.state = CircuitState::HalfOpen;
        }
    }

    /// The upstream accepts requests, as its health shows. A request that decides may take minutes to its first byte; one that
    /// has not failed by the next probe has decided.
    pub(crate) fn probe_succeeded(&mut self) {
        self.missed = 0;
        match self.state {
            CircuitState::Open => {
                self.failures = 0;
                self.state = CircuitState::HalfOpen;
            }
            CircuitState::Trial => self.state = CircuitState::Closed,
            CircuitState::Closed | CircuitState::HalfOpen => {}
        }
    }

    /// The upstream did not answer the probe, or accepts no requests.
    pub(crate) fn probe_failed(&mut self) {
        self.missed += 1;
        if self.missed >= MOST_MISSED {
            self.state = CircuitState::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Circuit {
        let mut circuit = Circuit::default();
        (0..MOST_FAILURES).for_each(|_| circuit.failed());
        circuit
    }

    #[test]
    fn circuit_opens_after_failures_in_a_row_only() {
        let mut circuit = Circuit::default();
        for _ in 0..10 {
            circuit.failed();
            circuit.failed();
            circuit.succeeded();
        }
        assert_eq!(circuit.state(), CircuitState::Closed);
        (0..MOST_FAILURES).for_each(|_| circuit.failed());
        assert_eq!(circuit.state(), CircuitState::Open);
        assert!(!circuit.admit(false));
    }

    #[test]
    fn circuit_half_opens_on_a_probe_and_lets_one_request_decide() {
        let mut circuit = opened();
        circuit.probe_succeeded();
        assert!(circuit.admit(false));
        assert!(!circuit.admit(false), "a second request was sent");
        circuit.failed();
        assert_eq!(circuit.state(), CircuitState::Open);
        circuit.probe_succeeded();
        assert!(circuit.admit(false));
        circuit.abandoned();
        assert!(circuit.admit(false));
        circuit.succeeded();
        assert!(circuit.admit(false) && circuit.admit(false));
    }

    #[test]
    fn urgent_requests_are_sent_beside_the_trial_and_a_probe_ends_it() {
        let mut circuit = opened();
        assert!(!circuit.admit(true));
        circuit.probe_succeeded();
        assert!(circuit.admit(false));
        assert!(circuit.admit(true) && !circuit.admit(false));
        circuit.probe_succeeded();
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[test]
    fn circuit_opens_when_probes_are_missed() {
        let mut circuit = Circuit::default();
        circuit.probe_failed();
        circuit.probe_succeeded();
        circuit.probe_failed();
        assert!(circuit.admit(false));
        circuit.probe_failed();
        assert!(!circuit.admit(false));
        // The answer of a request that was sent before proves nothing of the present.
        circuit.succeeded();
        assert!(!circuit.admit(false));
    }
}
