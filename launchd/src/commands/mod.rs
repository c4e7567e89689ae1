//! The commands, one a file: each reads what it needs, decides, and says what came of it.

pub mod check;
pub mod install;
pub mod pack;
pub mod receipt;
pub mod render;
pub mod rollback;
pub mod sign;
pub mod status;
pub mod uninstall;
pub mod upgrade;
pub mod verify;

use sanctum_host::Receipt;

use crate::Failure;
use crate::args::SiteArgs;
use crate::site::Site;
use crate::store::Store;
use crate::target::Target;

/// The site that the command line names.
fn open(args: &SiteArgs) -> Result<Site, Failure> {
    Site::open(args.config.as_deref(), args.host.as_ref())
}

/// What is installed here. Where its fleet.toml is kept no longer, today's stands in for it: an installation must be
/// possible however much of the last one is lost.
fn installed(site: &Site) -> Result<Option<Target>, Failure> {
    let Some(receipt) = site.receipt()? else {
        return Ok(None);
    };
    let kept = Target::recall(&Store(&site.home), receipt.clone());
    Ok(Some(kept.unwrap_or_else(|_| {
        Target::of(receipt, site.fleet.clone())
    })))
}

/// The receipt of a host on which something must be installed.
fn must_be_installed(site: &Site) -> Result<Receipt, Failure> {
    site.receipt()?.ok_or_else(|| {
        Failure::Refused(
            "nothing is installed here; begin with: sanctum-launchd install --release FOLDER"
                .to_owned(),
        )
    })
}
