//! A detached signature over a manifest's bytes: 64 raw bytes in a file of their own.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sanctum_config::files;

/// An ed25519 signature (RFC 8032).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// The path of a manifest's signature: the manifest's path with `.sig` appended.
pub fn signature_path(manifest: &Path) -> PathBuf {
    let mut path = manifest.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

impl Signature {
    /// Reads a signature's file; none if it holds something other than 64 bytes.
    ///
    /// # Errors
    /// What the system says if it cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        files::open(path)?.take(65).read_to_end(&mut bytes)?;
        Ok(bytes.try_into().ok().map(Self))
    }
}
