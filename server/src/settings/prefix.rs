//! Prefix reuse, decided from the command line and fleet.toml.

use std::path::PathBuf;

use sanctum_config::fleet::{DISK_LIMIT, PrefixCacheScope};
use sanctum_engine::prefix::{ColdOptions, PrefixOptions};

use super::error::SettingsError;
use super::section::Section;
use crate::args::{PrefixArgs, ServeArgs};

/// Decides which clients share prefixes, and how each of `models` models keeps them: memory is divided evenly, the folder
/// is for all of them. A flag overrides the key of fleet.toml with its name.
///
/// # Errors
/// If a limit is set for a folder that is not.
pub(super) fn resolve(
    args: &ServeArgs,
    section: Option<&Section>,
    models: usize,
) -> Result<(PrefixCacheScope, PrefixOptions), SettingsError> {
    let args = &args.prefix;
    let server = section.map(|section| &section.server);
    let sharing = args
        .prefix_cache
        .or(server.map(|server| server.prefix_cache))
        .unwrap_or_default();
    let folder = folder(args, section)?;
    if folder.is_none() && args.cache_dir_limit_gb.is_some() {
        return Err(SettingsError::LimitOfNoFolder);
    }
    let disk = args
        .cache_dir_limit_gb
        .or(server.and_then(|server| server.cache_dir_limit_gb));
    let disk = disk.unwrap_or(DISK_LIMIT).bytes();
    let memory = args
        .prefix_cache_limit_gb
        .or(server.and_then(|server| server.prefix_cache_limit_gb));
    let check = args
        .cache_check
        .or(server.and_then(|server| server.cache_check));
    let options = PrefixOptions {
        enabled: sharing != PrefixCacheScope::Off,
        limit: memory.map(|limit| limit.bytes() / models.max(1) as u64),
        cold: folder.map(|folder| ColdOptions::new(folder, disk)),
        check_share: check.unwrap_or_default().share(),
        ..PrefixOptions::default()
    };
    Ok((sharing, options))
}

/// The folder that keeps prefixes; none if neither the command line nor fleet.toml names one.
///
/// # Errors
/// If it begins with `~` and there is no home.
pub(super) fn folder(
    args: &PrefixArgs,
    section: Option<&Section>,
) -> Result<Option<PathBuf>, SettingsError> {
    Ok(match (&args.cache_dir, section) {
        (Some(flag), _) => Some(flag.here()?),
        (None, Some(section)) => {
            let path = section.server.cache_dir.as_ref();
            path.map(|path| section.path(path)).transpose()?
        }
        (None, None) => None,
    })
}
