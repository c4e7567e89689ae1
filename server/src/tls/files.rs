//! The four files, and their errors.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sanctum_config::files;
use zeroize::Zeroizing;

/// More than any chain of certificates or list of a hundred thousand revoked ones has, in bytes.
const LARGEST: u64 = 16 << 20;
/// More than any key has, in bytes.
const LARGEST_KEY: u64 = 64 << 10;

/// The paths of the files, all of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The server's certificate, followed by those between it and its CA if there are any.
    pub certificate: PathBuf,
    /// Its key, of mode 600.
    pub key: PathBuf,
    /// The CAs of clients, one or more.
    pub ca: PathBuf,
    /// The certificates that these CAs have revoked.
    pub crl: CrlPath,
}

/// Where the list of revoked certificates is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CrlPath {
    /// The operator named it: it must exist.
    Named(PathBuf),
    /// The default path: if no file exists at the start, nothing is revoked.
    Usual(PathBuf),
}

/// TLS files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// One does not exist, cannot be read, or is a key that other users could read or replace.
    #[error("cannot read {path}: {source}{fix}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// What to do, where the source does not say it, as the end of the sentence.
        fix: &'static str,
    },
    /// One has the wrong content.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// The key is another certificate's.
    #[error(
        "the key {key} does not belong to the certificate {certificate}; copy both from the same bundle"
    )]
    Mismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
}

/// The metadata of a file, which is read again when this changes. None: there is no such file.
pub(crate) type FileVersion = Option<(u64, u64, u64, [i64; 4], u32)>;

impl CrlPath {
    /// The path.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Usual(path) => path,
        }
    }
}

impl TlsFiles {
    /// The metadata of all of them.
    pub(crate) fn stamps(&self) -> [FileVersion; 4] {
        [&self.certificate, &self.key, &self.ca, self.crl.path()].map(|path| {
            let at = fs::metadata(path).ok()?;
            Some((
                at.dev(),
                at.ino(),
                at.size(),
                [at.mtime(), at.mtime_nsec(), at.ctime(), at.ctime_nsec()],
                at.mode(),
            ))
        })
    }

    /// The certificate.
    pub(crate) fn read_certificate(&self) -> Result<Vec<u8>, TlsError> {
        let missing = "; name it with --tls-cert, or make one with `sanctum-pki server`";
        files::read_trusted(&self.certificate, LARGEST)
            .map_err(|source| unreadable(&self.certificate, source, missing))
    }

    /// The CAs.
    pub(crate) fn read_ca(&self) -> Result<Vec<u8>, TlsError> {
        let missing = "; name it with --tls-ca, or make one with `sanctum-pki init`";
        files::read_trusted(&self.ca, LARGEST)
            .map_err(|source| unreadable(&self.ca, source, missing))
    }

    /// The lists of revoked certificates; none if there is no such file and it was not named.
    pub(crate) fn read_crl(&self) -> Result<Option<Vec<u8>>, TlsError> {
        let missing = "; name it with --tls-crl, or make one with `sanctum-pki init`";
        match files::read_trusted(self.crl.path(), LARGEST) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && matches!(self.crl, CrlPath::Usual(_)) =>
            {
                Ok(None)
            }
            read => read
                .map(Some)
                .map_err(|source| unreadable(self.crl.path(), source, missing)),
        }
    }

    /// The key, if no other user can read or replace it.
    pub(crate) fn read_key(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        let missing = "; name it with --tls-key, or make one with `sanctum-pki server`";
        files::read_secret(&self.key, LARGEST_KEY)
            .map(Zeroizing::new)
            .map_err(|source| unreadable(&self.key, source, missing))
    }
}

/// `missing` is the fix for a file that does not exist.
fn unreadable(path: &Path, source: io::Error, missing: &'static str) -> TlsError {
    let fix = match source.kind() {
        io::ErrorKind::NotFound => missing,
        // An error of our own, which has the fix.
        _ if source.raw_os_error().is_none() => "",
        io::ErrorKind::PermissionDenied => "; let the server's user read it (chown, chmod)",
        _ => "; a running server tries again every second",
    };
    TlsError::Read {
        path: path.to_owned(),
        source,
        fix,
    }
}
