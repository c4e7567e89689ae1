//! The CA for one command: what it issues and revokes, and the files that it writes.

use std::path::Path;

use sanctum_config::{FileLock, atomic};

use crate::PkiError;
use crate::authority::{Authority, CLIENT_DAYS, CRL_DAYS, Issued, SERVER_DAYS};
use crate::certificate::Certificate;
use crate::changes::Changes;
use crate::clock::{Moment, ValidityPeriod};
use crate::holder::{Holder, HolderKind};
use crate::home::PkiHome;
use crate::ledger::{Ledger, LedgerEntry, Revocation};
use crate::san::San;
use crate::serial::Serial;
use crate::trust::Trust;

/// The CA with its key, its ledger and the changes of one command.
pub struct CaSession {
    home: PkiHome,
    /// Signs.
    authority: Authority,
    /// Signs its own revocation list, while it overlaps with the other.
    former: Option<Authority>,
    /// What was trusted and revoked when the session was opened.
    pub trust: Trust,
    ledger: Ledger,
    pairs: Changes,
    lists: Changes,
    lock: Option<FileLock>,
}

impl CaSession {
    /// Opens the CA in `home`. Waits while another command writes, except in a dry run.
    ///
    /// # Errors
    /// If there is no CA or its key is not here, or a file cannot be used.
    pub fn open(home: &PkiHome, dry_run: bool) -> Result<Self, PkiError> {
        let lock = if dry_run { None } else { lock(home)? };
        let trust = Trust::read(home)?;
        let no_key = || PkiError::NoAuthority {
            folder: home.certs(),
            missing: home.authority_key(),
        };
        let current = trust.authorities.first().cloned().ok_or_else(no_key)?;
        let authority = Authority::load(current, &home.authority_key())?.ok_or_else(no_key)?;
        let former = Self::load_former(home, &trust)?;
        Ok(Self {
            home: home.clone(),
            authority,
            former,
            ledger: trust.ledger().clone(),
            trust,
            pairs: Changes::default(),
            lists: Changes::default(),
            lock,
        })
    }

    /// A new CA, which has issued nothing yet.
    ///
    /// # Errors
    /// If its folder cannot be created.
    pub fn create(home: &PkiHome, authority: Authority, dry_run: bool) -> Result<Self, PkiError> {
        if !dry_run {
            let folder = home.certs();
            atomic::folder_for_owner(&folder).map_err(|error| PkiError::write(&folder, error))?;
        }
        let lock = if dry_run { None } else { lock(home)? };
        Ok(Self {
            home: home.clone(),
            trust: Trust::of_new_ca(authority.certificate().clone()),
            authority,
            former: None,
            ledger: Ledger::default(),
            pairs: Changes::default(),
            lists: Changes::default(),
            lock,
        })
    }

    /// The CA before this one, if two overlap. Without its key its list could not be signed, and what it revoked would
    /// be forgotten.
    fn load_former(home: &PkiHome, trust: &Trust) -> Result<Option<Authority>, PkiError> {
        let gone = |path: &Path| {
            PkiError::Refused(format!(
                "two CAs overlap and {} is missing, so the former CA's revocation list cannot be signed; restore it \
                 from a backup",
                path.display()
            ))
        };
        match Certificate::read(&home.former_authority())? {
            // A rotation that was interrupted before it had changed anything.
            Some(former) if trust.authorities.first() == Some(&former) => Ok(None),
            Some(former) => {
                let key = home.former_authority_key();
                Authority::load(former, &key)?
                    .map(Some)
                    .ok_or_else(|| gone(&key))
            }
            None if trust.authorities.len() > 1 => Err(gone(&home.former_authority())),
            None => Ok(None),
        }
    }

    /// The CA that signs.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The CA before it, while they overlap.
    pub fn former(&self) -> Option<&Authority> {
        self.former.as_ref()
    }

