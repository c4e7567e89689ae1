//! The commands, one a file: each decides what to change and reports the outcome.

pub(crate) mod alert;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod install;
pub(crate) mod logs;
pub(crate) mod pack;
pub(crate) mod pause;
pub(crate) mod push;
pub(crate) mod receipt;
pub(crate) mod render;
pub(crate) mod restart;
pub(crate) mod rollback;
pub(crate) mod sign;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod uninstall;
pub(crate) mod upgrade;
pub(crate) mod verify;

use sanctum_host::{INSTALL_RELEASE, Installation, Receipt};

use crate::Error;
use crate::args::GlobalArgs;
use crate::host_state::HostState;
use crate::store::DeploymentStore;

/// The installation that the command line names, for a command that works without one.
fn open(args: &GlobalArgs) -> Result<Installation, Error> {
    Ok(Installation::open(
        args.config.as_deref(),
        args.host.as_ref(),
    )?)
}

/// The installation that the command line names, for a command about what is installed.
fn open_installed(args: &GlobalArgs) -> Result<Installation, Error> {
    Ok(Installation::open_installed(
        args.config.as_deref(),
        args.host.as_ref(),
    )?)
}

/// What is installed here. If its fleet.toml is no longer stored, today's is used instead: an installation must be possible
/// even if much of the last one is lost.
fn installed(installation: &Installation) -> Result<Option<HostState>, Error> {
    let Some(receipt) = installation.receipt()? else {
        return Ok(None);
    };
    let recalled = HostState::recall(&DeploymentStore::new(&installation.home), receipt.clone());
    Ok(Some(recalled.unwrap_or_else(|_| {
        HostState::without_contents(receipt, installation.fleet.clone())
    })))
}

/// The receipt of a host on which a release must be installed.
fn must_be_installed(installation: &Installation) -> Result<Receipt, Error> {
    installation.receipt()?.ok_or_else(|| {
        Error::refused(format!(
            "nothing is installed here; to install, run: {}",
            installation.typed_to_deploy(INSTALL_RELEASE)
        ))
    })
}
