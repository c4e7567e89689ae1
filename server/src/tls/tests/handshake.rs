//! Which client certificates are accepted.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::pki::{CertificateSpec, Pki, connect, refusal};
use crate::tls::TlsServer;

#[tokio::test]
async fn certificate_of_a_client_is_accepted_under_its_name() {
    let pki = Pki::new();
    let tls = TlsServer::read(pki.files()).unwrap();
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
async fn other_certificates_are_refused_with_an_alert() {
    let pki = Pki::new();
    pki.revoke(&[8]);
    let tls = TlsServer::read(pki.files()).unwrap();
    let other = Pki::new();
    let spec = CertificateSpec::client;
    let cases = [
        (pki.client("revoked", 8), "revoked", "CertificateRevoked"),
        (other.client("stranger", 7), "unknown_ca", "UnknownCA"),
        (pki.server(9), "wrong_purpose", "UnsupportedCertificate"),
        (
            pki.issue(CertificateSpec {
                years: (2020, 2021),
                ..spec("late", 9)
            }),
            "expired",
            "CertificateExpired",
        ),
        (
            pki.issue(CertificateSpec {
                years: (3000, 3001),
                ..spec("early", 9)
            }),
            "not_yet_valid",
            "CertificateExpired",
        ),
        (
            pki.issue(CertificateSpec {
                name: None,
                ..spec("", 9)
            }),
            "bad_name",
            "AccessDenied",
        ),
    ];
    for (pair, reason, alert) in &cases {
        let (why, alerted) = refusal(&tls, pair).await;
        assert_eq!(why, *reason);
        assert!(alerted.contains(alert), "{reason}: {alerted}");
    }
    let (why, alerted) = connect(&tls, None).await.map(|_| ()).unwrap_err();
    assert_eq!(why, "no_certificate");
    assert!(alerted.contains("CertificateRequired"), "{alerted}");
}

#[tokio::test]
async fn certificate_without_client_auth_is_refused() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let pki = Pki::new();
    let tls = TlsServer::read(pki.files()).unwrap();
    let issue = |usages: &[ExtendedKeyUsagePurpose]| {
        pki.issue(CertificateSpec {
            usages: usages.to_vec(),
            ..CertificateSpec::client("laptop", 9)
        })
    };
    for usages in [&[][..], &[ServerAuth], &[Any]] {
        let (why, alerted) = refusal(&tls, &issue(usages)).await;
        assert_eq!(why, "wrong_purpose", "{usages:?}");
        assert!(alerted.contains("UnsupportedCertificate"), "{alerted}");
    }
    for usages in [&[ClientAuth][..], &[ServerAuth, ClientAuth]] {
        let pair = issue(usages);
        assert!(connect(&tls, Some(&pair)).await.is_ok(), "{usages:?}");
    }
}

#[tokio::test]
async fn name_that_could_break_a_log_is_refused() {
    let pki = Pki::new();
    let tls = TlsServer::read(pki.files()).unwrap();
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

#[tokio::test]
async fn two_cas_of_one_name_do_not_interfere() {
    let (old, new) = (Pki::new(), Pki::new());
    old.write("ca.crt", &format!("{}{}", old.ca_pem, new.ca_pem));
    old.write("ca.crl", &old.list(&[8], 4000));
    let tls = TlsServer::read(old.files()).unwrap();
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
    let tls = TlsServer::read(old.files()).unwrap();
    assert_eq!(refusal(&tls, &reissued).await.0, "revoked");
}

#[tokio::test]
async fn clients_of_an_expired_ca_are_refused() {
    let ended = Pki::named("old CA", (2020, 2021));
    let tls = TlsServer::read(ended.files()).unwrap();
    assert_eq!(refusal(&tls, &ended.client("a", 7)).await.0, "expired");
}

/// On a connection that is open all the while.
#[test]
fn expired_certificate_or_ca_is_not_trusted() {
    let pki = Pki::named("a CA", (2020, 2100));
    let tls = TlsServer::read(pki.files()).unwrap();
    let trusts = |until, year: i32| {
        let pair = pki.issue(CertificateSpec {
            years: (2020, until),
            ..CertificateSpec::client("a", 7)
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
