//! Which client certificates are accepted.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use x509_parser::prelude::{FromDer, X509Certificate};

use super::name::name_of;

/// The certificates of the CAs' clients, without those that are revoked.
///
/// There is a verifier for each CA with only that CA's own lists: the one for all of them finds lists by the issuer's
/// name, and two CAs of one name (a CA that was created again) would then spoil each other.
#[derive(Debug)]
pub(crate) struct Clients {
    by_ca: Vec<CaVerifier>,
    hints: Vec<DistinguishedName>,
}

/// One CA's clients.
#[derive(Debug)]
struct CaVerifier {
    verifier: Arc<dyn ClientCertVerifier>,
    /// When the CA itself expires, which webpki does not check: it trusts an anchor for ever.
    until: UnixTime,
}

/// A CA that is trusted.
pub(crate) struct Trusted {
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// When that expires.
    pub until: UnixTime,
    /// Its lists of revoked certificates.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
}

impl Clients {
    /// The clients of these CAs.
    pub(crate) fn new(
        cas: impl IntoIterator<Item = Trusted>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut by_ca = Vec::new();
        let mut hints = Vec::new();
        for ca in cas {
            let mut roots = RootCertStore::empty();
            roots
                .add(ca.certificate)
                .map_err(|error| error.to_string())?;
            hints.extend(roots.subjects());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .with_crls(ca.lists)
                    .build()
                    .map_err(|error| error.to_string())?;
            by_ca.push(CaVerifier {
                verifier,
                until: ca.until,
            });
        }
        Ok(Self { by_ca, hints })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let mut refusal = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for ca in &self.by_ca {
            match ca.verifier.verify_client_cert(certificate, others, now) {
                Ok(_) if now > ca.until => {
                    refusal = Error::InvalidCertificate(CertificateError::Expired);
                }
                Ok(_) if !is_for_clients(certificate) => {
                    return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
                }
                Ok(verified) if name_of(certificate).is_some() => return Ok(verified),
                Ok(_) => {
                    return Err(Error::InvalidCertificate(
                        CertificateError::ApplicationVerificationFailure,
                    ));
                }
                Err(error) if is_of_another_ca(&error) => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not supported".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // What a signature looks like does not depend on the CA.
        match self.by_ca.first() {
            Some(ca) => ca
                .verifier
                .verify_tls13_signature(message, certificate, signed),
            None => Err(Error::General("there is no CA".into())),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let first = self.by_ca.first();
        first.map_or_else(Vec::new, |ca| ca.verifier.supported_verify_schemes())
    }
}

/// Whether the extended key usage names `clientAuth`. webpki accepts a certificate that says nothing about its use (RFC
/// 5280, 4.2.1.12); here it is refused: a CA that signs certificates for several uses must not make clients by accident.
fn is_for_clients(certificate: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, certificate)| {
        let usage = certificate.extended_key_usage();
        usage.is_ok_and(|usage| usage.is_some_and(|usage| usage.value.client_auth))
    })
}

/// Whether the certificate has nothing to do with this CA (or with one of the same name and another key), so that
/// another CA may know more.
fn is_of_another_ca(error: &Error) -> bool {
    use CertificateError::{BadSignature, UnknownIssuer};
    matches!(
        error,
        Error::InvalidCertificate(UnknownIssuer | BadSignature)
    )
}
