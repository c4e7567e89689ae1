//! What a host should look like: made from fleet.toml and a release, or recalled from an earlier deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use sanctum_config::{Digest, Fleet, Label, Role, files};
use sanctum_host::{Active, Artefact, ArtefactKind, InstalledAgent, Receipt};

use crate::Failure;
use crate::journal::now;
use crate::plist;
use crate::release::{Mode, Release};
use crate::site::Site;
use crate::store::Store;

/// What a host should look like.
#[derive(Clone, Debug)]
pub struct Target {
    /// Files and agents.
    pub receipt: Receipt,
    /// The fleet.toml among the files.
    pub fleet: Fleet,
    /// Who serves.
    pub active: Active,
    /// What is in the files, by digest; empty where the store has it. Programs are not among them.
    pub contents: BTreeMap<Digest, Vec<u8>>,
}

impl Target {
    /// What fleet.toml and a release ask for, with `active` agents enabled and their counterparts standing by.
    ///
    /// # Errors
    /// If the release lacks a program, or a file that fleet.toml names is missing.
    pub fn desired(
        site: &Site,
        release: &Release,
        previous: Option<String>,
        active: &Active,
    ) -> Result<Self, Failure> {
        let (fleet, home) = (&site.fleet, &site.home);
        let mut files = Files::default();
        for file in &release.files {
            files.artefacts.push(Artefact {
                path: home.bin().join(file.name.as_str()),
                sha256: file.sha256,
                mode: file.kind.mode(),
                kind: file.kind,
            });
        }
        files.add(home.fleet_toml(), site.text.clone(), ArtefactKind::Fleet);
        companions(site, &mut files)?;
        let mut agents = Vec::new();
        for plist in plist::render(fleet, home, &site.host)? {
            if let Some(binary) = &plist.binary
                && release.file(binary).is_none()
            {
                return Err(Failure::Refused(format!(
                    "release {} has no {binary}, which the agent `{}` is; add it to the release, or take the agent out of \
                     [hosts.{}]",
                    release.version, plist.agent, site.host
                )));
            }
            agents.push(InstalledAgent {
                enabled: is_enabled(fleet, active, &plist.agent),
                name: plist.agent,
                label: plist.label,
                plist: plist.path.clone(),
            });
            files.add(plist.path, plist.bytes, ArtefactKind::Plist);
        }
        let receipt = Receipt {
            host: site.host.clone(),
            release: release.version.to_string(),
            previous,
            installed: now(),
            fleet_sha256: Digest::of(&site.text),
            artefacts: files.artefacts,
            agents,
        };
        Ok(Self {
            active: active_of(fleet, &receipt),
            receipt,
            fleet: fleet.clone(),
            contents: files.contents,
        })
    }

    /// What was deployed before.
    ///
    /// # Errors
    /// If its fleet.toml is kept no longer.
    pub fn recall(store: &Store, receipt: Receipt) -> Result<Self, Failure> {
        let fleet = match receipt
            .artefacts
            .iter()
            .find(|artefact| artefact.kind == ArtefactKind::Fleet)
        {
            None => Fleet::default(),
            Some(artefact) => {
                let path = store.place(&receipt.release, artefact);
                let mut text = String::new();
                store
                    .open(&receipt.release, artefact)?
                    .read_to_string(&mut text)
                    .map_err(|error| Failure::read(&path, error))?;
                Fleet::parse(&text, &path)?
            }
        };
        Ok(Self::of(receipt, fleet))
    }

    /// What a receipt says, with the fleet.toml that it is about.
    pub fn of(receipt: Receipt, fleet: Fleet) -> Self {
        Self {
            active: active_of(&fleet, &receipt),
            receipt,
            fleet,
            contents: BTreeMap::new(),
        }
    }

