//! A CA, the files of a server, and clients.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::peer::Identity;
use crate::tls::{CrlPath, HandshakeError, TlsFiles, TlsServer};

/// A CA, and the files of one server.
pub(crate) struct Pki {
    pub folder: TempDir,
    ca: Issuer<'static, KeyPair>,
    pub ca_pem: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub(crate) struct CertificatePair {
    pub certificate: String,
    pub key: String,
}

/// What to issue a certificate for.
pub(crate) struct CertificateSpec<'a> {
    pub name: Option<&'a str>,
    pub serial: u64,
    pub years: (i32, i32),
    pub usages: Vec<ExtendedKeyUsagePurpose>,
}

impl CertificateSpec<'_> {
    pub(crate) fn client(name: &str, serial: u64) -> CertificateSpec<'_> {
        CertificateSpec {
            name: Some(name),
            serial,
            years: (2020, 4000),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

impl Pki {
    /// A CA, a server's certificate, an empty list of revoked ones.
    pub(crate) fn new() -> Self {
        Self::named("a CA", (2020, 4000))
    }

    pub(crate) fn named(name: &'static str, years: (i32, i32)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pki = Self {
            folder: TempDir::new().unwrap(),
            ca: Issuer::new(params, key),
            ca_pem: certificate.pem(),
        };
        pki.write("ca.crt", &pki.ca_pem);
        pki.install(&pki.server(1));
        pki.revoke(&[]);
        pki
    }

    pub(crate) fn files(&self) -> TlsFiles {
        let at = |name| self.folder.path().join(name);
        TlsFiles {
            certificate: at("s.crt"),
            key: at("s.key"),
            ca: at("ca.crt"),
            crl: CrlPath::Usual(at("ca.crl")),
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        // Beside and renamed, so that it is never read half written.
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub(crate) fn issue(&self, wish: CertificateSpec<'_>) -> CertificatePair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = wish.name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.serial_number = Some(SerialNumber::from(wish.serial));
        params.not_before = date_time_ymd(wish.years.0, 1, 1);
        params.not_after = date_time_ymd(wish.years.1, 1, 1);
        params.extended_key_usages = wish.usages;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        CertificatePair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn server(&self, serial: u64) -> CertificatePair {
        self.issue(CertificateSpec {
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..CertificateSpec::client("server", serial)
        })
    }

    pub(crate) fn client(&self, name: &str, serial: u64) -> CertificatePair {
        self.issue(CertificateSpec::client(name, serial))
    }

    /// Gives the server a certificate.
    pub(crate) fn install(&self, pair: &CertificatePair) {
        self.write("s.crt", &pair.certificate);
        self.write("s.key", &pair.key);
    }

    /// Revokes these, and no others.
    pub(crate) fn revoke(&self, serials: &[u64]) {
        self.write("ca.crl", &self.list(serials, 4000));
    }

    pub(crate) fn list(&self, serials: &[u64], until: i32) -> String {
        self.numbered(serials, until, 1)
    }

    pub(crate) fn numbered(&self, serials: &[u64], until: i32, number: u64) -> String {
        let revoked = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.ca).unwrap().pem().unwrap()
    }
}

/// A client that trusts any server: it is the server that is tested.
pub(crate) fn connector(pair: Option<&CertificatePair>) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let config = match pair {
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
            let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(config))
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The name that all test servers answer to.
pub(crate) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Connects. Returns the client's identity and stream, or why the server refused it and the error at the client.
pub(crate) async fn connect(
    tls: &Arc<TlsServer>,
    pair: Option<&CertificatePair>,
) -> Result<(Identity, TlsStream<tokio::io::DuplexStream>), (&'static str, String)> {
    let (near, far) = duplex(1 << 16);
    let connector = connector(pair);
    let client = async {
        let mut client = connector.connect(localhost(), far).await?;
        // A client of TLS 1.3 gets the alert about its certificate only with a read.
        let mut byte = [0];
        client.read_exact(&mut byte).await?;
        Ok::<_, std::io::Error>(client)
    };
    let server = async {
        let (mut stream, identity) = tls.accept(near).await.map_err(|(refusal, _)| refusal)?;
        stream.write_all(b"!").await.unwrap();
        stream.flush().await.unwrap();
        Ok::<_, HandshakeError>((identity, stream))
    };
    let (client, server) = tokio::join!(client, server);
    match server {
        Ok((identity, _)) => Ok((identity, client.unwrap())),
        Err(refusal) => {
            assert!(refusal.is_worth_a_warning(), "{refusal}");
            Err((refusal.reason, client.err().unwrap().to_string()))
        }
    }
}

/// Connects, and returns why the server refused the client and the error at the client.
pub(crate) async fn refusal(
    tls: &Arc<TlsServer>,
    pair: &CertificatePair,
) -> (&'static str, String) {
    match connect(tls, Some(pair)).await {
        Ok((identity, _)) => panic!("{} was accepted", identity.name()),
        Err(refusal) => refusal,
    }
}

/// Replaces a file by a FIFO, which blocks a program that opens it.
pub(crate) fn block(path: &std::path::Path) {
    fs::remove_file(path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// Waits until the follower has read a change.
pub(crate) async fn a_moment() {
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
}

/// The error of files that cannot be used.
pub(crate) fn problem(files: &TlsFiles) -> String {
    match TlsServer::read(files.clone()) {
        Ok(_) => panic!("it can be used"),
        Err(error) => error.to_string(),
    }
}
