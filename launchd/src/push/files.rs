//! Which files another host gets, and where they are there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sanctum_config::{Digest, Fleet, Label, Role};
use sanctum_host::{ArtefactKind, DESCRIPTION, Installation, Release};

use crate::Error;
use crate::host_state::signature_of;
use crate::release_folder;

/// The folder in the fleet's home in which releases and fleet.toml wait to be installed.
pub(crate) const PUSHED: &str = "push";

/// A file for another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PushFile {
    /// Where it is here.
    pub(crate) from: PathBuf,
    /// Where it goes, relative to the fleet's home there.
    pub(crate) to: String,
    /// Its permission bits there.
    pub(crate) mode: u32,
    /// Its digest.
    pub(crate) sha256: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl PushFile {
    fn new(from: PathBuf, to: String, mode: u32) -> Result<Self, Error> {
        let failed = |error| Error::read(&from, error);
        let about = fs::symlink_metadata(&from).map_err(failed)?;
        if !about.is_file() {
            return Err(Error::refused(format!(
                "{} is not a regular file, so it is not sent; replace it with the file itself",
                from.display()
            )));
        }
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let sha256 = Digest::of_file(&from)
            .and_then(|digest| digest.ok_or_else(missing))
            .map_err(failed)?;
        Ok(Self {
            to,
            mode,
            sha256,
            size: about.len(),
            from,
        })
    }
}

/// The programs of a release, which must be the described ones.
///
/// # Errors
/// If the release is damaged, or a file cannot be read.
pub(crate) fn release_files(folder: &Path) -> Result<(Release, Vec<PushFile>), Error> {
    let release = Release::read(folder)?;
    release_folder::check(&release, folder)?;
    let place = format!("{PUSHED}/{}", release.version);
    let mut files = Vec::new();
    for file in &release.files {
        let name = file.name.as_str();
        files.push(PushFile::new(
            folder.join(name),
            format!("{place}/{name}"),
            file.kind.mode(),
        )?);
    }
    // Last: a folder with a description is whole.
    let description = folder.join(DESCRIPTION);
    files.push(PushFile::new(
        description,
        format!("{place}/{DESCRIPTION}"),
        0o644,
    )?);
    Ok((release, files))
}

/// fleet.toml, and the files beside it that a host needs.
///
/// # Errors
/// If one cannot be read.
pub(crate) fn config_files(
    installation: &Installation,
    host: &Label,
) -> Result<Vec<PushFile>, Error> {
    let source = installation.file.parent().unwrap_or(Path::new("."));
    let mode = ArtefactKind::Fleet.mode();
    let to = format!("{PUSHED}/fleet.toml");
    let mut files = vec![PushFile::new(installation.file.clone(), to, mode)?];
    for path in installation.fleet.companions(host) {
        let mode = ArtefactKind::Spec.mode();
        let place = |path: &Path| format!("{PUSHED}/{}", path.display());
        files.push(PushFile::new(source.join(&path), place(&path), mode)?);
        let signature = signature_of(&path);
        if source.join(&signature).exists() {
            files.push(PushFile::new(
                source.join(&signature),
                place(&signature),
                mode,
            )?);
        }
    }
    Ok(files)
}

/// The certificates, keys and tokens that `sanctum-pki bundle` has made for `host`.
///
/// # Errors
/// If the folder has a file that a bundle never has, such as the CA's key, or that belongs to another host, or one cannot be
/// read.
pub(crate) fn bundle_files(
    fleet: &Fleet,
    host: &Label,
    folder: &Path,
) -> Result<Vec<PushFile>, Error> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        let failed = |error| Error::read(&inner, error);
        for entry in fs::read_dir(&inner).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let about = fs::symlink_metadata(&path).map_err(|error| Error::read(&path, error))?;
            if about.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(folder).unwrap_or(&path);
            let to = relative.to_string_lossy().into_owned();
            if !is_bundled(&to) {
                return Err(Error::refused(format!(
                    "{} is in no bundle, so it is not sent; only push what `sanctum-pki bundle` has made",
                    path.display()
                )));
            }
            if let Some(owner) = other_owner(fleet, host, &to) {
                return Err(Error::refused(format!(
                    "{} belongs to {owner}, which does not run on {host}, so it is not sent; to make a bundle for that host, \
                     run: sanctum-pki bundle {host}",
                    path.display()
                )));
            }
            files.push(PushFile::new(path, to, about.mode() & 0o777)?);
        }
    }
    files.sort_by(|a, b| a.to.cmp(&b.to));
    Ok(files)
}

