//! launchd, through the output of its command `launchctl`. Sanctum uses no other interface to launchd.
//!
//! Apple does not promise the format of this output, so the parser is tolerant: it skips what it does not know, and a
//! required part that is missing is an error that shows the text. launchctl(1) documents the subcommands; [`text`] has
//! the formats of their output, each with its source.

pub mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use sanctum_config::system_program;

use crate::command::{self, CommandError, Output};
use crate::property_list::PropertyList;

pub use text::{LastExit, Listed, Service};

/// How long a call may take that waits for no process. launchd normally answers in milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// The ExitTimeOut of a service of which neither `print` nor its property list says one: the default that
/// launchd.plist(5) gave until macOS 10.9. Since then the page calls it system-defined, and `print` shows it.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);

/// What is waited for a service whose ExitTimeOut is 0, which means for ever.
const NO_EXIT_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Beyond ExitTimeOut: launchd sends SIGKILL, reaps the process, and forgets or restarts the service.
const MARGIN: Duration = Duration::from_secs(15);

/// `print`'s exit code for a service that is not loaded.
const NOT_FOUND: i32 = 113;

/// `bootout`'s exit code for a service that is not loaded: ESRCH.
const NO_PROCESS: i32 = 3;

/// The exit codes of a bootstrap whose label is still loaded or is being unloaded: EIO, and EALREADY or EEXIST in other
/// releases.
const LABEL_IN_USE: [i32; 3] = [5, 17, 37];

/// `bootout`'s exit code when it has been begun and is not done: EINPROGRESS.
const IN_PROGRESS: i32 = 36;

/// The `launchctl` of one user's graphical session: the domain `gui/<uid>`, where agents live.
#[derive(Clone, Debug)]
pub struct Launchctl {
    program: String,
    domain: String,
    /// [`LIMIT`]; tests have less time.
    limit: Duration,
    /// [`MARGIN`].
    margin: Duration,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchctlError {
    /// `launchctl` could not be run, or did not finish.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// `launchctl` reported an error.
    #[error("`{line}` failed: {reason} (code {})", code.map_or("none".to_owned(), |code| code.to_string()))]
    Failed {
        /// The command line, as it can be typed.
        line: String,
        /// Its exit code.
        code: Option<i32>,
        /// Its message.
        reason: String,
    },
    /// There is no launchd.
    #[error(
        "this system has no launchd (there is no program `{program}`): agents are installed and run on macOS only. Here, \
         `check`, `render`, `pack` and `receipt` work. If launchctl is elsewhere, set SANCTUM_LAUNCHCTL to its path"
    )]
    Missing {
        /// The program that is missing.
        program: String,
    },
    /// A service has no new process after `kickstart -k`.
    #[error(
        "{target} has no new process {} seconds after kickstart -k; run `launchctl print {target}`", waited.as_secs()
    )]
    NotRestarted {
        /// The service.
        target: String,
        /// How long this call waited for it.
        waited: Duration,
    },
    /// A service stays loaded after bootout.
    #[error(
        "{target} is still loaded {} seconds after bootout; run `launchctl print {target}`", waited.as_secs()
    )]
    StillLoaded {
        /// The service.
        target: String,
        /// How long this call waited for it.
        waited: Duration,
    },
}

impl LaunchctlError {
    /// Whether a bootstrap failed because the label is loaded already, or its bootout has not finished. A later attempt
    /// may succeed.
    pub fn is_label_in_use(&self) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if LABEL_IN_USE.contains(code))
    }
}

impl Launchctl {
    /// For the user whom this process runs as; the program is `$SANCTUM_LAUNCHCTL`, else the system's.
    pub fn here() -> Self {
        let program = system_program("launchctl");
        let uid = rustix::process::getuid().as_raw();
        Self::new(program.to_string_lossy(), uid)
    }

    /// With another program, for another user.
    pub fn new(program: impl Into<String>, uid: u32) -> Self {
        Self {
            program: program.into(),
            domain: format!("gui/{uid}"),
            limit: LIMIT,
            margin: MARGIN,
        }
    }

