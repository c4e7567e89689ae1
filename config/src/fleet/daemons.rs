//! `[agents.*]`, `[watch.*]` and `[alerts.*]`: parsed here so that one mistake is found by every binary; what the
//! values mean for a schedule or a channel is the business of the daemons that use them.

use std::time::Duration;

use serde::Deserialize;

use crate::{Label, TildePath, duration};

/// `[agents.NAME]`: a program that is no part of Sanctum, run as an agent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The host it runs on.
    pub host: Label,
    /// The executable and its arguments.
    pub program: Vec<String>,
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
    /// How long an engine with work may stand still before it counts as hung.
    #[serde(default, deserialize_with = "duration::optional")]
    pub stall_after: Option<Duration>,
    /// How long a process may take to start.
    #[serde(default, deserialize_with = "duration::optional")]
    pub startup_grace: Option<Duration>,
    /// Restarts in one hour, after which a human is called instead.
    pub restarts_per_hour: Option<u32>,
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
