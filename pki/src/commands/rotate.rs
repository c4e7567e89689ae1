//! `rotate-ca`: a new CA, with an overlap in which both are trusted.

use super::CommandContext;
use crate::PkiError;
use crate::args::RotateArgs;
use crate::authority::{Authority, CA_DAYS, CRL_DAYS};
use crate::ca_session::CaSession;
use crate::certificate::Certificate;
use crate::changes::Changes;
use crate::clock::ValidityPeriod;
use crate::trust::CertificateState;

pub(crate) fn run(context: &mut CommandContext, args: &RotateArgs) -> Result<(), PkiError> {
    let ca = context.open_ca()?;
    match args.finish {
        true => finish(context, args, ca),
        false => begin(context, args, ca),
    }
}

fn begin(context: &mut CommandContext, args: &RotateArgs, ca: CaSession) -> Result<(), PkiError> {
    if let Some(former) = ca.former() {
        return Err(PkiError::Refused(format!(
            "`{}` is already being replaced; when every host has its new certificates: sanctum-pki rotate-ca --finish",
            former.certificate().common_name
        )));
    }
    let days = args.validity.days.unwrap_or(CA_DAYS);
    let validity = ValidityPeriod::new(args.validity.not_before, days, context.now);
    let successor = Authority::create(&context.fleet_name(), validity)?;
    let (old, new) = (ca.authority().certificate(), successor.certificate());
    context.say(format_args!(
        "{}`{}` signs from now on, until {}; `{}` is still trusted",
        context.would(),
        new.common_name,
        new.not_after,
        old.common_name
    ))?;
    context.say("next: bundle and deliver to every host; then `renew --all`, bundle and deliver; then `rotate-ca --finish`")?;

    // The former key is saved before it is replaced, and a CA has a revocation list before it is trusted.
    let mut changes = Changes::default();
    changes.secret(context.home.former_authority_key(), secret(ca.authority()));
    changes.public(context.home.former_authority(), old.pem());
    let mut ca = ca.succeed(successor);
    ca.sign_lists(CRL_DAYS, context.now)?;
    let key = secret(ca.authority());
    let trusted = ca.authorities_pem();
    let (own, _lock) = ca.into_changes();
    changes.then(own);
    changes.secret(context.home.authority_key(), key);
    changes.public(context.home.authorities(), trusted);
    context.finish(changes)
}

fn finish(
    context: &mut CommandContext,
    args: &RotateArgs,
    mut ca: CaSession,
) -> Result<(), PkiError> {
    let Some(former) = ca.former().map(|ca| ca.certificate().clone()) else {
        return Err(PkiError::Refused(
            "no CA is being replaced; start with `sanctum-pki rotate-ca`".into(),
        ));
    };
    let left = still_used(context, &ca, &former)?;
    if !left.is_empty() && !args.force {
        return Err(PkiError::Refused(format!(
            "the former CA's certificates are still in use: {}; replace them with `sanctum-pki renew --all` and deliver them \
             to their hosts, or invalidate them with --force",
            left.join(", ")
        )));
    }
    context.say(format_args!(
        "{}`{}` is no longer trusted, and its key is removed; bundle and deliver to every host",
        context.would(),
        former.common_name
    ))?;
    ca.dismiss_former();
    ca.sign_lists(CRL_DAYS, context.now)?;
    let trusted = ca.authorities_pem();
    let (own, _lock) = ca.into_changes();
    let mut changes = Changes::default();
    changes.public(context.home.authorities(), trusted);
    changes.then(own);
    changes.remove(context.home.former_authority_key());
    changes.remove(context.home.former_authority());
    context.finish(changes)
}

/// Holders whose certificates would become invalid.
fn still_used(
    context: &CommandContext,
    ca: &CaSession,
    former: &Certificate,
) -> Result<Vec<String>, PkiError> {
    let mut left = Vec::new();
    for holder in context.home.holders()? {
        let assessment = ca.trust.assess(&context.home, &holder, context.now)?;
        let former = assessment
            .certificate
            .is_some_and(|it| it.is_signed_by(former));
        if former
            && !matches!(
                assessment.state,
                CertificateState::Revoked | CertificateState::Expired
            )
        {
            left.push(holder.to_string());
        }
    }
    Ok(left)
}

fn secret(authority: &Authority) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(authority.key_pem().as_bytes().to_vec())
}
