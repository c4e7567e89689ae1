//! Permission bits of the home's folders, secrets and keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, Installation};

/// The permission bits of a file or folder.
///
/// # Errors
/// If it cannot be examined.
pub fn mode_of(path: &Path) -> Result<u32, Error> {
    let about = fs::metadata(path).map_err(|error| Error::read(path, error))?;
    Ok(about.permissions().mode() & 0o7777)
}

/// Folders and secrets of the home, and secrets elsewhere that fleet.toml names for this host's servers, that group or
/// others can enter or read, each with the mode that it should have.
///
/// # Errors
/// If one of them cannot be examined.
pub fn exposed_secrets(installation: &Installation) -> Result<Vec<(PathBuf, u32)>, Error> {
    let home = &installation.home;
    let clients = home.certs().join("clients");
    let is_exposed = |path: &Path| Ok::<bool, Error>(mode_of(path)? & 0o077 != 0);
    let mut exposed = Vec::new();
    for folder in [
        home.path().to_owned(),
        home.state(),
        home.secrets(),
        home.certs(),
        clients.clone(),
    ] {
        if folder.is_dir() && is_exposed(&folder)? {
            exposed.push((folder, 0o700));
        }
    }
    for (folder, suffix) in [
        (home.secrets(), ""),
        (home.certs(), ".key"),
        (clients, ".key"),
    ] {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let is_secret = path.to_string_lossy().ends_with(suffix) && path.is_file();
            if is_secret && is_exposed(&path)? {
                exposed.push((path, 0o600));
            }
        }
    }
    let servers = installation.fleet.servers.values();
    for server in servers.filter(|server| server.host == installation.host) {
        for path in [&server.auth.token_file, &server.tls.key]
            .into_iter()
            .flatten()
        {
            let path = path.beside(&installation.file)?;
            let known = exposed.iter().any(|(other, _)| *other == path);
            if !known && path.is_file() && is_exposed(&path)? {
                exposed.push((path, 0o600));
            }
        }
    }
    Ok(exposed)
}
