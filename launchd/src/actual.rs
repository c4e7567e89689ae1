//! The actual state of a host: its files, and its agents as launchd has them. It is observed, never taken from a record, so
//! that a command that was interrupted is continued from the facts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sanctum_config::{Digest, Fleet, Label, files};
use sanctum_host::launchctl::Service;
use sanctum_host::permissions::{exposed_secrets, mode_of};
use sanctum_host::{Active, Installation, MAX_FLEET_BYTES, StoppedAgents};

use crate::Error;
use crate::host_state::HostState;

/// What was observed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActualState {
    /// The files that exist, with their digests and modes.
    pub(crate) files: BTreeMap<PathBuf, (Digest, u32)>,
    /// The agents that are loaded, by label.
    pub(crate) services: BTreeMap<String, Service>,
    /// Whether an agent is disabled, by label; those that are missing are enabled.
    pub(crate) disabled: BTreeMap<String, bool>,
    /// The fleet.toml in place, which the running agents have read; none if it is missing or not valid.
    pub(crate) fleet: Option<Fleet>,
    /// Which agent serves, according to the record.
    pub(crate) active: Active,
    /// The agents that an operator has stopped: a deployment leaves them stopped.
    pub(crate) stopped: BTreeSet<Label>,
    /// Secrets that other users can read, with the mode that they should have.
    pub(crate) exposed: Vec<(PathBuf, u32)>,
}

impl ActualState {
    /// Observes the files and agents of `from` and `to`.
    ///
    /// # Errors
    /// If a file cannot be read or launchctl fails.
    pub(crate) fn observe(
        installation: &Installation,
        from: Option<&HostState>,
        to: &HostState,
    ) -> Result<Self, Error> {
        let Installation {
            home, launchctl, ..
        } = installation;
        let fleet = files::read_text(&home.fleet_toml(), MAX_FLEET_BYTES).unwrap_or_default();
        let mut actual = Self {
            disabled: launchctl.disabled()?,
            fleet: Fleet::parse(&fleet, &home.fleet_toml()).ok(),
            active: Active::read(&home.active())?,
            exposed: exposed_secrets(installation)?,
            ..Self::default()
        };
        let stopped = StoppedAgents::read(&home.stopped())?;
        let agents = to.receipt.agents.iter().map(|agent| &agent.name);
        actual.stopped = agents
            .filter(|name| stopped.contains(name))
            .cloned()
            .collect();
        for receipt in from.into_iter().chain([to]).map(|state| &state.receipt) {
            for artefact in &receipt.artefacts {
                let path = &artefact.path;
                if actual.files.contains_key(path) {
                    continue;
                }
                let digest = Digest::of_file(path).map_err(|error| Error::read(path, error))?;
                if let Some(digest) = digest {
                    let mode = mode_of(path)?;
                    actual.files.insert(path.clone(), (digest, mode));
                }
            }
            for agent in &receipt.agents {
                if let Some(service) = launchctl.print(&agent.label)? {
                    actual.services.insert(agent.label.clone(), service);
                }
            }
        }
        Ok(actual)
    }
}
