//! What has to be done so that a host looks like a target: found by looking at its files and at launchd, never by
//! trusting a record. A command that was interrupted is therefore continued by asking the same question again.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sanctum_config::{Digest, Fleet, Label, Role, files};
use sanctum_host::{Active, Artefact, ArtefactKind, InstalledAgent};

use crate::Failure;
use crate::plist::arguments_in;
use crate::site::{LARGEST_FLEET, Site};
use crate::store::Store;
use crate::target::{Target, concerns};

/// One step. Its text, such as `bootout:server`, is its name in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Keeps an agent from being started, by a login too.
    Disable(InstalledAgent),
    /// Stops and unloads an agent, and waits until launchd has forgotten it.
    BootOut(InstalledAgent),
    /// Writes every file that differs beside its place, then renames all of them over their places; removes those that
    /// are no longer wanted.
    Switch(Files),
    /// Undoes a `disable`.
    Enable(InstalledAgent),
    /// Loads an agent, which starts it.
    Bootstrap(InstalledAgent),
    /// Writes down who serves.
    Active(Active),
}

/// Files that differ from the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// To be written.
    pub write: Vec<Artefact>,
    /// Right, but for their permission bits.
    pub close: Vec<(PathBuf, u32)>,
    /// To be removed.
    pub remove: Vec<PathBuf>,
}

impl Files {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.close.is_empty() && self.remove.is_empty()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disable(agent) => write!(f, "disable:{}", agent.name),
            Self::BootOut(agent) => write!(f, "bootout:{}", agent.name),
            Self::Switch(_) => f.write_str("switch"),
            Self::Enable(agent) => write!(f, "enable:{}", agent.name),
            Self::Bootstrap(agent) => write!(f, "bootstrap:{}", agent.name),
            Self::Active(_) => f.write_str("active"),
        }
    }
}

impl Step {
    /// What it does, for people: one line for each thing that it touches.
    pub fn describe(&self) -> Vec<String> {
        match self {
            Self::Disable(agent) => vec![format!("disable {}", agent.label)],
            Self::BootOut(agent) => vec![format!(
                "boot out {} and wait until it is gone",
                agent.label
            )],
            Self::Enable(agent) => vec![format!("enable {}", agent.label)],
            Self::Bootstrap(agent) => vec![format!("bootstrap {}", agent.plist.display())],
            Self::Active(_) => vec!["write down who serves".to_owned()],
            Self::Switch(files) => {
                let write = files.write.iter().map(|file| {
                    let short: String = file.sha256.to_string().chars().take(12).collect();
                    format!(
                        "write {} (mode {:04o}, SHA-256 {short}…)",
                        file.path.display(),
                        file.mode
                    )
                });
                let close = (files.close.iter())
                    .map(|(path, mode)| format!("chmod {mode:o} {}", path.display()));
                let remove = files
                    .remove
                    .iter()
                    .map(|path| format!("remove {}", path.display()));
                write.chain(close).chain(remove).collect()
            }
        }
    }
}

/// The steps from what is here to `to`. Agents and files of `from` that `to` does not have are taken away.
///
/// The order keeps silence short and a rescue near: servers are stopped first, for that may take as long as they drain,
/// and the guardian among the watchdogs is the last to stop and the first to run again. All files change between the
/// last stop and the first start, so that no agent ever runs with one old and one new file.
///
/// # Errors
/// If a file or launchd cannot be asked.
pub fn between(site: &Site, from: Option<&Target>, to: &Target) -> Result<Vec<Step>, Failure> {
    let files = files(site, from, to)?;
    let changed: BTreeSet<&Path> = (files.write.iter().map(|file| file.path.as_path()))
        .chain(files.remove.iter().map(PathBuf::as_path))
        .collect();
    let fleet_changed = files
        .write
        .iter()
        .any(|file| file.kind == ArtefactKind::Fleet);
    // The file in place is what the agents have read; it need not be the one that was installed.
    let read = files::read_text(&site.home.fleet_toml(), LARGEST_FLEET).unwrap_or_default();
    let old = Fleet::parse(&read, &site.home.fleet_toml()).ok();
    let disabled = site.launchctl.disabled()?;
    let is_disabled = |agent: &InstalledAgent| disabled.get(&agent.label).copied().unwrap_or(false);

    let (mut stop, mut start) = (Vec::new(), Vec::new());
    let mut silence = Vec::new();
    let mut admit = Vec::new();
    for agent in &to.receipt.agents {
        let service = site.launchctl.print(&agent.label)?;
        if !agent.enabled {
            if !is_disabled(agent) {
                silence.push(Step::Disable(agent.clone()));
            }
            if service.is_some() {
                stop.push(agent.clone());
            }
            continue;
        }
        if is_disabled(agent) {
            admit.push(Step::Enable(agent.clone()));
        }
        let Some(service) = service else {
            start.push(agent.clone());
            continue;
        };
        let touched = to
            .runs_with(agent)
            .iter()
            .any(|path| changed.contains(path.as_path()));
        let concerned = fleet_changed
            && old
                .as_ref()
                .is_none_or(|old| concerns(&agent.name, old, &to.fleet));
        let stale =
            arguments_wanted(site, to, agent)?.is_some_and(|wanted| wanted != service.arguments);
        if touched || concerned || stale {
            stop.push(agent.clone());
            start.push(agent.clone());
        }
    }
    let gone = from.into_iter().flat_map(|from| &from.receipt.agents);
    for agent in gone.filter(|agent| !to.receipt.agents.iter().any(|new| new.label == agent.label))
    {
        if site.launchctl.print(&agent.label)?.is_some() {
            stop.push(agent.clone());
        }
    }

    let fleet_of = |agent: &InstalledAgent| match to.fleet.role(&agent.name) {
        Some(_) => &to.fleet,
        None => from.map_or(&to.fleet, |from| &from.fleet),
    };
    let last = |agent: &InstalledAgent| rank(fleet_of(agent), &agent.name);
    stop.sort_by_key(last);
    start.sort_by_key(|agent| std::cmp::Reverse(last(agent)));
    let mut steps = silence;
    steps.extend(stop.into_iter().map(Step::BootOut));
    if !files.is_empty() {
        steps.push(Step::Switch(files));
    }
    if Active::read(&site.home.active())? != to.active {
        steps.push(Step::Active(to.active.clone()));
    }
    steps.extend(admit);
    steps.extend(start.into_iter().map(Step::Bootstrap));
    Ok(steps)
}

