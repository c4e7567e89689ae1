//! `[agents.*]` and `[watch.*]`: parsed here so that every program finds an error in them. The watchdogs interpret
//! schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::{Label, TildePath, duration};

/// `[agents.NAME]`: a foreign program that runs as an agent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The host it runs on.
    pub host: Label,
    /// The executable, which begins with `/` or `~/`, and its arguments; a leading `~/` is the home folder.
    pub program: Vec<String>,
    /// Environment variables besides launchd's own.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The server in whose place it serves after `rollback --agent`; it is disabled until then.
    pub standby_for: Option<Label>,
}

/// `[watch.NAME]`: one watchdog. The check decides which keys it needs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The check that it runs; by default the section's name.
    pub check: Option<Label>,
    /// The server that it watches.
    pub target: Option<Label>,
    /// Run again after this time.
    #[serde(default, deserialize_with = "duration::optional")]
    pub every: Option<Duration>,
    /// Run at these times: a five-field crontab line, local time.
    pub at: Option<String>,
    /// How long one check may take.
    #[serde(default, deserialize_with = "duration::optional")]
    pub timeout: Option<Duration>,
    /// Misses in a row before it acts.
    pub misses: Option<u32>,
    /// How long an engine with work may make no progress before it counts as hung.
    #[serde(default, deserialize_with = "duration::optional")]
    pub stall_after: Option<Duration>,
    /// How long a process may take to start.
    #[serde(default, deserialize_with = "duration::optional")]
    pub startup_grace: Option<Duration>,
    /// The restart budget: restarts in one hour, after which the guardian alerts instead.
    pub restarts_per_hour: Option<u32>,
    /// The folder with reports of kernel panics; by default the system's own.
    pub panic_reports: Option<TildePath>,
    /// How long an open condition does not alert again.
    #[serde(default, deserialize_with = "duration::optional")]
    pub cooldown: Option<Duration>,
    /// What the canary asks.
    pub question: Option<String>,
    /// What the answer must contain.
    pub expect: Option<String>,
    /// An address that answers whenever this host is on the network.
    pub reference: Option<String>,
    /// The file with the questions of the parity check.
    pub spec: Option<TildePath>,
    /// Wrong answers that do not alert.
    pub max_failures: Option<u32>,
    /// The channels that it alerts through.
    #[serde(default)]
    pub alert: Vec<Label>,
    /// The address that is requested after each round, so that a service outside notices when the rounds stop.
    pub heartbeat_url: Option<String>,
    /// The file with that address, if it is a secret.
    pub heartbeat_url_file: Option<TildePath>,
}

impl Agent {
    /// A contradiction within this section.
    pub(super) fn contradiction(&self) -> Option<String> {
        let absolute = |program: &String| program.starts_with('/') || program.starts_with("~/");
        match self.program.first() {
            None => Some("`program` is empty; give the executable and its arguments".into()),
            Some(program) if !absolute(program) => Some(format!(
                "the program `{program}` would be looked up in launchd's PATH; write its absolute path"
            )),
            Some(_) => None,
        }
    }
}

impl Watch {
    /// Which check the watchdog of that name runs.
    pub fn check<'a>(&'a self, name: &'a Label) -> &'a Label {
        self.check.as_ref().unwrap_or(name)
    }

    /// A contradiction within this section.
    pub(super) fn contradiction(&self) -> Option<String> {
        if self.every.is_some() && self.at.is_some() {
            return Some(
                "`every` and `at` are two schedules; keep one of them (a watchdog runs at intervals or at set times)"
                    .into(),
            );
        }
        (self.heartbeat_url.is_some() && self.heartbeat_url_file.is_some()).then(|| {
            "`heartbeat_url` and `heartbeat_url_file` are two addresses; keep one of them (the file, if the address is \
             a secret)"
                .into()
        })
    }
}
