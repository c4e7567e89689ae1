//! `[agents.*]`, `[watch.*]` and `[alerts.*]`: parsed here so that one mistake is found by every binary; what the
//! values mean for a schedule or a channel is the business of the daemons that use them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::{Label, TildePath, duration};

/// `[agents.NAME]`: a program that is no part of Sanctum, run as an agent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The host it runs on.
    pub host: Label,
    /// The executable, from `/` or `~/`, and its arguments; where one of them begins with `~/`, that is the home folder.
    pub program: Vec<String>,
    /// What is in its environment besides what launchd puts there.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The server whose place it takes when rollback flips to it; it is disabled until then.
    pub standby_for: Option<Label>,
}

/// `[watch.NAME]`: one watchdog. Which keys a check needs is decided by the check.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Which check it runs; the section's name where this is left out.
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
    /// Restarts in one hour, after which it alerts instead of restarting.
    pub restarts_per_hour: Option<u32>,
    /// The folder in which the guardian finds reports of kernel panics; the system's own where this is left out.
    pub panic_reports: Option<TildePath>,
    /// How long it keeps quiet after an alert.
    #[serde(default, deserialize_with = "duration::optional")]
    pub cooldown: Option<Duration>,
    /// What the canary asks.
    pub question: Option<String>,
    /// What the answer must contain.
    pub expect: Option<String>,
    /// An address that answers whenever this host is on the network.
    pub reference: Option<String>,
    /// The questions and answers of the parity check.
    pub spec: Option<TildePath>,
    /// Wrong answers that are still no reason to alert.
    pub max_failures: Option<u32>,
    /// The channels that it alerts through.
    #[serde(default)]
    pub alert: Vec<Label>,
}

/// `[alerts.NAME]`: a way to reach a human.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Where alerts are posted to.
    pub url: Option<String>,
    /// The sound of a desktop notification.
    pub sound: Option<String>,
}

impl Agent {
    /// What in this section alone cannot be meant.
    pub(super) fn contradiction(&self) -> Option<String> {
        let whole = |program: &String| program.starts_with('/') || program.starts_with("~/");
        match self.program.first() {
            None => Some("`program` is empty; give the executable and its arguments".into()),
            Some(program) if !whole(program) => Some(format!(
                "the program `{program}` would be searched for in launchd's own PATH; write its whole path"
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

    /// What in this section alone cannot be meant.
    pub(super) fn contradiction(&self) -> Option<String> {
        (self.every.is_some() && self.at.is_some()).then(|| {
            "`every` and `at` are two schedules; keep one of them (a watchdog runs either at intervals or at set times)"
                .into()
        })
    }
}
