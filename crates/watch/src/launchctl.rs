//! launchd, through the text that its command `launchctl` prints: the only way by which Sanctum talks to it.
//!
//! Apple says of this text that it is no interface, so it is read tolerantly: what is not understood is left out, and
//! what cannot be left out is an error that shows the text. `man launchctl` has the subcommands; the shapes of their
//! output are in [`text`], each with its source.

pub mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use sanctum_config::{files, system_program};

use crate::command::{self, CommandError, Said};

pub use text::{LastExit, Listed, Service};

/// How long a call may take that waits for no process; launchd answers in milliseconds unless it is in trouble.
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
    /// [`LIMIT`]; tests have less time.
    limit: Duration,
    /// [`MARGIN`].
    margin: Duration,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchctlError {
    /// `launchctl` gave no answer.
    #[error("{0}")]
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
    /// There is no launchd.
    #[error(
        "there is no launchd here (no program `{program}`): agents are installed and run on macOS only. On this system \
         `check`, `render`, `pack` and `receipt` work; where launchctl is elsewhere, name it in SANCTUM_LAUNCHCTL"
    )]
    Missing {
        /// What was looked for.
        program: String,
    },
    /// A service has no new process after `kickstart -k`.
    #[error(
        "{target} has no new process {} seconds after kickstart -k; see `launchctl print {target}`", waited.as_secs()
    )]
    NotRestarted {
        /// The service.
        target: String,
        /// How long it was waited for.
        waited: Duration,
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

    /// Checks that the program is there, without starting it: to be called before anything is changed.
    ///
    /// # Errors
    /// If it is not.
    pub fn is_here(&self) -> Result<(), LaunchctlError> {
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

    /// How long a service may take to be gone after `bootout`, or to have a new process after `kickstart -k`: its
    /// ExitTimeOut, after which launchd sends SIGKILL, and a margin.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn exit_limit(&self, label: &str) -> Result<Duration, LaunchctlError> {
        Ok(self.exit_limit_of(self.print(label)?.as_ref()))
    }

    fn exit_limit_of(&self, service: Option<&Service>) -> Duration {
        // What launchd shows counts: it may have capped what the property list says.
        let in_plist = || exit_timeout_in(service?.plist.as_deref()?);
        let timeout = service.and_then(|service| service.exit_timeout);
        let timeout = timeout.or_else(in_plist).unwrap_or(EXIT_TIMEOUT);
        match timeout.is_zero() {
            true => NO_EXIT_TIMEOUT,
            false => timeout + self.margin,
        }
    }

    /// Unloads a service, whose process gets SIGTERM, and waits until launchd has forgotten it. `launchctl bootout` may
    /// return at once or when the process has exited; whatever it does, it is done when the service is gone. One that is
    /// not loaded is no error.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains, or the service stays loaded beyond [`Launchctl::exit_limit`].
    pub fn bootout(&self, label: &str) -> Result<(), LaunchctlError> {
        let begun = Instant::now();
        let Some(service) = self.print(label)? else {
            return Ok(());
        };
        let limit = self.exit_limit_of(Some(&service));
        let arguments = ["bootout", &self.target(label)];
        match command::run(&self.program, &arguments, limit) {
            Ok(said) => match said.code {
                Some(0 | IN_PROGRESS | NO_PROCESS) => {}
                Some(NOT_FOUND) if said.complaint().contains("Could not find service") => {}
                _ => return Err(self.refused(&arguments, said)),
            },
            Err(CommandError::Late { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        while self.print(label)?.is_some() {
            if begun.elapsed() >= limit {
                return Err(LaunchctlError::Stays {
                    target: self.target(label),
                    waited: begun.elapsed(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Starts a loaded service now. It keeps the arguments that it was loaded with, whatever its property list says today.
    ///
    /// # Errors
    /// If launchctl gives no answer or complains.
    pub fn kickstart(&self, label: &str) -> Result<(), LaunchctlError> {
        self.demand(&["kickstart", &self.target(label)]).map(drop)
    }

    /// Restarts a loaded service: its process gets SIGTERM, and SIGKILL at its ExitTimeOut. `launchctl kickstart -k` may
    /// block until the process has exited; if it gives no answer, a new process shows that it was restarted.
    ///
    /// # Errors
    /// If launchctl complains, or the service has no new process within [`Launchctl::exit_limit`].
    pub fn restart(&self, label: &str) -> Result<(), LaunchctlError> {
        let begun = Instant::now();
        let before = self.print(label)?;
        let limit = self.exit_limit_of(before.as_ref());
        let before = before.and_then(|service| service.pid);
        let arguments = ["kickstart", "-k", &self.target(label)];
        match command::run(&self.program, &arguments, limit) {
            Ok(said) if said.succeeded() => return Ok(()),
            Ok(said) => return Err(self.refused(&arguments, said)),
            Err(CommandError::Late { .. }) => {}
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
        command::run(&self.program, arguments, self.limit)
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

/// The ExitTimeOut of a property list; none if it has none, or cannot be read.
pub fn exit_timeout_in(plist: &Path) -> Option<Duration> {
    /// Larger than any property list of an agent.
    const LARGEST: u64 = 1 << 20;
    let bytes = files::read(plist, LARGEST).ok()?;
    let value = plist::Value::from_reader(std::io::Cursor::new(bytes)).ok()?;
    let timeout = value.as_dictionary()?.get("ExitTimeOut")?;
    timeout.as_unsigned_integer().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
