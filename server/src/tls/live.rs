//! The certificates in force, which are replaced while connections run.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConnection;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::{CrlPath, FileVersion, TlsError, TlsFiles};
use super::handshake_error::HandshakeError;
use super::material::{Material, Term};
use super::name::name_of;
use crate::offload::file_work;
use crate::peer::Identity;

/// How often the files are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A renewal writes two files, one after the other, within this time.
const SETTLE: Duration = Duration::from_millis(250);
/// How often the log warns of what expires soon or has expired.
const REMIND_EVERY: Duration = Duration::from_secs(3600);

/// The server's side of TLS.
pub(crate) struct TlsServer {
    now: RwLock<Arc<Material>>,
    files: Mutex<WatchedFiles>,
}

/// The files, and the result of the last check.
struct WatchedFiles {
    files: TlsFiles,
    stamps: [FileVersion; 4],
    /// What was wrong with them, so that it is logged once.
    error: Option<String>,
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub(crate) fn read(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let stamps = files.stamps();
        let material = Arc::new(Material::read(&files)?);
        warn_of_unlisted(&material, &files);
        remind(&material.terms, seconds());
        let files = insist_on_crl(files, &material);
        Ok(Arc::new(Self {
            now: RwLock::new(material),
            files: Mutex::new(WatchedFiles {
                files,
                stamps,
                error: None,
            }),
        }))
    }

    /// Negotiates TLS, and returns the stream and the client that its certificate names.
    ///
    /// # Errors
    /// If the handshake fails; the client was sent an alert, and the socket is returned.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        socket: S,
    ) -> Result<(TlsStream<S>, Identity), (HandshakeError, S)> {
        let config = self.material().config.clone();
        let acceptor = TlsAcceptor::from(config);
        let stream = acceptor.accept(socket).into_fallible().await;
        let stream = stream.map_err(|(error, socket)| (HandshakeError::of(&error), socket))?;
        match self.identify(stream.get_ref().1) {
            Some(identity) => Ok((stream, identity)),
            // The verifier accepts no certificate without a name.
            None => {
                let error = rustls::Error::NoCertificatesPresented;
                let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
                Err((HandshakeError::of(&error), stream.into_inner().0))
            }
        }
    }

    /// Checks the files for ever, and reads them when they change, without blocking the runtime.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut reminded = Instant::now();
        loop {
            sleep(CHECK_EVERY).await;
            let tls = self.clone();
            let stale = file_work("the TLS files", move || tls.is_stale()).await;
            if stale == Some(true) {
                sleep(SETTLE).await;
                let tls = self.clone();
                file_work("the TLS files", move || tls.refresh()).await;
            }
            if reminded.elapsed() >= REMIND_EVERY {
                reminded = Instant::now();
                remind(&self.material().terms, seconds());
            }
        }
    }

    /// Reads the files now, whether they have changed or not. Returns whether they can be used.
    pub(crate) fn reload(&self) -> bool {
        // A problem that persists is reported again: the operator asked.
        let mut watched = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        watched.error = None;
        drop(watched);
        self.refresh()
    }

    /// Whether the files are not what they were when they were read.
    fn is_stale(&self) -> bool {
        let watched = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        watched.files.stamps() != watched.stamps
    }

    /// Reads the files again; files that cannot be used change nothing. A read that failed is retried. Returns whether they
    /// can be used.
    fn refresh(&self) -> bool {
        let mut watched = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: a file that changes meanwhile is read again.
        let stamps = watched.files.stamps();
        let before = self.material();
        let read = Material::read(&watched.files);
        let read = read.and_then(|new| new.follows(&before, &watched.files).map(|()| new));
        match read {
            Ok(material) => {
                warn_of_unlisted(&material, &watched.files);
                remind(&material.terms, seconds());
                let material = Arc::new(material);
                watched.stamps = stamps;
                watched.error = None;
                watched.files = insist_on_crl(watched.files.clone(), &material);
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = material;
                tracing::info!("TLS files read again");
                true
            }
            Err(error) => {
                // The system may have refused for a moment, and the files need not change once more.
                if !matches!(error, TlsError::Read { .. }) {
                    watched.stamps = stamps;
                }
                let error = error.to_string();
                if watched.error.as_ref() != Some(&error) {
                    tracing::error!(
                        "the TLS files have changed and cannot be used, those of before stay in force: {error}"
                    );
                }
                watched.error = Some(error);
                false
            }
        }
    }

    fn material(&self) -> Arc<Material> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    fn identify(self: &Arc<Self>, connection: &ServerConnection) -> Option<Identity> {
        let chain: Vec<CertificateDer<'static>> = connection
            .peer_certificates()?
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let name = name_of(chain.first()?)?;
        let tls = self.clone();
        let trusted = move || tls.trusts(&chain, UnixTime::now());
        Some(Identity::new(name, trusted))
    }

    /// Whether a certificate that was accepted once would be accepted now. It is verified in full each time, which takes a
    /// fraction of a millisecond: the files may have changed, and certificates may have expired.
    pub(super) fn trusts(&self, chain: &[CertificateDer<'static>], now: UnixTime) -> bool {
        let Some((leaf, others)) = chain.split_first() else {
            return false;
        };
        let clients = self.material().clients.clone();
        clients.verify_client_cert(leaf, others, now).is_ok()
    }
}

/// A list of revoked certificates that was read once is required from then on: removing it would accept every revoked
/// client again.
fn insist_on_crl(mut files: TlsFiles, material: &Material) -> TlsFiles {
    if material.has_crl {
        files.crl = CrlPath::Named(files.crl.path().to_owned());
    }
    files
}

/// Warns of CAs without a list of revoked certificates.
fn warn_of_unlisted(material: &Material, files: &TlsFiles) {
    for ca in material.without_list() {
        tracing::warn!(
            crl = %files.crl.path().display(),
            "the CA `{ca}` has no list of revoked certificates: all of its clients are accepted"
        );
    }
}

/// Warns of what expires soon or has expired.
fn remind(terms: &[Term], now: i64) {
    for Term {
        what,
        until,
        notice,
        then,
    } in terms
    {
        let hours = (until - now) / 3600;
        if *until <= now {
            tracing::error!("{what} has expired {} hours ago: {then}", -hours);
        } else if until - now < *notice {
            tracing::warn!("{what} expires in {hours} hours; after that {then}");
        }
    }
}

/// Now, in seconds since 1970.
fn seconds() -> i64 {
    UnixTime::now().as_secs() as i64
}
