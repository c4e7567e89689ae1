//! Which clients are accepted and what is audited, decided from the command line, fleet.toml and the environment.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use sanctum_config::fleet::Loopback;
use sanctum_config::{ListenAddress, NoHome, Rotation, TildePath};

use super::error::SettingsError;
use super::section::Section;
use crate::args::ServeArgs;
use crate::audit::AuditFile;
use crate::gate::{AccessRules, TokenPath};

/// Set to exactly `1`, it disables authentication.
const DISABLE: &str = "SANCTUM_DISABLE_AUTH";
/// Requests of one client that may run or wait at once by default.
pub(crate) const PER_CLIENT: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// Whether authentication is disabled. Any value other than `1` is a mistake, whose safe reading is "no".
pub(crate) fn is_disabled() -> bool {
    match std::env::var_os(DISABLE) {
        None => false,
        Some(value) if value == "1" => true,
        Some(_) => {
            tracing::warn!("{DISABLE} has no effect unless it is 1; credentials are required");
            false
        }
    }
}

/// Which clients are accepted.
pub(crate) fn rules(
    args: &ServeArgs,
    section: Option<&Section>,
    disabled: bool,
) -> Result<AccessRules, SettingsError> {
    let auth = section.map(|section| &section.server.auth);
    let configured = || -> Result<Option<TokenPath>, NoHome> {
        let Some(section) = section else {
            return Ok(None);
        };
        let path = section.server.auth.token_file.as_ref();
        let token = |path| Ok(token_path(path, section.path(path)?));
        path.map(token).transpose()
    };
    let token = match &args.auth_token_file {
        Some(path) => Some(token_path(path, path.here()?)),
        None => configured()?,
    };
    let loopback = match args.loopback {
        Some(loopback) => loopback.into(),
        None => auth.map(|auth| auth.loopback).unwrap_or_default(),
    };
    if loopback == Loopback::Required && token.is_none() && !disabled {
        return Err(SettingsError::NothingToRequire);
    }
    let limit = section.and_then(|section| section.server.limits.max_requests_per_client);
    let server = section.map(|section| &section.server);
    let origins = match (args.allow_origin.as_slice(), server) {
        ([], Some(server)) => server.allow_origins.clone(),
        (flags, _) => flags.to_vec(),
    };
    let hosts = match (args.allow_host.as_slice(), server) {
        ([], Some(server)) => server.allow_hosts.clone(),
        (flags, _) => flags.to_vec(),
    };
    Ok(AccessRules {
        token,
        loopback,
        disabled,
        origins,
        hosts,
        fronts: auth.map(|auth| auth.fronts.clone()).unwrap_or_default(),
        per_client: args.max_requests_per_client.or(limit).unwrap_or(PER_CLIENT),
    })
}

fn token_path(written: &TildePath, file: PathBuf) -> TokenPath {
    let shown = written.to_string();
    TokenPath { file, shown }
}

/// Refuses an address that other machines can reach, unless they are authenticated or the operator has disabled that.
pub(crate) fn check_addresses(
    listen: &[ListenAddress],
    rules: &AccessRules,
) -> Result<(), SettingsError> {
    let outside = |address: &&ListenAddress| !address.ip().to_canonical().is_loopback();
    match listen.iter().find(outside) {
        Some(outside) if rules.token.is_none() && !rules.disabled => {
            Err(SettingsError::NotLoopback(outside.clone()))
        }
        _ => Ok(()),
    }
}

/// The audit log; none where no log is kept.
pub(crate) fn audit(
    args: &ServeArgs,
    section: Option<&Section>,
) -> Result<Option<AuditFile>, NoHome> {
    let usual = sanctum_config::fleet::Audit::default();
    let said = section.map_or(&usual, |section| &section.server.audit);
    let file = match (&args.audit_log, section) {
        (Some(flag), _) => flag.here()?,
        (None, Some(section)) if said.enabled => match &said.file {
            Some(file) => section.path(file)?,
            None => section
                .path(&section.home)?
                .join("logs")
                .join(format!("{}.audit.jsonl", section.name)),
        },
        _ => return Ok(None),
    };
    Ok(Some(AuditFile {
        path: file,
        rotation: Rotation {
            max_bytes: said.rotate_mb.saturating_mul(MIB),
            keep: said.keep,
        },
    }))
}

const MIB: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();
