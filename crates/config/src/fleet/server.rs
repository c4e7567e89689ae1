//! `[servers.NAME]`: what one `sanctum-server` serves, where it listens and what it may use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::Deserialize;

use super::prefix_cache::{CheckRate, Gigabytes, PrefixCacheScope};
use super::upstream::UpstreamSection;
use crate::{
    HostName, Label, ListenAddress, ModelAlias, ModelId, Origin, TildePath, duration, tilde,
};

/// The default port of a server.
const DEFAULT_PORT: u16 = 1337;

/// One `sanctum-server` instance.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The host it runs on.
    pub host: Label,
    /// Where it listens for plain HTTP; by default `127.0.0.1:1337`.
    #[serde(default = "default_listen")]
    pub listen: Vec<ListenAddress>,
    /// Where it listens for mTLS.
    #[serde(default)]
    pub tls_listen: Vec<ListenAddress>,
    /// Its side of mTLS.
    #[serde(default)]
    pub tls: Tls,
    /// What it serves; the first is used where a request names no model. None: the model that is built in.
    #[serde(default)]
    pub models: Vec<ModelSection>,
    /// A request that names no model of this server gets the first one instead of an error.
    #[serde(default)]
    pub any_model: bool,
    /// A request with an unknown field is refused. By default the field has no effect and the response names it.
    #[serde(default)]
    pub strict_fields: bool,
    /// The origins whose pages may read answers in a browser. A page on this host needs no token where programs need none,
    /// unless it is only covered by `*`.
    #[serde(default)]
    pub allow_origins: Vec<Origin>,
    /// Names of this host, besides `localhost` and its addresses, that local requests without the token may use.
    #[serde(default)]
    pub allow_hosts: Vec<HostName>,
    /// Public keys of which one must have signed the manifest of every model that has one. None: a manifest is taken as
    /// it is there, and protects against accidents only.
    #[serde(default)]
    pub manifest_keys: Vec<TildePath>,
    /// The folder of the adapters that `POST /v1/adapters` may load, each in a folder of its own. None: it loads none.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub adapters: Option<TildePath>,
    /// The engine's backend.
    #[serde(default)]
    pub backend: BackendSetting,
    /// How the KV cache keeps its values.
    #[serde(default)]
    pub kv_cache: KvCacheFormat,
    /// Which clients share the prefixes of prompts that were computed.
    #[serde(default)]
    pub prefix_cache: PrefixCacheScope,
    /// The most memory that computed prefixes of all models together take; by default half of that for sequences.
    pub prefix_cache_limit_gb: Option<Gigabytes>,
    /// The folder that keeps computed prefixes, and with them conversations, across restarts. None: memory only.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub cache_dir: Option<TildePath>,
    /// The most that this folder takes; by default [`DISK_LIMIT`](super::DISK_LIMIT).
    pub cache_dir_limit_gb: Option<Gigabytes>,
    /// The share of reused prefixes that are computed again and compared.
    pub cache_check: Option<CheckRate>,
    /// Worker threads of the cpu backend; by default all cores.
    pub threads: Option<NonZeroUsize>,
    /// Compute with f32 activations: slower, the reference for the fast path.
    #[serde(default)]
    pub exact: bool,
    /// Caps on the work that it takes.
    #[serde(default)]
    pub limits: Limits,
    /// Caps on the memory of the mlx backend.
    #[serde(default)]
    pub memory: Memory,
    /// Which clients are accepted.
    #[serde(default)]
    pub auth: Auth,
    /// The audit log: which client sent which request.
    #[serde(default)]
    pub audit: Audit,
    /// Keep the Mac from going to sleep while a request runs.
    #[serde(default = "yes")]
    pub keep_awake: bool,
    /// How long running requests may take to finish after SIGTERM.
    #[serde(default, deserialize_with = "duration::optional")]
    pub drain: Option<Duration>,
}

impl Server {
    /// The models that the server itself has, with their folders.
    pub fn local_models(&self) -> impl Iterator<Item = (&ModelSection, &TildePath)> {
        let models = self.models.iter();
        models.filter_map(|model| Some((model, model.path.as_ref()?)))
    }

