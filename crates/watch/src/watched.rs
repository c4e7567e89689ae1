//! The server that a watchdog asks, and why it gave no answer: guardian, canary and parity use one definition.

use std::time::Duration;

use sanctum_client::{
    Client, ClientError, Health, Liveness, ReferenceAddress, ServerEndpoint, ServerPhase,
};
use sanctum_config::{Home, Label};
use sanctum_host::{Active, StoppedAgent, StoppedAgents, TypedCommands};

use crate::alert::{AlertText, Severity};
use crate::blocking::BlockingTask;
use crate::check::Notice;
use crate::config::WatchdogConfig;
use crate::verdict::{MissCause, Verdict, VerdictKind};

/// A heartbeat that moved within this time belongs to a server that works.
const ALIVE: Duration = Duration::from_secs(60);
/// The time limit of each request that looks for the cause of a missing answer.
const CAUSE_LIMIT: Duration = Duration::from_secs(10);
/// The time limit of reading this host's own files.
const FILES_LIMIT: Duration = Duration::from_secs(10);

/// A server under watch.
#[derive(Clone, Debug)]
pub struct WatchedServer {
    /// How the server is reached while it serves itself.
    pub endpoint: ServerEndpoint,
    /// The time limit of one answer.
    pub timeout: Duration,
    /// The address that answers whenever this host is on the network.
    pub reference: Option<ReferenceAddress>,
    /// The commands that messages print.
    pub commands: TypedCommands,
    /// The agents that can serve in the server's place.
    standbys: Vec<Label>,
    home: Home,
    reading: BlockingTask,
}

/// A client of the agent that serves now.
#[derive(Clone, Debug)]
pub struct ActiveClient {
    /// The client.
    pub client: Client,
    /// The standby, if one serves in the server's place.
    pub standby: Option<Label>,
    /// The base URL of the agent that serves.
    pub base: String,
}

impl WatchedServer {
    /// The server of a `[watch.NAME]`; `timeout` is the default of its `timeout`.
    ///
    /// # Errors
    /// A sentence that names the key and its fix.
    pub fn of(config: &WatchdogConfig, timeout: Duration) -> Result<Self, String> {
        let WatchdogConfig {
            fleet, home, name, ..
        } = config;
        let endpoint = ServerEndpoint::for_watchdog(fleet, &config.config, home, name)
            .map_err(|error| error.to_string())?;
        let standbys = fleet
            .agents
            .iter()
            .filter(|(_, agent)| agent.standby_for.as_ref() == Some(&endpoint.server));
        Ok(Self {
            standbys: standbys.map(|(name, _)| name.clone()).collect(),
            endpoint,
            timeout: config.watch.timeout.unwrap_or(timeout),
            reference: config.reference()?,
            commands: config.commands(),
            home: home.clone(),
            reading: BlockingTask::new("reading active.json and the credentials"),
        })
    }

    /// The subject of titles: `server on mini`.
    pub fn subject(&self) -> String {
        format!("{} on {}", self.endpoint.server, self.endpoint.host)
    }

    /// The longest time that [`WatchedServer::client`] and [`WatchedServer::no_answer`] take together.
    pub fn overhead() -> Duration {
        FILES_LIMIT + 6 * CAUSE_LIMIT
    }

