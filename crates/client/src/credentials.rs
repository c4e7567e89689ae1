//! The caller's token, certificate and key: read for every client, so that renewed files count at once.

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use reqwest::header::HeaderValue;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sanctum_config::{UntrustedText, files};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::endpoint::Credentials;
use crate::http;

/// The largest of these files that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The caller's own certificate has expired. A server would only close the connection.
    #[error(
        "the client certificate of `{name}` expired on {}: {}; on the CA's host, run `sanctum-pki renew {name}`, and bring its \
         bundle to this host", ended.format("%Y-%m-%d"), path.display()
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// The certificate's common name.
        name: UntrustedText,
        /// When it expired.
        ended: DateTime<Utc>,
    },
    /// The file is not in the expected format.
    #[error("{}: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The difference.
        why: String,
    },
}

/// TLS with these credentials, and the value of the `Authorization` header if they are a token.
pub(crate) fn load(
    credentials: &Credentials,
) -> Result<(ClientConfig, Option<HeaderValue>), CredentialsError> {
    match credentials {
        Credentials::None => Ok((http::no_tls(), None)),
        Credentials::Bearer(path) => {
            let token = token(path)?;
            let header = Zeroizing::new(format!("Bearer {}", *token));
            let mut value = HeaderValue::from_str(&header).expect("a token is printable ASCII");
            value.set_sensitive(true);
            Ok((http::no_tls(), Some(value)))
        }
        Credentials::Mutual {
            ca,
            certificate,
            key,
        } => Ok((mutual_tls(ca, certificate, key)?, None)),
    }
}

/// Reads a bearer token.
pub(crate) fn token(path: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let form = |why: &str| CredentialsError::Format {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let bytes = secret(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| form("it is not text"))?;
    let token = text.trim();
    match token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err(form("it has no token: write one line of printable ASCII")),
        false => Ok(Zeroizing::new(token.to_owned())),
    }
}

/// Checks that a certificate has not expired at `now`. One that cannot be parsed is left to rustls.
fn unexpired(
    path: &Path,
    certificate: &CertificateDer<'_>,
    now: DateTime<Utc>,
) -> Result<(), CredentialsError> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Ok(());
    };
    let ended = DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0);
    let mut names = parsed.subject().iter_common_name();
    let name = names.next().and_then(|name| name.as_str().ok());
    match ended {
        Some(ended) if ended <= now => Err(CredentialsError::Expired {
            path: path.to_owned(),
            name: UntrustedText::bounded(name.unwrap_or("NAME"), 64),
            ended,
        }),
        _ => Ok(()),
    }
}

/// TLS with the caller's own certificate, which trusts servers of the fleet's CA only.
pub(crate) fn mutual_tls(
    ca: &Path,
    certificate: &Path,
    key: &Path,
) -> Result<ClientConfig, CredentialsError> {
    let form = |path: &Path, why: String| CredentialsError::Format {
        path: path.to_owned(),
        why,
    };
    let chain = |path: &Path| -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
        let bytes = public(path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain =
            chain.map_err(|error| form(path, format!("it is not a PEM certificate: {error}")))?;
        match chain.is_empty() {
            true => Err(form(path, "it has no PEM certificate".to_owned())),
            false => Ok(chain),
        }
    };
    let mut roots = RootCertStore::empty();
    for authority in chain(ca)? {
        roots
            .add(authority)
            .map_err(|error| form(ca, error.to_string()))?;
    }
    let own = chain(certificate)?;
    if let Some(leaf) = own.first() {
        unexpired(certificate, leaf, Utc::now())?;
    }
    let pem = secret(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| form(key, format!("it is not a PEM key: {error}")))?;
    http::tls(roots)
        .with_client_auth_cert(own, private)
        .map_err(|error| form(certificate, format!("it does not match its key: {error}")))
}

fn public(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    files::read(path, LARGEST).map_err(|source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A file of this user that no other user can read.
fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let secret = files::read_secret(path, LARGEST).map(Zeroizing::new);
    secret.map_err(|source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use super::*;

    /// A certificate of `canary` that expires at `ends`, in seconds since 1970.
    fn certificate(folder: &Path, ends: i64) -> PathBuf {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        let name = &mut parameters.distinguished_name;
        name.push(rcgen::DnType::CommonName, "canary");
        parameters.not_after = time::OffsetDateTime::from_unix_timestamp(ends).unwrap();
        let path = folder.join("canary.crt");
        fs::write(&path, parameters.self_signed(&key).unwrap().pem()).unwrap();
        let key_file = folder.join("canary.key");
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn expired_client_certificate_is_an_error_before_any_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = certificate(folder.path(), 1_776_000_000);
        let key = folder.path().join("canary.key");
        let error = mutual_tls(&path, &path, &key).unwrap_err().to_string();
        let expired = "the client certificate of `canary` expired on 2026-04-12";
        assert!(error.starts_with(expired), "{error}");
        assert!(error.contains("sanctum-pki renew canary"), "{error}");
        let path = certificate(folder.path(), Utc::now().timestamp() + 60);
        mutual_tls(&path, &path, &key).unwrap();
    }

    #[test]
    fn credentials_that_are_not_private_files_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        fs::set_permissions(&fifo, Permissions::from_mode(0o600)).unwrap();
        let begun = Instant::now();
        for (path, kind) in [(fifo.as_path(), "a FIFO"), (folder.path(), "a folder")] {
            let error = token(path).unwrap_err().to_string();
            assert!(error.contains(kind), "{error}");
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            let error = mutual_tls(path, path, path).unwrap_err().to_string();
            assert!(error.contains(kind), "{error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
        let shared = folder.path().join("token");
        fs::write(&shared, "secret").unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o640)).unwrap();
        let error = token(&shared).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&shared, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(token(&shared).unwrap().as_str(), "secret");
    }
}
