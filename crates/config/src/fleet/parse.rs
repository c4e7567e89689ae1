//! Reads fleet.toml, and checks that its sections fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::daemons::Agent;
use super::role::Role;
use super::sections::Fleet;
use super::server::{AmbiguousAlias, Server};
use crate::near::did_you_mean_or_names;
use crate::{FleetError, Label, ListenAddress, files};

impl Fleet {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, FleetError> {
        /// Thousands of agents.
        const LARGEST: u64 = 4 << 20;
        let text = files::read_text(path, LARGEST).map_err(|source| FleetError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses and checks the text of a file; `path` is for the messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FleetError> {
        let fleet: Self = toml::from_str(text)
            .map_err(|error| FleetError::from_toml(path.to_owned(), text, &error))?;
        for (name, server) in &fleet.servers {
            if let Some(AmbiguousAlias { place, message }) = server.ambiguous_alias() {
                return Err(FleetError::Line {
                    path: path.to_owned(),
                    line: line_of_alias(text, name, place),
                    message,
                });
            }
        }
        fleet.check(path)?;
        Ok(fleet)
    }

    /// Checks that every reference names a section, and that names are unique.
    fn check(&self, path: &Path) -> Result<(), FleetError> {
        let refer = SectionReference { path };
        let hosts: Vec<&Label> = self.hosts.keys().collect();
        let servers: Vec<&Label> = self.servers.keys().collect();
        let channels: Vec<&Label> = self.alerts.keys().collect();
        let runnable: Vec<&Label> = self
            .servers
            .keys()
            .chain(self.agents.keys())
            .chain(self.watch.keys())
            .chain(self.pages.keys())
            .collect();

        let mut seen = BTreeSet::new();
        if let Some(twice) = runnable.iter().find(|name| !seen.insert(**name)) {
            let message = format!(
                "the name `{twice}` is used in two of [servers], [agents], [watch] and [pages]; rename one of them"
            );
            return Err(refer.error(format!("servers, agents, watch, pages: {twice}"), message));
        }
        for (name, host) in &self.hosts {
            if let Some(message) = host.contradiction() {
                return Err(refer.error(format!("hosts.{name}"), message));
            }
            for agent in &host.agents {
                let section = || format!("hosts.{name}");
                refer.find(
                    section,
                    "agents",
                    agent,
                    &runnable,
                    "servers, agents, watch or pages",
                )?;
            }
        }
        for (name, server) in &self.servers {
            let section = || format!("servers.{name}");
            refer.find(section, "host", &server.host, &hosts, "hosts")?;
            if let Some(message) = server
                .contradiction()
                .or_else(|| self.second_of_cache(name))
                .or_else(|| self.second_of_address(name))
            {
                return Err(refer.error(section(), message));
            }
        }
        for (name, agent) in &self.agents {
            let section = || format!("agents.{name}");
            refer.find(section, "host", &agent.host, &hosts, "hosts")?;
            if let Some(server) = &agent.standby_for {
                refer.find(section, "standby_for", server, &servers, "servers")?;
            }
            if let Some(message) = self
                .cannot_stand_by(agent)
                .or_else(|| agent.contradiction())
            {
                return Err(refer.error(section(), message));
            }
        }
        for (name, watch) in &self.watch {
            let section = || format!("watch.{name}");
            if let Some(target) = &watch.target {
                refer.find(section, "target", target, &servers, "servers")?;
            }
            for channel in &watch.alert {
                refer.find(section, "alert", channel, &channels, "alerts")?;
            }
            if let Some(message) = watch.contradiction() {
                return Err(refer.error(section(), message));
            }
        }
        for (name, page) in &self.pages {
            let section = || format!("pages.{name}");
            refer.find(section, "host", &page.host, &hosts, "hosts")?;
            if let Some(message) = page.contradiction().or_else(|| self.port_of_another(name)) {
                return Err(refer.error(section(), message));
            }
        }
        for (name, channel) in &self.alerts {
            if let Some(message) = channel.contradiction(name) {
                return Err(refer.error(format!("alerts.{name}"), message));
            }
        }
        self.places(&refer)
    }

    /// Checks that every agent is on one host, its own, and that files deployed with fleet.toml are in or under its folder.
    fn places(&self, refer: &SectionReference) -> Result<(), FleetError> {
        let mut placed: BTreeMap<&Label, &Label> = BTreeMap::new();
        for (name, host) in &self.hosts {
            let wrong = |message| Err(refer.error(format!("hosts.{name}"), message));
            for agent in &host.agents {
                if let Some(other) = placed.insert(agent, name) {
                    return wrong(format!(
                        "`{agent}` is an agent of `{other}` too; give each host a section of its own (a watchdog's \
                         second section says `check = ...`)"
                    ));
                }
                let own = match self.role(agent) {
                    Some(Role::Server(server)) => &server.host,
                    Some(Role::Agent(agent)) => &agent.host,
                    Some(Role::Page(page)) => &page.host,
                    _ => name,
                };
                if own != name {
                    return wrong(format!(
                        "`{agent}` is listed here, and its own section says `host = \"{own}\"`; change one of them"
                    ));
                }
            }
            let upwards =
                |path: &PathBuf| path.components().any(|part| part == Component::ParentDir);
            if let Some(path) = self.companions(name).into_iter().find(upwards) {
                return wrong(format!(
                    "an agent here uses `{}`, which would be deployed outside of the fleet's home; put it beside \
                     fleet.toml or write a path that begins with / or ~/",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// Two processes cannot keep their prefixes in one folder.
    fn second_of_cache(&self, name: &Label) -> Option<String> {
        let server = self.servers.get(name)?;
        let folder = server.cache_dir.as_ref()?;
        let mut others = self.servers.range::<Label, _>(..name);
        let (other, _) = others.find(|(_, other)| {
            other.host == server.host && other.cache_dir.as_ref() == Some(folder)
        })?;
        Some(format!(
            "`{other}` uses the `cache_dir` {folder} too, and a folder belongs to one server; write another one here"
        ))
    }

    /// Two servers of a host cannot listen at one address.
    fn second_of_address(&self, name: &Label) -> Option<String> {
        let server = self.servers.get(name)?;
        let addresses = |server: &Server| -> Vec<ListenAddress> {
            let all = server.listen.iter().chain(&server.tls_listen);
            all.filter(|address| address.port() != 0).cloned().collect()
        };
        let own = addresses(server);
        let others = self.servers.range::<Label, _>(..name);
        others
            .filter(|(_, other)| other.host == server.host)
            .find_map(|(other, section)| {
                let theirs = addresses(section);
                let clashes = |one: &&ListenAddress| own.iter().any(|own| own.clashes_with(one));
                let twice = theirs.iter().find(clashes)?;
                Some(format!(
                    "`{other}` listens at {twice} on this host too; write another port in `listen` or `tls_listen`"
                ))
            })
    }

    /// A page at the address of a server or of another page of its host would not start.
    fn port_of_another(&self, name: &Label) -> Option<String> {
        let page = self.pages.get(name)?;
        let own = ListenAddress::from(page.address().ok()?);
        let port = own.port();
        let servers = self.servers.iter().filter_map(|(other, server)| {
            let mut listens = server.listen.iter().chain(&server.tls_listen);
            (server.host == page.host && listens.any(|address| address.clashes_with(&own)))
                .then_some(other)
        });
        let pages = self.pages.range::<Label, _>(..name);
        let pages = pages.filter_map(|(other, section)| {
            let address = section.address().map(ListenAddress::from);
            let clashes = address.is_ok_and(|address| address.clashes_with(&own));
            (section.host == page.host && clashes).then_some(other)
        });
        let other = servers.chain(pages).find(|_| port != 0)?;
        Some(format!(
            "`{other}` listens on port {port} of `{}` too; write another one: listen = \"127.0.0.1:{}\"",
            page.host,
            port.checked_add(1).unwrap_or(1024)
        ))
    }

    fn cannot_stand_by(&self, agent: &Agent) -> Option<String> {
        let name = agent.standby_for.as_ref()?;
        let server = self.servers.get(name)?;
        (server.host != agent.host).then(|| {
            format!(
                "it stands by for `{name}`, which runs on `{}`; a standby agent takes its server's port and must be on \
                 the same host",
                server.host
            )
        })
    }
}

/// The line of an alias, in a text that is a valid fleet.toml.
fn line_of_alias(text: &str, server: &Label, (model, alias): (usize, usize)) -> usize {
    #[derive(Deserialize)]
    struct Places {
        servers: BTreeMap<String, ServerPlaces>,
    }
    #[derive(Deserialize)]
    struct ServerPlaces {
        #[serde(default)]
        models: Vec<ModelPlaces>,
    }
    #[derive(Deserialize)]
    struct ModelPlaces {
        #[serde(default)]
        aliases: Vec<Spanned<String>>,
    }
    let places: Option<Places> = toml::from_str(text).ok();
    let at = places.and_then(|places| {
        let models = &places.servers.get(server.as_str())?.models;
        Some(models.get(model)?.aliases.get(alias)?.span().start)
    });
    FleetError::line_at(text, at.unwrap_or_default())
}

/// Looks up the references from one section to another.
struct SectionReference<'a> {
    path: &'a Path,
}

impl SectionReference<'_> {
    fn find(
        &self,
        section: impl Fn() -> String,
        key: &str,
        name: &Label,
        known: &[&Label],
        home: &str,
    ) -> Result<(), FleetError> {
        if known.contains(&name) {
            return Ok(());
        }
        let names = known.iter().map(|label| label.as_str());
        let near = did_you_mean_or_names(name.as_str(), names);
        let message =
            format!("`{key}` names `{name}`, and there is no such section in {home}{near}");
        Err(self.error(section(), message))
    }

    fn error(&self, section: String, message: String) -> FleetError {
        let path = PathBuf::from(self.path);
        FleetError::Section {
            path,
            section,
            message,
        }
    }
}
