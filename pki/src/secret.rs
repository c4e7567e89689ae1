//! Reading secrets: only from files of this user that no other user can read.

use std::io;
use std::path::Path;

use sanctum_config::files;
use zeroize::Zeroizing;

use crate::PkiError;

/// The longest file that can still be a key or token.
const LARGEST: u64 = 64 << 10;

/// The bytes of a secret; none if the file is not there.
///
/// # Errors
/// If it cannot be read, belongs to another user, other users may read it, or it is no regular file of a secret's size.
pub fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, PkiError> {
    match files::read_secret(path, LARGEST) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PkiError::read(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_owner_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, "x").unwrap();
        for (mode, fine) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o620, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read(&path) {
                Ok(bytes) => assert!(fine && **bytes.unwrap() == *b"x", "{mode:o}"),
                Err(error) => {
                    let fix = format!("chmod 600 {}", path.display());
                    assert!(!fine && error.to_string().ends_with(&fix), "{error}");
                }
            }
        }
        assert!(read(folder.path()).is_err());
    }
}