    /// Refuses a name that a holder of the other kind has: `renew NAME` and `revoke NAME` would mean both.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn check_name(&self, holder: &Holder) -> Result<(), PkiError> {
        let other = holder.counterpart();
        match self.home.certificate(&other).exists() {
            false => Ok(()),
            true => Err(PkiError::NameTaken {
                name: holder.name.to_string(),
                why: format!("{other} exists; choose another name"),
            }),
        }
    }

    /// Issues a certificate with a new key, to be written at the end of the command.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue(
        &mut self,
        holder: &Holder,
        sans: &[San],
        validity: ValidityPeriod,
    ) -> Result<Certificate, PkiError> {
        let Issued { certificate, key } = self.authority.issue(holder, sans, validity)?;
        self.ledger
            .add(holder, &certificate, self.authority.certificate());
        let key = zeroize::Zeroizing::new(key.as_bytes().to_vec());
        self.pairs.secret(self.home.key(holder), key);
        self.pairs
            .public(self.home.certificate(holder), certificate.pem());
        Ok(certificate)
    }

    /// The issued certificates, to mark some of them as revoked. Includes certificates in files that are missing from the
    /// ledger.
    ///
    /// # Errors
    /// If the files cannot be listed.
    pub fn issued(&mut self) -> Result<&mut [LedgerEntry], PkiError> {
        for holder in self.home.holders()? {
            // A damaged file has no serial number; `list` shows it.
            if let Ok(Some(certificate)) = Certificate::read(&self.home.certificate(&holder))
                && let Some(signer) = self.trust.signer(&certificate)
            {
                self.ledger.add(&holder, &certificate, signer);
            }
        }
        Ok(self.ledger.entries_mut())
    }

    /// Marks a serial number as revoked that is in no ledger and no file. Its CA is unknown too, so every CA's list will have
    /// it.
    pub fn revoke_unknown(&mut self, serial: &Serial, revocation: Revocation) {
        for ca in [Some(&self.authority), self.former.as_ref()]
            .into_iter()
            .flatten()
        {
            self.ledger
                .revoke_unknown(serial, ca.certificate(), revocation);
        }
    }

    /// Signs the revocation lists again.
    ///
    /// # Errors
    /// If a CA has expired.
    pub fn sign_lists(&mut self, days: u32, now: Moment) -> Result<(), PkiError> {
        let validity = ValidityPeriod::new(None, days, now);
        let mut text = String::new();
        for ca in [Some(&self.authority), self.former.as_ref()]
            .into_iter()
            .flatten()
        {
            let revoked = self.ledger.revoked_by(ca.certificate());
            let number = self.ledger.next_number(ca.certificate());
            text += &ca.sign_crl(&revoked, number, validity)?;
        }
        self.lists = Changes::default();
        self.lists.public(self.home.crl(), text);
        Ok(())
    }

    /// Signs the revocation lists again if less than half of their time is left, or one is missing. Returns whether it did.
    ///
    /// # Errors
    /// As [`CaSession::sign_lists`].
    pub fn keep_lists_fresh(&mut self, now: Moment) -> Result<bool, PkiError> {
        let half = now.plus(CRL_DAYS / 2);
        let fresh = |ca: &Authority| {
            let list = self.trust.list_of(ca.certificate());
            list.is_some_and(|list| list.next_update.is_some_and(|end| end > half))
        };
        let stale = !(fresh(&self.authority) && self.former.as_ref().is_none_or(fresh));
        if stale {
            self.sign_lists(CRL_DAYS, now)?;
        }
        Ok(stale)
    }

    /// All files to write: the ledger first, so that it never lacks a certificate that exists.
    pub fn into_changes(self) -> (Changes, Option<FileLock>) {
        let mut changes = Changes::default();
        if self.ledger != *self.trust.ledger() || !self.home.ledger().exists() {
            changes.public(self.home.ledger(), self.ledger.to_file());
        }
        changes.then(self.lists);
        changes.then(self.pairs);
        (changes, self.lock)
    }

    /// Replaces the CA by a new one; it becomes the former CA.
    pub fn succeed(self, successor: Authority) -> Self {
        Self {
            former: Some(self.authority),
            authority: successor,
            ..self
        }
    }

    /// Removes the former CA.
    pub fn dismiss_former(&mut self) {
        if let Some(former) = self.former.take() {
            self.ledger.forget(former.certificate());
        }
    }

    /// The text of ca.crt: the CA that signs, then the former one.
    pub fn authorities_pem(&self) -> String {
        let all = [Some(&self.authority), self.former.as_ref()]
            .into_iter()
            .flatten();
        all.map(|ca| ca.certificate().pem()).collect()
    }
}

/// The default lifetime of a certificate, in days.
pub fn default_days(kind: HolderKind) -> u32 {
    match kind {
        HolderKind::Server => SERVER_DAYS,
        HolderKind::Client => CLIENT_DAYS,
    }
}

/// Waits for other commands that write; none if there is no folder to lock yet.
fn lock(home: &PkiHome) -> Result<Option<FileLock>, PkiError> {
    let path = home.lock();
    if !home.certs().is_dir() {
        return Ok(None);
    }
    let lock = FileLock::wait(&path).map_err(|error| PkiError::write(&path, error))?;
    Ok(Some(lock))
}
