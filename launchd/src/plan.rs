//! The plan of a deployment: the steps from the actual state of a host to the desired one. A pure function of both;
//! `execute` carries it out.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use sanctum_config::{Fleet, Label, Role};
use sanctum_host::{Active, Artefact, ArtefactKind, InstalledAgent};

use crate::actual::ActualState;
use crate::host_state::{HostState, needs_restart};

/// One step. Its text, such as `bootout:server`, is its name in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeployStep {
    /// Prevents an agent from being started, including at login.
    Disable(InstalledAgent),
    /// Stops and unloads an agent, and waits until launchd no longer knows it.
    BootOut(InstalledAgent),
    /// Puts all new files in place by renaming them, and removes those that are no longer wanted.
    Switch(FileChanges),
    /// Records which agents serve.
    Active(Active),
    /// Undoes a `Disable`.
    Enable(InstalledAgent),
    /// Loads an agent, which starts it.
    Bootstrap(InstalledAgent),
}

/// Files that differ from the desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileChanges {
    /// Files to write.
    pub(crate) write: Vec<Artefact>,
    /// Files and folders whose permission bits are wrong, with the right ones.
    pub(crate) chmod: Vec<(PathBuf, u32)>,
    /// Files to remove.
    pub(crate) remove: Vec<PathBuf>,
}

impl FileChanges {
    fn is_empty(&self) -> bool {
        self.write.is_empty() && self.chmod.is_empty() && self.remove.is_empty()
    }
}

impl fmt::Display for DeployStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disable(agent) => write!(f, "disable:{}", agent.name),
            Self::BootOut(agent) => write!(f, "bootout:{}", agent.name),
            Self::Switch(_) => f.write_str("switch"),
            Self::Active(_) => f.write_str("active"),
            Self::Enable(agent) => write!(f, "enable:{}", agent.name),
            Self::Bootstrap(agent) => write!(f, "bootstrap:{}", agent.name),
        }
    }
}

impl DeployStep {
    /// What it does, for operators: one line for each thing that it changes.
    pub(crate) fn describe(&self) -> Vec<String> {
        match self {
            Self::Disable(agent) => vec![format!("disable {}", agent.label)],
            Self::BootOut(agent) => vec![format!(
                "boot out {} and wait until it is unloaded",
                agent.label
            )],
            Self::Enable(agent) => vec![format!("enable {}", agent.label)],
            Self::Bootstrap(agent) => vec![format!("bootstrap {}", agent.plist.display())],
            Self::Active(_) => vec!["record which agents serve".to_owned()],
            Self::Switch(files) => {
                let write = files.write.iter().map(|file| {
                    let short: String = file.sha256.to_string().chars().take(12).collect();
                    format!(
                        "write {} (mode {:04o}, SHA-256 {short}…)",
                        file.path.display(),
                        file.mode
                    )
                });
                let chmod = (files.chmod.iter())
                    .map(|(path, mode)| format!("chmod {mode:o} {}", path.display()));
                let remove = (files.remove.iter()).map(|path| format!("remove {}", path.display()));
                write.chain(chmod).chain(remove).collect()
            }
        }
    }
}