    /// A host with nothing of ours on it.
    pub fn nothing(host: &Label) -> Self {
        Self {
            receipt: Receipt {
                host: host.clone(),
                release: "none".into(),
                previous: None,
                installed: now(),
                fleet_sha256: Digest::of(b""),
                artefacts: Vec::new(),
                agents: Vec::new(),
            },
            fleet: Fleet::default(),
            active: Active::default(),
            contents: BTreeMap::new(),
        }
    }

    /// Whether it is [`Target::nothing`].
    pub fn is_nothing(&self) -> bool {
        self.receipt.agents.is_empty() && self.receipt.artefacts.is_empty()
    }

    /// The same with `agent` serving in its server's place and the others that could standing by.
    ///
    /// # Errors
    /// If no server and no standby agent of this host has that name.
    pub fn flipped_to(mut self, agent: &Label) -> Result<Self, Failure> {
        let server = match self.fleet.role(agent) {
            Some(Role::Server(_)) => Some(agent.clone()),
            Some(Role::Agent(standby)) => standby.standby_for.clone(),
            _ => None,
        };
        let here = self.receipt.agent(agent).is_some();
        let Some(server) = server.filter(|_| here) else {
            let can: Vec<&str> = (self.receipt.agents.iter())
                .filter(|other| self.place_of(&other.name).is_some())
                .map(|other| other.name.as_str())
                .collect();
            let can = match can.is_empty() {
                true => "this host has none; give an [agents.NAME] a `standby_for`".to_owned(),
                false => format!("here that can be done with {}", can.join(", ")),
            };
            return Err(Failure::Refused(format!(
                "`{agent}` is no agent that a server's place can be handed to: {can}"
            )));
        };
        self.active.set(server, agent.clone());
        for other in &mut self.receipt.agents {
            other.enabled = is_enabled(&self.fleet, &self.active, &other.name);
        }
        self.receipt.installed = now();
        self.active = active_of(&self.fleet, &self.receipt);
        Ok(self)
    }

    /// The server whose place an agent can take, where there are several that can.
    fn place_of(&self, agent: &Label) -> Option<&Label> {
        self.fleet
            .agents
            .iter()
            .find(|(name, other)| *name == agent || other.standby_for.as_ref() == Some(agent))
            .and_then(|(_, other)| other.standby_for.as_ref())
    }

    /// The files that an agent runs with, besides fleet.toml: when one of them changes, it has to be restarted.
    pub fn runs_with(&self, agent: &InstalledAgent) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::from([agent.plist.clone()]);
        let home = self
            .receipt
            .artefacts
            .iter()
            .find(|artefact| artefact.kind == ArtefactKind::Fleet)
            .and_then(|artefact| artefact.path.parent());
        let binary = match self.fleet.role(&agent.name) {
            Some(Role::Server(_)) => "sanctum-server".to_owned(),
            Some(Role::Watch(watch)) => format!("sanctum-{}", watch.check(&agent.name)),
            _ => return files,
        };
        let server = matches!(self.fleet.role(&agent.name), Some(Role::Server(_)));
        for artefact in &self.receipt.artefacts {
            let uses = match artefact.kind {
                ArtefactKind::Binary => artefact
                    .path
                    .file_name()
                    .is_some_and(|name| name == &*binary),
                ArtefactKind::Metallib => server,
                ArtefactKind::Spec => home.is_some_and(|home| {
                    let relative = artefact.path.strip_prefix(home).unwrap_or(&artefact.path);
                    used_by(&self.fleet, &agent.name)
                        .iter()
                        .any(|path| is_or_signs(relative, path))
                }),
                ArtefactKind::Fleet | ArtefactKind::Plist => false,
            };
            if uses {
                files.insert(artefact.path.clone());
            }
        }
        files
    }
}

/// Whether a change from one fleet.toml to another concerns an agent that reads it. Watchdogs are restarted for any
/// change, which costs nothing. A server is restarted only for its own, which may cost a minute of silence.
pub fn concerns(agent: &Label, old: &Fleet, new: &Fleet) -> bool {
    match (old.role(agent), new.role(agent)) {
        (Some(Role::Server(a)), Some(Role::Server(b))) => {
            a != b || old.fleet.home != new.fleet.home
        }
        // Programs of others do not read it.
        (_, Some(Role::Agent(_))) => false,
        _ => true,
    }
}

