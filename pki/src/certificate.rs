//! What a certificate says (RFC 5280), read from PEM.

use std::net::IpAddr;
use std::path::Path;

use sha2::{Digest, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::PkiError;
use crate::clock::Moment;
use crate::error::RESTORE;
use crate::home;
use crate::san::{San, of_address};
use crate::serial::Serial;

const WHAT: &str = "a certificate in PEM";

/// One certificate, and what of it concerns this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// The subject's common name; empty if it has none.
    pub common_name: String,
    /// The subject as a person reads it.
    pub subject: String,
    /// The issuer as a person reads it.
    pub issuer: String,
    /// The number that revocation names.
    pub serial: Serial,
    /// Valid from.
    pub not_before: Moment,
    /// Valid until.
    pub not_after: Moment,
    /// Names and addresses that it stands for; kinds that this program does not write are left out.
    pub sans: Vec<San>,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// Extended key usages by their usual names.
    pub usages: Vec<&'static str>,
    /// The subject key identifier.
    pub key_id: Option<String>,
    /// The issuer's key identifier.
    pub authority_key_id: Option<String>,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    public_key_der: Vec<u8>,
}

impl Certificate {
    /// All certificates of a file; none if the file is not there.
    ///
    /// # Errors
    /// If it cannot be read, holds no certificate, or holds something else beside them.
    pub fn read_all(path: &Path) -> Result<Option<Vec<Self>>, PkiError> {
        let Some(text) = home::read_text(path, WHAT)? else {
            return Ok(None);
        };
        let all = Self::parse_all(&text).map_err(|why| PkiError::form(path, WHAT, why))?;
        Ok(Some(all))
    }

    /// The one certificate of a file; none if the file is not there.
    ///
    /// # Errors
    /// As [`Certificate::read_all`], and if there is more than one.
    pub fn read(path: &Path) -> Result<Option<Self>, PkiError> {
        let Some(mut all) = Self::read_all(path)? else {
            return Ok(None);
        };
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(Some(one)),
            _ => Err(PkiError::form(
                path,
                WHAT,
                format!("it holds several, and exactly one is expected; {RESTORE}"),
            )),
        }
    }

    /// All certificates of a PEM text: one at least.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let blocks = pem_blocks(text, "CERTIFICATE")?;
        blocks.into_iter().map(Self::from_der).collect()
    }

    /// From DER.
    ///
    /// # Errors
    /// Why it is none.
    pub fn from_der(der: Vec<u8>) -> Result<Self, String> {
        let (rest, x509) = X509Certificate::from_der(&der).map_err(|error| damaged(&error))?;
        if !rest.is_empty() {
            return Err(format!("bytes follow the certificate; {RESTORE}"));
        }
        let public = &x509.tbs_certificate;
        let mut this = Self {
            common_name: common_name(public.subject()),
            subject: public.subject().to_string(),
            issuer: public.issuer().to_string(),
            serial: Serial::from_der(public.raw_serial()),
            not_before: public.validity().not_before.to_datetime().into(),
            not_after: public.validity().not_after.to_datetime().into(),
            sans: Vec::new(),
            is_ca: public.is_ca(),
            usages: Vec::new(),
            key_id: None,
            authority_key_id: None,
            subject_der: public.subject().as_raw().into(),
            issuer_der: public.issuer().as_raw().into(),
            public_key_der: public.public_key().raw.into(),
            der: Vec::new(),
        };
        for extension in public.iter_extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    this.sans.extend(names.general_names.iter().filter_map(san));
                }
                ParsedExtension::SubjectKeyIdentifier(id) => this.key_id = Some(hex(id.0)),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    this.authority_key_id = id.key_identifier.as_ref().map(|id| hex(id.0));
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let known = [
                        (usage.any, "any"),
                        (usage.server_auth, "serverAuth"),
                        (usage.client_auth, "clientAuth"),
                    ];
                    this.usages
                        .extend(known.iter().filter(|(is, _)| *is).map(|(_, name)| name));
                }
                _ => {}
            }
        }
        drop(x509);
        this.der = der;
        Ok(this)
    }

    /// The certificate itself.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        pem_text("CERTIFICATE", &self.der)
    }

    /// SHA-256 of the certificate, in hex, as `openssl x509 -fingerprint -sha256` gives it with colons.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.der))
    }

    /// The SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key_der
    }

    /// The name that certificates and lists of this CA carry as their issuer's, in DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// Whether `authority` signed this.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, this)), Ok((_, by))) = (
            X509Certificate::from_der(&self.der),
            X509Certificate::from_der(&authority.der),
        ) else {
            return false;
        };
        self.issuer_der == authority.subject_der
            && this.verify_signature(Some(by.public_key())).is_ok()
    }

    /// This CA's id in the ledger.
    pub fn authority_id(&self) -> String {
        match &self.key_id {
            Some(id) => id.clone(),
            None => self.fingerprint(),
        }
    }
}

