//! What one round observes of a server: its answer, launchd's view of its agent, and the deployment.

use chrono::{DateTime, Utc};
use sanctum_client::{FailedPrefixCheck, HeartbeatReading};

/// What one round observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When.
    pub now: DateTime<Utc>,
    /// The server's answer.
    pub answer: ServerAnswer,
    /// The models whose reused prefixes failed a check, as the answer reports them.
    pub failed_prefix_checks: Vec<FailedPrefixCheck>,
    /// The models that no server has, of those that the server passes requests on for.
    pub models_without_server: Vec<String>,
    /// The state of the active agent in launchd.
    pub agent: ActiveAgent,
    /// Which deployment and which agent serve: another text after every install, upgrade and rollback. None if that
    /// cannot be read.
    pub deployment: Option<String>,
    /// Misses in a row before this round.
    pub misses: u32,
}

/// The server's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerAnswer {
    /// Its heartbeats, with the model's id if there are several.
    Health(Vec<(String, HeartbeatReading)>),
    /// It answers, and has no heartbeat.
    Alive,
    /// No answer; why.
    None(String),
}

/// The state of the active agent in launchd.
#[derive(Clone, Debug, PartialEq)]
pub enum ActiveAgent {
    /// It is loaded.
    Loaded {
        /// Its process, if it runs.
        pid: Option<u32>,
        /// How often it was started since it was loaded.
        runs: u64,
    },
    /// It is not loaded.
    NotLoaded {
        /// Whether it is disabled.
        disabled: bool,
    },
    /// It is not loaded, and was stopped on purpose; since when and why.
    Stopped(String),
    /// launchd gave no answer; why.
    Unknown(String),
}
