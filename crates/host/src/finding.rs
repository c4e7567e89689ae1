//! A difference between a host and what was installed on it, with its fix.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The words of the command that puts installed files and agents back.
pub(crate) const REINSTALL: &str = "install";
/// The words of the command for a host on which nothing is installed.
pub const INSTALL_RELEASE: &str = "install --release FOLDER";

/// Something that is not as it should be. The same problem has the same text each time, without durations: a watchdog
/// recognizes a known finding by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Finding {
    /// What kind of problem it is: a stable word for programs.
    pub kind: FindingKind,
    /// The file, agent or key that has the problem.
    pub subject: String,
    /// The problem, in a sentence.
    pub problem: String,
    /// The command or edit that fixes it.
    pub fix: String,
}

/// What kind of problem a [`Finding`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A command was interrupted.
    Interrupted,
    /// Nothing is installed.
    NotInstalled,
    /// An installed file is missing.
    Missing,
    /// An installed file has other contents than the ones that were installed.
    Changed,
    /// A file or folder has other permission bits than it should.
    Mode,
    /// The fleet.toml in use differs from the deployed one.
    Undeployed,
    /// An agent should be loaded and is not.
    NotLoaded,
    /// An agent is loaded and should not be.
    Loaded,
    /// An agent is disabled and should not be, or the other way round.
    Disabled,
    /// An agent runs with other arguments than its property list has.
    StaleArguments,
    /// An agent is loaded and has no process.
    NotRunning,
    /// A property list of this fleet that was not installed.
    UnknownPlist,
    /// The record of which agent serves names one that is not enabled.
    Active,
    /// A key that must never be on a host that serves.
    ForbiddenKey,
    /// The firewall blocks other hosts' connections to the server.
    Firewall,
    /// A maintenance lease that was never released.
    Lease,
    /// An agent's process runs another program than the installed file.
    OldProgram,
    /// A watchdog that has stopped checking.
    Watchdog,
    /// The stored release is not the one in the receipt.
    Release,
    /// The sanctum-launchd of another host does not answer.
    NoAnswer,
    /// This host has no copy of another host's receipt to compare with.
    NoReceipt,
    /// A certificate or revocation list that expires soon, has expired, or cannot be used.
    Certificate,
    /// A program whose signature has no identity.
    AdHoc,
    /// launchd gives an agent less time to exit than its property list says.
    ExitTimeout,
    /// An alert that no channel has accepted.
    Undelivered,
    /// A check of reused prefixes has failed in a server.
    PrefixCheck,
    /// An agent that was stopped on purpose.
    Stopped,
    /// A record of sanctum-launchd that cannot be read.
    Record,
}

impl Finding {
    /// A finding with its fix.
    pub fn new(
        kind: FindingKind,
        subject: impl fmt::Display,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            subject: subject.to_string(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\n    fix: {}",
            self.subject, self.problem, self.fix
        )
    }
}