/// Every block of a PEM text that has the label, in order: one at least, and none with another label.
pub(crate) fn pem_blocks(text: &str, label: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut blocks = Vec::new();
    for block in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.map_err(|error| damaged(&error))?;
        if block.label != label {
            return Err(format!(
                "it holds a `{}` beside or instead of a `{label}`; {RESTORE}",
                block.label
            ));
        }
        blocks.push(block.contents);
    }
    match blocks.is_empty() {
        true => Err(format!(
            "there is no `-----BEGIN {label}-----` in it; {RESTORE}"
        )),
        false => Ok(blocks),
    }
}

/// One PEM block: base64 in lines of 64 (RFC 7468).
pub(crate) fn pem_text(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = (0..3).fold(0, |bits, at| {
                bits << 8 | u32::from(three.get(at).copied().unwrap_or(0))
            });
            for at in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
                text.push(if at <= three.len() { digit.into() } else { '=' });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

pub(crate) fn damaged(error: &dyn std::fmt::Display) -> String {
    format!("its contents are damaged ({error}); {RESTORE}")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let first = name.iter_common_name().next();
    first
        .and_then(|cn| cn.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn san(name: &GeneralName<'_>) -> Option<San> {
    match name {
        GeneralName::DNSName(name) => name.parse().ok(),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            of_address(v4.or_else(|_| v6()).ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, tests as made};
    use proptest::prelude::*;

    #[test]
    fn a_certificate_says_what_it_was_made_to_say() {
        let ca = made::authority();
        let leaf = made::server(&ca, &["localhost", "10.0.0.1", "::1"]);
        let [leaf] = &Certificate::parse_all(&leaf).unwrap()[..] else {
            panic!("one certificate was made");
        };
        assert_eq!(leaf.common_name, "server");
        assert_eq!(leaf.usages, ["serverAuth"]);
        let sans: Vec<String> = leaf.sans.iter().map(ToString::to_string).collect();
        assert_eq!(sans, ["localhost", "10.0.0.1", "::1"]);
        assert_eq!(leaf.authority_key_id, ca.certificate().key_id);
        assert!(!leaf.is_ca && ca.certificate().is_ca);
        assert!(leaf.is_signed_by(ca.certificate()));
        assert!(ca.certificate().is_signed_by(ca.certificate()));
        assert!(!leaf.is_signed_by(made::authority().certificate()));
        assert!(!leaf.is_signed_by(leaf));
    }

    #[test]
    fn pem_comes_back_from_itself() {
        for length in 0..100 {
            let der: Vec<u8> = (0..length).collect();
            let text = pem_text("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(pem_blocks(&text, "CERTIFICATE"), Ok(vec![der]));
        }
    }

    #[test]
    fn what_is_no_certificate_says_why() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (text, says) in [
            ("", "there is no"),
            (key, "`PRIVATE KEY`"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "damaged"),
            (
                "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
                "damaged",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "damaged",
            ),
        ] {
            let error = Certificate::parse_all(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let ca: &Authority = &made::SHARED;
            let mut der = ca.certificate().der().to_vec();
            let at = at.index(der.len());
            der[at] = with;
            if let Ok(certificate) = Certificate::from_der(der.clone()) {
                // What verifies still says the same: only bytes that the signature does not cover may differ.
                let original = Certificate { der: der.clone(), ..ca.certificate().clone() };
                prop_assert!(certificate == original || !certificate.is_signed_by(ca.certificate()));
            }
            der.truncate(cut.index(der.len()));
            prop_assert!(Certificate::from_der(der).is_err());
        }

        #[test]
        fn no_text_panics(text in "(-----(BEGIN|END) (CERTIFICATE|X)-----\n|[A-Za-z0-9+/=\\PC]{0,64}\n){0,6}") {
            let _ = Certificate::parse_all(&text);
        }
    }
}
