//! ed25519 keys, and the files that hold them.
//!
//! A key's file is 64 hex digits and a newline; 32 raw bytes are read too. The signing key's file holds the 32-byte
//! seed of RFC 8032, and is refused while other users can read it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer, VerifyingKey};
use sanctum_config::files;
use zeroize::Zeroizing;

use crate::Signature;
use crate::hex::hex_32;

/// The largest key file: 64 digits and a line end, with room to detect that there is more.
const LONGEST: u64 = 80;

/// A key that signatures are checked with. Weak points of the curve, for which a signature needs no private key, are refused.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A key that manifests are signed with. It is wiped from memory when it is dropped, and shown nowhere.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A key's file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot read the key {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{path} is not an ed25519 key of this suite: 64 hex digits and a newline, or 32 bytes, are expected",
        path = path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// It holds a weak public key.
    #[error("{path} is a weak or invalid public key; create another: sanctum-pki manifest keygen", path = path.display())]
    Weak {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random bytes.
    #[error("the system has no random bytes for a key: {0}")]
    NoRandomness(getrandom::Error),
}

impl PublicKey {
    /// A key from its bytes; none if they are not a point of the curve, or a weak one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        (!key.is_weak()).then_some(Self(key))
    }

    /// Reads a key's file.
    ///
    /// # Errors
    /// If it cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let file = files::open(path).map_err(|source| at(path, source))?;
        let bytes = key_bytes(file, path)?;
        Self::from_bytes(&bytes).ok_or_else(|| KeyError::Weak {
            path: path.to_owned(),
        })
    }

    /// The 32 bytes of RFC 8032.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The text of its file: 64 hex digits and a newline.
    pub fn to_file(&self) -> String {
        format!("{self}\n")
    }

    /// Whether `signature` is this key's over `message`, by the strict rules: no second signature can be derived from
    /// one that is valid.
    pub fn has_signed(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl SigningKey {
    /// A new key from the system's random bytes.
    ///
    /// # Errors
    /// If the system has none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(KeyError::NoRandomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// A key from its 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Reads a signing key's file.
    ///
    /// # Errors
    /// If it cannot be read, belongs to another user, other users can read it, or it holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let file = files::open_secret(path).map_err(|source| at(path, source))?;
        Ok(Self::from_seed(&*key_bytes(file, path)?))
    }

    /// The text of its file, which must have mode 0600: 64 hex digits of the seed and a newline.
    pub fn to_file(&self) -> Zeroizing<String> {
        // Allocated once: a string that grows leaves copies of its content in memory.
        let mut text = Zeroizing::new(String::with_capacity(65));
        for byte in self.0.as_bytes() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        text
    }

    /// The key that its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a message: the bytes of a manifest's file.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

fn at(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The 32 bytes that a key's file holds.
fn key_bytes(file: File, path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST)
        .read_to_end(&mut bytes)
        .map_err(|source| at(path, source))?;
    let raw = || <[u8; 32]>::try_from(bytes.as_slice()).ok();
    hex_32(bytes.trim_ascii_end())
        .or_else(raw)
        .map(Zeroizing::new)
        .ok_or_else(|| KeyError::Form {
            path: path.to_owned(),
        })
}

/// 64 hex digits.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let seed =
            hex_32(b"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = SigningKey::from_seed(&seed);
        assert_eq!(
            key.public().to_string(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        let signature = key.sign(&[0x72]);
        assert_eq!(signature.0[..4], [0x92, 0xa0, 0x09, 0xa9]);
        assert!(key.public().has_signed(&[0x72], &signature));
        assert!(!key.public().has_signed(&[0x73], &signature));
        assert!(
            !SigningKey::generate()
                .unwrap()
                .public()
                .has_signed(&[0x72], &signature)
        );
    }

    #[test]
    fn keys_come_back_from_their_files_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SigningKey::generate().unwrap();
        let public = key.public();
        let write = |bytes: &[u8], mode: u32| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        write(key.to_file().as_bytes(), 0o600);
        assert_eq!(SigningKey::read(&path).unwrap().public(), public);
        for mode in [0o640, 0o604, 0o620] {
            write(key.to_file().as_bytes(), mode);
            let error = SigningKey::read(&path).err().unwrap().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        for form in [public.to_file().as_bytes(), &public.to_bytes()] {
            write(form, 0o644);
            assert_eq!(PublicKey::read(&path).unwrap(), public);
        }
        for wrong in [
            "",
            "00",
            &format!("{public}00"),
            &format!("{public}\n{public}\n"),
        ] {
            write(wrong.as_bytes(), 0o644);
            assert!(matches!(PublicKey::read(&path), Err(KeyError::Form { .. })));
        }
        // The neutral element: a signature by it can be made for any message.
        let mut weak = [0; 32];
        weak[0] = 1;
        write(&weak, 0o644);
        assert!(matches!(PublicKey::read(&path), Err(KeyError::Weak { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(PublicKey::read(&path), Err(KeyError::Io { .. })));
    }
}
