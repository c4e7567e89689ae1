//! The commands, one a file, and what all of them share: where they work, and how they end.

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
use crate::args::SiteArgs;
use crate::changes::Changes;
use crate::clock::Moment;
use crate::home::Home;
use crate::office::Office;

/// Where a command works.
pub(crate) struct Site<'a> {
    /// Where everything lies.
    pub home: Home,
    /// The one moment at which all of it happens.
    pub now: Moment,
    fleet: Option<Fleet>,
    dry_run: bool,
    out: &'a mut dyn Write,
}

impl<'a> Site<'a> {
    pub fn new(args: &SiteArgs, out: &'a mut dyn Write) -> Result<Self, PkiError> {
        let fleet = args.config.as_deref().map(Fleet::read).transpose()?;
        let home = match (&args.home, &fleet, &args.config) {
            (Some(home), _, _) => home.clone(),
            (None, Some(fleet), Some(file)) => fleet.fleet.home.beside(file)?,
            _ => Fleet::default().fleet.home.here()?,
        };
        Ok(Self {
            home: Home::new(home),
            now: Moment::now(),
            fleet,
            dry_run: args.dry_run,
            out,
        })
    }

    /// The fleet, for commands that follow it.
    pub fn fleet(&self) -> Result<Fleet, PkiError> {
        self.fleet.clone().ok_or(PkiError::NeedsFleet)
    }

    /// The fleet, where one was named.
    pub fn maybe_fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// The fleet's name, or what fleets are called that say nothing else.
    pub fn fleet_name(&self) -> Label {
        self.fleet.clone().unwrap_or_default().fleet.name
    }

    /// A path of fleet.toml relative to the home; none if it leads elsewhere.
    pub fn within_home(&self, path: &TildePath) -> Option<PathBuf> {
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
    pub fn office(&self) -> Result<Office, PkiError> {
        Office::open(&self.home, self.dry_run)
    }

    /// A new CA.
    pub fn found(&self, authority: crate::authority::Authority) -> Result<Office, PkiError> {
        Office::found(&self.home, authority, self.dry_run)
    }

    /// One line for who typed the command.
    pub fn say(&mut self, line: impl fmt::Display) -> Result<(), PkiError> {
        Ok(writeln!(self.out, "{line}")?)
    }

    /// A JSON document for the program that typed it.
    pub fn say_json(&mut self, value: &Value) -> Result<(), PkiError> {
        Ok(writeln!(self.out, "{value:#}")?)
    }

    /// Whether nothing is to be written.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Writes what is to be written, or says what would be.
    pub fn finish(&mut self, changes: Changes) -> Result<(), PkiError> {
        if self.dry_run {
            return Ok(changes.describe(self.out)?);
        }
        self.home.sweep()?;
        changes.apply()
    }

    /// The same, for changes of the CA.
    pub fn close(&mut self, office: Office) -> Result<(), PkiError> {
        let (changes, lock) = office.into_changes();
        self.finish(changes)?;
        drop(lock);
        Ok(())
    }

    /// What to put before an answer that was only thought through.
    pub fn would(&self) -> &'static str {
        match self.dry_run {
            true => "dry run: ",
            false => "",
        }
    }
}
