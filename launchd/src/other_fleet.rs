//! Another fleet of the same name, from another home: launchd's labels and property lists are named after the fleet, so
//! each of the two would stop the other's agents and write over its files.

use std::fs;
use std::path::{Path, PathBuf};

use sanctum_config::{Home, files};

use crate::Failure;
use crate::site::Site;

/// Larger than any property list of an agent.
const LARGEST: u64 = 1 << 20;

/// Refuses if a fleet of this name is installed for this user from another home. Only reads.
///
/// # Errors
/// With the other home.
pub fn refuse(site: &Site) -> Result<(), Failure> {
    match find(site) {
        None => Ok(()),
        Some((plist, home)) => Err(Failure::Refused(format!(
            "a fleet named `{}` is installed here from {}, another home than {} (see {}); both would use the same agents, \
             so nothing was changed: give one of them another `name` in [fleet], or remove the other one with \
             sanctum-launchd uninstall --config {}",
            site.fleet.fleet.name,
            home.display(),
            site.home.path().display(),
            plist.display(),
            home.join("fleet.toml").display()
        ))),
    }
}

/// A property list of this fleet's name that another home's fleet has installed, and that home.
fn find(site: &Site) -> Option<(PathBuf, PathBuf)> {
    let prefix = format!("com.{}.", site.fleet.fleet.name);
    let mut plists: Vec<PathBuf> = fs::read_dir(site.home.launch_agents())
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".plist")
        })
        .collect();
    plists.sort();
    plists.into_iter().find_map(|plist| {
        let home = home_of(&plist)?;
        is_another(&home, site.home.path()).then_some((plist, home))
    })
}

/// The home of the fleet that made a property list: its agents' working directory.
pub(crate) fn home_of(plist: &Path) -> Option<PathBuf> {
    let bytes = files::read(plist, LARGEST).ok()?;
    let value = plist::Value::from_reader(std::io::Cursor::new(bytes)).ok()?;
    let folder = value.as_dictionary()?.get("WorkingDirectory")?;
    folder.as_string().map(PathBuf::from)
}

/// Whether a fleet is installed at `home`, which is not `ours` by another name. A home that was removed owns nothing.
pub(crate) fn is_another(home: &Path, ours: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let installed = Home::new(home.to_owned(), home.to_owned())
        .receipt()
        .exists();
    installed && real(home) != real(ours)
}
