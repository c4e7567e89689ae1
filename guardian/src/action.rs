//! What the guardian does: the actions that it decides on, and the execution of a restart.

use std::path::PathBuf;
use std::time::Duration;

use sanctum_config::{Label, Rotation, quoted_file};
use sanctum_host::Launchctl;
use sanctum_watch::BlockingTask;

/// Longer than launchctl waits for a process to exit; see [`Launchctl::exit_limit`].
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What the guardian does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardianAction {
    /// Restart the server.
    Restart(Restart),
    /// Rotate a log that launchd appends to.
    Rotate {
        /// The log.
        log: PathBuf,
        /// The size at which it is rotated, and how many older logs are kept.
        rotation: Rotation,
    },
}

/// A restart that the guardian decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The agent.
    pub agent: Label,
    /// The launchctl command.
    pub command: RestartCommand,
    /// The same as it can be typed.
    pub line: String,
    /// Why, in a sentence.
    pub why: String,
    /// The last error in the agent's log, as the end of a sentence.
    pub last_error: String,
}

/// The launchctl command of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartCommand {
    /// `launchctl kickstart -k` of this label.
    Kickstart(String),
    /// `launchctl bootstrap` of this property list.
    Bootstrap(PathBuf),
}

impl RestartCommand {
    /// The command line.
    pub(crate) fn line(&self, launchctl: &Launchctl) -> String {
        match self {
            Self::Kickstart(label) => {
                format!("launchctl kickstart -k {}", launchctl.target(label))
            }
            Self::Bootstrap(plist) => {
                let domain = launchctl.domain();
                format!("launchctl bootstrap {domain} {}", quoted_file(plist))
            }
        }
    }

    /// Runs the command on the thread of `task`: it may block until the process has exited.
    pub(crate) async fn run(
        self,
        launchctl: &Launchctl,
        task: &BlockingTask,
    ) -> Result<(), String> {
        let launchctl = launchctl.clone();
        let work = move || match self {
            Self::Kickstart(label) => launchctl.restart(&label),
            Self::Bootstrap(plist) => launchctl.bootstrap(&plist),
        };
        let done = task.run(LIMIT, work).await;
        done.map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }
}
