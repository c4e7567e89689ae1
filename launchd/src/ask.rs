//! Asking a server from this host: whether it is ready, a question, and its counters.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sanctum_client::{
    ChatRequest, Client, ClientError, Credentials, Liveness, ServerEndpoint, ServerPhase,
};
use sanctum_config::{Fleet, Home, Label};

/// `/health` answers in milliseconds, however busy the engine is.
pub const SOON: Duration = Duration::from_secs(5);
/// The first answer after a start may compile kernels first.
const PATIENT: Duration = Duration::from_secs(120);
/// What an answer to the question may be long.
const TOKENS: u32 = 64;

/// The way to a server.
#[derive(Clone, Debug)]
pub struct Door {
    endpoint: ServerEndpoint,
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    Ready,
    /// It reads its models.
    Loading,
    /// It finishes what it has.
    Draining,
    /// There is no answer, for this reason.
    Silent(String),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Loading => f.write_str("loading"),
            Self::Draining => f.write_str("draining"),
            Self::Silent(why) => write!(f, "silent ({why})"),
        }
    }
}

impl Door {
    /// The way from `host`, which is this one, to a server: as a watchdog of this host would take it, with the
    /// certificate of one if there is any. `file` is where `fleet` was read from.
    ///
    /// # Errors
    /// If there is no way.
    pub fn to(
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

    /// The way to an instance on loopback that asks nobody.
    pub fn at(address: SocketAddr, server: &Label, host: &Label) -> Self {
        Self {
            endpoint: ServerEndpoint::loopback(address, server, host),
        }
    }

    /// Whether it is ready, for which it is waited `limit` at most, and not longer than [`SOON`]. One without a heartbeat is
    /// if it lists its models.
    pub fn health(&self, limit: Duration) -> Health {
        let limit = limit.clamp(Duration::from_secs(1), SOON);
        let alive = self.with(limit, async |client| client.liveness().await);
        match alive.map(|alive| alive.value) {
            Ok(Liveness::Models(_)) => Health::Ready,
            Ok(Liveness::Heartbeat(health)) => match health.together.phase {
                ServerPhase::Ready => Health::Ready,
                ServerPhase::Loading => Health::Loading,
                ServerPhase::Draining => Health::Draining,
            },
            Err(error) => Health::Silent(error.to_string()),
        }
    }

    /// Its answer to a question, at temperature 0, for which it is waited `limit` at most, and not longer than the first
    /// answer after a start may take.
    ///
    /// # Errors
    /// If there is none.
    pub fn chat(&self, text: &str, limit: Duration) -> Result<String, ClientError> {
        let question = ChatRequest::user(text, TOKENS);
        let limit = limit.clamp(Duration::from_secs(1), PATIENT);
        let answer = self.with(limit, async |client| client.chat(&question).await);
        answer.map(|answer| answer.value.text)
    }

    /// Its counters; none if it cannot be asked over plain loopback without credentials.
    pub fn metrics(&self) -> Option<String> {
        let endpoint = &self.endpoint;
        if endpoint.credentials != Credentials::None {
            return None;
        }
        let page = self.with(SOON, async |client| client.metrics().await);
        page.ok().map(|page| page.value)
    }

    fn with<T>(
        &self,
        limit: Duration,
        ask: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let client = Client::new(&self.endpoint, limit)?;
        let failed = |error: std::io::Error| ClientError::Unreachable {
            url: self.endpoint.base.clone(),
            why: error.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        runtime.block_on(ask(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_server_is_a_watchdog_s_of_this_host() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().into(), folder.path().into());
        let text = "[hosts.mini]\naddress = \"100.64.0.25\"\n[hosts.laptop]\naddress = \"100.64.0.55\"\n\
                    [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:1337\"]\n\
                    [servers.shadow]\nhost = \"laptop\"\nlisten = [\"0.0.0.0:8902\"]\n";
        let file = Path::new("/x/fleet.toml");
        let fleet = Fleet::parse(text, file).unwrap();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let door = |host, server| Door::to(&fleet, file, &home, &label(host), &label(server));
        assert_eq!(
            door("mini", "server").unwrap().endpoint.base,
            "http://127.0.0.1:1337"
        );
        assert_eq!(
            door("mini", "shadow").unwrap().endpoint.base,
            "http://100.64.0.55:8902"
        );
        assert!(
            door("laptop", "server")
                .unwrap_err()
                .contains("loopback only")
        );
    }

    #[test]
    fn health_of_a_server_that_accepts_and_says_nothing_ends_with_the_wait() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let door = Door::at(
            socket.local_addr().unwrap(),
            &label("server"),
            &label("mini"),
        );
        let begun = std::time::Instant::now();
        let health = door.health(Duration::ZERO);
        assert!(matches!(health, Health::Silent(_)));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }

    #[test]
    fn nobody_answers_where_nobody_listens() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let label = |name: &str| name.parse::<Label>().unwrap();
        let door = Door::at(address, &label("server"), &label("mini"));
        assert!(matches!(door.health(SOON), Health::Silent(_)));
        assert!(door.chat("?", SOON).is_err());
        assert_eq!(door.metrics(), None);
    }
}
