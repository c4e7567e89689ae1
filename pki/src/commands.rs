//! The commands, one a file, and the context that they share.

pub(crate) mod bundle;
pub(crate) mod fleet;
pub(crate) mod init;
pub(crate) mod issue;
pub(crate) mod list;
pub(crate) mod manifest;
pub(crate) mod renew;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod show;
pub(crate) mod token;

use std::fmt;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use sanctum_config::{Fleet, Label, TildePath};
use serde_json::Value;

use crate::PkiError;
use crate::args::CommonArgs;
use crate::ca_session::CaSession;
use crate::changes::Changes;
use crate::clock::Moment;
use crate::home::PkiHome;

/// What a command works with: the home, the fleet, the time, the output.
pub(crate) struct CommandContext<'a> {
    /// The home.
    pub home: PkiHome,
    /// The time of the whole command.
    pub now: Moment,
    fleet: Option<Fleet>,
    dry_run: bool,
    out: &'a mut dyn Write,
}

impl<'a> CommandContext<'a> {
    pub(crate) fn new(args: &CommonArgs, out: &'a mut dyn Write) -> Result<Self, PkiError> {
        // As sanctum-launchd: the one in this folder, if none is named.
        let here = PathBuf::from("fleet.toml");
        let config = args
            .config
            .clone()
            .or_else(|| here.exists().then_some(here));
        let fleet = config.as_deref().map(Fleet::read).transpose()?;
        let home = match (&args.home, &fleet, &config) {
            (Some(home), _, _) => home.clone(),
            (None, Some(fleet), Some(file)) => fleet.fleet.home.beside(file)?,
            _ => Fleet::default().fleet.home.here()?,
        };
        Ok(Self {
            home: PkiHome::new(home),
            now: Moment::now(),
            fleet,
            dry_run: args.dry_run,
            out,
        })
    }

    /// The fleet, for commands that need it.
    pub(crate) fn fleet(&self) -> Result<Fleet, PkiError> {
        self.fleet.clone().ok_or(PkiError::NeedsFleet)
    }

    /// The fleet, where one was named.
    pub(crate) fn maybe_fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// The fleet's name, or the default name.
    pub(crate) fn fleet_name(&self) -> Label {
        self.fleet.clone().unwrap_or_default().fleet.name
    }

    /// A path of fleet.toml relative to the home; none if it leads elsewhere.
    pub(crate) fn within_home(&self, path: &TildePath) -> Option<PathBuf> {
        let home = self
            .fleet
            .as_ref()?
            .fleet
            .home
            .as_str()
            .trim_end_matches('/');
        let rest = Path::new(path.as_str().strip_prefix(home)?.strip_prefix('/')?);
        let plain = rest
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| rest.to_owned())
    }

    /// Opens the CA.
    pub(crate) fn open_ca(&self) -> Result<CaSession, PkiError> {
        CaSession::open(&self.home, self.dry_run)
    }

    /// A new CA.
    pub(crate) fn create_ca(
        &self,
        authority: crate::authority::Authority,
    ) -> Result<CaSession, PkiError> {
        CaSession::create(&self.home, authority, self.dry_run)
    }

    /// Prints a line.
    pub(crate) fn say(&mut self, line: impl fmt::Display) -> Result<(), PkiError> {
        Ok(writeln!(self.out, "{line}")?)
    }

    /// Prints a JSON document.
    pub(crate) fn say_json(&mut self, value: &Value) -> Result<(), PkiError> {
        Ok(writeln!(self.out, "{value:#}")?)
    }

    /// Whether nothing is to be written.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Writes the changes, or with --dry-run prints them.
    pub(crate) fn finish(&mut self, changes: Changes) -> Result<(), PkiError> {
        if self.dry_run {
            return Ok(changes.describe(self.out)?);
        }
        self.home.sweep()?;
        changes.apply()
    }

    /// The same, for changes of the CA.
    pub(crate) fn close(&mut self, ca: CaSession) -> Result<(), PkiError> {
        let (changes, lock) = ca.into_changes();
        self.finish(changes)?;
        drop(lock);
        Ok(())
    }

    /// The prefix of the output of a dry run.
    pub(crate) fn would(&self) -> &'static str {
        match self.dry_run {
            true => "dry run: ",
            false => "",
        }
    }
}
