//! The fuzz entry points for certificates and revocation lists: in PEM, as files have them, and in DER, as a handshake has
//! them. A CA of `fuzz/seeds` replaces that of the operator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::clients::{Clients, Trusted};
use super::material;
use super::name::name_of;

const CA: &[u8] = include_bytes!("../../../fuzz/seeds/certificate/ca.der");

/// Far enough for a CA's end, and a moment at which all seeds are valid.
const END: Duration = Duration::from_secs(4_000_000_000);
const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A file of certificates, of keys, a certificate that a client shows, and one that is a CA.
pub fn certificate(bytes: &[u8]) {
    let path = Path::new("server.crt");
    let _ = material::parse_key(path, bytes);
    if let Ok(all) = material::parse::<CertificateDer<'_>>(path, bytes, "certificate") {
        for der in &all {
            let _ = material::certificate(path, der);
            judge(der.clone());
        }
    }
    judge(CertificateDer::from(bytes.to_vec()));
}

/// A file of revocation lists, and a list.
pub fn crl(bytes: &[u8]) {
    let path = Path::new("ca.crl");
    if let Ok((_, parsed)) = X509Certificate::from_der(CA) {
        let _ = material::assign(
            path,
            bytes,
            &mut [material::ParsedCa::new(&CA.into(), parsed)],
        );
    }
    // As one that is signed, which no damaged one is.
    let list = CertificateRevocationListDer::from(bytes.to_vec());
    let provider = Arc::new(ring::default_provider());
    let _ = Clients::new([trusted(CA.into(), vec![list])], &provider);
}

/// As a client's certificate, and as a CA's.
fn judge(der: CertificateDer<'static>) {
    let provider = Arc::new(ring::default_provider());
    if let Ok(clients) = Clients::new([trusted(CA.into(), Vec::new())], &provider) {
        let now = UnixTime::since_unix_epoch(NOW);
        let verdict = clients.verify_client_cert(&der, &[], now);
        assert!(verdict.is_err() || name_of(&der).is_some());
    }
    let _ = Clients::new([trusted(der, Vec::new())], &provider);
}

fn trusted(
    certificate: CertificateDer<'static>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Trusted {
    Trusted {
        certificate,
        until: UnixTime::since_unix_epoch(END),
        lists,
    }
}
