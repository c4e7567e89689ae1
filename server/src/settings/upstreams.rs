//! Which models have upstreams, and what this server presents to them.

use std::path::PathBuf;
use std::time::Duration;

use sanctum_client::Credentials;
use sanctum_config::NoHome;
use sanctum_config::fleet::{self, UpstreamSection};

use super::section::Section;
use crate::args::ServeArgs;
use crate::front::{FrontSpec, UpstreamSpec};
use crate::models::ModelSpec;

/// How long a connection to an upstream may take by default.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the first byte of a response may take by default: a prompt of a whole context is computed before it.
const FIRST_BYTE: Duration = Duration::from_secs(600);

/// The models with upstreams: those of the command line, or else those of fleet.toml.
pub(super) fn resolve(
    args: &ServeArgs,
    section: Option<&Section>,
    local: &[ModelSpec],
) -> Result<Vec<FrontSpec>, NoHome> {
    let mut fronts: Vec<FrontSpec> = Vec::new();
    let is_local = |id: &_| local.iter().any(|model| model.id == *id);
    for upstream in &args.upstream {
        let spec = UpstreamSpec {
            name: upstream.address.clone(),
            base: upstream.base.clone(),
            model: None,
            credentials: Credentials::None,
            connect: CONNECT,
            first_byte: FIRST_BYTE,
        };
        match fronts.iter_mut().find(|front| front.id == upstream.id) {
            Some(front) => front.upstreams.push(spec),
            None => fronts.push(FrontSpec {
                id: upstream.id.clone(),
                aliases: Vec::new(),
                is_local: is_local(&upstream.id),
                upstreams: vec![spec],
            }),
        }
    }
    let Some(section) = section.filter(|_| args.upstream.is_empty() && args.model.is_empty())
    else {
        return Ok(fronts);
    };
    for model in &section.server.models {
        let upstreams = model
            .upstreams
            .iter()
            .map(|upstream| of_file(upstream, section));
        let upstreams: Vec<_> = upstreams.collect::<Result<_, _>>()?;
        if !upstreams.is_empty() {
            fronts.push(FrontSpec {
                id: model.id.clone(),
                aliases: model.aliases.clone(),
                is_local: is_local(&model.id),
                upstreams,
            });
        }
    }
    Ok(fronts)
}

fn of_file(upstream: &UpstreamSection, section: &Section) -> Result<UpstreamSpec, NoHome> {
    // fleet.toml was checked.
    let (scheme, address) = upstream.scheme_and_address().unwrap_or(("http", ""));
    let own = |ending: &str| -> Result<PathBuf, NoHome> {
        let home = section.path(&section.home)?;
        let client = fleet::Server::upstream_client(&section.name);
        Ok(home.join(format!("certs/clients/{client}.{ending}")))
    };
    let credentials = match (&upstream.token_file, scheme) {
        (Some(token), _) => Credentials::Bearer(section.path(token)?),
        (None, "https") => Credentials::Mutual {
            ca: match &upstream.ca {
                Some(path) => section.path(path)?,
                None => section.path(&section.home)?.join("certs/ca.crt"),
            },
            certificate: match &upstream.certificate {
                Some(path) => section.path(path)?,
                None => own("crt")?,
            },
            key: match &upstream.key {
                Some(path) => section.path(path)?,
                None => own("key")?,
            },
        },
        (None, _) => Credentials::None,
    };
    Ok(UpstreamSpec {
        name: match &upstream.name {
            Some(name) => name.to_string(),
            None => address.to_owned(),
        },
        base: format!("{scheme}://{address}"),
        model: upstream.model.as_ref().map(ToString::to_string),
        credentials,
        connect: upstream.connect_timeout.unwrap_or(CONNECT),
        first_byte: upstream.first_byte_timeout.unwrap_or(FIRST_BYTE),
    })
}
