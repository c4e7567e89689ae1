//! What to serve and where, decided from the command line and fleet.toml, before anything is opened.

mod access;
mod models;
mod tls;

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use sanctum_config::fleet::{Backend, KvCache, Memory, Server};
use sanctum_config::{
    Fleet, FleetError, HostAddress, Label, ListenAddress, ModelId, NoHome, TildePath, did_you_mean,
};
use sanctum_engine::backend::{KvMode, MemoryLimits, Precision};
use sanctum_engine::launch::{BackendChoice, LaunchOptions};
use sanctum_engine::load::InvalidAdapterName;

use crate::args::{BackendArg, MemoryArgs, ServeArgs};
use crate::audit::AuditFile;
use crate::gate::Rules;
use crate::listen::addresses::{self, AddressError};
pub use models::ModelSettings;
pub use tls::TlsSettings;

#[cfg(test)]
pub use access::PER_CLIENT;

/// The port of a server that is told no other.
const PORT: u16 = 1337;
/// How long running requests may take to finish after SIGTERM, where nothing is said.
const DRAIN: Duration = Duration::from_secs(30);
/// Connections that may be open at once, where nothing is said.
const CONNECTIONS: usize = 1024;

/// The most sequences at once, and the most requests in line: more is a slip of the finger, and memory for nothing.
const MOST_SLOTS: usize = 4096;
const LONGEST_QUEUE: usize = 1 << 20;

