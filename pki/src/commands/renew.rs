//! `renew`: new certificates, with new keys, for those who have one.
//!
//! The key is new each time, so that a copy of it that somebody made unnoticed dies with its certificate. The price is
//! that two files change, and a reader may for a moment see one of them changed (see [`crate::changes`]).

use sanctum_config::did_you_mean;

use super::Site;
use crate::PkiError;
use crate::args::RenewArgs;
use crate::clock::Validity;
use crate::holder::Holder;
use crate::office::default_days;
use crate::trust::{Judged, State};

pub(crate) fn run(site: &mut Site, args: &RenewArgs) -> Result<(), PkiError> {
    let mut office = site.office()?;
    let holders = site.home.holders()?;
    for name in &args.names {
        if !holders.iter().any(|holder| holder.name == *name) {
            return Err(PkiError::Unknown {
                what: "there is no certificate to renew for",
                name: name.to_string(),
                near: did_you_mean(
                    name.as_str(),
                    holders.iter().map(|holder| holder.name.as_str()),
                ),
            });
        }
    }
    let meant = |holder: &&Holder| args.all || args.names.contains(&holder.name);
    for holder in holders.iter().filter(meant) {
        let judged = office.trust.judge(&site.home, holder, site.now)?;
        if let Some(why) = reason_to_leave(site, args, &judged)? {
            site.say(format_args!("{}{holder}: left ({why})", site.would()))?;
            continue;
        }
        let sans = judged
            .certificate
            .map(|certificate| certificate.sans)
            .unwrap_or_default();
        let days = args.validity.days.unwrap_or(default_days(holder.kind));
        let validity = Validity::new(args.validity.not_before, days, site.now);
        let certificate = office.issue(holder, &sans, validity)?;
        site.say(format_args!(
            "{}{holder}: issued anew, until {}",
            site.would(),
            certificate.not_after.date()
        ))?;
    }
    if office.keep_lists_fresh(site.now)? {
        site.say(format_args!(
            "{}the revocation list was signed anew",
            site.would()
        ))?;
    }
    site.close(office)
}

/// Why a certificate is not renewed; none if it is. Who names it gets it or an error.
fn reason_to_leave(
    site: &Site,
    args: &RenewArgs,
    judged: &Judged,
) -> Result<Option<String>, PkiError> {
    let holder = &judged.holder;
    let again = format!("issue it afresh: sanctum-pki {holder} --force");
    let broken = match (&judged.certificate, &judged.state) {
        (None, State::Damaged(why)) => Some(why.clone()),
        (None, state) => Some(format!("{state}; {again}")),
        (_, state @ State::WrongUse) => Some(format!("its certificate is {state}; {again}")),
        (_, State::Foreign) if args.all => Some(format!(
            "not signed by our CA; if it is to be: sanctum-pki renew {}",
            holder.name
        )),
        (_, State::Revoked) if args.all => Some(format!(
            "revoked; to let it in again: sanctum-pki renew {}",
            holder.name
        )),
        _ => None,
    };
    match (broken, args.all) {
        (Some(why), true) => return Ok(Some(why)),
        (Some(why), false) => {
            return Err(PkiError::Refused(format!(
                "{holder} cannot be renewed: {why}"
            )));
        }
        (None, _) => {}
    }
    let left = judged
        .certificate
        .as_ref()
        .map(|it| site.now.days_until(it.not_after));
    Ok(match (args.within, left) {
        (Some(within), Some(left)) if judged.state == State::Good && left >= within.0.into() => {
            Some(format!("{left} days left"))
        }
        _ => None,
    })
}
