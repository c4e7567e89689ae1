//! Verifies that a folder matches its manifest, while the folder is loaded.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use sanctum_config::files;

use crate::folder::{FileStamp, OpenFolder};
use crate::hashing::{Content, HashJob, Hashing, read_whole};
use crate::mapped::map_file;
use crate::{Bytes, VerifiedFiles, is_loaded};
use crate::{
    Digest, Fault, FileName, KeyError, Manifest, ManifestError, PublicKey, Signature,
    signature_path,
};

/// The largest manifest that is read: a million files' worth.
const LARGEST: u64 = 64 << 20;

/// Names of unlisted files that a warning spells out.
const NAMED: usize = 20;

/// What a folder is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The manifest's file. Its signature is beside it ([`signature_path`]).
    pub manifest: PathBuf,
    /// Files of public keys; one of them must have signed it. Empty: the signature is not checked, and the manifest is only as
    /// trustworthy as its folder.
    pub keys: Vec<PathBuf>,
}

/// A verification in progress.
pub struct Verification {
    proof: Proof,
    /// Files whose digests match, with their stamps when they were opened.
    right: Vec<(FileName, FileStamp)>,
    files: Arc<VerifiedFiles>,
    hashing: Hashing,
}

/// The proof that a folder matched its manifest.
#[derive(Debug)]
pub struct Verified {
    proof: Proof,
    stamps: Vec<(FileName, FileStamp)>,
}

/// The folder and the manifest that it is compared with.
#[derive(Debug)]
struct Proof {
    folder: Arc<OpenFolder>,
    manifest_path: PathBuf,
    manifest: Manifest,
    signed_by: Option<PublicKey>,
}

impl Expected {
    /// Reads the manifest: first the signature is checked, over the very bytes that are then parsed. Also returns the
    /// key that signed it; none if no key is trusted.
    ///
    /// # Errors
    /// If a file cannot be read, no trusted key has signed the manifest, or it is not a manifest.
    pub fn read(&self) -> Result<(Manifest, Option<PublicKey>), ManifestError> {
        let path = &self.manifest;
        let bytes = self.bytes()?;
        let signed_by = self.signer(&bytes)?;
        let manifest = Manifest::parse(&bytes).map_err(|source| ManifestError::Line {
            path: path.clone(),
            source,
        })?;
        Ok((manifest, signed_by))
    }

    fn bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let path = &self.manifest;
        let failed = |source| ManifestError::Io {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        let file = files::open(path).map_err(failed)?;
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        match bytes.len() as u64 > LARGEST {
            true => Err(ManifestError::TooLarge { path: path.clone() }),
            false => Ok(bytes),
        }
    }