    /// A client of the agent that serves now, with the current credentials.
    ///
    /// On the server's host, `active.json` names that agent. Another host cannot read it: a standby is asked there if the
    /// server's TLS address refuses connections and the standby answers at the plain one.
    ///
    /// # Errors
    /// A miss, if the credentials or `active.json` cannot be used, or a standby serves that cannot be reached from here.
    pub async fn client(&self) -> Result<ActiveClient, Verdict> {
        let verify = self.commands.typed("verify");
        let cannot = |why: String| Verdict::miss(MissCause::CannotCheck, why).next(&verify);
        let standby = match self.endpoint.on_box {
            true => self.active_standby().await.map_err(cannot)?,
            false => self.answering_standby().await,
        };
        let endpoint = match &standby {
            None => self.endpoint.clone(),
            Some(agent) => self.endpoint.of_standby().ok_or_else(|| {
                let why = format!(
                    "`{agent}` serves in place of {}, which has no plain HTTP address that can be asked from here",
                    self.subject()
                );
                cannot(why).next(self.rollback())
            })?,
        };
        let (timeout, base) = (self.timeout, endpoint.base.clone());
        let client = self
            .reading
            .run(FILES_LIMIT, move || Client::new(&endpoint, timeout))
            .await
            .map_err(|error| cannot(error.to_string()))?
            .map_err(|error| cannot(error.to_string()))?;
        Ok(ActiveClient {
            client,
            standby,
            base,
        })
    }

    /// The standby that `active.json` on this host names.
    async fn active_standby(&self) -> Result<Option<Label>, String> {
        let (path, server) = (self.home.active(), self.endpoint.server.clone());
        let read = move || Active::read(&path).map(|active| active.agent_for(&server).clone());
        let active = self.reading.run(FILES_LIMIT, read).await;
        let active = active.map_err(|error| error.to_string())?;
        let active = active.map_err(|error| error.to_string())?;
        Ok((active != self.endpoint.server).then_some(active))
    }

    /// The standby that answers at the plain address while the TLS address refuses connections.
    async fn answering_standby(&self) -> Option<Label> {
        let [standby, ..] = &self.standbys[..] else {
            return None;
        };
        let endpoint = self.endpoint.of_standby()?;
        let encrypted = self.endpoint.base.strip_prefix("https://")?;
        let connect = tokio::net::TcpStream::connect(encrypted);
        let refused = match tokio::time::timeout(CAUSE_LIMIT, connect).await {
            Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            _ => false,
        };
        if !refused {
            return None;
        }
        let client = Client::new(&endpoint, CAUSE_LIMIT).ok()?;
        let alive = client.liveness().await.ok()?.value;
        matches!(alive, Liveness::Models(_)).then(|| standby.clone())
    }

    /// The command that ends the use of a standby.
    fn rollback(&self) -> String {
        let words = format!("rollback --agent {}", self.endpoint.server);
        self.commands.typed(&words)
    }

    /// Why there is no answer: stopped, busy, offline or a miss.
    pub async fn no_answer(&self, active: &ActiveClient, error: &ClientError) -> Verdict {
        let mut message = error.to_string();
        if let Some(stopped) = self.stopped(active, error).await {
            return stopped;
        }
        match error {
            ClientError::Busy { .. } => return Verdict::new(VerdictKind::Busy, message),
            ClientError::Timeout { .. } | ClientError::Status { status: 503, .. } => {
                match self.liveness(active).await {
                    Some(Liveness::Heartbeat(health)) => {
                        if let Some(progress) = progress(&health) {
                            let message = format!("{message}, but {progress}");
                            return Verdict::new(VerdictKind::Busy, message);
                        }
                    }
                    Some(Liveness::Models(_)) => {
                        message.push_str(
                            "; it lists its models and has no heartbeat, so it may be busy or hung",
                        );
                    }
                    None => {}
                }
            }
            _ => {}
        }
        let is_away = matches!(
            error,
            ClientError::Unreachable { .. } | ClientError::Timeout { .. }
        );
        if is_away && let Some(offline) = offline(self.reference.as_ref(), &message).await {
            return offline;
        }
        match (&active.standby, &self.standbys[..]) {
            (Some(standby), _) => {
                let server = &self.endpoint.server;
                message.push_str(&format!(
                    "; the standby `{standby}` serves in place of {server}"
                ));
            }
            (None, [standby, ..]) if is_away && !self.endpoint.on_box => {
                let host = &self.endpoint.host;
                message.push_str(&format!(
                    "; if the standby `{standby}` serves on {host}, it may listen where {host} alone can reach it"
                ));
            }
            _ => {}
        }
        let status = |words: &str| self.commands.typed(words);
        let next = match self.endpoint.on_box {
            true => format!("curl -s {}/health; {}", active.base, status("status")),
            false => status(&format!("status --host {}", self.endpoint.host)),
        };
        Verdict::miss(MissCause::NoAnswer, message).next(next)
    }

