//! What a host should look like: files and agents. Made from fleet.toml and a release (`desired`), or recalled from an
//! earlier deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sanctum_config::{Digest, Fleet, Label, Role};
use sanctum_host::journal::timestamp;
use sanctum_host::{Active, ArtefactKind, InstalledAgent, PropertyList, Receipt};

use crate::Error;
use crate::store::DeploymentStore;

/// What a host should look like.
#[derive(Clone, Debug)]
pub(crate) struct HostState {
    /// Files and agents.
    pub(crate) receipt: Receipt,
    /// The fleet.toml among the files.
    pub(crate) fleet: Fleet,
    /// Which agent serves for each server.
    pub(crate) active: Active,
    /// The arguments of each agent's property list, by label; an agent whose property list is unknown is missing.
    pub(crate) arguments: BTreeMap<String, Vec<String>>,
    /// The contents of the files that are not programs, by digest; empty if the store has them.
    pub(crate) contents: BTreeMap<Digest, Vec<u8>>,
}

impl HostState {
    /// What was deployed with `receipt`.
    ///
    /// # Errors
    /// If its fleet.toml is no longer stored.
    pub(crate) fn recall(store: &DeploymentStore, receipt: Receipt) -> Result<Self, Error> {
        let mut files = receipt.artefacts.iter();
        let fleet = match files.find(|artefact| artefact.kind == ArtefactKind::Fleet) {
            None => Fleet::default(),
            Some(artefact) => {
                let bytes = store.read(&receipt.release, artefact)?;
                let path = store.path_of(&receipt.release, artefact);
                Fleet::parse(&String::from_utf8_lossy(&bytes), &path)?
            }
        };
        let mut arguments = BTreeMap::new();
        for agent in &receipt.agents {
            let plist = receipt.artefact(&agent.plist);
            let bytes = plist.and_then(|plist| store.read(&receipt.release, plist).ok());
            let known = bytes.and_then(|bytes| PropertyList::parse(&bytes)?.arguments);
            arguments.extend(known.map(|known| (agent.label.clone(), known)));
        }
        Ok(Self {
            arguments,
            ..Self::without_contents(receipt, fleet)
        })
    }

    /// The state that a receipt describes, with the fleet.toml that belongs to it.
    pub(crate) fn without_contents(receipt: Receipt, fleet: Fleet) -> Self {
        Self {
            active: active_of(&fleet, &receipt),
            receipt,
            fleet,
            arguments: BTreeMap::new(),
            contents: BTreeMap::new(),
        }
    }

    /// A host without any agent or file of a fleet.
    pub(crate) fn nothing(host: &Label) -> Self {
        let receipt = Receipt {
            host: host.clone(),
            release: "none".into(),
            previous: None,
            installed: timestamp(),
            fleet_sha256: Digest::of(b""),
            artefacts: Vec::new(),
            agents: Vec::new(),
        };
        Self::without_contents(receipt, Fleet::default())
    }

    /// Whether it is [`HostState::nothing`].
    pub(crate) fn is_nothing(&self) -> bool {
        self.receipt.agents.is_empty() && self.receipt.artefacts.is_empty()
    }

    /// The same state in which `agent` serves for its server, and the other agents that could are on standby.
    ///
    /// # Errors
    /// If `agent` is neither a server nor a standby agent of this host.
    pub(crate) fn with_active(mut self, agent: &Label) -> Result<Self, Error> {
        let server = match self.fleet.role(agent) {
            Some(Role::Server(_)) => Some(agent.clone()),
            Some(Role::Agent(standby)) => standby.standby_for.clone(),
            _ => None,
        };
        let here = self.receipt.agent(agent).is_some();
        let Some(server) = server.filter(|_| here) else {
            let can: Vec<&str> = (self.receipt.agents.iter())
                .filter(|other| self.has_alternative(&other.name))
                .map(|other| other.name.as_str())
                .collect();
            let can = match can.is_empty() {
                true => "this host has no standby agent; give an [agents.NAME] a `standby_for`"
                    .to_owned(),
                false => format!("on this host, use one of {}", can.join(", ")),
            };
            return Err(Error::refused(format!(
                "`{agent}` is neither a server nor a standby agent: {can}"
            )));
        };
        self.active.set(server, agent.clone());
        for other in &mut self.receipt.agents {
            other.enabled = is_enabled(&self.fleet, &self.active, &other.name);
        }
        self.receipt.installed = timestamp();
        self.active = active_of(&self.fleet, &self.receipt);
        Ok(self)
    }

