//! What receipts are made of is kept: programs in `releases/<version>/`, everything else beside them in `deployed/`,
//! each file under its digest. So a deployment can be finished or taken back whatever was done to the files in place.

use std::fs::File;
use std::path::PathBuf;

use sanctum_config::{Digest, Home, atomic, files};
use sanctum_host::{Artefact, ArtefactKind, Receipt};

use crate::Failure;
use crate::release::remove_folder;
use crate::target::Target;

/// What is kept of all deployments.
pub struct Store<'a>(pub &'a Home);

impl Store<'_> {
    fn deployed(&self, version: &str) -> PathBuf {
        self.0.release(version).join("deployed")
    }

    /// Where the contents of an artefact are kept.
    pub fn place(&self, version: &str, artefact: &Artefact) -> PathBuf {
        match artefact.kind {
            ArtefactKind::Binary | ArtefactKind::Metallib => {
                let name = artefact.path.file_name().unwrap_or_default();
                self.0.release(version).join(name)
            }
            _ => self.deployed(version).join(artefact.sha256.to_string()),
        }
    }

    /// Keeps what a target is made of; its programs are there already.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn keep(&self, target: &Target) -> Result<(), Failure> {
        let folder = self.deployed(&target.receipt.release);
        for (digest, bytes) in &target.contents {
            let path = folder.join(digest.to_string());
            if Digest::of_file(&path).ok().flatten() != Some(*digest) {
                atomic::write(&path, bytes, 0o600).map_err(|error| Failure::write(&path, error))?;
            }
        }
        Ok(())
    }

    /// Keeps again what somebody has removed of the deployment that is in place; writes nothing if nothing is missing.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn mend(&self, receipt: &Receipt, target: &Target) -> Result<(), Failure> {
        self.keep(target)?;
        match self.recall(&receipt.release) {
            Ok(Some(_)) => Ok(()),
            _ => self.remember(receipt),
        }
    }

    /// Opens the contents of an artefact, after comparing them with its digest.
    ///
    /// # Errors
    /// If they are missing or are not what the receipt says.
    pub fn open(&self, version: &str, artefact: &Artefact) -> Result<File, Failure> {
        let path = self.place(version, artefact);
        match Digest::of_file(&path).map_err(|error| Failure::read(&path, error))? {
            Some(found) if found == artefact.sha256 => {
                files::open(&path).map_err(|error| Failure::read(&path, error))
            }
            found => Err(Failure::Refused(format!(
                "{} {}, so {} cannot be put in place; take the release in again: sanctum-launchd install --release \
                 FOLDER",
                path.display(),
                found.map_or("is missing", |_| "is damaged"),
                artefact.path.display(),
            ))),
        }
    }

    /// Remembers what a release was deployed as.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remember(&self, receipt: &Receipt) -> Result<(), Failure> {
        Ok(receipt.write(&self.deployed(&receipt.release).join("receipt.json"))?)
    }

    /// What a release was deployed as; none if it never was, or is kept no longer.
    ///
    /// # Errors
    /// If the record is damaged.
    pub fn recall(&self, version: &str) -> Result<Option<Receipt>, Failure> {
        Ok(Receipt::read(&self.deployed(version).join("receipt.json"))?)
    }

    /// The releases that were deployed, the latest first.
    ///
    /// # Errors
    /// If a record is damaged or the folder cannot be listed.
    pub fn releases(&self) -> Result<Vec<Receipt>, Failure> {
        let folder = self.0.releases();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::read(&folder, error)),
        };
        let mut receipts = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| Failure::read(&folder, e))?.file_name();
            if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
                receipts.extend(self.recall(name)?);
            }
        }
        // The moments sort as their texts do.
        receipts.sort_by(|a, b| b.installed.cmp(&a.installed));
        Ok(receipts)
    }

    /// Removes what no longer has to be kept: all but `retention` releases, never the one of `receipt` nor the one
    /// before it, and contents that `receipt` does not name. Returns the versions that went.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn prune(&self, receipt: &Receipt, retention: usize) -> Result<Vec<String>, Failure> {
        let stays = |version: &str| {
            version == receipt.release || receipt.previous.as_deref() == Some(version)
        };
        let (kept, others): (Vec<Receipt>, Vec<Receipt>) = self
            .releases()?
            .into_iter()
            .partition(|other| stays(&other.release));
        let room = retention.saturating_sub(kept.len());
        let mut gone = Vec::new();
        for old in others.into_iter().skip(room) {
            remove_folder(&self.0.release(&old.release))?;
            gone.push(old.release);
        }
        let folder = self.deployed(&receipt.release);
        if let Ok(entries) = std::fs::read_dir(&folder) {
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let used = |digest| receipt.artefacts.iter().any(|a| a.sha256 == digest);
                if name.parse().is_ok_and(|digest: Digest| !used(digest)) {
                    atomic::remove(&entry.path())
                        .map_err(|error| Failure::write(&entry.path(), error))?;
                }
            }
        }
        Ok(gone)
    }
}
