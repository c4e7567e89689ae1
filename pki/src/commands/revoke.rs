//! `revoke` and `crl`: the revocation list.

use sanctum_config::{Label, did_you_mean};

use super::CommandContext;
use crate::PkiError;
use crate::args::{CrlArgs, RevokeArgs};
use crate::authority::CRL_DAYS;
use crate::ca_session::CaSession;
use crate::ledger::{LedgerEntry, Revocation};
use crate::serial::Serial;

pub(crate) fn run(context: &mut CommandContext, args: &RevokeArgs) -> Result<(), PkiError> {
    let mut ca = context.open_ca()?;
    let revocation = Revocation {
        at: context.now,
        reason: args.reason,
    };
    match (&args.name, &args.serial) {
        (Some(name), _) => by_name(context, &mut ca, name, revocation)?,
        (None, Some(serial)) => by_serial(context, &mut ca, serial, revocation)?,
        (None, None) => {}
    }
    sign(context, ca, CRL_DAYS)
}

pub(crate) fn refresh(context: &mut CommandContext, args: &CrlArgs) -> Result<(), PkiError> {
    let ca = context.open_ca()?;
    sign(context, ca, args.days)
}

/// Signs the lists and writes all changes.
fn sign(context: &mut CommandContext, mut ca: CaSession, days: u32) -> Result<(), PkiError> {
    ca.sign_lists(days, context.now)?;
    context.say(format_args!(
        "{}{} is signed for {days} days; copy it to every host that has a server",
        context.would(),
        context.home.crl().display()
    ))?;
    context.close(ca)
}

fn by_name(
    context: &mut CommandContext,
    ca: &mut CaSession,
    name: &Label,
    with: Revocation,
) -> Result<(), PkiError> {
    let now = context.now;
    let entries = ca.issued()?;
    let named = |entry: &LedgerEntry| {
        entry
            .holder
            .as_ref()
            .is_some_and(|holder| holder.name == *name)
    };
    if !entries.iter().any(named) {
        let known = entries.iter().filter_map(|entry| entry.holder.as_ref());
        return Err(PkiError::Unknown {
            what: "no certificate was issued to",
            near: did_you_mean(name.as_str(), known.map(|holder| holder.name.as_str())),
            name: name.to_string(),
        });
    }
    let mut lines = Vec::new();
    for entry in entries.iter_mut().filter(|entry| named(entry)) {
        let became = match (entry.revoked, entry.not_after) {
            (Some(since), _) => format!("was already revoked at {}", since.at),
            (None, Some(end)) if end < now => format!("expired at {end}: nothing to revoke"),
            _ => {
                entry.revoked = Some(with);
                "is revoked".into()
            }
        };
        lines.push(format!("{name}: certificate {} {became}", entry.serial));
    }
    lines
        .into_iter()
        .try_for_each(|line| context.say(format_args!("{}{line}", context.would())))
}

fn by_serial(
    context: &mut CommandContext,
    ca: &mut CaSession,
    serial: &Serial,
    with: Revocation,
) -> Result<(), PkiError> {
    let mut hits = 0;
    for entry in ca
        .issued()?
        .iter_mut()
        .filter(|entry| entry.serial == *serial)
    {
        entry.revoked.get_or_insert(with);
        hits += 1;
    }
    let known = match hits {
        0 => {
            ca.revoke_unknown(serial, with);
            ", although the ledger does not have it"
        }
        _ => "",
    };
    context.say(format_args!(
        "{}certificate {serial} is revoked{known}",
        context.would()
    ))
}
