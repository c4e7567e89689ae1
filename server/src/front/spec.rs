//! What the operator configures of a model's upstreams.

use std::time::Duration;

use sanctum_client::Credentials;
use sanctum_config::{ModelAlias, ModelId};

/// A model whose requests go to other servers, after the local model if there is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FrontSpec {
    /// The id that requests name it by.
    pub id: ModelId,
    /// Other names by which requests may name it.
    pub aliases: Vec<ModelAlias>,
    /// Whether this server has the model too, and asks itself first.
    pub is_local: bool,
    /// In the order in which they are tried; at least one.
    pub upstreams: Vec<UpstreamSpec>,
}

/// Another server with the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpstreamSpec {
    /// Names it in logs, headers and metrics: the host and port of its URL, or what fleet.toml calls it.
    pub name: String,
    /// Its base URL, without `/v1`.
    pub base: String,
    /// The model's id there, if it is another one.
    pub model: Option<String>,
    /// What this server presents there.
    pub credentials: Credentials,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long the first byte of a response may take.
    pub first_byte: Duration,
}
