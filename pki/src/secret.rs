//! Reading secrets: only from files that nobody but their owner can read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::PkiError;

/// The longest file that can still be a key or token.
const LARGEST: u64 = 64 << 10;

/// The bytes of a secret; none if the file is not there.
///
/// # Errors
/// If it cannot be read, group or others may read it, or it is no regular file of a secret's size.
pub fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, PkiError> {
    let failed = |error| PkiError::read(path, error);
    // Opening a pipe would wait for its other end.
    match std::fs::metadata(path) {
        Ok(about) if !about.is_file() => {
            return Err(PkiError::form(path, "a secret", "it is not a regular file"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file: the name may mean another one by now.
    let about = file.metadata().map_err(failed)?;
    if about.mode() & 0o077 != 0 {
        let path = path.to_owned();
        return Err(PkiError::Exposed { path });
    }
    if about.len() > LARGEST {
        return Err(PkiError::form(path, "a secret", "it is larger than 64 KiB"));
    }
    // In one piece, since a buffer that grows leaves its earlier contents behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
    file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
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
                    let mend = format!("chmod 600 {}", path.display());
                    assert!(!fine && error.to_string().ends_with(&mend), "{error}");
                }
            }
        }
        assert!(read(folder.path()).is_err());
    }
}
