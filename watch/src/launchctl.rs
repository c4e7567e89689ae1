//! launchd, through the text that its command `launchctl` prints: the only way by which Sanctum talks to it.
//!
//! Apple says of this text that it is no interface, so it is read tolerantly: what is not understood is left out, and
//! what cannot be left out is an error that shows the text. `man launchctl` has the subcommands; the shapes of their
//! output are in [`text`], each with its source.

pub mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::command::{self, CommandError, Said};

pub use text::{LastExit, Listed, Service};

/// How long one call may take; launchd answers in milliseconds unless it is in trouble.
const LIMIT: Duration = Duration::from_secs(20);

/// `print`'s exit code for a service that is not loaded.
const NOT_FOUND: i32 = 113;

/// `bootout`'s exit code for a service that is not loaded: ESRCH.
const NO_PROCESS: i32 = 3;

/// launchd's answer to a bootstrap whose label is there already or still on its way out: EIO, and EALREADY or EEXIST in
/// other releases.
const TAKEN: [i32; 3] = [5, 17, 37];

/// `bootout`'s exit code when it has been begun and is not done: EINPROGRESS.
const IN_PROGRESS: i32 = 36;

/// The `launchctl` of one user's graphical session: the domain `gui/<uid>`, where agents live.
#[derive(Clone, Debug)]
pub struct Launchctl {
    program: String,
    domain: String,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchctlError {
    /// `launchctl` gave no answer.
    #[error("{0}; set SANCTUM_LAUNCHCTL to the program to use")]
    Command(#[from] CommandError),
    /// launchd refused.
    #[error("`{line}` failed: {said} (code {})", code.map_or("none".to_owned(), |code| code.to_string()))]
    Refused {
        /// The command line, to be typed again.
        line: String,
        /// Its exit code.
        code: Option<i32>,
        /// What it said.
        said: String,
    },
    /// A service stays loaded after bootout.
    #[error(
        "{target} is still loaded {} seconds after bootout; see `launchctl print {target}`", waited.as_secs()
    )]
    Stays {
        /// The service.
        target: String,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl LaunchctlError {
    /// Whether a bootstrap failed because the label is loaded already, or its bootout is not done: wait until it is
    /// gone and try again.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if TAKEN.contains(code))
    }
}

impl Launchctl {
    /// For the user whom this process runs as; the program is the system's, see [`sanctum_config::system_program`].
    pub fn here() -> Self {
        Self::new("launchctl", rustix::process::getuid().as_raw())
    }

    /// With another program, for another user.
    pub fn new(program: impl Into<String>, uid: u32) -> Self {
        Self {
            program: program.into(),
            domain: format!("gui/{uid}"),
        }
    }

    /// The domain: `gui/<uid>`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// How launchctl's own subcommands name a service: `gui/<uid>/<label>`.
    pub fn target(&self, label: &str) -> String {
        format!("{}/{label}", self.domain)
    }

    /// What launchd knows about a service; none if it is not loaded.
    ///
    /// # Errors
    /// If launchctl gives no answer or another complaint than "not found".
    pub fn print(&self, label: &str) -> Result<Option<Service>, LaunchctlError> {
        let arguments = ["print", &self.target(label)];
        let said = self.call(&arguments)?;
        if said.succeeded() {
            return Ok(Some(text::service(&said.out)));
        }
        let complaint = said.complaint();
        let no_domain = complaint.contains("Could not find domain");
        if complaint.contains("Could not find service")
            || said.code == Some(NOT_FOUND) && !no_domain
        {
            return Ok(None);
        }
        Err(self.refused(&arguments, said))
    }

    /// All services that are loaded.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn list(&self) -> Result<Vec<Listed>, LaunchctlError> {
        self.demand(&["list"]).map(|said| text::list(&said.out))
    }

    /// The services that were ever enabled or disabled, and whether they are disabled now. One that is missing is
    /// enabled.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn disabled(&self) -> Result<BTreeMap<String, bool>, LaunchctlError> {
        self.demand(&["print-disabled", &self.domain])
            .map(|said| text::disabled(&said.out))
    }

    /// Whether one service is disabled: neither a login nor a bootstrap would start it.
    ///
    /// # Errors
    /// As [`Launchctl::disabled`].
    pub fn is_disabled(&self, label: &str) -> Result<bool, LaunchctlError> {
        Ok(self.disabled()?.get(label).copied().unwrap_or(false))
    }

    /// Loads a property list; its arguments are frozen from now on.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains; see [`LaunchctlError::is_taken`].
    pub fn bootstrap(&self, plist: &Path) -> Result<(), LaunchctlError> {
        let plist = plist.to_string_lossy();
        self.demand(&["bootstrap", &self.domain, &plist]).map(drop)
    }

    /// Begins to unload a service, which is stopped by SIGTERM. launchd answers before it is gone: see
    /// [`Launchctl::gone`]. One that is not loaded is no error.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn bootout(&self, label: &str) -> Result<(), LaunchctlError> {
        let arguments = ["bootout", &self.target(label)];
        let said = self.call(&arguments)?;
        match said.code {
            Some(0 | IN_PROGRESS | NO_PROCESS) => Ok(()),
            Some(NOT_FOUND) if said.complaint().contains("Could not find service") => Ok(()),
            _ => Err(self.refused(&arguments, said)),
        }
    }

    /// Waits until a service is no longer loaded.
    ///
    /// # Errors
    /// If it stays, or launchctl gives no answer.
    pub fn gone(&self, label: &str, timeout: Duration) -> Result<(), LaunchctlError> {
        let begun = Instant::now();
        while self.print(label)?.is_some() {
            if begun.elapsed() >= timeout {
                return Err(LaunchctlError::Stays {
                    target: self.target(label),
                    waited: timeout,
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Starts a loaded service now; with `kill` one that runs is killed first. It keeps the arguments that it was
    /// loaded with, whatever its property list says today.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn kickstart(&self, label: &str, kill: bool) -> Result<(), LaunchctlError> {
        let target = self.target(label);
        let arguments: &[&str] = match kill {
            true => &["kickstart", "-k", &target],
            false => &["kickstart", &target],
        };
        self.demand(arguments).map(drop)
    }

    /// Lets a service be loaded again, by a login too.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn enable(&self, label: &str) -> Result<(), LaunchctlError> {
        self.demand(&["enable", &self.target(label)]).map(drop)
    }

    /// Keeps a service from being loaded, by a login too. One that is loaded stays loaded.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn disable(&self, label: &str) -> Result<(), LaunchctlError> {
        self.demand(&["disable", &self.target(label)]).map(drop)
    }

    fn call(&self, arguments: &[&str]) -> Result<Said, CommandError> {
        command::run(&self.program, arguments, LIMIT)
    }

    fn demand(&self, arguments: &[&str]) -> Result<Said, LaunchctlError> {
        let said = self.call(arguments)?;
        match said.succeeded() {
            true => Ok(said),
            false => Err(self.refused(arguments, said)),
        }
    }

    fn refused(&self, arguments: &[&str], said: Said) -> LaunchctlError {
        LaunchctlError::Refused {
            line: format!("launchctl {}", arguments.join(" ")),
            code: said.code,
            said: said.complaint(),
        }
    }
}

#[cfg(test)]
mod tests;
