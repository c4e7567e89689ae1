//! The paths in the fleet's home.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sanctum_config::{atomic, files};

use crate::PkiError;
use crate::error::RESTORE;
use crate::holder::{Holder, HolderKind};

/// The fleet's home folder on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiHome(PathBuf);

impl PkiHome {
    /// The home at that path; it need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `certs/`: certificates and their keys.
    pub fn certs(&self) -> PathBuf {
        self.0.join("certs")
    }

    /// The CA's certificate; while two CAs overlap, both: the one that signs now comes first.
    pub fn authorities(&self) -> PathBuf {
        self.certs().join("ca.crt")
    }

    /// The CA's key, on one machine only.
    pub fn authority_key(&self) -> PathBuf {
        self.certs().join("ca.key")
    }

    /// The former CA's certificate, while two overlap.
    pub fn former_authority(&self) -> PathBuf {
        self.certs().join("ca-old.crt")
    }

    /// The former CA's key, which signs its revocation list while two overlap.
    pub fn former_authority_key(&self) -> PathBuf {
        self.certs().join("ca-old.key")
    }

    /// The revocation lists, one for each CA.
    pub fn crl(&self) -> PathBuf {
        self.certs().join("ca.crl")
    }

    /// What was issued and revoked; only where the CA's key is.
    pub fn ledger(&self) -> PathBuf {
        self.certs().join("ledger.json")
    }

    /// Locked while a command writes, so that two commands do not issue or revoke at the same time.
    pub fn lock(&self) -> PathBuf {
        self.certs().join(".lock")
    }

    /// A holder's certificate.
    pub fn certificate(&self, holder: &Holder) -> PathBuf {
        self.folder(holder.kind)
            .join(format!("{}.crt", holder.name))
    }

    /// A holder's key.
    pub fn key(&self, holder: &Holder) -> PathBuf {
        self.folder(holder.kind)
            .join(format!("{}.key", holder.name))
    }

    /// A server's bearer token.
    pub fn token(&self, server: &str) -> PathBuf {
        self.0.join("secrets").join(format!("{server}.token"))
    }

    /// The key that signs manifests.
    pub fn manifest_key(&self) -> PathBuf {
        self.0.join("secrets/manifest.key")
    }

    /// The key that manifests' signatures are checked with.
    pub fn manifest_public(&self) -> PathBuf {
        self.certs().join("manifest.pub")
    }

    /// The public key before that one, for as long as manifests that it signed are in use.
    pub fn former_manifest_public(&self) -> PathBuf {
        self.certs().join("manifest-old.pub")
    }

    /// Removes temporary files of killed commands.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sweep(&self) -> Result<(), PkiError> {
        let secrets = self.0.join("secrets");
        for folder in [self.certs(), self.folder(HolderKind::Client), secrets] {
            atomic::sweep(&folder).map_err(|error| PkiError::write(&folder, error))?;
        }
        Ok(())
    }

    fn folder(&self, kind: HolderKind) -> PathBuf {
        match kind {
            HolderKind::Server => self.certs(),
            HolderKind::Client => self.certs().join("clients"),
        }
    }

    /// Every holder that has a certificate or key here: servers first, then clients, by name. Files with other names are
    /// ignored.
    ///
    /// # Errors
    /// If a folder is there and cannot be listed.
    pub fn holders(&self) -> Result<Vec<Holder>, PkiError> {
        let mut holders = Vec::new();
        for kind in [HolderKind::Server, HolderKind::Client] {
            let folder = self.folder(kind);
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(PkiError::read(&folder, error)),
            };
            for entry in entries {
                let path = entry.map_err(|e| PkiError::read(&folder, e))?.path();
                let ours = path
                    .extension()
                    .is_some_and(|end| end == "crt" || end == "key");
                let name = path.file_stem().and_then(|stem| stem.to_str());
                let label = name.and_then(|name| name.parse().ok());
                if let (true, Some(label)) = (ours, label) {
                    holders.extend(Holder::new(kind, label).ok());
                }
            }
        }
        holders.sort();
        holders.dedup();
        Ok(holders)
    }
}

/// The text of a public file; none if it is not there.
pub(crate) fn read_text(path: &Path, what: &'static str) -> Result<Option<String>, PkiError> {
    /// Thousands of certificates' worth; a larger file is a mistake.
    const LARGEST: u64 = 16 << 20;
    let bytes = match files::read_trusted(path, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PkiError::read(path, error)),
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(PkiError::form(
            path,
            what,
            format!("it is not text; {RESTORE}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_found_by_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let home = PkiHome::new(folder.path().to_owned());
        assert_eq!(home.holders().unwrap(), []);
        fs::create_dir_all(home.certs().join("clients")).unwrap();
        for file in [
            "ca.crt",
            "ca.key",
            "server.crt",
            "server.key",
            "b.key",
            "clients/canary.crt",
            "a b.crt",
            "x.pub",
        ] {
            fs::write(home.certs().join(file), "").unwrap();
        }
        let names: Vec<String> = home
            .holders()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["server b", "server server", "client canary"]);
    }
}
