//! What `verify` found, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that is not as it should be. The same thing is always told in the same words, with no count of minutes in
/// them: a watchdog knows a new finding by its words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Finding {
    /// What kind of thing it is: a stable word for programs.
    pub kind: Kind,
    /// The file, agent or key that it is about.
    pub about: String,
    /// What is wrong with it, in a sentence.
    pub wrong: String,
    /// The command that mends it.
    pub mend: String,
}

/// What kind of thing is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A command was interrupted.
    Interrupted,
    /// Nothing has been installed.
    NotInstalled,
    /// An installed file is missing.
    Missing,
    /// An installed file is not what was installed.
    Changed,
    /// A file's or folder's permission bits.
    Mode,
    /// fleet.toml here differs from the one that was deployed.
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
    Stranger,
    /// Who serves is not written down as it is.
    Active,
    /// A key that must never be on such a host.
    ForbiddenKey,
    /// The firewall keeps others from the server.
    Blocked,
    /// A maintenance lease that nobody gave back.
    Lease,
    /// An agent's process runs another program than the file that lies there.
    OldProgram,
    /// A watchdog that has stopped watching.
    Watchdog,
    /// The kept release is not what the receipt tells of.
    Release,
    /// Another host's own sanctum-launchd gives no answer.
    Silent,
    /// There is no copy of another host's receipt here to compare it with.
    NoReceipt,
    /// A certificate or revocation list that ends soon, has ended, or cannot be used.
    Certificate,
    /// A program whose signature has no identity.
    AdHoc,
    /// launchd gives an agent less time to end than its property list says.
    ExitTimeout,
    /// An alert that no channel has taken.
    Undelivered,
}

impl Finding {
    /// With what to do about it.
    pub fn new(
        kind: Kind,
        about: impl fmt::Display,
        wrong: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            about: about.to_string(),
            wrong: wrong.into(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\n    do this: {}",
            self.about, self.wrong, self.mend
        )
    }
}
