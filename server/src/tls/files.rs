//! The four files, and what is wrong with them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Where they are, all of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its CA if there are any.
    pub certificate: PathBuf,
    /// Its key, of mode 600.
    pub key: PathBuf,
    /// The CAs of clients, one or more.
    pub ca: PathBuf,
    /// The certificates that these CAs have revoked.
    pub crl: Crl,
}

/// Where the list of revoked certificates is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crl {
    /// The operator said so: it must be there.
    Named(PathBuf),
    /// Where it would be: if nothing is there at the start, nothing is revoked.
    Usual(PathBuf),
}

/// TLS files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One is not there, or cannot be read.
    #[error("cannot read {path}: {source}; {mend}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// Others could read the key.
    #[error("the key {path} can be read by others (mode {mode:03o}); type: chmod 600 {path}")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// One does not hold what it should.
    #[error("{path}: {problem}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and the mend.
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

/// What a file looks like from outside; when this changes it is read again. None: there is no such file.
pub type Stamp = Option<(u64, u64, u64, [i64; 4], u32)>;

impl Crl {
    /// The path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Usual(path) => path,
        }
    }
}

impl TlsFiles {
    /// What all of them look like from outside.
    pub fn stamps(&self) -> [Stamp; 4] {
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
    pub fn read_certificate(&self) -> Result<Vec<u8>, TlsError> {
        let mend = "name it with --tls-cert, or make one with `sanctum-pki server`";
        fs::read(&self.certificate).map_err(|source| unreadable(&self.certificate, source, mend))
    }

    /// The CAs.
    pub fn read_ca(&self) -> Result<Vec<u8>, TlsError> {
        let mend = "name it with --tls-ca, or make one with `sanctum-pki init`";
        fs::read(&self.ca).map_err(|source| unreadable(&self.ca, source, mend))
    }

    /// The lists of revoked certificates; none if there is no such file and nobody said that there is one.
    pub fn read_crl(&self) -> Result<Option<Vec<u8>>, TlsError> {
        let mend = "name it with --tls-crl, or make one with `sanctum-pki init`";
        match fs::read(self.crl.path()) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && matches!(self.crl, Crl::Usual(_)) =>
            {
                Ok(None)
            }
            read => read
                .map(Some)
                .map_err(|source| unreadable(self.crl.path(), source, mend)),
        }
    }

    /// The key, if nobody else can read it.
    pub fn read_key(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        let mend = "name it with --tls-key, or make one with `sanctum-pki server`";
        let failed = |source| unreadable(&self.key, source, mend);
        let mut file = File::open(&self.key).map_err(failed)?;
        // Of the open file, so that it is the one that is read.
        let found = file.metadata().map_err(failed)?;
        let mode = found.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TlsError::Exposed {
                path: self.key.clone(),
                mode,
            });
        }
        // A buffer that grows would leave copies behind.
        let mut key = Zeroizing::new(Vec::with_capacity(found.len() as usize + 1));
        file.read_to_end(&mut key).map_err(failed)?;
        Ok(key)
    }
}

/// `mend` is for a file that is not there.
fn unreadable(path: &Path, source: io::Error, mend: &'static str) -> TlsError {
    let mend = match source.kind() {
        io::ErrorKind::NotFound => mend,
        io::ErrorKind::PermissionDenied => "let the server's user read it (chown, chmod)",
        _ => "a running server tries again every second",
    };
    TlsError::Read {
        path: path.to_owned(),
        source,
        mend,
    }
}
