//! The CA itself: its certificate and key, and what it signs with them.
//!
//! All keys are on P-256. The CA may sign leaf certificates and revocation lists and nothing below another CA (path
//! length 0); a leaf is for one side of TLS only.
//!
//! Keys are wiped from memory as far as this program holds them; ring and the PEM reader keep copies of their own until
//! the command ends, which is soon.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PublicKeyData, RevokedCertParams, SerialNumber,
};
use sanctum_config::Label;
use zeroize::Zeroizing;

use crate::certificate::{Certificate, hex};
use crate::clock::ValidityPeriod;
use crate::holder::{Holder, HolderKind};
use crate::revocation_list::Revoked;
use crate::san::San;
use crate::serial::Serial;
use crate::{PkiError, secret};

/// Lifetime of a CA, in days.
pub const CA_DAYS: u32 = 5 * 365 + 1;
/// Lifetime of a server's certificate, in days: a day less than the strictest clients accept.
pub const SERVER_DAYS: u32 = 397;
/// Lifetime of a client's certificate, in days.
pub const CLIENT_DAYS: u32 = 365;
/// Lifetime of a revocation list, in days: longer than any leaf by default, so that renewing leaves in time renews the list in
/// time.
pub const CRL_DAYS: u32 = 400;

/// A CA that can sign.
pub struct Authority {
    certificate: Certificate,
    key: Zeroizing<KeyPair>,
}

/// A certificate that was just signed, and its key.
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// The key in PEM (PKCS #8).
    pub key: Zeroizing<String>,
}

