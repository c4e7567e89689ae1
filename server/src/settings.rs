//! What to serve and where, decided from the command line and fleet.toml, before anything is opened.

mod access;
mod error;
mod models;
mod options;
mod prefix;
mod section;
mod tls;
mod upstreams;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use sanctum_config::fleet::{PrefixCacheScope, Server};
use sanctum_config::{HostAddress, ListenAddress};
use sanctum_engine::launch::LaunchOptions;

use crate::args::ServeArgs;
use crate::audit::AuditFile;
use crate::front::FrontSpec;
use crate::gate::AccessRules;
use crate::listen::addresses;
use crate::models::ModelSpec;
pub(crate) use error::SettingsError;
use section::Section;
pub(crate) use tls::TlsSettings;

#[cfg(test)]
pub(crate) use access::PER_CLIENT;

/// The default port.
const PORT: u16 = 1337;
/// How long running requests may take to finish after SIGTERM by default.
const DRAIN: Duration = Duration::from_secs(30);
/// Connections that may be open at once by default.
const CONNECTIONS: usize = 1024;

/// What to serve and where.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where to listen: at least one address.
    pub listen: Vec<ListenAddress>,
    /// The models that this server has; the first where a request names none.
    pub models: Vec<ModelSpec>,
    /// A request that names no model gets the first one.
    pub any_model: bool,
    /// A request with an unknown field is refused.
    pub strict_fields: bool,
    /// Those that other servers have; the first of both where a request names none.
    pub fronts: Vec<FrontSpec>,
    /// The folder of the adapters that may be swapped in; none: none may.
    pub adapters: Option<PathBuf>,
    /// How to load and run them.
    pub options: LaunchOptions,
    /// Which clients share computed prefixes of prompts.
    pub sharing: PrefixCacheScope,
    /// How long running requests may take to finish after SIGTERM.
    pub drain: Duration,
    /// Where and with what to listen for TLS, if anywhere.
    pub tls: Option<TlsSettings>,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Which clients are accepted.
    pub rules: AccessRules,
    /// The audit log; none: no log is kept.
    pub audit: Option<AuditFile>,
    /// Prevent the machine from sleeping while a request runs.
    pub keep_awake: bool,
}

impl Settings {
    /// Decides only which models to serve.
    ///
    /// # Errors
    /// If the arguments or fleet.toml do not say it.
    pub(crate) fn models(args: &ServeArgs) -> Result<Vec<ModelSpec>, SettingsError> {
        let section = Section::of(args)?;
        models::resolve(args, section.as_ref().map(|section| &section.server))
    }

    /// Decides only which folder keeps prefixes.
    ///
    /// # Errors
    /// If fleet.toml cannot be used, or no folder is named.
    pub(crate) fn cache_dir(args: &ServeArgs) -> Result<PathBuf, SettingsError> {
        let section = Section::of(args)?;
        prefix::folder(&args.prefix, section.as_ref())?.ok_or(SettingsError::NoCacheFolder)
    }

    /// Reads fleet.toml if it is named, and decides.
    ///
    /// # Errors
    /// If the arguments and fleet.toml do not describe a server.
    pub(crate) fn resolve(args: &ServeArgs) -> Result<Self, SettingsError> {
        let section = Section::of(args)?;
        let section = section.as_ref();
        let tls = tls::resolve(args, section)?;
        let server = section.map(|section| &section.server);
        let listen = listen(args, server);
        let secure = tls.iter().flat_map(|tls| &tls.listen);
        let all: Vec<ListenAddress> = listen.iter().chain(secure).cloned().collect();
        let rules = access::rules(args, section, access::is_disabled())?;
        access::check_addresses(&listen, &rules)?;
        addresses::check(&all)?;
        let models = models::resolve(args, server)?;
        let fronts = upstreams::resolve(args, section, &models)?;
        let (sharing, prefix) = prefix::resolve(args, section, models.len().max(1))?;
        let options = LaunchOptions {
            prefix,
            ..options::resolve(args, server, models.len().max(1))?
        };
        Ok(Self {
            listen,
            tls,
            max_connections: args
                .max_connections
                .or(server.and_then(|server| server.limits.max_connections))
                .map_or(CONNECTIONS, NonZeroUsize::get),
            options,
            any_model: args.any_model || server.is_some_and(|server| server.any_model),
            strict_fields: args.strict_fields || server.is_some_and(|server| server.strict_fields),
            sharing,
            adapters: models::adapters(args, server)?,
            models,
            fronts,
            drain: args
                .drain()
                .or(server.and_then(|server| server.drain))
                .unwrap_or(DRAIN),
            rules,
            audit: access::audit(args, section)?,
            keep_awake: args
                .keep_awake
                .unwrap_or(server.is_none_or(|server| server.keep_awake)),
        })
    }
}

fn listen(args: &ServeArgs, server: Option<&Server>) -> Vec<ListenAddress> {
    let localhost = HostAddress::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    match server {
        Some(server) if args.host.is_empty() && args.port.is_none() => server.listen.clone(),
        _ => {
            let port = args.port.unwrap_or(PORT);
            let mut hosts: Vec<HostAddress> = args.host.iter().map(|host| host.0.clone()).collect();
            if hosts.is_empty() {
                hosts.push(localhost);
            }
            hosts.into_iter().map(|host| host.with_port(port)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