/// Servers and programs of others stop first and start last, then watchdogs, then the guardian.
fn rank(fleet: &Fleet, agent: &Label) -> u8 {
    match fleet.role(agent) {
        Some(Role::Watch(watch)) if watch.check(agent).as_str() == "guardian" => 2,
        Some(Role::Watch(_)) => 1,
        _ => 0,
    }
}

fn files(site: &Site, from: Option<&Target>, to: &Target) -> Result<Files, Failure> {
    let mut files = Files::default();
    for artefact in &to.receipt.artefacts {
        let found =
            Digest::of_file(&artefact.path).map_err(|e| Failure::read(&artefact.path, e))?;
        if found != Some(artefact.sha256) {
            files.write.push(artefact.clone());
        } else if mode(&artefact.path)? != artefact.mode {
            files.close.push((artefact.path.clone(), artefact.mode));
        }
    }
    let before = from.into_iter().flat_map(|from| &from.receipt.artefacts);
    for old in before.filter(|old| to.receipt.artefact(&old.path).is_none()) {
        if old.path.exists() {
            files.remove.push(old.path.clone());
        }
    }
    files.close.extend(open_secrets(site)?);
    Ok(files)
}

/// Folders and secrets of the home, and secrets elsewhere that fleet.toml names for this host's servers, that group or others
/// can enter or read, with the mode that they should have.
///
/// # Errors
/// If one of them cannot be examined.
pub fn open_secrets(site: &Site) -> Result<Vec<(PathBuf, u32)>, Failure> {
    let home = &site.home;
    let clients = home.certs().join("clients");
    let mut open = Vec::new();
    for folder in [
        home.path().to_owned(),
        home.state(),
        home.secrets(),
        home.certs(),
        clients.clone(),
    ] {
        if folder.is_dir() && mode(&folder)? & 0o077 != 0 {
            open.push((folder, 0o700));
        }
    }
    for (folder, secret) in [
        (home.secrets(), ""),
        (home.certs(), ".key"),
        (clients, ".key"),
    ] {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let is_secret = path.to_string_lossy().ends_with(secret) && path.is_file();
            if is_secret && mode(&path)? & 0o077 != 0 {
                open.push((path, 0o600));
            }
        }
    }
    let servers = site.fleet.servers.values();
    for server in servers.filter(|server| server.host == site.host) {
        for path in [&server.auth.token_file, &server.tls.key]
            .into_iter()
            .flatten()
        {
            let path = path.beside(&site.file)?;
            let known = open.iter().any(|(other, _)| *other == path);
            if !known && path.is_file() && mode(&path)? & 0o077 != 0 {
                open.push((path, 0o600));
            }
        }
    }
    Ok(open)
}

/// The arguments that launchd should have loaded; none if the property list is not readable as one.
fn arguments_wanted(
    site: &Site,
    to: &Target,
    agent: &InstalledAgent,
) -> Result<Option<Vec<String>>, Failure> {
    let Some(artefact) = to.receipt.artefact(&agent.plist) else {
        return Ok(None);
    };
    if let Some(bytes) = to.contents.get(&artefact.sha256) {
        return Ok(arguments_in(bytes));
    }
    let mut bytes = Vec::new();
    let store = Store(&site.home);
    let mut file = store.open(&to.receipt.release, artefact)?;
    std::io::Read::read_to_end(&mut file, &mut bytes)
        .map_err(|error| Failure::read(&artefact.path, error))?;
    Ok(arguments_in(&bytes))
}

fn mode(path: &Path) -> Result<u32, Failure> {
    let about = fs::metadata(path).map_err(|error| Failure::read(path, error))?;
    Ok(about.permissions().mode() & 0o7777)
}
