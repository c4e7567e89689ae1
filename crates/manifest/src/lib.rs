//! What a checkpoint folder must contain: a signed list of SHA-256 digests, and the proof that the folder matches it.
//!
//! Weights decide every answer, and whoever can write to the model's folder can change them. A [`Manifest`] lists the
//! folder's files with their digests, in the format of `shasum -a 256`; a [`Signature`] over the manifest's bytes says
//! that the holder of a [`SigningKey`] wrote the list. The signing key stays on another machine, so a host can prove
//! what it serves and cannot vouch for anything else.
//!
//! [`Verification`] is the proof. In this order: the signature, before the list is even read; the list; the folder,
//! which must hold every listed file and no unlisted one that the loader would read; then the digests. The small files
//! (settings, tokenizer, template) are read into memory and compared before anybody parses them. The weights are
//! hashed on all cores over the very mappings that the loader makes its tensors from, while it makes them, so that
//! every page is brought in once. [`Verification::wait`] gives the verdict. [`Verified::unchanged`] says, when all is
//! loaded, that each file is still the same inode with the same size and times.
//!
//! # What remains
//!
//! The weights are served from the page cache, not from a copy, so a write into the same file after the last check
//! changes them under the running server. The check at the end covers the time of loading; after that the folder's
//! permissions have to keep others from writing, which is why the models should belong to a user other than the one
//! that serves. Replacing a file by renaming another over it does no harm: the mapping keeps the old inode. The check
//! compares times, so it sees what the file system records: a write through a shared mapping may be recorded late (on
//! Linux's tmpfs never), and whoever can set the clock or write to the raw disk is not seen. A manifest that was valid
//! once stays valid: putting an older model back with its own manifest and signature is noticed only by who compares
//! the manifest itself.

mod bytes;
mod create;
mod digest;
mod error;
mod folder;
mod hashing;
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
pub use digest::{FileDigest, NotHex};
pub use error::{Fault, ManifestError};
pub use folder::Stamp;
pub use hashing::read_whole;
pub use keys::{KeyError, PublicKey, SigningKey};
pub use list::{LineError, Manifest};
pub use loaded::{TOOL_USE_TEMPLATE, VerifiedFiles, is_loaded};
pub use mapped::{MappedFile, map_file};
pub use name::{FileName, NameError};
pub use signature::{Signature, signature_path};
pub use verification::{Expected, Verification, Verified};
