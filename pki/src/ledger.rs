//! The CA's ledger: every certificate it issued, which of them are revoked, and how many lists it signed.
//!
//! A holder's file shows only the newest certificate, while earlier ones stay valid until they end; revoking a holder
//! has to find them all. The file is `certs/ledger.json`. It is written before the certificate or list that it
//! records, so that it is always complete.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::PkiError;
use crate::certificate::Certificate;
use crate::clock::Moment;
use crate::holder::Holder;
use crate::home;
use crate::revocation_list::{Reason, RevocationList, Revoked};
use crate::serial::Serial;

const WHAT: &str = "the CA's ledger";

/// The only version there is.
const VERSION: u32 = 1;

/// What a CA issued and revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    version: u32,
    /// The number of the last list that each CA signed, by the CA's key id.
    crl_numbers: BTreeMap<String, u64>,
    issued: Vec<LedgerEntry>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// Its number.
    pub serial: Serial,
    /// Who signed it: the CA's key id.
    pub authority: String,
    /// Its holder; none if it is known from a revocation list only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// When it expires; none if it is known from a revocation list only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Moment>,
    /// Whether and since when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// When and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When.
    pub at: Moment,
    /// Why.
    pub reason: Reason,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: VERSION,
            crl_numbers: BTreeMap::new(),
            issued: Vec::new(),
        }
    }
}

impl Ledger {
    /// Reads the file; an empty ledger if it is not there.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Self, PkiError> {
        match home::read_text(path, WHAT)? {
            Some(text) => Self::parse(&text).map_err(|why| {
                let fix = "restore it from a backup, or move it away: revocations are then read from ca.crl, and \
                            earlier certificates can be revoked with --serial";
                PkiError::form(path, WHAT, format!("{why}; {fix}"))
            }),
            None => Ok(Self::default()),
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let ledger: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match ledger.version {
            VERSION => Ok(ledger),
            other => Err(format!(
                "it has version {other}, and this program supports {VERSION} only"
            )),
        }
    }

    /// The text of its file.
    pub fn to_file(&self) -> String {
        // Strings, numbers and lists of them cannot fail to be JSON.
        serde_json::to_string_pretty(self).expect("a ledger is always JSON") + "\n"
    }

    /// Remembers a certificate; one that is known already stays as it is.
    pub fn add(&mut self, holder: &Holder, certificate: &Certificate, authority: &Certificate) {
        let authority = authority.authority_id();
        if self.find(&authority, &certificate.serial).is_none() {
            self.issued.push(LedgerEntry {
                serial: certificate.serial.clone(),
                authority,
                holder: Some(holder.clone()),
                not_after: Some(certificate.not_after),
                revoked: None,
            });
        }
    }

    /// Adds the revocations and the number of a list that `authority` signed.
    pub fn learn(&mut self, list: &RevocationList, authority: &Certificate) {
        let id = authority.authority_id();
        let number = self.crl_numbers.entry(id.clone()).or_default();
        *number = (*number).max(list.number.unwrap_or(0));
        for one in &list.revoked {
            let revocation = Revocation {
                at: one.at,
                reason: one.reason,
            };
            match self.find(&id, &one.serial) {
                Some(entry) => drop(entry.revoked.get_or_insert(revocation)),
                None => self.revoke_unknown(&one.serial, authority, revocation),
            }
        }
    }

    /// Records a revoked certificate of which nothing else is known.
    pub fn revoke_unknown(
        &mut self,
        serial: &Serial,
        authority: &Certificate,
        revocation: Revocation,
    ) {
        self.issued.push(LedgerEntry {
            serial: serial.clone(),
            authority: authority.authority_id(),
            holder: None,
            not_after: None,
            revoked: Some(revocation),
        });
    }

    /// The number for the next list of a CA, which counts as used from now on.
    pub fn next_number(&mut self, authority: &Certificate) -> u64 {
        let number = self
            .crl_numbers
            .entry(authority.authority_id())
            .or_default();
        *number = number.saturating_add(1);
        *number
    }

    /// Everything that is known of certificates, oldest first.
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.issued
    }

    /// The same, to change.
    pub fn entries_mut(&mut self) -> &mut [LedgerEntry] {
        &mut self.issued
    }

    /// What the revocation list of a CA must say.
    pub fn revoked_by(&self, authority: &Certificate) -> Vec<Revoked> {
        let id = authority.authority_id();
        let own = self.issued.iter().filter(|entry| entry.authority == id);
        own.filter_map(|entry| {
            let Revocation { at, reason } = entry.revoked?;
            Some(Revoked {
                serial: entry.serial.clone(),
                at,
                reason,
            })
        })
        .collect()
    }

    /// Removes the records of a CA that is no longer trusted.
    pub fn forget(&mut self, authority: &Certificate) {
        let id = authority.authority_id();
        self.crl_numbers.remove(&id);
        self.issued.retain(|entry| entry.authority != id);
    }

    fn find(&mut self, authority: &str, serial: &Serial) -> Option<&mut LedgerEntry> {
        let mut all = self.issued.iter_mut();
        all.find(|entry| entry.serial == *serial && entry.authority == authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::tests as made;
    use crate::clock::ValidityPeriod;
    use crate::holder::HolderKind;
    use proptest::prelude::*;

    fn filled() -> Ledger {
        let ca = &made::SHARED;
        let holder = Holder::new(HolderKind::Client, "canary".parse().unwrap()).unwrap();
        let validity = ValidityPeriod::new(None, 5, Moment::now());
        let issued = ca.issue(&holder, &[], validity).unwrap();
        let mut ledger = Ledger::default();
        ledger.add(&holder, &issued.certificate, ca.certificate());
        ledger.add(&holder, &issued.certificate, ca.certificate());
        assert_eq!(ledger.entries().len(), 1, "a certificate is added once");
        ledger
    }

    #[test]
    fn a_ledger_comes_back_from_its_file() {
        let mut ledger = filled();
        ledger.next_number(made::SHARED.certificate());
        assert_eq!(Ledger::parse(&ledger.to_file()), Ok(ledger.clone()));
        let newer = ledger.to_file().replace("\"version\": 1", "\"version\": 2");
        assert!(Ledger::parse(&newer).unwrap_err().contains("version 2"));
    }

    #[test]
    fn a_lost_ledger_learns_its_revocations_back_from_the_list() {
        let ca = &made::SHARED;
        let mut ledger = filled();
        ledger.entries_mut()[0].revoked = Some(Revocation {
            at: Moment::now(),
            reason: Reason::KeyCompromise,
        });
        let revoked = ledger.revoked_by(ca.certificate());
        let text = ca
            .sign_crl(&revoked, 41, ValidityPeriod::new(None, 5, Moment::now()))
            .unwrap();
        let mut fresh = Ledger::default();
        fresh.learn(
            &RevocationList::parse_all(&text).unwrap()[0],
            ca.certificate(),
        );
        assert_eq!(fresh.revoked_by(ca.certificate()), revoked);
        assert_eq!(fresh.next_number(ca.certificate()), 42);
        fresh.forget(ca.certificate());
        assert_eq!(fresh, Ledger::default());
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), with in any::<char>(), cut in any::<prop::sample::Index>()) {
            let text = filled().to_file();
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            chars[at] = with;
            let _ = Ledger::parse(&chars.iter().collect::<String>());
            let cut = cut.index(text.trim_end().len());
            prop_assert!(Ledger::parse(&text[..cut]).is_err());
        }
    }
}