    fn signer(&self, bytes: &[u8]) -> Result<Option<PublicKey>, ManifestError> {
        let manifest = || self.manifest.clone();
        let path = signature_path(&self.manifest);
        if self.keys.is_empty() {
            if path.exists() {
                tracing::warn!(
                    manifest = %self.manifest.display(),
                    "the manifest is signed, but no key is trusted, so the signature proves nothing: name the key with \
                     `manifest_keys` in fleet.toml or --manifest-key"
                );
            }
            return Ok(None);
        }
        let keys: Result<Vec<_>, KeyError> = self.keys.iter().map(|k| PublicKey::read(k)).collect();
        let keys = keys?;
        let signature = match Signature::read(&path) {
            Ok(signature) => signature,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestError::Unsigned {
                    manifest: manifest(),
                });
            }
            Err(source) => return Err(ManifestError::Io { path, source }),
        };
        let by = |key: &&PublicKey| signature.is_some_and(|sig| key.has_signed(bytes, &sig));
        match keys.iter().find(by) {
            Some(key) => Ok(Some(key.clone())),
            None => Err(ManifestError::BadSignature {
                manifest: manifest(),
                trusted: keys.iter().map(short).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// The first digits of a key: enough to tell keys apart.
fn short(key: &PublicKey) -> String {
    let mut digits = key.to_string();
    digits.truncate(16);
    digits
}

impl Verification {
    /// Checks the signature, the list and the files that are parsed, and starts to hash the rest.
    ///
    /// # Errors
    /// If one of these does not match; [`Verification::wait`] returns the result for the weights.
    pub fn start(folder: &Path, expected: &Expected) -> Result<Self, ManifestError> {
        Self::start_on(folder, expected, cores())
    }

    /// As [`Verification::start`], on so many threads at most.
    ///
    /// # Errors
    /// As there.
    pub fn start_on(
        folder: &Path,
        expected: &Expected,
        threads: usize,
    ) -> Result<Self, ManifestError> {
        let (manifest, signed_by) = expected.read()?;
        let proof = Proof {
            folder: Arc::new(OpenFolder::open(folder)?),
            manifest_path: expected.manifest.clone(),
            manifest,
            signed_by,
        };
        let sizes = proof.survey()?;

        let mut right = Vec::new();
        let mut loaded = BTreeMap::<String, Bytes>::new();
        let mut jobs = Vec::new();
        let mut faults = Vec::new();
        for ((name, expected), size) in proof.manifest.files().zip(sizes) {
            let mut content = Content::Unopened;
            if is_loaded(name.as_str()) {
                let opened = match name.as_str().ends_with(".safetensors") {
                    true => proof.map(name).map(|(bytes, stamp)| {
                        content = Content::Mapped(bytes.clone(), stamp);
                        bytes
                    }),
                    false => proof.read(name, expected).map(|(bytes, stamp)| {
                        right.push((name.clone(), stamp));
                        bytes
                    }),
                };
                match opened {
                    Ok(bytes) => drop(loaded.insert(name.to_string(), bytes)),
                    Err(fault) => faults.push((name.clone(), fault)),
                }
                if !matches!(content, Content::Mapped(..)) {
                    continue;
                }
            }
            jobs.push(HashJob {
                name: name.clone(),
                size,
                content,
            });
        }
        proof.without(faults)?;
        let hashing =
            Hashing::start(proof.folder.clone(), jobs, threads).map_err(ManifestError::Thread)?;
        let files = Arc::new(VerifiedFiles {
            folder: folder.to_owned(),
            manifest: expected.manifest.clone(),
            files: loaded,
        });
        Ok(Self {
            proof,
            right,
            files,
            hashing,
        })
    }

    /// The files for the loader: settings, tokenizer and template as they were verified, the weights as they are
    /// being verified. Do not serve what is made from them before [`Verification::wait`]
    /// has returned.
    pub fn files(&self) -> Arc<VerifiedFiles> {
        Arc::clone(&self.files)
    }

    /// Waits until all files are hashed, and returns the result. Calls `progress(hashed, total)` with bytes.
    ///
    /// # Errors
    /// If a file is missing, cannot be read or has other bytes than the manifest says.
    pub fn wait(self, progress: impl FnMut(u64, u64)) -> Result<Verified, ManifestError> {
        let Self {
            proof,
            right: mut stamps,
            hashing,
            ..
        } = self;
        let mut faults = Vec::new();
        for (name, found) in hashing.finish(progress) {
            let checked = match (found, proof.manifest.digest(name.as_str())) {
                (Ok((digest, stamp)), Some(expected)) => proof
                    .compare(&name, expected, digest, stamp)
                    .map(|()| stamp),
                (Ok((_, stamp)), None) => Ok(stamp),
                (Err(fault), _) => Err(proof.absence(fault)),
            };
            match checked {
                Ok(stamp) => stamps.push((name, stamp)),
                Err(fault) => faults.push((name, fault)),
            }
        }
        proof.without(faults)?;
        if stamps.len() != proof.manifest.files().len() {
            // A hashing thread has ended without its result.
            return Err(ManifestError::Thread(io::Error::other(
                "one of them ended early",
            )));
        }
        Ok(Verified { proof, stamps })
    }
}

impl Verified {
    /// Checks that every listed file is still the inode that was hashed, with the size and times that it had.
    ///
    /// # Errors
    /// For the first file that is not.
    pub fn unchanged(&self) -> Result<(), ManifestError> {
        let mut faults = Vec::new();
        for (name, then) in &self.stamps {
            let what = match self.proof.folder.open_file(name) {
                Ok((_, now)) => then.difference(&now),
                Err(fault) if fault.is_absence() => Some("it is gone"),
                Err(fault) => {
                    faults.push((name.clone(), fault));
                    continue;
                }
            };
            if let Some(what) = what {
                faults.push((name.clone(), Fault::Changed { what }));
            }
        }
        self.proof.without(faults)
    }

    /// The manifest that the folder matched.
    pub fn manifest(&self) -> &Manifest {
        &self.proof.manifest
    }

    /// The path of the manifest.
    pub fn manifest_path(&self) -> &Path {
        &self.proof.manifest_path
    }

    /// The trusted key that signed the manifest; none if no key is trusted.
    pub fn signed_by(&self) -> Option<&PublicKey> {
        self.proof.signed_by.as_ref()
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> u64 {
        self.stamps.iter().map(|(_, stamp)| stamp.size()).sum()
    }
}

impl Proof {
    /// Compares the folder's names with the list. Returns the listed files' sizes, as far as they are known.
    fn survey(&self) -> Result<Vec<u64>, ManifestError> {
        let listing = self.folder.list()?;
        let own = [
            self.manifest_path.clone(),
            signature_path(&self.manifest_path),
        ];
        let own = self.folder.names_of(&own);
        let unlisted = listing
            .files
            .into_iter()
            .filter(|name| self.manifest.digest(name.as_str()).is_none() && !own.contains(name));
        let mut faults = Vec::new();
        let mut others: Vec<String> = listing.unnameable.iter().map(ToString::to_string).collect();
        for name in unlisted {
            match is_loaded(name.as_str()) {
                true => faults.push((
                    name,
                    Fault::Unlisted {
                        manifest: self.manifest_path.clone(),
                        folder: self.folder.path().to_owned(),
                    },
                )),
                false => others.push(name.to_string()),
            }
        }
        if !others.is_empty() {
            let count = others.len();
            others.truncate(NAMED);
            tracing::warn!(
                folder = %self.folder.path().display(),
                count,
                files = others.join(", "),
                "files that the manifest does not list; they are not read"
            );
        }
        let mut sizes = Vec::new();
        for (name, _) in self.manifest.files() {
            match self.folder.expected_size(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    faults.push((name.clone(), self.absence(Fault::Io(error))));
                }
                size => sizes.push(size.unwrap_or(0)),
            }
        }
        self.without(faults)?;
        Ok(sizes)
    }

    /// Opens and maps a file.
    fn map(&self, name: &FileName) -> Result<(Bytes, FileStamp), Fault> {
        let (file, stamp) = self.folder.open_file(name).map_err(|f| self.absence(f))?;
        Ok((Bytes::new(map_file(&file)?), stamp))
    }

    /// Reads a file into memory and compares it.
    fn read(&self, name: &FileName, expected: Digest) -> Result<(Bytes, FileStamp), Fault> {
        let (file, stamp) = self.folder.open_file(name).map_err(|f| self.absence(f))?;
        let bytes = read_whole(&file, stamp.size())?;
        self.compare(name, expected, Digest::of(&bytes), stamp)?;
        Ok((Bytes::new(bytes), stamp))
    }

    fn compare(
        &self,
        name: &FileName,
        expected: Digest,
        found: Digest,
        stamp: FileStamp,
    ) -> Result<(), Fault> {
        match expected == found {
            true => Ok(()),
            false => Err(Fault::Differs {
                manifest: self.manifest_path.clone(),
                path: self.folder.path().join(name.as_path()),
                expected,
                found,
                size: stamp.size(),
            }),
        }
    }

    /// A missing file as a fault that names the manifest.
    fn absence(&self, fault: Fault) -> Fault {
        match fault.is_absence() {
            true => Fault::Missing {
                manifest: self.manifest_path.clone(),
            },
            false => fault,
        }
    }

    fn without(&self, faults: Vec<(FileName, Fault)>) -> Result<(), ManifestError> {
        match faults.is_empty() {
            true => Ok(()),
            false => Err(ManifestError::first(self.folder.path(), faults)),
        }
    }
}

/// Threads that can run at once.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
