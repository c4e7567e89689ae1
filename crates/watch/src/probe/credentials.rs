//! The files with which a watchdog shows who it is: read anew for every probe, so that renewed ones count at once.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sanctum_config::{UntrustedText, files};
use zeroize::Zeroizing;

use crate::certificates;

/// Larger than any of these files.
const LARGEST: u64 = 1 << 20;

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The system refuses to read the file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The watchdog's own certificate has expired. A server would only close the connection.
    #[error(
        "this watchdog's own certificate has expired, on {}: {}; on the CA's machine type: sanctum-pki renew {name}, and \
         bring its bundle to this host", ended.format("%Y-%m-%d"), path.display()
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// The name in it.
        name: UntrustedText,
        /// When it expired.
        ended: DateTime<Utc>,
    },
    /// It holds something else.
    #[error("{}: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Reads a bearer token.
pub(super) fn token(path: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let form = |why: &str| CredentialsError::Form {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let bytes = secret(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| form("it is no text"))?;
    let token = text.trim();
    match token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err(form("it holds no token: one line of printable ASCII")),
        false => Ok(Zeroizing::new(token.to_owned())),
    }
}

/// Checks that the watchdog's own certificate has not expired at `now`.
fn unexpired(certificate: &Path, now: DateTime<Utc>) -> Result<(), CredentialsError> {
    let all = certificates::read(certificate).into_iter().flatten();
    // The chain's first is its own.
    match all.into_iter().next().map(|own| (own.name, own.ends)) {
        Some((name, Some(ended))) if ended <= now => Err(CredentialsError::Expired {
            path: certificate.to_owned(),
            name,
            ended,
        }),
        _ => Ok(()),
    }
}

/// TLS as this watchdog: its own certificate, and servers of the fleet's CA only.
pub(super) fn mutual_tls(
    ca: &Path,
    certificate: &Path,
    key: &Path,
) -> Result<ClientConfig, CredentialsError> {
    let form = |path: &Path, why: String| CredentialsError::Form {
        path: path.to_owned(),
        why,
    };
    let chain = |path: &Path| -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
        let bytes = public(path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| form(path, format!("no PEM certificate: {error}")))?;
        match chain.is_empty() {
            true => Err(form(path, "it holds no PEM certificate".to_owned())),
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
    unexpired(certificate, Utc::now())?;
    let pem = secret(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| form(key, format!("no PEM key: {error}")))?;
    builder(roots)
        .with_client_auth_cert(own, private)
        .map_err(|error| form(certificate, format!("it does not fit its key: {error}")))
}

/// For clients that are asked for no TLS at all: it trusts nobody, and saves loading the system's authorities.
pub(crate) fn plain_tls() -> ClientConfig {
    builder(RootCertStore::empty()).with_no_client_auth()
}

fn builder(
    roots: RootCertStore,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has the suites of TLS 1.3")
        .with_root_certificates(roots)
}

fn public(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    files::read(path, LARGEST).map_err(|source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A file that belongs to this user and that no other one can read.
fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = files::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    files::is_private(&about).map_err(failed)?;
    // Room for all of it at once: a vector that grows leaves copies behind.
    let room = usize::try_from(about.len().min(LARGEST)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use super::*;

    /// A file with a certificate of `canary` that ends then, in seconds since 1970.
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
    fn expired_own_certificate_is_named_before_anything_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = certificate(folder.path(), 1_776_000_000);
        let key = folder.path().join("canary.key");
        let error = mutual_tls(&path, &path, &key).unwrap_err().to_string();
        let said = "this watchdog's own certificate has expired, on 2026-04-12";
        assert!(error.starts_with(said), "{error}");
        assert!(error.contains("sanctum-pki renew canary"), "{error}");
        let path = certificate(folder.path(), Utc::now().timestamp() + 60);
        mutual_tls(&path, &path, &key).unwrap();
    }

    #[test]
    fn credentials_that_are_no_private_files_are_refused_at_once_and_named() {
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