    /// Checks that the program exists, without running it. To be called before anything is changed.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn check_exists(&self) -> Result<(), LaunchctlError> {
        let program = Path::new(&self.program);
        let found = match program.components().count() {
            1 => std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
            }),
            _ => program.is_file(),
        };
        match found {
            true => Ok(()),
            false => Err(LaunchctlError::Missing {
                program: self.program.clone(),
            }),
        }
    }

    /// The domain: `gui/<uid>`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The service target of launchctl's subcommands: `gui/<uid>/<label>`.
    pub fn target(&self, label: &str) -> String {
        format!("{}/{label}", self.domain)
    }

    /// The state of a service; none if it is not loaded.
    ///
    /// # Errors
    /// If launchctl fails with another error than "not found".
    pub fn print(&self, label: &str) -> Result<Option<Service>, LaunchctlError> {
        let arguments = ["print", &self.target(label)];
        let output = self.call(&arguments)?;
        if output.succeeded() {
            return Ok(Some(text::service(&output.stdout)));
        }
        let reason = output.reason();
        let no_domain = reason.contains("Could not find domain");
        if reason.contains("Could not find service") || output.code == Some(NOT_FOUND) && !no_domain
        {
            return Ok(None);
        }
        Err(self.failed(&arguments, &output))
    }

    /// All services that are loaded.
    ///
    /// # Errors
    /// If launchctl fails.
    pub fn list(&self) -> Result<Vec<Listed>, LaunchctlError> {
        self.call_checked(&["list"])
            .map(|output| text::list(&output.stdout))
    }

    /// The services that were ever enabled or disabled, and whether they are disabled now. All others are enabled.
    ///
    /// # Errors
    /// If launchctl fails.
    pub fn disabled(&self) -> Result<BTreeMap<String, bool>, LaunchctlError> {
        self.call_checked(&["print-disabled", &self.domain])
            .map(|output| text::disabled(&output.stdout))
    }

    /// Whether one service is disabled: neither a login nor a bootstrap would start it.
    ///
    /// # Errors
    /// As [`Launchctl::disabled`].
    pub fn is_disabled(&self, label: &str) -> Result<bool, LaunchctlError> {
        Ok(self.disabled()?.get(label).copied().unwrap_or(false))
    }

    /// Loads a property list. Later changes of the file have no effect on the loaded service.
    ///
    /// # Errors
    /// If launchctl fails; see [`LaunchctlError::is_label_in_use`].
    pub fn bootstrap(&self, plist: &Path) -> Result<(), LaunchctlError> {
        let plist = plist.to_string_lossy();
        self.call_checked(&["bootstrap", &self.domain, &plist])
            .map(drop)
    }

    /// How long a service may take to be unloaded by `bootout`, or to have a new process after `kickstart -k`: its
    /// ExitTimeOut, after which launchd sends SIGKILL, and a margin.
    ///
    /// # Errors
    /// If launchctl fails.
    pub fn exit_limit(&self, label: &str) -> Result<Duration, LaunchctlError> {
        Ok(self.exit_limit_of(self.print(label)?.as_ref()))
    }

    fn exit_limit_of(&self, service: Option<&Service>) -> Duration {
        // launchd may cap the value of the property list, so the value that it prints comes first.
        let in_plist = || PropertyList::read(service?.plist.as_deref()?)?.exit_timeout;
        let timeout = service.and_then(|service| service.exit_timeout);
        let timeout = timeout.or_else(in_plist).unwrap_or(EXIT_TIMEOUT);
        match timeout.is_zero() {
            true => NO_EXIT_TIMEOUT,
            false => timeout + self.margin,
        }
    }

    /// Unloads a service, whose process gets SIGTERM, and waits until launchd no longer knows it. `launchctl bootout` may
    /// return at once or when the process has exited. It is not an error if the service is not loaded.
    ///
    /// # Errors
    /// If launchctl fails, or the service is still loaded after [`Launchctl::exit_limit`].
    pub fn bootout(&self, label: &str) -> Result<(), LaunchctlError> {
        let begun = Instant::now();
        let Some(service) = self.print(label)? else {
            return Ok(());
        };
        let limit = self.exit_limit_of(Some(&service));
        let arguments = ["bootout", &self.target(label)];
        match command::run(&self.program, &arguments, limit) {
            Ok(output) => match output.code {
                Some(0 | IN_PROGRESS | NO_PROCESS) => {}
                Some(NOT_FOUND) if output.reason().contains("Could not find service") => {}
                _ => return Err(self.failed(&arguments, &output)),
            },
            Err(CommandError::Timeout { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        while self.print(label)?.is_some() {
            if begun.elapsed() >= limit {
                return Err(LaunchctlError::StillLoaded {
                    target: self.target(label),
                    waited: begun.elapsed(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Starts a loaded service now, with the arguments that it was loaded with: launchd does not read its property list
    /// again.
    ///
    /// # Errors
    /// If launchctl fails.
    pub fn kickstart(&self, label: &str) -> Result<(), LaunchctlError> {
        self.call_checked(&["kickstart", &self.target(label)])
            .map(drop)
    }

    /// Restarts a loaded service: its process gets SIGTERM, and SIGKILL at its ExitTimeOut. `launchctl kickstart -k` may
    /// block until the process has exited; after a timeout, a new process proves that it was restarted.
    ///
    /// # Errors
    /// If launchctl fails, or the service has no new process within [`Launchctl::exit_limit`].
    pub fn restart(&self, label: &str) -> Result<(), LaunchctlError> {
        let begun = Instant::now();
        let before = self.print(label)?;
        let limit = self.exit_limit_of(before.as_ref());
        let before = before.and_then(|service| service.pid);
        let arguments = ["kickstart", "-k", &self.target(label)];
        match command::run(&self.program, &arguments, limit) {
            Ok(output) if output.succeeded() => return Ok(()),
            Ok(output) => return Err(self.failed(&arguments, &output)),
            Err(CommandError::Timeout { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let now = self.print(label)?.and_then(|service| service.pid);
        match now.is_some() && now != before {
            true => Ok(()),
            false => Err(LaunchctlError::NotRestarted {
                target: self.target(label),
                waited: begun.elapsed(),
            }),
        }
    }

    /// Sends the process of a loaded service a signal, such as `SIGUSR1`.
    ///
    /// # Errors
    /// If launchctl fails.
    pub fn signal(&self, label: &str, signal: &str) -> Result<(), LaunchctlError> {
        self.call_checked(&["kill", signal, &self.target(label)])
            .map(drop)
    }

    /// Allows a service to be loaded again, including at login.
    ///
    /// # Errors
    /// If launchctl fails.
    pub fn enable(&self, label: &str) -> Result<(), LaunchctlError> {
        self.call_checked(&["enable", &self.target(label)])
            .map(drop)
    }

    /// Prevents a service from being loaded, including at login. A loaded service stays loaded.
    ///
    /// # Errors
    /// If launchctl fails.
    pub fn disable(&self, label: &str) -> Result<(), LaunchctlError> {
        self.call_checked(&["disable", &self.target(label)])
            .map(drop)
    }

    fn call(&self, arguments: &[&str]) -> Result<Output, CommandError> {
        command::run(&self.program, arguments, self.limit)
    }

    fn call_checked(&self, arguments: &[&str]) -> Result<Output, LaunchctlError> {
        let output = self.call(arguments)?;
        match output.succeeded() {
            true => Ok(output),
            false => Err(self.failed(arguments, &output)),
        }
    }

    fn failed(&self, arguments: &[&str], output: &Output) -> LaunchctlError {
        LaunchctlError::Failed {
            line: format!("launchctl {}", arguments.join(" ")),
            code: output.code,
            reason: output.reason(),
        }
    }
}

#[cfg(test)]
mod tests;