/// Files with what is in them.
#[derive(Default)]
struct Files {
    artefacts: Vec<Artefact>,
    contents: BTreeMap<Digest, Vec<u8>>,
}

impl Files {
    fn add(&mut self, path: PathBuf, bytes: Vec<u8>, kind: ArtefactKind) {
        let sha256 = Digest::of(&bytes);
        self.artefacts.push(Artefact {
            path,
            sha256,
            mode: kind.mode(),
            kind,
        });
        self.contents.insert(sha256, bytes);
    }
}

/// The files that fleet.toml names by relative paths: they go to the same place beside the deployed copy.
fn companions(site: &Site, deployed: &mut Files) -> Result<(), Failure> {
    /// A manifest of a model with many files is a few hundred KiB.
    const LARGEST: u64 = 64 << 20;
    let source = site.file.parent().unwrap_or(Path::new("."));
    for path in site.fleet.companions(&site.host) {
        let from = source.join(&path);
        let bytes = files::read(&from, LARGEST).map_err(|error| {
            Failure::Refused(format!(
                "fleet.toml names `{}`, and {}: {error}; put it there, or write a path that begins with / or ~/",
                path.display(),
                from.display()
            ))
        })?;
        deployed.add(site.home.path().join(&path), bytes, ArtefactKind::Spec);
        let signature = signature_of(&path);
        if let Ok(bytes) = files::read(&source.join(&signature), LARGEST) {
            deployed.add(site.home.path().join(signature), bytes, ArtefactKind::Spec);
        }
    }
    Ok(())
}

fn signature_of(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

fn is_or_signs(file: &Path, used: &Path) -> bool {
    file == used || file == signature_of(used)
}

/// The relative paths that one agent uses.
fn used_by(fleet: &Fleet, agent: &Label) -> Vec<PathBuf> {
    let manifests = |server: &sanctum_config::fleet::Server| {
        let manifests = server
            .models
            .iter()
            .filter_map(|model| model.manifest.clone());
        manifests.collect::<Vec<_>>()
    };
    let paths = match fleet.role(agent) {
        Some(Role::Server(server)) => manifests(server),
        Some(Role::Watch(watch)) => watch.spec.iter().cloned().collect(),
        _ => Vec::new(),
    };
    paths
        .iter()
        .map(|path| PathBuf::from(path.as_str()))
        .collect()
}

/// Watchdogs always run. A server runs unless another agent serves in its place, and a standby agent only if it does.
fn is_enabled(fleet: &Fleet, active: &Active, agent: &Label) -> bool {
    match fleet.role(agent) {
        Some(Role::Server(_)) => !stands_in(fleet, active.agent_for(agent), agent),
        Some(Role::Agent(standby)) => match &standby.standby_for {
            Some(server) => active.agent_for(server) == agent,
            None => true,
        },
        _ => true,
    }
}

/// Whether that agent can still stand in for the server: it may have been taken out of fleet.toml since the flip.
fn stands_in(fleet: &Fleet, agent: &Label, server: &Label) -> bool {
    let standby = fleet.agents.get(agent);
    standby.is_some_and(|standby| standby.standby_for.as_ref() == Some(server))
}

/// Who serves, by what is enabled: only servers that have a standby agent are named.
fn active_of(fleet: &Fleet, receipt: &Receipt) -> Active {
    let mut active = Active::default();
    for (name, agent) in &fleet.agents {
        if let (Some(server), Some(_)) = (&agent.standby_for, receipt.agent(name)) {
            let standing_in = receipt.agent(name).is_some_and(|agent| agent.enabled);
            let already = active.agent_for(server) != server;
            if standing_in {
                active.set(server.clone(), name.clone());
            } else if !already {
                active.set(server.clone(), server.clone());
            }
        }
    }
    active
}
