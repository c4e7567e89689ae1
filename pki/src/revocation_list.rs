//! Revocation lists: reading them, from PEM.

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::x509::ReasonCode;

use crate::PkiError;
use crate::certificate::{Certificate, damaged, pem_blocks};
use crate::clock::Moment;
use crate::error::RESTORE;
use crate::home;
use crate::serial::Serial;

const WHAT: &str = "a revocation list in PEM";

/// Why a certificate was revoked (RFC 5280, 5.3.1): those reasons that make sense in a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// None given
    #[default]
    Unspecified,
    /// The key may have been exposed
    KeyCompromise,
    /// Another certificate replaces it
    Superseded,
    /// Its server or client no longer exists
    CessationOfOperation,
    /// Its holder is no longer authorized
    PrivilegeWithdrawn,
}

/// One revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    der: Vec<u8>,
    issuer_der: Vec<u8>,
    /// Rises with every list of a CA; none where it is missing or larger than any that this program writes.
    pub number: Option<u64>,
    /// From when.
    pub this_update: Moment,
    /// When it is to be replaced at the latest.
    pub next_update: Option<Moment>,
    /// What is revoked.
    pub revoked: Vec<Revoked>,
}

/// One line of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Which certificate.
    pub serial: Serial,
    /// Since when.
    pub at: Moment,
    /// Why.
    pub reason: Reason,
}

impl RevocationList {
    /// All lists of a file; none if the file is not there.
    ///
    /// # Errors
    /// If it cannot be read, holds no list, or holds something else beside them.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, PkiError> {
        match home::read_text(path, WHAT)? {
            Some(text) => Self::parse_all(&text).map_err(|why| PkiError::form(path, WHAT, why)),
            None => Ok(Vec::new()),
        }
    }

    /// All lists of a PEM text: one at least.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let blocks = pem_blocks(text, "X509 CRL")?;
        blocks.into_iter().map(Self::from_der).collect()
    }

    fn from_der(der: Vec<u8>) -> Result<Self, String> {
        let (rest, list) =
            CertificateRevocationList::from_der(&der).map_err(|error| damaged(&error))?;
        if !rest.is_empty() {
            return Err(format!("bytes follow the list; {RESTORE}"));
        }
        let revoked = list.iter_revoked_certificates().map(|one| Revoked {
            serial: Serial::from_der(one.raw_serial()),
            at: one.revocation_date.to_datetime().into(),
            reason: one
                .reason_code()
                .map_or(Reason::Unspecified, |(_, code)| code.into()),
        });
        let mut this = Self {
            issuer_der: list.issuer().as_raw().into(),
            number: list.crl_number().and_then(|number| number.try_into().ok()),
            this_update: list.last_update().to_datetime().into(),
            next_update: list.next_update().map(|at| at.to_datetime().into()),
            revoked: revoked.collect(),
            der: Vec::new(),
        };
        this.der = der;
        Ok(this)
    }

    /// Whether `authority` signed this.
    pub fn is_signed_by(&self, authority: &Certificate) -> bool {
        let (Ok((_, list)), Ok((_, by))) = (
            CertificateRevocationList::from_der(&self.der),
            X509Certificate::from_der(authority.der()),
        ) else {
            return false;
        };
        self.issuer_der == authority.subject_der() && list.verify_signature(by.public_key()).is_ok()
    }
}

impl From<ReasonCode> for Reason {
    fn from(code: ReasonCode) -> Self {
        match code {
            ReasonCode::KeyCompromise => Self::KeyCompromise,
            ReasonCode::Superseded => Self::Superseded,
            ReasonCode::CessationOfOperation => Self::CessationOfOperation,
            ReasonCode::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
            _ => Self::Unspecified,
        }
    }
}

impl From<Reason> for rcgen::RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::KeyCompromise => Self::KeyCompromise,
            Reason::Superseded => Self::Superseded,
            Reason::CessationOfOperation => Self::CessationOfOperation,
            Reason::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::tests as made;
    use crate::clock::ValidityPeriod;
    use proptest::prelude::*;

    fn list(revoked: &[Revoked]) -> String {
        let ca = &made::SHARED;
        let validity = ValidityPeriod::new(None, 10, Moment::now());
        ca.sign_crl(revoked, 7, validity).unwrap()
    }

    fn revoked(reason: Reason) -> Revoked {
        Revoked {
            serial: Serial::random().unwrap(),
            at: Moment::now(),
            reason,
        }
    }

    #[test]
    fn a_list_comes_back_as_it_was_signed() {
        assert_eq!(
            RevocationList::parse_all(&list(&[])).unwrap()[0].revoked,
            []
        );
        let all: Vec<Revoked> = Reason::value_variants()
            .iter()
            .map(|reason| revoked(*reason))
            .collect();
        let [crl] = &RevocationList::parse_all(&list(&all)).unwrap()[..] else {
            panic!("one list was signed");
        };
        assert_eq!(crl.revoked, all);
        assert_eq!(crl.number, Some(7));
        assert!(crl.this_update < Moment::now() && crl.next_update > Some(Moment::now()));
        assert!(crl.is_signed_by(made::SHARED.certificate()));
        assert!(!crl.is_signed_by(made::authority().certificate()));
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let text = list(&[revoked(Reason::KeyCompromise)]);
            let good = pem_blocks(&text, "X509 CRL").unwrap().remove(0);
            let mut der = good.clone();
            let at = at.index(der.len());
            der[at] = with;
            if let Ok(crl) = RevocationList::from_der(der.clone()) {
                let original = RevocationList { der: der.clone(), ..RevocationList::from_der(good).unwrap() };
                prop_assert!(crl == original || !crl.is_signed_by(made::SHARED.certificate()));
            }
            der.truncate(cut.index(der.len()));
            prop_assert!(RevocationList::from_der(der).is_err());
        }
    }
}
