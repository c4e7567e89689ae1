//! A CA of our own, and what becomes of those who come with its certificates, or with others.

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

use super::{Crl, Tls, TlsError, TlsFiles};
use crate::peer::Identity;

/// A CA, and the files of one server.
pub struct Pki {
    folder: TempDir,
    ca: Issuer<'static, KeyPair>,
    ca_pem: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// How a certificate differs from a good one.
pub struct Wish<'a> {
    pub name: Option<&'a str>,
    pub serial: u64,
    pub years: (i32, i32),
    pub usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Wish<'_> {
    pub fn client(name: &str, serial: u64) -> Wish<'_> {
        Wish {
            name: Some(name),
            serial,
            years: (2020, 4000),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

impl Pki {
    /// A CA, a server's certificate, an empty list of revoked ones.
    pub fn new() -> Self {
        Self::named("our CA", (2020, 4000))
    }

    fn named(name: &'static str, years: (i32, i32)) -> Self {
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

    pub fn files(&self) -> TlsFiles {
        let at = |name| self.folder.path().join(name);
        TlsFiles {
            certificate: at("s.crt"),
            key: at("s.key"),
            ca: at("ca.crt"),
            crl: Crl::Usual(at("ca.crl")),
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        // Beside and renamed, as files that somebody reads are written.
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub fn issue(&self, wish: Wish<'_>) -> Pair {
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
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub fn server(&self, serial: u64) -> Pair {
        self.issue(Wish {
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..Wish::client("server", serial)
        })
    }

    pub fn client(&self, name: &str, serial: u64) -> Pair {
        self.issue(Wish::client(name, serial))
    }

    /// Gives the server a certificate.
    pub fn install(&self, pair: &Pair) {
        self.write("s.crt", &pair.certificate);
        self.write("s.key", &pair.key);
    }

    /// Revokes these, and no others.
    pub fn revoke(&self, serials: &[u64]) {
        self.write("ca.crl", &self.list(serials, 4000));
    }

    fn list(&self, serials: &[u64], until: i32) -> String {
        self.numbered(serials, until, 1)
    }

    fn numbered(&self, serials: &[u64], until: i32, number: u64) -> String {
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
pub fn connector(pair: Option<&Pair>) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
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
struct Anyone;

impl ServerCertVerifier for Anyone {
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
pub fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Connects: who the client is and its stream, or why it was refused and what it was told.
async fn connect(
    tls: &Arc<Tls>,
    pair: Option<&Pair>,
) -> Result<(Identity, TlsStream<tokio::io::DuplexStream>), (&'static str, String)> {
    let (near, far) = duplex(1 << 16);
    let connector = connector(pair);
    let client = async {
        let mut client = connector.connect(localhost(), far).await?;
        // Only a read tells a client of TLS 1.3 what the server thinks of its certificate.
        let mut byte = [0];
        client.read_exact(&mut byte).await?;
        Ok::<_, std::io::Error>(client)
    };
    let server = async {
        let (mut stream, identity) = tls.accept(near).await.map_err(|(refusal, _)| refusal)?;
        stream.write_all(b"!").await.unwrap();
        stream.flush().await.unwrap();
        Ok::<_, super::Refusal>((identity, stream))
    };
    let (client, server) = tokio::join!(client, server);
    match server {
        Ok((identity, _)) => Ok((identity, client.unwrap())),
        Err(refusal) => {
            assert!(refusal.is_telling(), "{refusal}");
            Err((refusal.reason, client.err().unwrap().to_string()))
        }
    }
}

async fn refusal(tls: &Arc<Tls>, pair: &Pair) -> (&'static str, String) {
    match connect(tls, Some(pair)).await {
        Ok((identity, _)) => panic!("{} was let in", identity.name()),
        Err(refusal) => refusal,
    }
}

#[tokio::test]
async fn the_right_certificate_is_let_in_under_its_name() {
    let pki = Pki::new();
    let tls = Tls::read(pki.files()).unwrap();
    let (identity, client) = connect(&tls, Some(&pki.client("guardian", 7)))
        .await
        .unwrap();
    assert_eq!(identity.name(), "guardian");
    assert!(identity.is_trusted());
    let (_, connection) = client.get_ref();
    assert_eq!(
        connection.handshake_kind(),
        Some(rustls::HandshakeKind::Full)
    );
}

#[tokio::test]
async fn all_others_are_refused_with_an_alert_that_says_why() {
    let pki = Pki::new();
    pki.revoke(&[8]);
    let tls = Tls::read(pki.files()).unwrap();
    let other = Pki::new();
    let wish = Wish::client;
    let cases = [
        (pki.client("revoked", 8), "revoked", "CertificateRevoked"),
        (other.client("stranger", 7), "unknown_ca", "UnknownCA"),
        (pki.server(9), "wrong_purpose", "UnsupportedCertificate"),
        (
            pki.issue(Wish {
                years: (2020, 2021),
                ..wish("late", 9)
            }),
            "expired",
            "CertificateExpired",
        ),
        (
            pki.issue(Wish {
                years: (3000, 3001),
                ..wish("early", 9)
            }),
            "not_yet_valid",
            "CertificateExpired",
        ),
        (
            pki.issue(Wish {
                name: None,
                ..wish("", 9)
            }),
            "bad_name",
            "AccessDenied",
        ),
    ];
    for (pair, reason, alert) in &cases {
        let (why, told) = refusal(&tls, pair).await;
        assert_eq!(why, *reason);
        assert!(told.contains(alert), "{reason}: {told}");
    }
    let (why, told) = connect(&tls, None).await.map(|_| ()).unwrap_err();
    assert_eq!(why, "no_certificate");
    assert!(told.contains("CertificateRequired"), "{told}");
}

#[tokio::test]
async fn certificate_without_client_auth_is_refused() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let pki = Pki::new();
    let tls = Tls::read(pki.files()).unwrap();
    let issue = |usages: &[ExtendedKeyUsagePurpose]| {
        pki.issue(Wish {
            usages: usages.to_vec(),
            ..Wish::client("laptop", 9)
        })
    };
    for usages in [&[][..], &[ServerAuth], &[Any]] {
        let (why, told) = refusal(&tls, &issue(usages)).await;
        assert_eq!(why, "wrong_purpose", "{usages:?}");
        assert!(told.contains("UnsupportedCertificate"), "{told}");
    }
    for usages in [&[ClientAuth][..], &[ServerAuth, ClientAuth]] {
        let pair = issue(usages);
        assert!(connect(&tls, Some(&pair)).await.is_ok(), "{usages:?}");
    }
}

/// Puts a FIFO, which blocks those who open it, in place of a file.
fn block(path: &std::path::Path) {
    fs::remove_file(path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[tokio::test(start_paused = true)]
async fn fifo_in_place_of_a_file_changes_nothing_while_serving() {
    let pki = Pki::new();
    pki.revoke(&[8]);
    let tls = Tls::read(pki.files()).unwrap();
    tokio::spawn(tls.clone().follow());
    let (good, revoked) = (pki.client("good", 7), pki.client("bad", 8));
    let files = pki.files();
    for path in [&files.certificate, &files.key, &files.ca, files.crl.path()] {
        let text = fs::read_to_string(path).unwrap();
        block(path);
        a_moment().await;
        let (identity, _stream) = connect(&tls, Some(&good)).await.unwrap();
        assert!(identity.is_trusted(), "{}", path.display());
        assert_eq!(refusal(&tls, &revoked).await.0, "revoked");
        let name = path.file_name().unwrap().to_str().unwrap();
        pki.write(name, &text);
    }
    // What is put right again is read again.
    pki.revoke(&[7, 8]);
    a_moment().await;
    assert_eq!(refusal(&tls, &good).await.0, "revoked");
}

#[test]
fn fifo_in_place_of_a_file_is_an_error_at_start() {
    let pki = Pki::new();
    let files = pki.files();
    for path in [&files.certificate, &files.key, &files.ca, files.crl.path()] {
        let text = fs::read_to_string(path).unwrap();
        block(path);
        let error = problem(&files);
        assert!(
            error.contains("a FIFO") && error.contains(&path.display().to_string()),
            "{error}"
        );
        let name = path.file_name().unwrap().to_str().unwrap();
        pki.write(name, &text);
    }
    assert!(Tls::read(files).is_ok());
}

#[tokio::test]
async fn a_name_must_be_fit_for_a_log() {
    let pki = Pki::new();
    let tls = Tls::read(pki.files()).unwrap();
    let long = "x".repeat(65);
    for name in [
        "two\nlines",
        "",
        " guardian",
        "gu\u{e4}rdian",
        "\u{202e}drib",
        &long,
    ] {
        let (why, _) = refusal(&tls, &pki.client(name, 9)).await;
        assert_eq!(why, "bad_name", "{name:?}");
    }
    let good = pki.client("laptop 2 (Ada)", 9);
    assert!(connect(&tls, Some(&good)).await.is_ok());
}

/// Lets the follower see what has changed.
async fn a_moment() {
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_revoked_is_not_trusted_any_more_and_another_still_is() {
    let pki = Pki::new();
    let tls = Tls::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let pair = pki.client("canary", 8);
    let (canary, _stream) = connect(&tls, Some(&pair)).await.unwrap();
    let (other, _stream) = connect(&tls, Some(&pki.client("drift", 9))).await.unwrap();
    pki.revoke(&[8]);
    a_moment().await;
    assert!(!canary.is_trusted());
    assert!(other.is_trusted());
    assert_eq!(refusal(&tls, &pair).await.0, "revoked");
}

/// As `cp -p` and `rsync -t --inplace` leave it.
#[tokio::test(start_paused = true)]
async fn a_list_of_the_same_size_and_time_in_the_same_file_is_a_new_one() {
    let pki = Pki::new();
    pki.revoke(&[9]);
    let tls = Tls::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let pair = pki.client("canary", 8);
    let (canary, _stream) = connect(&tls, Some(&pair)).await.unwrap();
    let path = pki.files().crl.path().to_owned();
    let before = fs::metadata(&path).unwrap();
    // Signatures differ in length now and then.
    let list = std::iter::repeat_with(|| pki.list(&[8], 4000))
        .find(|list| list.len() as u64 == before.len())
        .unwrap();
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, list.as_bytes()).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    a_moment().await;
    assert!(!canary.is_trusted());
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_shown_to_the_next_client() {
    let pki = Pki::new();
    let tls = Tls::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let client = pki.client("canary", 8);
    let shown = async || {
        let (identity, stream) = connect(&tls, Some(&client)).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        (identity, chain[0].to_vec())
    };
    let (identity, before) = shown().await;
    pki.install(&pki.server(2));
    a_moment().await;
    let (_, after) = shown().await;
    assert_ne!(before, after);
    assert!(
        identity.is_trusted(),
        "a renewal is no business of clients that are there"
    );
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_used_change_nothing() {
    let pki = Pki::new();
    pki.revoke(&[8]);
    let tls = Tls::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let (good, revoked) = (pki.client("good", 7), pki.client("bad", 8));
    let still = async |what: &str| {
        a_moment().await;
        assert!(!tls.reload(), "{what}");
        let (identity, _stream) = connect(&tls, Some(&good)).await.unwrap();
        assert!(identity.is_trusted(), "{what}");
        assert_eq!(refusal(&tls, &revoked).await.0, "revoked", "{what}");
    };
    assert!(tls.reload());
    pki.write("ca.crl", "no list");
    still("a list that is none").await;
    fs::remove_file(pki.files().crl.path()).unwrap();
    still("a list that is gone").await;
    pki.write("ca.crl", &Pki::new().list(&[], 4000));
    still("another CA's list of the same name").await;
    pki.revoke(&[8]);
    pki.write("s.key", &pki.server(3).key);
    still("another certificate's key").await;
    pki.write("ca.crt", "");
    still("no CA").await;
}

#[tokio::test]
async fn an_old_list_stays_in_force() {
    let pki = Pki::new();
    pki.write("ca.crl", &pki.list(&[8], 2022));
    let tls = Tls::read(pki.files()).unwrap();
    assert!(connect(&tls, Some(&pki.client("good", 7))).await.is_ok());
    assert_eq!(refusal(&tls, &pki.client("bad", 8)).await.0, "revoked");
}

#[tokio::test]
async fn of_two_lists_of_one_ca_the_newer_counts() {
    let pki = Pki::new();
    let (older, newer) = (pki.numbered(&[], 4000, 255), pki.numbered(&[8], 4000, 256));
    for text in [format!("{older}{newer}"), format!("{newer}{older}")] {
        pki.write("ca.crl", &text);
        let tls = Tls::read(pki.files()).unwrap();
        assert_eq!(refusal(&tls, &pki.client("bad", 8)).await.0, "revoked");
    }
}

#[tokio::test]
async fn an_older_list_lets_nobody_in_again() {
    let pki = Pki::new();
    pki.write("ca.crl", &pki.numbered(&[8], 4000, 2));
    let tls = Tls::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let (bad, good) = (pki.client("bad", 8), pki.client("good", 7));
    pki.write("ca.crl", &pki.numbered(&[], 4000, 1));
    a_moment().await;
    assert_eq!(refusal(&tls, &bad).await.0, "revoked");
    assert!(connect(&tls, Some(&good)).await.is_ok());
    // A newer one may.
    pki.write("ca.crl", &pki.numbered(&[], 4000, 3));
    a_moment().await;
    assert!(connect(&tls, Some(&bad)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_had_a_list_keeps_it_while_the_ca_is_trusted() {
    let (old, new) = (Pki::named("old CA", (2020, 4000)), Pki::new());
    let both = format!("{}{}", old.ca_pem, new.ca_pem);
    let (olds, news) = (old.list(&[8], 4000), new.list(&[], 4000));
    old.write("ca.crt", &both);
    old.write("ca.crl", &format!("{olds}{news}"));
    let tls = Tls::read(old.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let revoked = old.client("bad", 8);
    // Still the list of a CA that is trusted, only not of every one.
    old.write("ca.crl", &news);
    a_moment().await;
    assert_eq!(refusal(&tls, &revoked).await.0, "revoked");
    // The CA goes, and its list with it.
    old.write("ca.crt", &new.ca_pem);
    a_moment().await;
    assert_eq!(refusal(&tls, &revoked).await.0, "unknown_ca");
    assert!(connect(&tls, Some(&new.client("a", 7))).await.is_ok());
}

#[tokio::test]
async fn two_cas_of_one_name_do_not_spoil_each_other() {
    let (old, new) = (Pki::new(), Pki::new());
    old.write("ca.crt", &format!("{}{}", old.ca_pem, new.ca_pem));
    old.write("ca.crl", &old.list(&[8], 4000));
    let tls = Tls::read(old.files()).unwrap();
    assert!(connect(&tls, Some(&old.client("a", 7))).await.is_ok());
    assert_eq!(refusal(&tls, &old.client("b", 8)).await.0, "revoked");
    let reissued = new.client("b", 8);
    assert!(
        connect(&tls, Some(&reissued)).await.is_ok(),
        "the new CA has revoked nothing"
    );
    old.write(
        "ca.crl",
        &format!("{}{}", old.list(&[8], 4000), new.list(&[8], 4000)),
    );
    let tls = Tls::read(old.files()).unwrap();
    assert_eq!(refusal(&tls, &reissued).await.0, "revoked");
}

#[tokio::test]
async fn a_ca_that_has_ended_vouches_for_nobody() {
    let ended = Pki::named("old CA", (2020, 2021));
    let tls = Tls::read(ended.files()).unwrap();
    assert_eq!(refusal(&tls, &ended.client("a", 7)).await.0, "expired");
}

/// On a connection that is open all the while.
#[test]
fn at_each_request_both_the_certificate_and_its_ca_must_not_have_ended() {
    let pki = Pki::named("a CA", (2020, 2100));
    let tls = Tls::read(pki.files()).unwrap();
    let trusts = |until, year: i32| {
        let pair = pki.issue(Wish {
            years: (2020, until),
            ..Wish::client("a", 7)
        });
        let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
        let chain: Vec<_> = chain.collect::<Result<_, _>>().unwrap();
        let now = date_time_ymd(year, 6, 1).unix_timestamp() as u64;
        let now = std::time::Duration::from_secs(now);
        tls.trusts(&chain, UnixTime::since_unix_epoch(now))
    };
    assert!(trusts(2090, 2089) && !trusts(2090, 2090));
    assert!(trusts(4000, 2099) && !trusts(4000, 2100));
}

fn problem(files: &TlsFiles) -> String {
    match Tls::read(files.clone()) {
        Ok(_) => panic!("it can be used"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_the_mend() {
    let pki = Pki::new();
    let files = pki.files();
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = problem(&files);
    assert!(
        error.contains("0640") && error.contains("chmod 600"),
        "{error}"
    );
    pki.write("s.key", &pki.server(3).key);
    assert!(matches!(
        Tls::read(files.clone()),
        Err(TlsError::Mismatch { .. })
    ));
    pki.write("s.key", &pki.ca_pem);
    assert!(problem(&files).contains("private key"));
    pki.install(&pki.server(3));
    pki.write("ca.crt", &pki.client("a", 2).certificate);
    assert!(problem(&files).contains("is no CA"));
    pki.write("ca.crt", &pki.ca_pem);
    pki.write("s.crt", "");
    assert!(problem(&files).contains("no certificate in it"));
    pki.install(&pki.server(4));
    fs::remove_file(files.crl.path()).unwrap();
    assert!(
        Tls::read(files.clone()).is_ok(),
        "nobody said that there is a list"
    );
    let named = TlsFiles {
        crl: Crl::Named(files.crl.path().to_owned()),
        ..files.clone()
    };
    assert!(problem(&named).contains("--tls-crl"));
    fs::remove_file(&files.certificate).unwrap();
    assert!(problem(&files).contains("--tls-cert"));
}

#[test]
fn whatever_a_file_holds_is_an_error_and_no_panic() {
    use proptest::test_runner::{Config, TestRunner};
    let pki = Pki::new();
    let files = pki.files();
    let texts = ["s.crt", "s.key", "ca.crt", "ca.crl"].map(|name| {
        let path = pki.folder.path().join(name);
        (name, fs::read(path).unwrap())
    });
    let config = Config {
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    };
    let spoil = (
        0..4usize,
        proptest::prelude::any::<(proptest::sample::Index, u8)>(),
    );
    TestRunner::new(config)
        .run(&spoil, |(which, (at, byte))| {
            let (name, text) = &texts[which];
            let mut spoilt = text.clone();
            let at = at.index(spoilt.len());
            spoilt[at] = byte;
            let path = pki.folder.path().join(name);
            fs::write(&path, &spoilt).unwrap();
            // Either verdict is right; what counts is that there is one.
            let _ = super::material::Material::read(&files);
            fs::write(&path, text).unwrap();
            Ok(())
        })
        .unwrap();
    assert!(Tls::read(files).is_ok());
}