/// What to serve and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen: one address at least.
    pub listen: Vec<ListenAddress>,
    /// What to serve: one at least; the first where a request names none.
    pub models: Vec<ModelSettings>,
    /// The folder of the adapters that may be swapped in; none: none may.
    pub adapters: Option<PathBuf>,
    /// How to load and run each of them.
    pub options: LaunchOptions,
    /// How long running requests may take to finish after SIGTERM.
    pub drain: Duration,
    /// Where and with what to listen for TLS, if anywhere.
    pub tls: Option<TlsSettings>,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Who is let in.
    pub rules: Rules,
    /// Where the audit log goes; none: none is kept.
    pub audit: Option<AuditFile>,
    /// Keep the machine from going to sleep while a request runs.
    pub keep_awake: bool,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// fleet.toml cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// There is no such server in fleet.toml.
    #[error("{file} has no [servers.{name}]{near}")]
    NoSuchServer {
        /// The file.
        file: String,
        /// What was asked for.
        name: Label,
        /// What there is, as the end of the sentence.
        near: String,
    },
    /// There are several servers, or none, in fleet.toml.
    #[error("{file} has {}; {mend}", counted(*.count))]
    WhichServer {
        /// The file.
        file: String,
        /// How many.
        count: usize,
        /// What to do.
        mend: String,
    },
    /// Others could reach it, and nothing would ask them who they are.
    #[error(
        "{0} can be reached from other machines, and there is no token to ask them for; make one with \
         `sanctum-pki token server` and name it with --auth-token-file, or listen on 127.0.0.1 or ::1"
    )]
    NotLoopback(ListenAddress),
    /// More than any machine serves.
    #[error("{what} is {value}; {most} at most")]
    TooMany {
        /// The flag, which stands for its key in fleet.toml too.
        what: &'static str,
        /// What was asked for.
        value: usize,
        /// What is possible.
        most: usize,
    },
    /// This machine's own requests need the token, and there is none.
    #[error(
        "loopback = \"required\" wants a token from everybody, and there is none; make one with \
         `sanctum-pki token server` and name it with --auth-token-file"
    )]
    NothingToRequire,
    /// `--adapter-path` and not exactly one model.
    #[error(
        "--adapter-path goes with exactly one model, and there are {0}; to serve several, give each its `adapter` in \
         fleet.toml"
    )]
    AdapterOfWhich(usize),
    /// An adapter's folder is called in a way that requests and fingerprints cannot carry.
    #[error("{}: {source}; rename the folder", folder.display())]
    AdapterName {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: InvalidAdapterName,
    },
    /// `--manifest` and not exactly one `--model`.
    #[error(
        "--manifest goes with exactly one --model, and there are {0}; to serve several, give each its `manifest` in \
         fleet.toml"
    )]
    ManifestOfWhich(usize),
    /// Keys, and nothing that they could have signed.
    #[error(
        "--manifest-key is given and no model has a manifest, so nothing would be checked; add --manifest FILE"
    )]
    KeyWithoutManifest,
    /// Two models have one id.
    #[error("two models have the id `{0}`; name one of them: --model OTHER={0}")]
    TwoModels(ModelId),
    /// Addresses that do not go together.
    #[error(transparent)]
    Addresses(#[from] AddressError),
    /// TLS files are named, and nothing listens for TLS.
    #[error(
        "{0} is given and nothing listens for TLS, so it would not be used; add --tls-host ADDRESS"
    )]
    TlsNowhere(&'static str),
    /// A path begins with `~`.
    #[error(transparent)]
    NoHome(#[from] NoHome),
}

impl Settings {
    /// Decides only which models are meant.
    pub fn models(args: &ServeArgs) -> Result<Vec<ModelSettings>, SettingsError> {
        let section = Section::of(args)?;
        models::resolve(args, section.as_ref().map(|section| &section.server))
    }

    /// Reads fleet.toml if it is named, and decides.
    pub fn resolve(args: &ServeArgs) -> Result<Self, SettingsError> {
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
        let options = options(args, server, models.len());
        bounded("--max-slots", options.max_slots.get(), MOST_SLOTS)?;
        bounded("--queue", options.queue, LONGEST_QUEUE)?;
        Ok(Self {
            listen,
            tls,
            max_connections: args
                .max_connections
                .or(server.and_then(|server| server.limits.max_connections))
                .map_or(CONNECTIONS, NonZeroUsize::get),
            options,
            adapters: models::adapters(args, server)?,
            models,
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

/// A server of fleet.toml, and what its paths are relative to.
struct Section {
    /// What it is called.
    name: Label,
    /// What it says.
    server: Server,
    /// The fleet's home.
    home: TildePath,
    /// fleet.toml.
    file: PathBuf,
}

impl Section {
    /// The server's section, if a fleet.toml is named.
    fn of(args: &ServeArgs) -> Result<Option<Self>, SettingsError> {
        let Some(file) = &args.config else {
            return Ok(None);
        };
        let fleet = Fleet::read(file)?;
        let home = fleet.fleet.home.clone();
        let shown = file.display().to_string();
        let (name, server) = choose(fleet, &shown, args.server.as_ref())?;
        Ok(Some(Self {
            name,
            server,
            home,
            file: file.clone(),
        }))
    }

    /// A path of this file: relative ones begin at the file's own folder.
    fn path(&self, path: &TildePath) -> Result<PathBuf, NoHome> {
        path.beside(&self.file)
    }
}

/// The server that was asked for, or the only one.
fn choose(
    mut fleet: Fleet,
    file: &str,
    wanted: Option<&Label>,
) -> Result<(Label, Server), SettingsError> {
    let file = file.to_owned();
    let names = || fleet.servers.keys().map(Label::as_str);
    match wanted {
        Some(name) => {
            let near = did_you_mean(name.as_str(), names());
            fleet
                .servers
                .remove_entry(name)
                .ok_or_else(|| SettingsError::NoSuchServer {
                    file,
                    name: name.clone(),
                    near,
                })
        }
        None if fleet.servers.len() == 1 => {
            let only = fleet.servers.pop_first();
            Ok(only.expect("there is one"))
        }
        None => Err(SettingsError::WhichServer {
            file,
            count: fleet.servers.len(),
            mend: match fleet.servers.len() {
                0 => "add a [servers.NAME]".to_owned(),
                _ => format!(
                    "say which with --server: {}",
                    names().collect::<Vec<_>>().join(", ")
                ),
            },
        }),
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

fn bounded(what: &'static str, value: usize, most: usize) -> Result<(), SettingsError> {
    match value <= most {
        true => Ok(()),
        false => Err(SettingsError::TooMany { what, value, most }),
    }
}

fn options(args: &ServeArgs, server: Option<&Server>, models: usize) -> LaunchOptions {
    let usual = LaunchOptions::default();
    let limits = server
        .map(|server| server.limits.clone())
        .unwrap_or_default();
    let exact = args.exact || server.is_some_and(|server| server.exact);
    LaunchOptions {
        backend: match (args.backend, server.map(|server| server.backend)) {
            (Some(BackendArg::Cpu), _) | (None, Some(Backend::Cpu)) => BackendChoice::Cpu,
            (Some(BackendArg::Mlx), _) | (None, Some(Backend::Mlx)) => BackendChoice::Mlx,
            (Some(BackendArg::Auto), _) | (None, Some(Backend::Auto) | None) => BackendChoice::Auto,
        },
        memory: memory(&args.memory, server.map(|server| &server.memory)),
        models: NonZeroUsize::new(models).unwrap_or(usual.models),
        beside: usual.beside,
        precision: if exact {
            Precision::Exact
        } else {
            usual.precision
        },
        kv_cache: args.kv_cache.unwrap_or_else(|| kv_cache(server)),
        threads: args
            .threads
            .or(server.and_then(|server| server.threads))
            .or(usual.threads),
        max_context: args
            .max_context
            .or(limits.max_context)
            .or(usual.max_context),
        max_slots: args
            .max_slots
            .or(limits.max_slots)
            .unwrap_or(usual.max_slots),
        queue: args.queue.or(limits.queue).unwrap_or(usual.queue),
        prefill_chunk: args
            .prefill_chunk
            .or(limits.prefill_chunk)
            .unwrap_or(usual.prefill_chunk),
    }
}

fn kv_cache(server: Option<&Server>) -> KvMode {
    match server.map(|server| server.kv_cache) {
        None => KvMode::default(),
        Some(KvCache::Plain) => KvMode::Plain,
        Some(KvCache::V8) => KvMode::V8,
        Some(KvCache::V4) => KvMode::V4,
    }
}

fn memory(args: &MemoryArgs, file: Option<&Memory>) -> MemoryLimits {
    let bytes = |said: Option<NonZeroU64>, file: Option<u64>| {
        let mib = said.map(NonZeroU64::get).or(file.filter(|&mib| mib > 0));
        mib.map(|mib| mib.saturating_mul(1 << 20))
    };
    MemoryLimits {
        cache: bytes(
            args.cache_limit_mb,
            file.and_then(|file| file.cache_limit_mb),
        ),
        total: bytes(args.memory_limit_mb, file.and_then(|file| file.limit_mb)),
        wired: bytes(
            args.wired_limit_mb,
            file.and_then(|file| file.wired_limit_mb),
        ),
    }
}

fn counted(servers: usize) -> String {
    match servers {
        0 => "no server".to_owned(),
        several => format!("{several} servers"),
    }
}

#[cfg(test)]
mod tests;
