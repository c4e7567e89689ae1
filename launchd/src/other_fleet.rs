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
/// With the other home; or with a home that cannot be seen, such as one on a volume that is not mounted, while an agent of
/// it is loaded.
pub fn refuse(site: &Site) -> Result<(), Failure> {
    for (label, plist) in plists(site) {
        let Some(home) = home_of(&plist) else {
            continue;
        };
        if is_another(&home, site.home.path()) {
            return Err(Failure::Refused(format!(
                "a fleet named `{}` is installed here from {}, another home than {} (see {}); both would use the same \
                 agents, so nothing was changed: give one of them another `name` in [fleet], or remove the other one with \
                 sanctum-launchd uninstall --config {}",
                site.fleet.fleet.name,
                home.display(),
                site.home.path().display(),
                plist.display(),
                home.join("fleet.toml").display()
            )));
        }
        let unseen = home != site.home.path() && fs::metadata(&home).is_err();
        if unseen && site.launchctl.print(&label)?.is_some() {
            return Err(Failure::Refused(format!(
                "`{label}` is loaded, and its home {} cannot be seen: its volume is not mounted, or the folder was removed \
                 (see {}); nothing was changed: mount the volume, or if that fleet is gone, type: launchctl bootout {}; rm {}",
                home.display(),
                plist.display(),
                site.launchctl.target(&label),
                plist.display()
            )));
        }
    }
    Ok(())
}

/// The property lists of this fleet's name, with their labels.
fn plists(site: &Site) -> Vec<(String, PathBuf)> {
    let prefix = format!("com.{}.", site.fleet.fleet.name);
    let entries = fs::read_dir(site.home.launch_agents());
    let mut plists: Vec<(String, PathBuf)> = (entries.into_iter().flatten().flatten())
        .filter_map(|entry| {
            let name = entry.file_name();
            let label = name.to_str()?.strip_suffix(".plist")?;
            let ours = label.starts_with(&prefix);
            ours.then(|| (label.to_owned(), entry.path()))
        })
        .collect();
    plists.sort();
    plists
}

/// The home of the fleet that made a property list: its agents' working directory.
pub(crate) fn home_of(plist: &Path) -> Option<PathBuf> {
    let bytes = files::read(plist, LARGEST).ok()?;
    let value = plist::Value::from_reader(std::io::Cursor::new(bytes)).ok()?;
    let folder = value.as_dictionary()?.get("WorkingDirectory")?;
    folder.as_string().map(PathBuf::from)
}

/// Whether a fleet is installed at `home`, which is not `ours` by another name: its receipt, or what an interrupted
/// installation leaves. A home that was removed owns nothing.
pub(crate) fn is_another(home: &Path, ours: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let theirs = Home::new(home.to_owned(), home.to_owned());
    let records = [theirs.receipt(), theirs.journal(), theirs.fleet_toml()];
    let installed = records.iter().any(|record| record.exists())
        || fs::read_dir(theirs.bin()).is_ok_and(|mut programs| programs.next().is_some());
    installed && real(home) != real(ours)
}
