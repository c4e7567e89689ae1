//! `init`: the CA's beginning.

use super::Site;
use crate::PkiError;
use crate::args::InitArgs;
use crate::authority::{Authority, CA_DAYS, CRL_DAYS};
use crate::changes::Changes;
use crate::clock::Validity;

pub(crate) fn run(site: &mut Site, args: &InitArgs) -> Result<(), PkiError> {
    let (key, certificate) = (site.home.authority_key(), site.home.authorities());
    for path in [&key, &certificate] {
        if path.exists() && !args.force {
            let mend = "this is a CA that may be in use: `sanctum-pki rotate-ca` replaces it without an interruption; \
                        --force replaces it at once, and every certificate of it is worth nothing then";
            return Err(PkiError::Exists {
                path: path.clone(),
                mend: mend.into(),
            });
        }
    }
    let validity = args.validity;
    let validity = Validity::new(
        validity.not_before,
        validity.days.unwrap_or(CA_DAYS),
        site.now,
    );
    let authority = Authority::create(&site.fleet_name(), validity)?;
    let mut changes = Changes::default();
    changes.new_secret(
        key,
        zeroize::Zeroizing::new(authority.key_pem().as_bytes().to_vec()),
        args.force,
    );
    changes.public(certificate.clone(), authority.certificate().pem());
    if args.force {
        changes.remove(site.home.former_authority_key());
        changes.remove(site.home.former_authority());
    }
    site.say(format_args!(
        "{}the CA `{}` is valid until {}; hosts trust {}",
        site.would(),
        authority.certificate().common_name,
        authority.certificate().not_after,
        certificate.display()
    ))?;
    let mut office = site.found(authority)?;
    office.sign_lists(CRL_DAYS, site.now)?;
    let (lists, _lock) = office.into_changes();
    changes.then(lists);
    site.finish(changes)
}
