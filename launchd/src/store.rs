//! What deployments are made of: programs in `releases/<version>/`, everything else in `deployed/` beside them, each file
//! named by its digest. A deployment can therefore be finished or rolled back whatever happened to the installed files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use sanctum_config::atomic::{self, Staged};
use sanctum_config::{Digest, DigestReader, Home, files};
use sanctum_host::{Artefact, ArtefactKind, Receipt, Release};

use crate::Error;
use crate::release_folder::remove_folder;

/// The contents of all deployments.
pub(crate) struct DeploymentStore<'a> {
    home: &'a Home,
    /// Digests of files that this command has just hashed, while it imported them.
    verified: BTreeSet<Digest>,
}

impl<'a> DeploymentStore<'a> {
    /// The store in a fleet's home.
    pub(crate) fn new(home: &'a Home) -> Self {
        let verified = BTreeSet::new();
        Self { home, verified }
    }

    /// The files of `release` have been hashed while they were imported: they are not hashed again.
    pub(crate) fn trust(&mut self, release: &Release) {
        self.verified
            .extend(release.files.iter().map(|file| file.sha256));
    }

    fn deployed(&self, version: &str) -> PathBuf {
        self.home.release(version).join("deployed")
    }

    /// Where the contents of an artefact are stored.
    pub(crate) fn path_of(&self, version: &str, artefact: &Artefact) -> PathBuf {
        match artefact.kind {
            ArtefactKind::Binary | ArtefactKind::Metallib => {
                let name = artefact.path.file_name().unwrap_or_default();
                self.home.release(version).join(name)
            }
            _ => self.deployed(version).join(artefact.sha256.to_string()),
        }
    }

    /// Stores the files of a release that are not programs.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn save(
        &self,
        version: &str,
        contents: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<(), Error> {
        let folder = self.deployed(version);
        for (digest, bytes) in contents {
            let path = folder.join(digest.to_string());
            if Digest::of_file(&path).ok().flatten() != Some(*digest) {
                atomic::write(&path, bytes, 0o600).map_err(|error| Error::write(&path, error))?;
            }
        }
        Ok(())
    }

    /// Stores again what is missing of the deployment that is installed. Writes nothing if nothing is missing.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn repair(
        &self,
        receipt: &Receipt,
        contents: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<(), Error> {
        self.save(&receipt.release, contents)?;
        match self.receipt_of(&receipt.release) {
            Ok(Some(_)) => Ok(()),
            _ => self.record(receipt),
        }
    }

    /// The contents of a small artefact: fleet.toml, a property list.
    ///
    /// # Errors
    /// If they are missing, or do not match the artefact's digest.
    pub(crate) fn read(&self, version: &str, artefact: &Artefact) -> Result<Vec<u8>, Error> {
        let path = self.path_of(version, artefact);
        let file = files::open(&path).map_err(|_| self.unusable(version, artefact))?;
        let mut reader = DigestReader::new(file);
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| Error::read(&path, error))?;
        match reader.digest() == artefact.sha256 {
            true => Ok(bytes),
            false => Err(self.unusable(version, artefact)),
        }
    }

    /// Copies an artefact beside its installed path, and compares the digest while it copies. Nothing has changed at the
    /// installed path until the copy is put in place.
    ///
    /// # Errors
    /// If the stored file is missing or does not match the artefact's digest, or the copy cannot be written.
    pub(crate) fn stage(&self, version: &str, artefact: &Artefact) -> Result<Staged, Error> {
        let path = self.path_of(version, artefact);
        let mut file = files::open(&path).map_err(|_| self.unusable(version, artefact))?;
        let failed = |error| Error::write(&artefact.path, error);
        if self.verified.contains(&artefact.sha256) {
            return atomic::stage(&artefact.path, &mut file, artefact.mode).map_err(failed);
        }
        let mut reader = DigestReader::new(file);
        let staged = atomic::stage(&artefact.path, &mut reader, artefact.mode).map_err(failed)?;
        match reader.digest() == artefact.sha256 {
            true => Ok(staged),
            false => Err(self.unusable(version, artefact)),
        }
    }

    fn unusable(&self, version: &str, artefact: &Artefact) -> Error {
        let path = self.path_of(version, artefact);
        let problem = match path.exists() {
            true => "is damaged or cannot be read",
            false => "is missing",
        };
        Error::refused(format!(
            "{} {problem}, so {} cannot be installed; import the release again: sanctum-launchd install --release FOLDER",
            path.display(),
            artefact.path.display(),
        ))
    }

    /// Records what a release was deployed as.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) fn record(&self, receipt: &Receipt) -> Result<(), Error> {
        Ok(receipt.write(&self.deployed(&receipt.release).join("receipt.json"))?)
    }

    /// What a release was deployed as; none if it was never deployed, or has been removed.
    ///
    /// # Errors
    /// If the record does not parse.
    pub(crate) fn receipt_of(&self, version: &str) -> Result<Option<Receipt>, Error> {
        Ok(Receipt::read(&self.deployed(version).join("receipt.json"))?)
    }

    /// The releases that were deployed, the latest first.
    ///
    /// # Errors
    /// If a record does not parse, or the folder cannot be listed.
    pub(crate) fn releases(&self) -> Result<Vec<Receipt>, Error> {
        let folder = self.home.releases();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::read(&folder, error)),
        };
        let mut receipts = Vec::new();
        for entry in entries {
            let name = entry
                .map_err(|error| Error::read(&folder, error))?
                .file_name();
            if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
                receipts.extend(self.receipt_of(name)?);
            }
        }
        // The times sort as their texts do.
        receipts.sort_by(|a, b| b.installed.cmp(&a.installed));
        Ok(receipts)
    }

    /// Removes all but `retention` releases, never the one of `receipt` nor the one before it, and stored files that
    /// `receipt` does not name. Returns the versions that were removed.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub(crate) fn prune(&self, receipt: &Receipt, retention: usize) -> Result<Vec<String>, Error> {
        let stays = |version: &str| {
            version == receipt.release || receipt.previous.as_deref() == Some(version)
        };
        let (kept, others): (Vec<Receipt>, Vec<Receipt>) = self
            .releases()?
            .into_iter()
            .partition(|other| stays(&other.release));
        let room = retention.saturating_sub(kept.len());
        let mut removed = Vec::new();
        for old in others.into_iter().skip(room) {
            remove_folder(&self.home.release(&old.release))?;
            removed.push(old.release);
        }
        let folder = self.deployed(&receipt.release);
        if let Ok(entries) = std::fs::read_dir(&folder) {
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_used = |digest| receipt.artefacts.iter().any(|a| a.sha256 == digest);
                if name.parse().is_ok_and(|digest: Digest| !is_used(digest)) {
                    atomic::remove(&entry.path())
                        .map_err(|error| Error::write(&entry.path(), error))?;
                }
            }
        }
        Ok(removed)
    }
}
