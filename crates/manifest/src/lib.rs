//! What a checkpoint folder must contain: a signed list of SHA-256 digests, and the proof that the folder matches it.
//!
//! # Concepts
//!
//! Weights decide every answer, and write access to the model's folder is enough to change them. A [`Manifest`] lists the
//! folder's files with their digests, in the format of `shasum -a 256`; a [`Signature`] over the manifest's bytes proves that
//! the holder of a [`SigningKey`] wrote the list. The signing key stays on another machine, so a host can prove what it serves
//! and cannot sign anything else.
//!
//! [`Verification`] compares the folder with the manifest, in this order: the signature, before the list is even read; the list; the folder,
//! which must hold every listed file and no unlisted one that the loader would read; then the digests. The small files
//! (settings, tokenizer, template) are read into memory and compared before they are parsed. The weights are hashed
//! on all cores over the mappings that the loader makes its tensors from, while it makes them, so that every page is read from
//! the disk once. [`Verification::wait`] returns the result. [`Verified::unchanged`] checks, when everything is loaded, that
//! each file is still the same inode with the same size and times.
//!
//! # Example
//!
//! Create, sign and verify:
//!
//! ```
//! use sanctum_manifest::{Expected, SigningKey, Verification, create, signature_path};
//!
//! let home = tempfile::tempdir()?;
//! let model = home.path().join("model");
//! std::fs::create_dir(&model)?;
//! std::fs::write(model.join("config.json"), "{}")?;
//!
//! // On the machine with the signing key.
//! let manifest = create(&model, &[], |_, _| {})?.to_string();
//! let key = SigningKey::generate()?;
//! let path = home.path().join("model.sha256");
//! std::fs::write(&path, &manifest)?;
//! std::fs::write(signature_path(&path), key.sign(manifest.as_bytes()).0)?;
//! let public = home.path().join("manifest.pub");
//! std::fs::write(&public, key.public().to_file())?;
//!
//! // On the host that serves the model.
//! let expected = Expected { manifest: path, keys: vec![public] };
//! let verified = Verification::start(&model, &expected)?.wait(|_, _| {})?;
//! assert_eq!(verified.signed_by(), Some(&key.public()));
//!
//! std::fs::write(model.join("config.json"), "{\"changed\": true}")?;
//! assert!(Verification::start(&model, &expected).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! The weights are served from the page cache, not from a copy, so a write into the same file after the last check
//! changes them under the running server. The check at the end covers the time of loading; after that the folder's
//! permissions have to keep others from writing, which is why the models should belong to a user other than the one
//! that serves. Replacing a file by renaming another over it does no harm: the mapping keeps the old inode. The check
//! compares times, so it sees what the file system records: a write through a shared mapping may be recorded late (on
//! Linux's tmpfs never), and cannot detect a changed clock or writes to the raw disk. A manifest that was valid once stays valid: replacing
//! a model by an older one with its own manifest and signature is detected only by comparing the manifest itself.

mod bytes;
mod create;
mod error;
mod folder;
mod hashing;
mod hex;
mod keys;
mod list;
mod loaded;
mod mapped;
mod name;
mod signature;
mod verification;

#[cfg(test)]
mod tests;

pub use bytes::Bytes;
pub use create::create;
pub use error::{Fault, ManifestError};
pub use folder::FileStamp;
pub use hashing::read_whole;
pub use keys::{KeyError, PublicKey, SigningKey};
pub use list::{LineError, Manifest};
pub use loaded::{TOOL_USE_TEMPLATE, VerifiedFiles, is_loaded};
pub use mapped::{MappedFile, map_file};
pub use name::{FileName, NameError};
pub use sanctum_config::Digest;
pub use signature::{Signature, signature_path};
pub use verification::{Expected, Verification, Verified};