    /// The client of whose certificate the upstreams of the server `name` ask, unless fleet.toml names another one.
    pub fn upstream_client(name: &Label) -> Label {
        name.extended("-upstream")
    }

    /// Whether it needs the certificate of [`upstream_client`](Self::upstream_client).
    pub fn needs_upstream_client(&self) -> bool {
        let mut upstreams = self.models.iter().flat_map(|model| &model.upstreams);
        upstreams.any(UpstreamSection::has_issued_certificate)
    }

    /// What is wrong with its models and their upstreams.
    fn models_contradiction(&self) -> Option<String> {
        for model in &self.models {
            if model.path.is_none() && model.upstreams.is_empty() {
                return Some(format!(
                    "the model `{}` has neither `path` nor `upstreams`; write one of them",
                    model.id
                ));
            }
            if model.path.is_none() && (model.manifest.is_some() || model.adapter.is_some()) {
                return Some(format!(
                    "the model `{}` has a manifest or an adapter, and no `path`; write the folder that they belong to",
                    model.id
                ));
            }
            if let Some(problem) = model
                .upstreams
                .iter()
                .find_map(UpstreamSection::contradiction)
            {
                return Some(problem);
            }
        }
        None
    }
}

/// The files of a server's mTLS, all of them PEM; what is left out is under the fleet's home.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Its certificate: `certs/<server>.crt`.
    pub certificate: Option<TildePath>,
    /// Its key, which only its user can read: `certs/<server>.key`.
    pub key: Option<TildePath>,
    /// The CAs of its clients: `certs/ca.crt`.
    pub ca: Option<TildePath>,
    /// What these CAs have revoked: `certs/ca.crl`, which need not be there unless it is named here.
    pub crl: Option<TildePath>,
}

/// One model of a server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// What requests call it.
    pub id: ModelId,
    /// Other names by which requests may name it.
    #[serde(default)]
    pub aliases: Vec<ModelAlias>,
    /// Its checkpoint's folder. None: only the upstreams have it.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub path: Option<TildePath>,
    /// Other servers that have it, in the order in which they are tried: after this server if it has a `path`.
    #[serde(default)]
    pub upstreams: Vec<UpstreamSection>,
    /// The SHA-256 manifest that the folder must match before anything is served or listened on. Its signature lies
    /// beside it, with `.sig` after its name.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub manifest: Option<TildePath>,
    /// A LoRA adapter's folder, merged at load.
    #[serde(default, deserialize_with = "tilde::optional_or_empty")]
    pub adapter: Option<TildePath>,
}

/// The engine's backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendSetting {
    /// The best one of this build and machine.
    #[default]
    Auto,
    /// Pure Rust.
    Cpu,
    /// MLX.
    Mlx,
}

/// How the KV cache keeps its values; keys are always plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCacheFormat {
    /// As they are computed.
    #[default]
    Plain,
    /// As codes of eight bits.
    V8,
    /// As codes of four bits.
    V4,
}

/// Caps on the work that a server takes; what is left out has the server's default (`sanctum-server --help`).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Sequences that are decoded at the same time.
    pub max_slots: Option<NonZeroUsize>,
    /// Requests that may wait for a slot before others are refused with 429.
    pub queue: Option<usize>,
    /// Tokens of a sequence, prompt and answer together.
    pub max_context: Option<NonZeroUsize>,
    /// Tokens of a prompt that are computed in one pass.
    pub prefill_chunk: Option<NonZeroUsize>,
    /// Connections that may be open at the same time.
    pub max_connections: Option<NonZeroUsize>,
    /// Requests that one client may have running or waiting at the same time before others of its own are refused
    /// with 429.
    pub max_requests_per_client: Option<NonZeroUsize>,
}

/// Caps on the memory of the mlx backend, in MiB.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Buffers kept for reuse.
    pub cache_limit_mb: Option<u64>,
    /// All of it.
    pub limit_mb: Option<u64>,
    /// What may be wired down; nothing is set by default.
    pub wired_limit_mb: Option<u64>,
}

