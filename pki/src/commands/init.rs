//! `init`: creates the CA.

use super::CommandContext;
use crate::PkiError;
use crate::args::InitArgs;
use crate::authority::{Authority, CA_DAYS, CRL_DAYS};
use crate::changes::Changes;
use crate::clock::ValidityPeriod;

pub(crate) fn run(context: &mut CommandContext, args: &InitArgs) -> Result<(), PkiError> {
    let (key, certificate) = (context.home.authority_key(), context.home.authorities());
    for path in [&key, &certificate] {
        if path.exists() && !args.force {
            let fix = "the CA may be in use: `sanctum-pki rotate-ca` replaces it without an interruption; \
                        --force replaces it at once and invalidates all its certificates";
            return Err(PkiError::Exists {
                path: path.clone(),
                fix: fix.into(),
            });
        }
    }
    let validity = args.validity;
    let validity = ValidityPeriod::new(
        validity.not_before,
        validity.days.unwrap_or(CA_DAYS),
        context.now,
    );
    let authority = Authority::create(&context.fleet_name(), validity)?;
    let mut changes = Changes::default();
    changes.new_secret(
        key,
        zeroize::Zeroizing::new(authority.key_pem().as_bytes().to_vec()),
        args.force,
    );
    changes.public(certificate.clone(), authority.certificate().pem());
    if args.force {
        changes.remove(context.home.former_authority_key());
        changes.remove(context.home.former_authority());
    }
    context.say(format_args!(
        "{}the CA `{}` is valid until {}; hosts trust {}",
        context.would(),
        authority.certificate().common_name,
        authority.certificate().not_after,
        certificate.display()
    ))?;
    let mut ca = context.create_ca(authority)?;
    ca.sign_lists(CRL_DAYS, context.now)?;
    let (lists, _lock) = ca.into_changes();
    changes.then(lists);
    context.finish(changes)
}