impl Authority {
    /// A new CA for a fleet. Its name holds four random bytes: two CAs of a fleet must not have the same name, or
    /// a search for a revocation list by its issuer finds the wrong one.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn create(fleet: &Label, validity: ValidityPeriod) -> Result<Self, PkiError> {
        let mut mark = [0; 4];
        getrandom::fill(&mut mark)?;
        let key = Zeroizing::new(KeyPair::generate()?);
        let mut params = params(&format!("{fleet} CA {}", hex(&mark)), validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&*key)?.der().to_vec();
        let certificate = own(der)?;
        Ok(Self { certificate, key })
    }

    /// The CA of a certificate, by the key in a file.
    ///
    /// # Errors
    /// If the key cannot be read, others can read it, it is none, or it is another's; none if it is not there.
    pub fn load(certificate: Certificate, key: &Path) -> Result<Option<Self>, PkiError> {
        let Some(pair) = read_key(key)? else {
            return Ok(None);
        };
        match pair.subject_public_key_info() == certificate.public_key() {
            true => Ok(Some(Self {
                certificate,
                key: pair,
            })),
            false => Err(PkiError::form(
                key,
                "the key of the CA's certificate beside it",
                "an interrupted rotate-ca leaves the right one in ca-old.key: move it here; otherwise restore both \
                 from a backup",
            )),
        }
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA's key in PEM (PKCS #8).
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// Issues a certificate with a new key. It ends when the CA does, if that comes first.
    ///
    /// # Errors
    /// If the CA expires before the certificate begins, or the system has no random bytes.
    pub fn issue(
        &self,
        holder: &Holder,
        sans: &[San],
        validity: ValidityPeriod,
    ) -> Result<Issued, PkiError> {
        let validity = validity.within(self.certificate.not_after).checked()?;
        let key = Zeroizing::new(KeyPair::generate()?);
        let mut params = params(holder.name.as_str(), validity)?;
        params.subject_alt_names = sans.iter().map(San::to_rcgen).collect::<Result<_, _>>()?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match holder.kind {
            HolderKind::Server => ExtendedKeyUsagePurpose::ServerAuth,
            HolderKind::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        // Said outright rather than left out: with it goes the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        let der = params.signed_by(&*key, &self.issuer()?)?.der().to_vec();
        Ok(Issued {
            certificate: own(der)?,
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Signs a revocation list, in PEM.
    ///
    /// # Errors
    /// If its time is over before it begins.
    pub fn sign_crl(
        &self,
        revoked: &[Revoked],
        number: u64,
        validity: ValidityPeriod,
    ) -> Result<String, PkiError> {
        let line = |one: &Revoked| RevokedCertParams {
            serial_number: one.serial.to_rcgen(),
            revocation_time: one.at.to_time(),
            reason_code: Some(one.reason.into()),
            invalidity_date: None,
        };
        let key_id = self.certificate.key_id.as_deref().and_then(unhex);
        let list = CertificateRevocationListParams {
            this_update: validity.not_before.to_time(),
            next_update: validity.not_after.to_time(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(line).collect(),
            key_identifier_method: key_id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified),
        };
        Ok(list.signed_by(&self.issuer()?)?.pem()?)
    }

    fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, PkiError> {
        let der = self.certificate.der().into();
        Ok(Issuer::from_ca_cert_der(&der, &*self.key)?)
    }
}

fn params(common_name: &str, validity: ValidityPeriod) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(Serial::random()?.to_rcgen());
    params.not_before = validity.not_before.to_time();
    params.not_after = validity.not_after.to_time();
    Ok(params)
}

/// A certificate that was just created.
fn own(der: Vec<u8>) -> Result<Certificate, PkiError> {
    Certificate::from_der(der).map_err(|_| rcgen::Error::CouldNotParseCertificate.into())
}

/// A private key in PEM; none if the file is not there.
///
/// # Errors
/// If it cannot be read, others can read it, or it is none.
pub fn read_key(path: &Path) -> Result<Option<Zeroizing<KeyPair>>, PkiError> {
    let Some(bytes) = secret::read(path)? else {
        return Ok(None);
    };
    let text = str::from_utf8(&bytes).ok();
    // Details of a damaged key are not printed.
    let pair = text.and_then(|text| KeyPair::from_pem(text).ok());
    match pair {
        Some(pair) => Ok(Some(Zeroizing::new(pair))),
        None => Err(PkiError::form(
            path,
            "a private key in PEM",
            "restore it from a backup, or issue it again",
        )),
    }
}

/// Whether a key's file holds the key of a certificate; none if the file is not there.
///
/// # Errors
/// As [`read_key`].
pub fn is_key_of(path: &Path, certificate: &Certificate) -> Result<Option<bool>, PkiError> {
    let pair = read_key(path)?;
    Ok(pair.map(|pair| pair.subject_public_key_info() == certificate.public_key()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::Moment;
    use std::sync::LazyLock;

    pub(crate) static SHARED: LazyLock<Authority> = LazyLock::new(authority);

    pub(crate) fn authority() -> Authority {
        let validity = ValidityPeriod::new(None, CA_DAYS, Moment::now());
        Authority::create(&"test".parse().unwrap(), validity).unwrap()
    }

    pub(crate) fn server(ca: &Authority, sans: &[&str]) -> String {
        let holder = Holder::new(HolderKind::Server, "server".parse().unwrap()).unwrap();
        let sans: Vec<San> = sans.iter().map(|san| san.parse().unwrap()).collect();
        let validity = ValidityPeriod::new(None, SERVER_DAYS, Moment::now());
        ca.issue(&holder, &sans, validity)
            .unwrap()
            .certificate
            .pem()
    }

    #[test]
    fn a_leaf_ends_with_its_ca() {
        let holder = Holder::new(HolderKind::Client, "canary".parse().unwrap()).unwrap();
        let validity = ValidityPeriod::new(None, 36_500, Moment::now());
        let issued = SHARED.issue(&holder, &[], validity).unwrap();
        assert_eq!(issued.certificate.not_after, SHARED.certificate().not_after);
        assert_eq!(issued.certificate.usages, ["clientAuth"]);
        let late = ValidityPeriod::new(
            Some(SHARED.certificate().not_after.plus(1)),
            1,
            Moment::now(),
        );
        let error = SHARED.issue(&holder, &[], late).err().unwrap().to_string();
        assert!(error.contains("rotate-ca"), "{error}");
    }

    #[test]
    fn two_cas_of_a_fleet_have_different_names_keys_and_serials() {
        let (a, b) = (authority(), authority());
        let (a, b) = (a.certificate(), b.certificate());
        assert!(a.subject != b.subject && a.serial != b.serial && a.key_id != b.key_id);
        assert!(a.subject.starts_with("CN=test CA "), "{}", a.subject);
    }
}