/// Which clients are accepted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The file with the bearer token.
    pub token_file: Option<TildePath>,
    /// Whether requests from this host need it.
    pub loopback: Loopback,
    /// Servers that pass requests of their clients on, by the names in their certificates: they are believed for whom they
    /// ask, so that limits and the audit log see those clients.
    pub fronts: Vec<String>,
}

/// What requests over loopback need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loopback {
    /// No token.
    #[default]
    Bypass,
    /// The token, as from anywhere else: for hosts on which a forwarder makes outside requests look local.
    Required,
}

/// The audit log: which client sent which request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Whether it is written.
    pub enabled: bool,
    /// Its file; by default `logs/<server>.audit.jsonl` under the fleet's home.
    pub file: Option<TildePath>,
    /// The size in MiB at which it is rotated.
    pub rotate_mb: NonZeroU64,
    /// Rotated files that are kept.
    pub keep: usize,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            enabled: true,
            file: None,
            rotate_mb: NonZeroU64::new(64).expect("64 is not 0"),
            keep: 5,
        }
    }
}

impl Server {
    /// A contradiction within this section.
    pub(super) fn contradiction(&self) -> Option<String> {
        let mut addresses = BTreeSet::new();
        let all = self.listen.iter().chain(&self.tls_listen);
        if let Some(twice) = all
            .filter(|address| address.port() != 0)
            .find(|address| !addresses.insert(*address))
        {
            return Some(format!("the address {twice} is listed twice; remove one"));
        }
        if self.listen.is_empty() && self.tls_listen.is_empty() {
            return Some("`listen` and `tls_listen` are empty; give one address at least".into());
        }
        let listed = self.models.iter().any(|model| model.manifest.is_some());
        if !self.manifest_keys.is_empty() && !listed {
            return Some(
                "`manifest_keys` is set and no model has a `manifest`, so nothing would be checked; give the models \
                 their manifests, or remove the keys"
                    .into(),
            );
        }
        let mut origins = self.allow_origins.iter().enumerate();
        if let Some((_, twice)) =
            origins.find(|(index, origin)| self.allow_origins[..*index].contains(origin))
        {
            return Some(format!("`allow_origins` has {twice} twice; remove one"));
        }
        if let (None, Some(limit)) = (&self.cache_dir, self.cache_dir_limit_gb) {
            return Some(format!(
                "`cache_dir_limit_gb` is {limit} and there is no `cache_dir`, so nothing is kept on disk; write \
                 `cache_dir = \"~/.sanctum/prefix-cache\"`, or remove the limit"
            ));
        }
        if let Some(problem) = self.models_contradiction() {
            return Some(problem);
        }
        let mut ids = BTreeSet::new();
        let twice = self.models.iter().find(|model| !ids.insert(&model.id))?;
        Some(format!(
            "two models have the id `{}`; a request could not distinguish them, rename one",
            twice.id
        ))
    }
}

/// An alias that names two models.
pub(super) struct AmbiguousAlias {
    /// Which model has it, and which of its aliases it is.
    pub(super) place: (usize, usize),
    /// What else has the name, and the fix.
    pub(super) message: String,
}

impl Server {
    /// An alias that is the id of a model, or that is written twice.
    pub(super) fn ambiguous_alias(&self) -> Option<AmbiguousAlias> {
        let mut seen: BTreeMap<&ModelAlias, &ModelId> = BTreeMap::new();
        for (number, model) in self.models.iter().enumerate() {
            for (index, alias) in model.aliases.iter().enumerate() {
                let is_id = self.models.iter().any(|m| m.id.as_str() == alias.as_str());
                let what = match seen.insert(alias, &model.id) {
                    _ if is_id => format!("the model `{alias}` has this id itself"),
                    Some(other) if *other == model.id => "it is listed twice".to_owned(),
                    Some(other) => format!("it is an alias of `{other}` too"),
                    None => continue,
                };
                return Some(AmbiguousAlias {
                    place: (number, index),
                    message: format!(
                        "`aliases` of the model `{}`: `{alias}`: {what}; remove one",
                        model.id
                    ),
                });
            }
        }
        None
    }
}

fn yes() -> bool {
    true
}

fn default_listen() -> Vec<ListenAddress> {
    vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)).into()]
}
