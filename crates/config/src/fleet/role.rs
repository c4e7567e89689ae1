//! The section of fleet.toml behind an agent's name.

use std::path::PathBuf;

use super::daemons::{Agent, Watch};
use super::page::FleetPage;
use super::sections::Fleet;
use super::server::Server;
use crate::Label;

/// The section behind an agent's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role<'a> {
    /// `[servers.NAME]`.
    Server(&'a Server),
    /// `[agents.NAME]`.
    Agent(&'a Agent),
    /// `[watch.NAME]`.
    Watch(&'a Watch),
    /// `[pages.NAME]`.
    Page(&'a FleetPage),
}

impl Fleet {
    /// launchd's label for an agent: `com.<fleet>.<agent>`.
    pub fn launchd_label(&self, agent: &Label) -> String {
        format!("com.{}.{agent}", self.fleet.name)
    }

    /// The section behind a name.
    pub fn role(&self, name: &Label) -> Option<Role<'_>> {
        let server = self.servers.get(name).map(Role::Server);
        let agent = || self.agents.get(name).map(Role::Agent);
        let watch = || self.watch.get(name).map(Role::Watch);
        let page = || self.pages.get(name).map(Role::Page);
        server.or_else(agent).or_else(watch).or_else(page)
    }

    /// The agents of a host: its `agents`, in that order, then the programs of `[agents.*]` and the pages of `[pages.*]` that
    /// name it as their host. None if there is no such host.
    pub fn agents_of(&self, host: &Label) -> Vec<(&Label, Role<'_>)> {
        let listed = self.hosts.get(host).into_iter().flat_map(|h| &h.agents);
        let known = listed.filter_map(|name| Some((name, self.role(name)?)));
        let mut all: Vec<(&Label, Role)> = Vec::new();
        let own = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.host == *host)
            .map(|(name, agent)| (name, Role::Agent(agent)));
        let pages = self.pages.iter();
        let pages = pages.filter(|(_, page)| page.host == *host);
        let own = own.chain(pages.map(|(name, page)| (name, Role::Page(page))));
        for (name, role) in known.chain(own) {
            if !all.iter().any(|(other, _)| *other == name) {
                all.push((name, role));
            }
        }
        all
    }

    /// The server that a watchdog watches: its `target`, else the only server.
    pub fn watched_server<'a>(&'a self, watch: &Watch) -> Option<&'a Label> {
        let only = || {
            let mut servers = self.servers.keys();
            servers.next().filter(|_| servers.next().is_none())
        };
        let target = watch.target.as_ref();
        match target.and_then(|target| self.servers.get_key_value(target)) {
            Some((name, _)) => Some(name),
            None => only(),
        }
    }

    /// The host on which an agent is installed.
    pub fn host_of(&self, agent: &Label) -> Option<&Label> {
        match self.role(agent)? {
            Role::Server(server) => Some(&server.host),
            Role::Agent(agent) => Some(&agent.host),
            Role::Page(page) => Some(&page.host),
            Role::Watch(_) => self
                .hosts
                .iter()
                .find(|(_, host)| host.agents.contains(agent))
                .map(|(name, _)| name),
        }
    }

    /// The relative paths of files that are deployed with fleet.toml for the agents of one host: manifests and parity specs.
    /// Signatures are beside their manifests and are not listed.
    pub fn companions(&self, host: &Label) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self
            .agents_of(host)
            .into_iter()
            .flat_map(|(_, role)| match role {
                Role::Server(server) => server
                    .models
                    .iter()
                    .filter_map(|model| model.manifest.as_ref())
                    .collect(),
                Role::Watch(watch) => watch.spec.iter().collect(),
                Role::Agent(_) | Role::Page(_) => Vec::new(),
            })
            .filter(|path| !path.as_str().starts_with(['/', '~']))
            .map(|path| PathBuf::from(path.as_str()))
            .collect();
        files.sort();
        files.dedup();
        files
    }
}
