//! The server that a watchdog asks, and why it may have got no answer: the guardian, the canary and parity set themselves
//! up here, and canary and parity call the same silence by the same name.

use std::time::Duration;

use sanctum_client::{
    Client, ClientError, Health, Liveness, ReferenceAddress, ServerEndpoint, ServerPhase,
};

use crate::run::Setting;
use crate::verdict::{Kind, Miss, Report, Verdict};

/// A heartbeat that moved within this time belongs to a server that works.
const ALIVE: Duration = Duration::from_secs(60);
/// How long health and the reference address may take.
const SECOND_LOOK: Duration = Duration::from_secs(10);

/// A server under watch.
#[derive(Clone, Debug)]
pub struct Watched {
    /// How it is reached.
    pub endpoint: ServerEndpoint,
    /// How long one answer may take.
    pub timeout: Duration,
    /// What answers whenever this host is on the network.
    pub reference: Option<ReferenceAddress>,
}

impl Watched {
    /// The server of a `[watch.NAME]`; `timeout` is for where it says none.
    ///
    /// # Errors
    /// A sentence that names the key and its mend.
    pub fn of(setting: &Setting, timeout: Duration) -> Result<Self, String> {
        let Setting {
            fleet,
            config,
            home,
            name,
            watch,
            ..
        } = setting;
        Ok(Self {
            endpoint: ServerEndpoint::for_watchdog(fleet, config, home, name)
                .map_err(|error| error.to_string())?,
            timeout: watch.timeout.unwrap_or(timeout),
            reference: setting.reference()?,
        })
    }

    /// For titles: `server on mini`.
    pub fn subject(&self) -> String {
        format!("{} on {}", self.endpoint.server, self.endpoint.host)
    }

    /// How long to look for the cause of one silence, at most.
    pub fn second_look() -> Duration {
        4 * SECOND_LOOK
    }

    /// A client with today's credentials.
    ///
    /// # Errors
    /// A miss that says so, if they cannot be used.
    pub fn client(&self) -> Result<Client, Box<Report>> {
        Client::new(&self.endpoint, self.timeout).map_err(|error| {
            Box::new(Report {
                miss: Miss::CannotCheck,
                ..Verdict::new(Kind::Miss, error.to_string())
                    .next("sanctum-launchd verify")
                    .into()
            })
        })
    }

    /// Why there is no answer: busy, offline or a miss.
    pub async fn no_answer(&self, error: &ClientError) -> Verdict {
        let mut said = error.to_string();
        match error {
            ClientError::Busy { .. } => return Verdict::new(Kind::Busy, said),
            ClientError::Timeout { .. } | ClientError::Status { status: 503, .. } => {
                match self.liveness().await {
                    Some(Liveness::Heartbeat(health)) => {
                        if let Some(progress) = progress(&health) {
                            return Verdict::new(Kind::Busy, format!("{said}, but {progress}"));
                        }
                    }
                    Some(Liveness::Models(_)) => {
                        said.push_str(
                            "; it lists its models and has no heartbeat, so it may be busy or hung",
                        );
                    }
                    None => {}
                }
            }
            _ => {}
        }
        let away = matches!(
            error,
            ClientError::Unreachable { .. } | ClientError::Timeout { .. }
        );
        if away && let Some(offline) = offline(self.reference.as_ref(), &said).await {
            return offline;
        }
        let next = match self.endpoint.on_box {
            true => format!(
                "curl -s {}/health; sanctum-launchd status",
                self.endpoint.base
            ),
            false => format!("sanctum-launchd status --host {}", self.endpoint.host),
        };
        Verdict::new(Kind::Miss, said).next(next)
    }

    async fn liveness(&self) -> Option<Liveness> {
        let client = Client::new(&self.endpoint, SECOND_LOOK).ok()?;
        Some(client.liveness().await.ok()?.value)
    }
}

/// What moves in an engine that gives no answer, if something does.
fn progress(health: &Health) -> Option<String> {
    health.heartbeats().into_iter().find_map(|(_, beat)| {
        let age = beat.age();
        (beat.has_work() && age < ALIVE).then(|| match beat.phase {
            ServerPhase::Loading => "its model is being loaded".to_owned(),
            _ => format!(
                "its engine works on {} requests with {} waiting and moved {:.1} s ago",
                beat.in_flight,
                beat.queued,
                age.as_secs_f64()
            ),
        })
    })
}

/// The verdict on a host that reaches neither what it watches (`said` says so) nor its reference; none if it reaches the
/// reference, or has none.
pub async fn offline(reference: Option<&ReferenceAddress>, said: &str) -> Option<Verdict> {
    let reference = reference?;
    if reference.answers(SECOND_LOOK).await {
        return None;
    }
    let said =
        format!("{said}, and neither can the reference {reference}: this host is off the network");
    Some(Verdict::new(Kind::Offline, said))
}
