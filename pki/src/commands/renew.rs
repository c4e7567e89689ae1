//! `renew`: new certificates, with new keys, for holders that have one.
//!
//! The key is new each time, so that an unnoticed copy of it expires with its certificate. Two files change, and a reader may
//! for a moment see one of them changed (see [`crate::changes`]).

use sanctum_config::did_you_mean;

use super::CommandContext;
use crate::PkiError;
use crate::args::RenewArgs;
use crate::ca_session::default_days;
use crate::clock::ValidityPeriod;
use crate::holder::Holder;
use crate::trust::{Assessment, CertificateState};

pub(crate) fn run(context: &mut CommandContext, args: &RenewArgs) -> Result<(), PkiError> {
    let mut ca = context.open_ca()?;
    let holders = context.home.holders()?;
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
        let assessment = ca.trust.assess(&context.home, holder, context.now)?;
        if let Some(why) = reason_to_leave(context, args, &assessment)? {
            context.say(format_args!("{}{holder}: left ({why})", context.would()))?;
            continue;
        }
        let sans = assessment
            .certificate
            .map(|certificate| certificate.sans)
            .unwrap_or_default();
        let days = args.validity.days.unwrap_or(default_days(holder.kind));
        let validity = ValidityPeriod::new(args.validity.not_before, days, context.now);
        let certificate = ca.issue(holder, &sans, validity)?;
        context.say(format_args!(
            "{}{holder}: issued again, until {}",
            context.would(),
            certificate.not_after.date()
        ))?;
    }
    if ca.keep_lists_fresh(context.now)? {
        context.say(format_args!(
            "{}the revocation list was signed again",
            context.would()
        ))?;
    }
    context.close(ca)
}

/// Why a certificate is not renewed; none if it is. A certificate that is named is renewed or an error.
fn reason_to_leave(
    context: &CommandContext,
    args: &RenewArgs,
    assessment: &Assessment,
) -> Result<Option<String>, PkiError> {
    let holder = &assessment.holder;
    let again = format!("issue it again: sanctum-pki {holder} --force");
    let broken = match (&assessment.certificate, &assessment.state) {
        (None, CertificateState::Damaged(why)) => Some(why.clone()),
        (None, state) => Some(format!("{state}; {again}")),
        (_, state @ CertificateState::WrongUse) => {
            Some(format!("its certificate is {state}; {again}"))
        }
        (_, CertificateState::Foreign) if args.all => Some(format!(
            "not signed by this CA; to issue it: sanctum-pki renew {}",
            holder.name
        )),
        (_, CertificateState::Revoked) if args.all => Some(format!(
            "revoked; to authorize it again: sanctum-pki renew {}",
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
    let left = assessment
        .certificate
        .as_ref()
        .map(|it| context.now.days_until(it.not_after));
    Ok(match (args.within, left) {
        (Some(within), Some(left))
            if assessment.state == CertificateState::Good && left >= within.0.into() =>
        {
            Some(format!("{left} days left"))
        }
        _ => None,
    })
}
