//! `revoke` and `crl`: the revocation list.

use sanctum_config::{Label, did_you_mean};

use super::Site;
use crate::PkiError;
use crate::args::{CrlArgs, RevokeArgs};
use crate::authority::CRL_DAYS;
use crate::ledger::{Entry, Revocation};
use crate::office::Office;
use crate::serial::Serial;

pub(crate) fn run(site: &mut Site, args: &RevokeArgs) -> Result<(), PkiError> {
    let mut office = site.office()?;
    let revocation = Revocation {
        at: site.now,
        reason: args.reason,
    };
    match (&args.name, &args.serial) {
        (Some(name), _) => by_name(site, &mut office, name, revocation)?,
        (None, Some(serial)) => by_serial(site, &mut office, serial, revocation)?,
        (None, None) => {}
    }
    sign(site, office, CRL_DAYS)
}

pub(crate) fn refresh(site: &mut Site, args: &CrlArgs) -> Result<(), PkiError> {
    let office = site.office()?;
    sign(site, office, args.days)
}

/// Signs the lists and writes all.
fn sign(site: &mut Site, mut office: Office, days: u32) -> Result<(), PkiError> {
    office.sign_lists(days, site.now)?;
    site.say(format_args!(
        "{}{} is signed anew, for {days} days; take it to every host that has a server",
        site.would(),
        site.home.crl().display()
    ))?;
    site.close(office)
}

fn by_name(
    site: &mut Site,
    office: &mut Office,
    name: &Label,
    with: Revocation,
) -> Result<(), PkiError> {
    let now = site.now;
    let entries = office.issued()?;
    let named = |entry: &Entry| {
        entry
            .holder
            .as_ref()
            .is_some_and(|holder| holder.name == *name)
    };
    if !entries.iter().any(named) {
        let known = entries.iter().filter_map(|entry| entry.holder.as_ref());
        return Err(PkiError::Unknown {
            what: "nothing was ever issued to",
            near: did_you_mean(name.as_str(), known.map(|holder| holder.name.as_str())),
            name: name.to_string(),
        });
    }
    let mut lines = Vec::new();
    for entry in entries.iter_mut().filter(|entry| named(entry)) {
        let became = match (entry.revoked, entry.not_after) {
            (Some(since), _) => format!("was revoked already, {}", since.at),
            (None, Some(end)) if end < now => format!("is expired, {end}: nothing to revoke"),
            _ => {
                entry.revoked = Some(with);
                "is revoked".into()
            }
        };
        lines.push(format!("{name}: certificate {} {became}", entry.serial));
    }
    lines
        .into_iter()
        .try_for_each(|line| site.say(format_args!("{}{line}", site.would())))
}

fn by_serial(
    site: &mut Site,
    office: &mut Office,
    serial: &Serial,
    with: Revocation,
) -> Result<(), PkiError> {
    let mut hits = 0;
    for entry in office
        .issued()?
        .iter_mut()
        .filter(|entry| entry.serial == *serial)
    {
        entry.revoked.get_or_insert(with);
        hits += 1;
    }
    let known = match hits {
        0 => {
            office.revoke_unknown(serial, with);
            ", although nothing is known of it here"
        }
        _ => "",
    };
    site.say(format_args!(
        "{}certificate {serial} is revoked{known}",
        site.would()
    ))
}
