//! Requests to a server from this host: its state, an answer to a question, and its metrics.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sanctum_client::{
    ChatRequest, Client, ClientError, Credentials, FailedPrefixCheck, Health, Liveness,
    ServerEndpoint, ServerPhase,
};
use sanctum_config::{Fleet, Home, Label};

/// `/health` answers in milliseconds, however busy the engine is.
pub(crate) const STATE_LIMIT: Duration = Duration::from_secs(5);
/// The first answer after a start may take so long, because kernels are compiled for it.
const FIRST_ANSWER: Duration = Duration::from_secs(120);
/// The longest answer.
const MAX_TOKENS: u32 = 64;

/// Sends requests to one server, each with a time limit.
#[derive(Clone, Debug)]
pub(crate) struct ServerProbe {
    endpoint: ServerEndpoint,
}

/// The state of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// It accepts requests.
    Ready,
    /// It is loading its models.
    Loading,
    /// It finishes its requests and accepts no new ones.
    Draining,
    /// It does not answer, for this reason.
    NoAnswer(String),
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Loading => f.write_str("loading"),
            Self::Draining => f.write_str("draining"),
            Self::NoAnswer(reason) => write!(f, "no answer ({reason})"),
        }
    }
}

impl ServerProbe {
    /// For a server as `host`, which is this one, reaches it. `file` is where `fleet` was read from.
    ///
    /// # Errors
    /// If this host cannot reach it.
    pub(crate) fn from_host(
        fleet: &Fleet,
        file: &Path,
        home: &Home,
        host: &Label,
        server: &Label,
    ) -> Result<Self, String> {
        let endpoint = ServerEndpoint::from_host(fleet, file, home, host, server);
        let endpoint = endpoint.map_err(|error| error.to_string())?;
        Ok(Self { endpoint })
    }

    /// At another endpoint.
    pub(crate) fn to(endpoint: ServerEndpoint) -> Self {
        Self { endpoint }
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &ServerEndpoint {
        &self.endpoint
    }

    /// Whether it lists its models, which requires the credentials.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn models(&self) -> Result<(), ClientError> {
        let listed = self.request(STATE_LIMIT, async |client| client.models().await);
        listed.map(drop)
    }

    /// For an instance on loopback that requires no credentials.
    pub(crate) fn loopback(address: SocketAddr, server: &Label, host: &Label) -> Self {
        Self {
            endpoint: ServerEndpoint::loopback(address, server, host),
        }
    }

    /// Its state, requested for `limit` at most, and not longer than [`STATE_LIMIT`]. A server without a heartbeat is ready
    /// if it lists its models.
    pub(crate) fn state(&self, limit: Duration) -> ServerState {
        self.reading(limit).0
    }

    /// Its state, and the models whose reused prefixes failed a check.
    pub(crate) fn health(&self, limit: Duration) -> (ServerState, Vec<FailedPrefixCheck>) {
        let (state, health) = self.reading(limit);
        let failed = health.map(|health| health.failed_prefix_checks());
        (state, failed.unwrap_or_default())
    }

    /// Its state, and its health page if it has a heartbeat.
    pub(crate) fn reading(&self, limit: Duration) -> (ServerState, Option<Health>) {
        let limit = limit.clamp(Duration::from_secs(1), STATE_LIMIT);
        let alive = self.request(limit, async |client| client.liveness().await);
        match alive.map(|alive| alive.value) {
            Ok(Liveness::Models(_)) => (ServerState::Ready, None),
            Ok(Liveness::Heartbeat(health)) => {
                let state = match health.together.phase {
                    ServerPhase::Ready => ServerState::Ready,
                    ServerPhase::Loading => ServerState::Loading,
                    ServerPhase::Draining => ServerState::Draining,
                };
                (state, Some(health))
            }
            Err(error) => (ServerState::NoAnswer(error.to_string()), None),
        }
    }

    /// Its answer to a question, at temperature 0, requested for `limit` at most, and not longer than the first answer after
    /// a start may take.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) fn chat(&self, text: &str, limit: Duration) -> Result<String, ClientError> {
        let request = ChatRequest::user(text, MAX_TOKENS);
        let limit = limit.clamp(Duration::from_secs(1), FIRST_ANSWER);
        let answer = self.request(limit, async |client| client.chat(&request).await);
        answer.map(|answer| answer.value.text)
    }

    /// Its metrics, requested for `limit` at most, and not longer than [`STATE_LIMIT`]; none if they require credentials, no
    /// time is left, or the server does not answer.
    pub(crate) fn metrics(&self, limit: Duration) -> Option<String> {
        let endpoint = &self.endpoint;
        if endpoint.credentials != Credentials::None || limit.is_zero() {
            return None;
        }
        let limit = limit.min(STATE_LIMIT);
        let page = self.request(limit, async |client| client.metrics().await);
        page.ok().map(|page| page.value)
    }

    fn request<T>(
        &self,
        limit: Duration,
        send: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let client = Client::new(&self.endpoint, limit)?;
        let failed = |error: std::io::Error| ClientError::Unreachable {
            url: self.endpoint.base.clone(),
            why: error.to_string(),
            is_refused: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        runtime.block_on(send(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_uses_loopback_on_its_host_and_the_address_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().into(), folder.path().into());
        let text = "[hosts.mini]\naddress = \"100.64.0.25\"\n[hosts.laptop]\naddress = \"100.64.0.55\"\n\
                    [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1337\"]\n\
                    [servers.shadow]\nhost = \"laptop\"\nlisten = [\"0.0.0.0:8902\"]\n";
        let file = Path::new("/x/fleet.toml");
        let fleet = Fleet::parse(text, file).unwrap();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let probe = |host, server| {
            ServerProbe::from_host(&fleet, file, &home, &label(host), &label(server))
        };
        assert_eq!(
            probe("mini", "server").unwrap().endpoint.base,
            "http://127.0.0.1:1337"
        );
        assert_eq!(
            probe("mini", "shadow").unwrap().endpoint.base,
            "http://100.64.0.55:8902"
        );
        assert!(
            probe("laptop", "server")
                .unwrap_err()
                .contains("loopback only")
        );
    }

    #[test]
    fn state_of_a_server_that_accepts_and_does_not_answer_ends_at_the_limit() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let probe = ServerProbe::loopback(
            socket.local_addr().unwrap(),
            &label("server"),
            &label("mini"),
        );
        let begun = std::time::Instant::now();
        let state = probe.state(Duration::ZERO);
        assert!(matches!(state, ServerState::NoAnswer(_)));
        assert!(begun.elapsed() < STATE_LIMIT, "{:?}", begun.elapsed());
    }

    #[test]
    fn probe_of_a_closed_port_has_no_answer() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let label = |name: &str| name.parse::<Label>().unwrap();
        let probe = ServerProbe::loopback(address, &label("server"), &label("mini"));
        assert!(matches!(probe.state(STATE_LIMIT), ServerState::NoAnswer(_)));
        assert!(probe.chat("?", STATE_LIMIT).is_err());
        assert_eq!(probe.metrics(STATE_LIMIT), None);
    }
}
