//! The section of fleet.toml that describes this server.

use std::path::PathBuf;

use sanctum_config::fleet::Server;
use sanctum_config::{Fleet, Label, NoHome, TildePath, did_you_mean};

use super::error::SettingsError;
use crate::args::ServeArgs;

/// A server of fleet.toml, and the file that its paths are relative to.
pub(crate) struct Section {
    /// The server's name.
    pub name: Label,
    /// Its settings.
    pub server: Server,
    /// The fleet's home.
    pub home: TildePath,
    /// fleet.toml.
    file: PathBuf,
}

impl Section {
    /// The server's section, if a fleet.toml is named.
    ///
    /// # Errors
    /// If fleet.toml cannot be used, or the server is not in it.
    pub(crate) fn of(args: &ServeArgs) -> Result<Option<Self>, SettingsError> {
        let Some(file) = &args.config else {
            return Ok(None);
        };
        let fleet = Fleet::read(file)?;
        let home = fleet.fleet.home.clone();
        let shown = file.display().to_string();
        let (name, server) = choose(fleet, &shown, args.server.as_ref())?;
        Ok(Some(Self {
            name,
            server,
            home,
            file: file.clone(),
        }))
    }

    /// A path of this file: a relative one begins at the file's own folder.
    ///
    /// # Errors
    /// If it begins with `~` and there is no home.
    pub(crate) fn path(&self, path: &TildePath) -> Result<PathBuf, NoHome> {
        path.beside(&self.file)
    }
}

/// The server that is named, or the only one.
fn choose(
    mut fleet: Fleet,
    file: &str,
    wanted: Option<&Label>,
) -> Result<(Label, Server), SettingsError> {
    let file = file.to_owned();
    let names = || fleet.servers.keys().map(Label::as_str);
    match wanted {
        Some(name) => {
            let near = did_you_mean(name.as_str(), names());
            fleet
                .servers
                .remove_entry(name)
                .ok_or_else(|| SettingsError::NoSuchServer {
                    file,
                    name: name.clone(),
                    near,
                })
        }
        None if fleet.servers.len() == 1 => {
            let only = fleet.servers.pop_first();
            Ok(only.expect("there is one"))
        }
        None => Err(SettingsError::WhichServer {
            file,
            count: fleet.servers.len(),
            fix: match fleet.servers.len() {
                0 => "add a [servers.NAME]".to_owned(),
                _ => format!(
                    "choose one with --server: {}",
                    names().collect::<Vec<_>>().join(", ")
                ),
            },
        }),
    }
}