/// Whose secret or certificate a file of a bundle is, if that agent does not run on `host`.
fn other_owner(fleet: &Fleet, host: &Label, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let (name, is_client) = match parts[..] {
        ["certs", "ca.crt" | "ca-old.crt"] => return None,
        ["certs", name] => (name, false),
        ["certs", "clients", name] => (name, true),
        // Tokens have names of the operator's choice.
        _ => return None,
    };
    let name = name
        .strip_suffix(".key")
        .or_else(|| name.strip_suffix(".crt"))?;
    let agents = fleet.agents_of(host);
    let is_own = agents
        .iter()
        .any(|(agent, role)| agent.as_str() == name && matches!(role, Role::Watch(_)) == is_client);
    (!is_own).then(|| format!("`{name}`"))
}

/// Whether a bundle can have a file of this path: certificates and keys of one host, public keys, tokens. Never the keys that
/// sign.
fn is_bundled(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let ends = |name: &str, ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let is_plain = |name: &str| {
        !name.starts_with('.')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    if !parts.iter().all(|part| is_plain(part)) {
        return false;
    }
    match parts[..] {
        ["certs", "ca.key" | "ca-old.key"] => false,
        ["certs", name] => ends(name, &[".crt", ".key", ".crl", ".pub"]),
        ["certs", "clients", name] => ends(name, &[".crt", ".key"]),
        ["secrets", name] => name.ends_with(".token"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_bundle_are_sent() {
        for good in [
            "certs/ca.crt",
            "certs/ca.crl",
            "certs/server.key",
            "certs/clients/canary-offbox.key",
            "certs/manifest-old.pub",
            "secrets/server.token",
        ] {
            assert!(is_bundled(good), "{good}");
        }
        for bad in [
            "certs/ca.key",
            "certs/ca-old.key",
            "secrets/manifest.key",
            "secrets/../certs/ca.key",
            "certs/.hidden.crt",
            "certs/issued.json",
            "certs/clients/a/b.key",
            "certs/a b.crt",
            "fleet.toml",
            "bin/sanctum-server",
        ] {
            assert!(!is_bundled(bad), "{bad}");
        }
        let text = "[hosts.mini]\naddress = \"m\"\nagents = [\"server\", \"canary\"]\n\
            [hosts.laptop]\naddress = \"l\"\nagents = [\"canary-offbox\"]\n[servers.server]\nhost = \"mini\"\n\
            [watch.canary]\n[watch.canary-offbox]\ncheck = \"canary\"\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        let mini: Label = "mini".parse().unwrap();
        for (path, is_other) in [
            ("certs/server.key", false),
            ("certs/clients/canary.key", false),
            ("certs/ca.crt", false),
            ("certs/ca.crl", false),
            ("certs/manifest.pub", false),
            ("secrets/server.token", false),
            ("certs/clients/canary-offbox.key", true),
            ("certs/clients/server.key", true),
            ("certs/other.crt", true),
        ] {
            assert_eq!(
                other_owner(&fleet, &mini, path).is_some(),
                is_other,
                "{path}"
            );
        }
        let bundle_files = |folder: &Path| bundle_files(&fleet, &mini, folder);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("certs")).unwrap();
        fs::write(folder.path().join("certs/ca.crt"), "x").unwrap();
        assert_eq!(bundle_files(folder.path()).unwrap()[0].to, "certs/ca.crt");
        let link = folder.path().join("certs/server.key");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let error = bundle_files(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        fs::remove_file(link).unwrap();
        fs::write(folder.path().join("certs/ca.key"), "x").unwrap();
        let error = bundle_files(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is in no bundle"), "{error}");
    }
}