    /// Whether an agent is a standby agent, or a server that has one.
    fn has_alternative(&self, agent: &Label) -> bool {
        let mut agents = self.fleet.agents.iter();
        agents.any(|(name, other)| {
            let standby_for = other.standby_for.as_ref();
            (name == agent && standby_for.is_some()) || standby_for == Some(agent)
        })
    }

    /// The files that an agent runs with, besides fleet.toml: it has to be restarted when one of them changes.
    pub(crate) fn runs_with(&self, agent: &InstalledAgent) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::from([agent.plist.clone()]);
        let mut artefacts = self.receipt.artefacts.iter();
        let home = artefacts
            .find(|artefact| artefact.kind == ArtefactKind::Fleet)
            .and_then(|artefact| artefact.path.parent());
        let role = self.fleet.role(&agent.name);
        let is_server = matches!(role, Some(Role::Server(_)));
        let binary = match role {
            Some(Role::Server(_)) => "sanctum-server".to_owned(),
            Some(Role::Watch(watch)) => format!("sanctum-{}", watch.check(&agent.name)),
            Some(Role::Page(_)) => "sanctum-launchd".to_owned(),
            _ => return files,
        };
        for artefact in &self.receipt.artefacts {
            let name = artefact.path.file_name();
            let is_used = match artefact.kind {
                ArtefactKind::Binary => name.is_some_and(|name| name == &*binary),
                ArtefactKind::Metallib => is_server,
                ArtefactKind::Spec => home.is_some_and(|home| {
                    let relative = artefact.path.strip_prefix(home).unwrap_or(&artefact.path);
                    let used = companions_of(&self.fleet, &agent.name);
                    used.iter()
                        .any(|path| relative == path || relative == signature_of(path))
                }),
                ArtefactKind::Fleet | ArtefactKind::Plist => false,
            };
            if is_used {
                files.insert(artefact.path.clone());
            }
        }
        files
    }
}

/// Whether an agent must be restarted when fleet.toml changes from `old` to `new`. Watchdogs and pages are restarted for any change,
/// because a restart costs nothing. A server is restarted only if its own section changes: a restart may take a minute.
pub(crate) fn needs_restart(agent: &Label, old: &Fleet, new: &Fleet) -> bool {
    match (old.role(agent), new.role(agent)) {
        (Some(Role::Server(a)), Some(Role::Server(b))) => {
            a != b || old.fleet.home != new.fleet.home
        }
        // Programs of others do not read fleet.toml.
        (_, Some(Role::Agent(_))) => false,
        _ => true,
    }
}

/// The signature of a model's manifest is in a file beside it.
pub(crate) fn signature_of(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// The relative paths of fleet.toml that one agent uses.
fn companions_of(fleet: &Fleet, agent: &Label) -> Vec<PathBuf> {
    let paths: Vec<_> = match fleet.role(agent) {
        Some(Role::Server(server)) => {
            let models = server.models.iter();
            models.filter_map(|model| model.manifest.clone()).collect()
        }
        Some(Role::Watch(watch)) => watch.spec.iter().cloned().collect(),
        _ => Vec::new(),
    };
    paths
        .iter()
        .map(|path| PathBuf::from(path.as_str()))
        .collect()
}

/// Watchdogs and pages are always enabled. A server is enabled unless a standby agent serves for it, and a standby agent only if it
/// serves.
pub(crate) fn is_enabled(fleet: &Fleet, active: &Active, agent: &Label) -> bool {
    match fleet.role(agent) {
        Some(Role::Server(_)) => !is_standby_for(fleet, active.agent_for(agent), agent),
        Some(Role::Agent(standby)) => match &standby.standby_for {
            Some(server) => active.agent_for(server) == agent,
            None => true,
        },
        _ => true,
    }
}

/// Whether `agent` is still a standby agent for the server: it may have been removed from fleet.toml after a switch to it.
fn is_standby_for(fleet: &Fleet, agent: &Label, server: &Label) -> bool {
    let standby = fleet.agents.get(agent);
    standby.is_some_and(|standby| standby.standby_for.as_ref() == Some(server))
}

/// Which agent serves, according to which agents are enabled. Only servers that have a standby agent are named.
pub(crate) fn active_of(fleet: &Fleet, receipt: &Receipt) -> Active {
    let mut active = Active::default();
    for (name, agent) in &fleet.agents {
        if let (Some(server), Some(installed)) = (&agent.standby_for, receipt.agent(name)) {
            let is_decided = active.agent_for(server) != server;
            if installed.enabled {
                active.set(server.clone(), name.clone());
            } else if !is_decided {
                active.set(server.clone(), server.clone());
            }
        }
    }
    active
}
