//! Another fleet of the same name in another home. launchd's labels and property lists contain the fleet's name, so each of
//! the two fleets would stop the other's agents and overwrite its files.

use std::fs;
use std::path::{Path, PathBuf};

use sanctum_config::Home;

use crate::ssh::quoted_file;
use crate::{Error, Installation, PropertyList};

/// Checks that no fleet of this name is installed for this user from another home.
///
/// # Errors
/// The other home; or a home that cannot be read, such as one on a volume that is not mounted, if one of its agents is
/// loaded.
pub fn check_no_other(installation: &Installation) -> Result<(), Error> {
    for (label, plist) in plists(installation) {
        let Some(home) = home_of(&plist) else {
            continue;
        };
        if is_another(&home, installation.home.path()) {
            return Err(Error::Refused(format!(
                "a fleet named `{}` is installed here from {}, not from {} (see {}). Both would use the same agents, so \
                 nothing was changed. Give one of them another `name` in [fleet], or remove the other one: \
                 sanctum-launchd uninstall --config {}",
                installation.fleet.fleet.name,
                home.display(),
                installation.home.path().display(),
                plist.display(),
                quoted_file(&home.join("fleet.toml"))
            )));
        }
        let unseen = home != installation.home.path() && fs::metadata(&home).is_err();
        if unseen && installation.launchctl.print(&label)?.is_some() {
            return Err(Error::Refused(format!(
                "`{label}` is loaded, and its home {} cannot be read: its volume is not mounted, or the folder was removed \
                 (see {}). Nothing was changed. Mount the volume, or if that fleet was removed, run: launchctl bootout {}; \
                 rm {}",
                home.display(),
                plist.display(),
                installation.launchctl.target(&label),
                quoted_file(&plist)
            )));
        }
    }
    Ok(())
}

/// The property lists whose labels contain this fleet's name, with their labels.
fn plists(installation: &Installation) -> Vec<(String, PathBuf)> {
    let prefix = format!("com.{}.", installation.fleet.fleet.name);
    let entries = fs::read_dir(installation.home.launch_agents());
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
    PropertyList::read(plist)?.working_directory
}

/// Whether a fleet is installed at `home`, and `home` is not a link to `ours`. A receipt, or what an interrupted
/// installation leaves, proves an installation.
pub(crate) fn is_another(home: &Path, ours: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let theirs = Home::new(home.to_owned(), home.to_owned());
    let records = [theirs.receipt(), theirs.journal(), theirs.fleet_toml()];
    let installed = records.iter().any(|record| record.exists())
        || fs::read_dir(theirs.bin()).is_ok_and(|mut programs| programs.next().is_some());
    installed && real(home) != real(ours)
}
