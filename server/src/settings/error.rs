//! Settings that cannot be used.

use std::path::PathBuf;

use sanctum_config::{FleetError, Label, ListenAddress, ModelId, NoHome};
use sanctum_engine::load::InvalidAdapterName;

use crate::listen::addresses::AddressError;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// fleet.toml cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// There is no such server in fleet.toml.
    #[error("{file} has no [servers.{name}]{near}")]
    NoSuchServer {
        /// The file.
        file: String,
        /// The name.
        name: Label,
        /// The nearest name, as the end of the sentence.
        near: String,
    },
    /// There are several servers, or none, in fleet.toml.
    #[error("{file} has {}; {fix}", counted(*.count))]
    WhichServer {
        /// The file.
        file: String,
        /// How many.
        count: usize,
        /// What to do, as the end of the sentence.
        fix: String,
    },
    /// No folder keeps prefixes.
    #[error(
        "this server has no cache_dir in fleet.toml; name the folder itself instead of --config"
    )]
    NoCacheFolder,
    /// Other machines could reach it without authentication.
    #[error(
        "{0} can be reached from other machines, and there is no token to authenticate them; make one with \
         `sanctum-pki token server` and name it with --auth-token-file, or listen on 127.0.0.1 or ::1"
    )]
    NotLoopback(ListenAddress),
    /// More than any machine can serve.
    #[error("{what} is {value}; {most} at most")]
    TooMany {
        /// The flag, also where its key in fleet.toml is meant.
        what: &'static str,
        /// The value.
        value: usize,
        /// The maximum.
        most: usize,
    },
    /// A limit for a folder, and no folder.
    #[error(
        "--cache-dir-limit-gb is given and there is no folder that it limits; add --cache-dir DIR, or remove it"
    )]
    LimitOfNoFolder,
    /// This machine's own requests need the token, and there is none.
    #[error(
        "loopback = \"required\" requires a token of every client, and there is none; make one with \
         `sanctum-pki token server` and name it with --auth-token-file"
    )]
    NothingToRequire,
    /// `--adapter-path` and not exactly one model.
    #[error(
        "--adapter-path needs exactly one model, and there are {0}; to serve several, give each its `adapter` in \
         fleet.toml"
    )]
    AdapterOfWhich(usize),
    /// An adapter's folder has a name that requests and fingerprints cannot carry.
    #[error("{}: {source}; rename the folder", folder.display())]
    AdapterName {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: InvalidAdapterName,
    },
    /// `--manifest` and not exactly one `--model`.
    #[error(
        "--manifest needs exactly one --model, and there are {0}; to serve several, give each its `manifest` in \
         fleet.toml"
    )]
    ManifestOfWhich(usize),
    /// Keys without a manifest that they could have signed.
    #[error(
        "--manifest-key is given and no model has a manifest, so nothing would be checked; add --manifest FILE"
    )]
    KeyWithoutManifest,
    /// Two models have one id.
    #[error("two models have the id `{0}`; name one of them: --model OTHER={0}")]
    TwoModels(ModelId),
    /// Addresses that cannot be used together.
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

fn counted(servers: usize) -> String {
    match servers {
        0 => "no server".to_owned(),
        several => format!("{several} servers"),
    }
}
