//! Which clients are accepted, as the operator configures it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use sanctum_config::fleet::Loopback;
use sanctum_config::{HostName, Origin};

/// Which clients are accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AccessRules {
    /// The file of the bearer token; without one no token is accepted.
    pub token: Option<TokenPath>,
    /// Whether this machine's own requests need the token.
    pub loopback: Loopback,
    /// Authentication is disabled.
    pub disabled: bool,
    /// The origins whose pages may read answers.
    pub origins: Vec<Origin>,
    /// Names of this machine besides `localhost` and its addresses.
    pub hosts: Vec<HostName>,
    /// The servers that say for whom they ask, by the names in their certificates.
    pub fronts: Vec<String>,
    /// Requests of one client that may run or wait at once.
    pub per_client: NonZeroUsize,
}

/// The path of the token file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenPath {
    /// To open it.
    pub file: PathBuf,
    /// As the operator wrote it, for error messages.
    pub shown: String,
}

impl AccessRules {
    /// The token's file as the operator wrote it, where this machine's own requests need it.
    pub(crate) fn token_of_loopback(&self) -> Option<&str> {
        let required = self.loopback == Loopback::Required && !self.disabled;
        self.token
            .as_ref()
            .filter(|_| required)
            .map(|token| token.shown.as_str())
    }
}
