//! The file of the bearer token: read at the start, and again whenever it changes.
//!
//! A rotation of the token must not need a restart, and a failed rotation must neither refuse nor accept every client: a file
//! that cannot be used any more leaves the token as it was, and an error is logged.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use sanctum_config::files;
use zeroize::Zeroizing;

use super::bearer::{BadToken, Token};
use crate::offload::file_work;

/// How often the file is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Far more than a token and a newline, in bytes.
const LARGEST: u64 = 4096;

/// A file that changed so recently may change again within the resolution of its times: it is read again.
const UNSETTLED: Duration = Duration::from_secs(3);

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFileError {
    /// It cannot be read, is not a regular file, or other users could read or replace it.
    #[error("cannot read the token file {}: {source}{}", path.display(), fix(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its content is not a token.
    #[error("the token file {} {bad}; make a new one with: sanctum-pki token server", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        bad: BadToken,
    },
}

/// The token that is valid now, and the file that it comes from.
pub(crate) struct TokenFile {
    path: PathBuf,
    token: RwLock<Token>,
    seen: Mutex<LastCheck>,
}

/// The result of the last check.
#[derive(Debug, PartialEq)]
struct LastCheck {
    /// None while the file cannot be found.
    version: Option<Version>,
    /// What was wrong with it, so that it is logged once.
    error: Option<String>,
}

/// Changes whenever the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    size: u64,
    mode: u32,
    /// Seconds and nanoseconds of its last change.
    modified: (i64, i64),
    /// The same for its metadata.
    changed: (i64, i64),
}

impl TokenFile {
    /// Reads the file for the first time.
    pub(crate) fn open(path: PathBuf) -> Result<Self, TokenFileError> {
        let (version, token) = read(&path)?;
        let seen = LastCheck {
            version: Some(version),
            error: None,
        };
        Ok(Self {
            path,
            token: RwLock::new(token),
            seen: Mutex::new(seen),
        })
    }

    /// Whether this is the token.
    pub(crate) fn accepts(&self, presented: &Token) -> bool {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        token.matches(presented)
    }

    /// Reads the file now, whether it has changed or not. Returns whether it can be used.
    pub(crate) fn reload(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A problem that persists is reported again: the operator asked.
        seen.error = None;
        let now = self.version();
        self.read_again(&mut seen, now);
        seen.error.is_none()
    }

    /// Checks the file, and reads it if it has changed.
    pub(crate) fn check(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.version();
        if now != seen.version || !now.is_none_or(Version::is_settled) {
            self.read_again(&mut seen, now);
        }
    }

    /// The metadata of the file; none if it does not exist.
    fn version(&self) -> Option<Version> {
        let about = std::fs::metadata(&self.path).ok()?;
        Some(Version::of(&about))
    }

    fn read_again(&self, seen: &mut LastCheck, now: Option<Version>) {
        let error = match read(&self.path) {
            Ok((version, token)) => {
                seen.version = Some(version);
                let mut valid = self.token.write().unwrap_or_else(PoisonError::into_inner);
                if !valid.matches(&token) {
                    *valid = token;
                    tracing::info!(file = %self.path.display(), "the bearer token has changed");
                }
                None
            }
            Err(error) => {
                // The error may be temporary: a file that could not be read is tried again.
                seen.version = now.filter(|_| !matches!(error, TokenFileError::Read { .. }));
                Some(error.to_string())
            }
        };
        if let Some(error) = &error
            && seen.error.as_ref() != Some(error)
        {
            tracing::error!("{error}; the earlier token stays valid");
        }
        seen.error = error;
    }

    /// Checks the file for ever, without blocking the runtime.
    pub(crate) async fn follow(token: Arc<Self>) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            let token = token.clone();
            file_work("the bearer token's file", move || token.check()).await;
        }
    }
}

/// The fix, where the error does not contain it.
fn fix(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; make one with: sanctum-pki token server",
        // An error of our own, which has the fix.
        _ if source.raw_os_error().is_none() => "",
        io::ErrorKind::PermissionDenied => "; let the server's user read it (chown, chmod)",
        _ => "; a running server tries again every second",
    }
}

fn read(path: &Path) -> Result<(Version, Token), TokenFileError> {
    let failed = |source| TokenFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = files::open_secret(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // The capacity suffices, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
    file.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
    let bad = |bad| TokenFileError::Bad {
        path: path.to_owned(),
        bad,
    };
    let token = Token::expected(&text).map_err(bad)?;
    Ok((Version::of(&metadata), token))
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs() as i64;
        (now - self.modified.0).unsigned_abs() > UNSETTLED.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn accepts(file: &TokenFile, text: &str) -> bool {
        file.accepts(&Token::expected(text.as_bytes()).unwrap())
    }

    #[test]
    fn file_that_others_can_read_is_refused_with_the_fix() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("token");
        for mode in [0o644, 0o640, 0o602, 0o601] {
            write(&path, OLD, mode);
            let error = TokenFile::open(path.clone()).err().unwrap().to_string();
            let mode = format!("{mode:o}");
            assert!(
                error.contains(&mode) && error.contains("chmod 600"),
                "{error}"
            );
        }
        write(&path, OLD, 0o400);
        assert!(TokenFile::open(path).is_ok());
    }

    #[test]
    fn file_without_a_token_is_refused() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("token");
        let error = || TokenFile::open(path.clone()).err().unwrap().to_string();
        assert!(error().contains("sanctum-pki token server"));
        fs::create_dir(&path).unwrap();
        assert!(error().contains("a folder, not a regular file"));
        fs::remove_dir(&path).unwrap();
        for (text, words) in [
            ("", "is empty"),
            ("\n\n", "is empty"),
            ("secret", "6 characters"),
        ] {
            write(&path, text, 0o600);
            assert!(error().contains(words), "{}", error());
            assert!(!error().contains("secret"), "{}", error());
        }
    }

    #[test]
    fn new_token_replaces_the_old_one_and_a_bad_one_does_not() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("token");
        write(&path, OLD, 0o600);
        let file = TokenFile::open(path.clone()).unwrap();
        assert!(accepts(&file, OLD) && !accepts(&file, NEW));

        let fifo = || {
            fs::remove_file(&path).unwrap();
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        };
        let bad: [&dyn Fn(); 5] = [
            &|| write(&path, "", 0o600),
            &|| write(&path, "short", 0o600),
            &|| write(&path, NEW, 0o644),
            &fifo,
            &|| fs::remove_file(&path).unwrap(),
        ];
        for spoil in bad {
            spoil();
            file.check();
            assert!(!file.reload());
            assert!(accepts(&file, OLD) && !accepts(&file, NEW));
        }
        write(&path, NEW, 0o600);
        file.check();
        assert!(accepts(&file, NEW) && !accepts(&file, OLD));
        assert!(file.reload());
    }

    #[test]
    fn file_of_the_same_size_and_time_is_read_again() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("token");
        write(&path, OLD, 0o600);
        let file = TokenFile::open(path.clone()).unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let beside = dir.path().join("beside");
        write(&beside, NEW, 0o600);
        fs::File::options()
            .write(true)
            .open(&beside)
            .unwrap()
            .set_modified(time)
            .unwrap();
        fs::rename(&beside, &path).unwrap();
        file.check();
        assert!(accepts(&file, NEW));
    }
}
