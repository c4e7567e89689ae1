//! Whether the files in the home are valid: what every host can check, with or without the CA's key.

use std::fmt;

use crate::PkiError;
use crate::authority::is_key_of;
use crate::certificate::Certificate;
use crate::clock::Moment;
use crate::holder::{Holder, HolderKind};
use crate::home::PkiHome;
use crate::ledger::Ledger;
use crate::revocation_list::RevocationList;

/// The trusted CAs, and what is revoked.
pub struct Trust {
    /// The CA that signs now, then the former one while they overlap.
    pub authorities: Vec<Certificate>,
    /// Their revocation lists, as far as they are there; each is signed by one of them.
    pub lists: Vec<RevocationList>,
    revoked: Ledger,
}

/// The state of a holder's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateState {
    /// Usable now, or from its first moment on.
    Good,
    /// Usable now, and signed by the former CA.
    FormerCa,
    /// No files.
    Missing,
    /// The certificate is there without its key.
    NoKey,
    /// The key is there without a certificate.
    NoCertificate,
    /// The key is another certificate's.
    KeyDiffers,
    /// One of the files cannot be used.
    Damaged(String),
    /// Signed by none of the trusted CAs.
    Foreign,
    /// It is for the other side of TLS, or for another name.
    WrongUse,
    /// Its first moment has not come.
    NotYet,
    /// Its last moment is past.
    Expired,
    /// It is revoked.
    Revoked,
}

/// A holder's files, assessment.
pub struct Assessment {
    /// Whose.
    pub holder: Holder,
    /// The certificate, where there is one that can be read.
    pub certificate: Option<Certificate>,
    /// Their state.
    pub state: CertificateState,
}

impl Trust {
    /// Reads ca.crt, ca.crl and, where the CA lives, the ledger.
    ///
    /// # Errors
    /// If there is no CA, or one of the files cannot be used.
    pub fn read(home: &PkiHome) -> Result<Self, PkiError> {
        let path = home.authorities();
        let Some(authorities) = Certificate::read_all(&path)? else {
            return Err(PkiError::NoAuthority {
                folder: home.certs(),
                missing: path,
            });
        };
        if let Some(other) = authorities
            .iter()
            .find(|ca| !ca.is_ca || !ca.is_signed_by(ca))
        {
            let why = format!(
                "`{}` in it is not a self-signed CA certificate",
                other.subject
            );
            return Err(PkiError::form(&path, "a list of CAs", why));
        }
        let mut revoked = Ledger::read(&home.ledger())?;
        let mut lists = RevocationList::read_all(&home.crl())?;
        lists.retain(|list| {
            let signer = authorities.iter().find(|ca| list.is_signed_by(ca));
            signer.inspect(|ca| revoked.learn(list, ca)).is_some()
        });
        Ok(Self {
            authorities,
            lists,
            revoked,
        })
    }

    /// Of a CA that has issued nothing yet.
    pub(crate) fn of_new_ca(authority: Certificate) -> Self {
        Self {
            authorities: vec![authority],
            lists: Vec::new(),
            revoked: Ledger::default(),
        }
    }

    /// The ledger, with all revocations of the lists.
    pub fn ledger(&self) -> &Ledger {
        &self.revoked
    }

    /// Which of our CAs signed a certificate.
    pub fn signer(&self, certificate: &Certificate) -> Option<&Certificate> {
        self.authorities
            .iter()
            .find(|ca| certificate.is_signed_by(ca))
    }

    /// The list of a CA.
    pub fn list_of(&self, authority: &Certificate) -> Option<&RevocationList> {
        self.lists.iter().find(|list| list.is_signed_by(authority))
    }

    /// Whether a certificate that one of our CAs signed is revoked.
    fn is_revoked(&self, certificate: &Certificate, signer: &Certificate) -> bool {
        let revoked = self.revoked.revoked_by(signer);
        revoked.iter().any(|one| one.serial == certificate.serial)
    }

    /// Assesses a holder's files.
    ///
    /// # Errors
    /// If other users can read the key: fix that first.
    pub fn assess(
        &self,
        home: &PkiHome,
        holder: &Holder,
        now: Moment,
    ) -> Result<Assessment, PkiError> {
        let assessment = |certificate, state| Assessment {
            holder: holder.clone(),
            certificate,
            state,
        };
        let key = home.key(holder);
        let certificate = match Certificate::read(&home.certificate(holder)) {
            Ok(Some(certificate)) => certificate,
            Ok(None) if key.exists() => {
                return Ok(assessment(None, CertificateState::NoCertificate));
            }
            Ok(None) => return Ok(assessment(None, CertificateState::Missing)),
            Err(error) => {
                return Ok(assessment(
                    None,
                    CertificateState::Damaged(error.to_string()),
                ));
            }
        };
        let state = match is_key_of(&key, &certificate) {
            Ok(Some(true)) => self.judge_certificate(holder, &certificate, now),
            Ok(Some(false)) => CertificateState::KeyDiffers,
            Ok(None) => CertificateState::NoKey,
            Err(error @ PkiError::Form { .. }) => CertificateState::Damaged(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(assessment(Some(certificate), state))
    }

    fn judge_certificate(
        &self,
        holder: &Holder,
        certificate: &Certificate,
        now: Moment,
    ) -> CertificateState {
        let usage = match holder.kind {
            HolderKind::Server => "serverAuth",
            HolderKind::Client => "clientAuth",
        };
        match self.signer(certificate) {
            None => CertificateState::Foreign,
            Some(signer) if self.is_revoked(certificate, signer) => CertificateState::Revoked,
            Some(_) if certificate.not_after < now => CertificateState::Expired,
            Some(_)
                if certificate.usages != [usage]
                    || certificate.common_name != holder.name.as_str() =>
            {
                CertificateState::WrongUse
            }
            Some(_) if certificate.not_before > now => CertificateState::NotYet,
            Some(signer) if self.authorities.first() == Some(signer) => CertificateState::Good,
            Some(_) => CertificateState::FormerCa,
        }
    }
}

impl CertificateState {
    /// Whether a host can work with these files.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Good | Self::FormerCa | Self::NotYet)
    }
}

impl fmt::Display for CertificateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::FormerCa => "good, by the former CA",
            Self::Missing => "missing",
            Self::NoKey => "the key is missing",
            Self::NoCertificate => "the certificate is missing",
            Self::KeyDiffers => "the key is another certificate's",
            Self::Damaged(_) => "damaged",
            Self::Foreign => "not signed by this CA",
            Self::WrongUse => "for another use or name",
            Self::NotYet => "not yet valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}
