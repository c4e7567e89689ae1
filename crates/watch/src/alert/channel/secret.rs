//! Files with one secret: a token, a password or an address.

use std::path::Path;

use sanctum_config::files;
use zeroize::Zeroizing;

/// The largest secret that is read, in bytes.
const LARGEST: u64 = 16 << 10;

/// Reads the one line of a secret's file, which no other user may read. `what` is its noun in errors: "the token".
///
/// # Errors
/// A sentence with the file and the fix. It never has a part of the secret.
pub(super) fn read(path: &Path, what: &str) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let bytes = files::read_secret(path, LARGEST)
        .map_err(|error| format!("cannot read {what} in {shown}: {error}"))?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| format!("{shown} is not text; write {what} into it, on one line"))?;
    let line = text.trim();
    match line.is_empty() || line.contains(|c: char| c.is_control()) {
        true => Err(format!("{shown} must have one line: {what}")),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secret_is_one_line_of_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let error = read(&path, "the token").unwrap_err();
        assert!(error.contains("the token in "), "{error}");
        for (text, mode, problem) in [
            ("tk_secret\n", 0o600, None),
            ("tk_secret\n", 0o644, Some("chmod 600")),
            ("\n", 0o600, Some("one line")),
            ("tk_secret\nmore", 0o600, Some("one line")),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match (read(&path, "the token"), problem) {
                (Ok(secret), None) => assert_eq!(secret.as_str(), "tk_secret"),
                (Err(error), Some(problem)) => {
                    assert!(error.contains(problem), "{error}");
                    assert!(!error.contains("tk_secret"), "{error}");
                }
                (read, _) => panic!("{text:?}, {mode:o}: {read:?}"),
            }
        }
    }
}