/// The steps from the actual state to `to`. Agents and files of `from` that `to` does not have are removed.
///
/// An agent that an operator has stopped gets its new files and stays stopped.
///
/// The order keeps the outage short and a watchdog running as long as possible. Servers are stopped first, because they
/// may drain for a while; the guardian is stopped last and started first. All files change between the last stop and the
/// first start, so that no agent ever runs with one old and one new file.
pub(crate) fn plan(
    actual: &ActualState,
    from: Option<&HostState>,
    to: &HostState,
) -> Vec<DeployStep> {
    let files = file_changes(actual, from, to);
    let changed: BTreeSet<&Path> = (files.write.iter().map(|file| file.path.as_path()))
        .chain(files.remove.iter().map(PathBuf::as_path))
        .collect();
    let fleet_changed = files
        .write
        .iter()
        .any(|file| file.kind == ArtefactKind::Fleet);
    let is_disabled =
        |agent: &InstalledAgent| actual.disabled.get(&agent.label).copied().unwrap_or(false);
    let must_restart = |agent: &InstalledAgent, loaded: &[String]| {
        let has_new_file =
            (to.runs_with(agent).iter()).any(|path| changed.contains(path.as_path()));
        let has_new_section = fleet_changed
            && actual
                .fleet
                .as_ref()
                .is_none_or(|old| needs_restart(&agent.name, old, &to.fleet));
        let wanted = to.arguments.get(&agent.label);
        has_new_file || has_new_section || wanted.is_some_and(|wanted| wanted != loaded)
    };

    let (mut disable, mut enable) = (Vec::new(), Vec::new());
    let (mut stop, mut start) = (Vec::new(), Vec::new());
    for agent in &to.receipt.agents {
        let service = actual.services.get(&agent.label);
        if !agent.enabled || actual.stopped.contains(&agent.name) {
            if !is_disabled(agent) {
                disable.push(DeployStep::Disable(agent.clone()));
            }
            if service.is_some() {
                stop.push(agent.clone());
            }
            continue;
        }
        if is_disabled(agent) {
            enable.push(DeployStep::Enable(agent.clone()));
        }
        match service {
            None => start.push(agent.clone()),
            Some(service) if must_restart(agent, &service.arguments) => {
                stop.push(agent.clone());
                start.push(agent.clone());
            }
            Some(_) => {}
        }
    }
    for agent in from.into_iter().flat_map(|from| &from.receipt.agents) {
        let is_kept = to.receipt.agents.iter().any(|new| new.label == agent.label);
        if !is_kept && actual.services.contains_key(&agent.label) {
            stop.push(agent.clone());
        }
    }

    let fleet_of = |agent: &InstalledAgent| match to.fleet.role(&agent.name) {
        Some(_) => &to.fleet,
        None => from.map_or(&to.fleet, |from| &from.fleet),
    };
    let order = |agent: &InstalledAgent| stop_order(fleet_of(agent), &agent.name);
    stop.sort_by_key(order);
    start.sort_by_key(|agent| std::cmp::Reverse(order(agent)));
    let mut steps = disable;
    steps.extend(stop.into_iter().map(DeployStep::BootOut));
    if !files.is_empty() {
        steps.push(DeployStep::Switch(files));
    }
    if actual.active != to.active {
        steps.push(DeployStep::Active(to.active.clone()));
    }
    steps.extend(enable);
    steps.extend(start.into_iter().map(DeployStep::Bootstrap));
    steps
}

/// Servers and programs of others stop first and start last, then watchdogs and pages, then the guardian.
fn stop_order(fleet: &Fleet, agent: &Label) -> u8 {
    match fleet.role(agent) {
        Some(Role::Watch(watch)) if watch.check(agent).as_str() == "guardian" => 2,
        Some(Role::Watch(_) | Role::Page(_)) => 1,
        _ => 0,
    }
}

fn file_changes(actual: &ActualState, from: Option<&HostState>, to: &HostState) -> FileChanges {
    let mut files = FileChanges::default();
    for artefact in &to.receipt.artefacts {
        match actual.files.get(&artefact.path) {
            Some((digest, mode)) if *digest == artefact.sha256 => {
                if *mode != artefact.mode {
                    files.chmod.push((artefact.path.clone(), artefact.mode));
                }
            }
            _ => files.write.push(artefact.clone()),
        }
    }
    let before = from.into_iter().flat_map(|from| &from.receipt.artefacts);
    for old in before.filter(|old| to.receipt.artefact(&old.path).is_none()) {
        if actual.files.contains_key(&old.path) {
            files.remove.push(old.path.clone());
        }
    }
    files.chmod.extend(actual.exposed.iter().cloned());
    files
}

#[cfg(test)]
mod tests;