    /// The verdict if the agent that should answer was stopped on purpose. A program that answers is not stopped, whatever
    /// it answers. This is read after the request: `stop` writes the record before it stops the agent.
    async fn stopped(&self, active: &ActiveClient, error: &ClientError) -> Option<Verdict> {
        if !matches!(
            error,
            ClientError::Unreachable { .. } | ClientError::Timeout { .. }
        ) {
            return None;
        }
        let agent = active.standby.as_ref().unwrap_or(&self.endpoint.server);
        let message = format!("{agent} is {}", self.stop_record(agent).await?.describe());
        Some(Verdict::new(VerdictKind::Stopped, message).next(self.start(agent)))
    }

    /// The condition that the server answers and is recorded as stopped: an outage would not be reported. `verdict` is that of
    /// this round's question. None if nothing is known about it.
    pub async fn answers_while_stopped(&self, verdict: &Verdict) -> Option<Notice> {
        let key = "stopped";
        let server = &self.endpoint.server;
        let Some(stopped) = self.stop_record(server).await else {
            return Some(Notice::Closed {
                key,
                message: format!("{server} is not recorded as stopped"),
            });
        };
        (verdict.kind == VerdictKind::Ok).then(|| Notice::Open {
            key,
            stage: "answers".to_owned(),
            text: AlertText {
                severity: Severity::Warning,
                title: format!("{} answers and is recorded as stopped", self.subject()),
                body: format!(
                    "{server} is {}. Until that record is removed, an outage is not reported",
                    stopped.describe()
                ),
                next: self.start(server),
            },
        })
    }

    /// The record on this host that an agent was stopped.
    async fn stop_record(&self, agent: &Label) -> Option<StoppedAgent> {
        let (path, name) = (self.home.stopped(), agent.clone());
        let read = move || StoppedAgents::read(&path).map(|all| all.get(&name).cloned());
        match self.reading.run(FILES_LIMIT, read).await.ok()? {
            Ok(stopped) => stopped,
            Err(error) => {
                tracing::warn!("{error}. Watching continues as if no agent were stopped");
                None
            }
        }
    }

    /// The command that starts a stopped agent.
    fn start(&self, agent: &Label) -> String {
        self.commands.typed(&match self.endpoint.on_box {
            true => format!("start {agent}"),
            false => format!("start {agent} --host {}", self.endpoint.host),
        })
    }

    async fn liveness(&self, active: &ActiveClient) -> Option<Liveness> {
        let client = active.client.clone().with_timeout(CAUSE_LIMIT);
        Some(client.liveness().await.ok()?.value)
    }
}

/// What moves in an engine that gives no answer, if something does.
fn progress(health: &Health) -> Option<String> {
    health.heartbeats().into_iter().find_map(|(_, reading)| {
        let age = reading.age();
        (reading.has_work() && age < ALIVE).then(|| match reading.phase {
            ServerPhase::Loading => "it is loading its model".to_owned(),
            _ => format!(
                "its engine has {} requests, {} more wait, and it moved {:.1} s ago",
                reading.in_flight,
                reading.queued,
                age.as_secs_f64()
            ),
        })
    })
}

/// The verdict if this host reaches neither its target, as `message` says, nor its reference; none if it reaches the
/// reference, or has none.
pub async fn offline(reference: Option<&ReferenceAddress>, message: &str) -> Option<Verdict> {
    let reference = reference?;
    if reference.answers(CAUSE_LIMIT).await {
        return None;
    }
    let message = format!(
        "{message}; the reference {reference} cannot be reached either: this host is offline"
    );
    Some(Verdict::new(VerdictKind::Offline, message))
}
