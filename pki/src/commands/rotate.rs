//! `rotate-ca`: a new CA, and a time in which both are trusted.

use super::Site;
use crate::PkiError;
use crate::args::RotateArgs;
use crate::authority::{Authority, CA_DAYS, CRL_DAYS};
use crate::certificate::Certificate;
use crate::changes::Changes;
use crate::clock::Validity;
use crate::office::Office;
use crate::trust::State;

pub(crate) fn run(site: &mut Site, args: &RotateArgs) -> Result<(), PkiError> {
    let office = site.office()?;
    match args.finish {
        true => finish(site, args, office),
        false => begin(site, args, office),
    }
}

fn begin(site: &mut Site, args: &RotateArgs, office: Office) -> Result<(), PkiError> {
    if let Some(former) = office.former() {
        return Err(PkiError::Refused(format!(
            "`{}` is being replaced already; when every host has its new certificates: sanctum-pki rotate-ca --finish",
            former.certificate().common_name
        )));
    }
    let days = args.validity.days.unwrap_or(CA_DAYS);
    let validity = Validity::new(args.validity.not_before, days, site.now);
    let successor = Authority::create(&site.fleet_name(), validity)?;
    let (old, new) = (office.authority().certificate(), successor.certificate());
    site.say(format_args!(
        "{}`{}` signs from now on, until {}; `{}` is trusted beside it",
        site.would(),
        new.common_name,
        new.not_after,
        old.common_name
    ))?;
    site.say("next: bundle and deliver to every host; then `renew --all`, bundle and deliver; then `rotate-ca --finish`")?;

    // The order keeps the former key safe before its place is taken, and lets nothing be trusted before it has a list.
    let mut changes = Changes::default();
    changes.secret(site.home.former_authority_key(), secret(office.authority()));
    changes.public(site.home.former_authority(), old.pem());
    let mut office = office.succeed(successor);
    office.sign_lists(CRL_DAYS, site.now)?;
    let key = secret(office.authority());
    let trusted = office.authorities_pem();
    let (own, _lock) = office.into_changes();
    changes.then(own);
    changes.secret(site.home.authority_key(), key);
    changes.public(site.home.authorities(), trusted);
    site.finish(changes)
}

fn finish(site: &mut Site, args: &RotateArgs, mut office: Office) -> Result<(), PkiError> {
    let Some(former) = office.former().map(|ca| ca.certificate().clone()) else {
        return Err(PkiError::Refused(
            "no CA is being replaced; `sanctum-pki rotate-ca` begins it".into(),
        ));
    };
    let left = still_used(site, &office, &former)?;
    if !left.is_empty() && !args.force {
        return Err(PkiError::Refused(format!(
            "the former CA's certificates are still in use: {}; `sanctum-pki renew --all` replaces them (and they must \
             have reached their hosts), --force gives them up",
            left.join(", ")
        )));
    }
    site.say(format_args!(
        "{}`{}` is trusted no longer, and its key is removed; bundle and deliver to every host",
        site.would(),
        former.common_name
    ))?;
    office.dismiss_former();
    office.sign_lists(CRL_DAYS, site.now)?;
    let trusted = office.authorities_pem();
    let (own, _lock) = office.into_changes();
    let mut changes = Changes::default();
    changes.public(site.home.authorities(), trusted);
    changes.then(own);
    changes.remove(site.home.former_authority_key());
    changes.remove(site.home.former_authority());
    site.finish(changes)
}

/// Holders that would be locked out.
fn still_used(site: &Site, office: &Office, former: &Certificate) -> Result<Vec<String>, PkiError> {
    let mut left = Vec::new();
    for holder in site.home.holders()? {
        let judged = office.trust.judge(&site.home, &holder, site.now)?;
        let former = judged.certificate.is_some_and(|it| it.is_signed_by(former));
        if former && !matches!(judged.state, State::Revoked | State::Expired) {
            left.push(holder.to_string());
        }
    }
    Ok(left)
}

fn secret(authority: &Authority) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(authority.key_pem().as_bytes().to_vec())
}
