//! What to serve and where, decided from the command line and fleet.toml, before anything is opened.

mod access;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sanctum_config::fleet::{Backend, Model, Server};
use sanctum_config::{Fleet, FleetError, Label, ModelId, NoHome, TildePath, did_you_mean};
use sanctum_engine::backend::Precision;
use sanctum_engine::launch::LaunchOptions;
use sanctum_engine::load::Source;

use crate::args::ServeArgs;
use crate::audit::Place;
use crate::gate::Rules;
use access::Section;

#[cfg(test)]
pub use access::PER_CLIENT;

/// The port of a server that is told no other.
const PORT: u16 = 1337;
/// How long running requests may take to finish after SIGTERM, where nothing is said.
const DRAIN: Duration = Duration::from_secs(30);
/// What requests call the built-in model.
const BUILT_IN: &str = "sanctum-tiny";

/// What to serve and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen: one address at least.
    pub listen: Vec<SocketAddr>,
    /// What to serve: one at least; the first where a request names none.
    pub models: Vec<(ModelId, Source)>,
    /// How to load and run each of them.
    pub options: LaunchOptions,
    /// How long running requests may take to finish after SIGTERM.
    pub drain: Duration,
    /// Who is let in.
    pub rules: Rules,
    /// Where the audit log goes; none: none is kept.
    pub audit: Option<Place>,
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
    NotLoopback(SocketAddr),
    /// This machine's own requests need the token, and there is none.
    #[error(
        "loopback = \"required\" wants a token from everybody, and there is none; make one with \
         `sanctum-pki token server` and name it with --auth-token-file"
    )]
    NothingToRequire,
    /// fleet.toml asks for something that protects, and that this build cannot do: serving without it would pretend.
    #[error(
        "[servers.{server}] asks for `{key}`, which this build cannot do; remove it to serve without"
    )]
    NotInThisBuild {
        /// The server.
        server: Label,
        /// The key.
        key: &'static str,
    },
    /// Two models have one id.
    #[error("two models have the id `{0}`; name one of them: --model OTHER={0}")]
    TwoModels(ModelId),
    /// A path begins with `~`.
    #[error(transparent)]
    NoHome(#[from] NoHome),
}

impl Settings {
    /// Reads fleet.toml if it is named, and decides.
    pub fn resolve(args: &ServeArgs) -> Result<Self, SettingsError> {
        let chosen = match &args.config {
            Some(path) => {
                let fleet = Fleet::read(path)?;
                let home = fleet.fleet.home.clone();
                let (name, server) =
                    choose(fleet, &path.display().to_string(), args.server.as_ref())?;
                refuse_what_this_build_cannot_do(&name, &server)?;
                Some((name, server, home, path))
            }
            None => None,
        };
        let section = chosen.as_ref().map(|(name, server, home, file)| Section {
            name,
            server,
            home,
            file,
        });
        let server = section.map(|section| section.server);
        let listen = listen(args, server);
        let rules = access::rules(args, section, access::is_disabled())?;
        access::check_addresses(&listen, &rules)?;
        Ok(Self {
            listen,
            models: models(args, server)?,
            options: options(args, server),
            drain: args
                .drain()
                .or(server.and_then(|server| server.drain))
                .unwrap_or(DRAIN),
            rules,
            audit: access::audit(args, section)?,
        })
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

fn refuse_what_this_build_cannot_do(name: &Label, server: &Server) -> Result<(), SettingsError> {
    let manifest = |model: &Model| model.manifest.is_some();
    let adapter = |model: &Model| model.adapter.is_some();
    let asked = [
        ("manifest", server.models.iter().any(manifest)),
        ("adapter", server.models.iter().any(adapter)),
        ("tls_listen", !server.tls_listen.is_empty()),
        ("backend = \"mlx\"", server.backend == Backend::Mlx),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((key, _)) => Err(SettingsError::NotInThisBuild {
            server: name.clone(),
            key,
        }),
    }
}

fn listen(args: &ServeArgs, server: Option<&Server>) -> Vec<SocketAddr> {
    let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
    match server {
        Some(server) if args.host.is_empty() && args.port.is_none() => server.listen.clone(),
        _ => {
            let port = args.port.unwrap_or(PORT);
            let mut hosts: Vec<IpAddr> = args.host.iter().map(|host| host.0).collect();
            if hosts.is_empty() {
                hosts.push(localhost);
            }
            hosts
                .into_iter()
                .map(|host| SocketAddr::new(host, port))
                .collect()
        }
    }
}

fn models(
    args: &ServeArgs,
    server: Option<&Server>,
) -> Result<Vec<(ModelId, Source)>, SettingsError> {
    let known = "these ids follow their own rule";
    if let Some(shape) = args.shape {
        let id = shape.to_string().parse().expect(known);
        return Ok(vec![(id, Source::Shape(shape))]);
    }
    let given: Vec<(ModelId, &TildePath)> = match server {
        Some(server) if args.model.is_empty() => server
            .models
            .iter()
            .map(|model| (model.id.clone(), &model.path))
            .collect(),
        _ => args
            .model
            .iter()
            .map(|model| (model.id.clone(), &model.path))
            .collect(),
    };
    let mut models: Vec<(ModelId, Source)> = Vec::with_capacity(given.len());
    for (id, path) in given {
        if models.iter().any(|(other, _)| *other == id) {
            return Err(SettingsError::TwoModels(id));
        }
        models.push((id, Source::Folder(path.here()?)));
    }
    if models.is_empty() {
        models.push((BUILT_IN.parse().expect(known), Source::Embedded));
    }
    Ok(models)
}

fn options(args: &ServeArgs, server: Option<&Server>) -> LaunchOptions {
    let usual = LaunchOptions::default();
    let limits = server
        .map(|server| server.limits.clone())
        .unwrap_or_default();
    let exact = args.exact || server.is_some_and(|server| server.exact);
    LaunchOptions {
        precision: if exact {
            Precision::Exact
        } else {
            usual.precision
        },
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

fn counted(servers: usize) -> String {
    match servers {
        0 => "no server".to_owned(),
        several => format!("{several} servers"),
    }
}

#[cfg(test)]
mod tests;
