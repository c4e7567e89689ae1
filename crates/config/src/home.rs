//! The paths on a host: the fleet's home folder, and launchd's folder of agents.

use std::path::{Component, Path, PathBuf};

use crate::{Fleet, Label, UntrustedText};

/// The fleet's home on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    user: PathBuf,
}

/// A home that cannot be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// This process does not know its user's home folder.
    #[error(
        "HOME is not set to an absolute path; set it to the home folder of the user who runs the agents"
    )]
    NoUser,
    /// `[fleet] home` is relative: the deployed copy of fleet.toml is in the home, and would name another folder.
    #[error("[fleet] `home` is `{0}`; write a path that begins with / or ~/")]
    Relative(String),
    /// `[fleet] home` is a folder that has other files: the fleet's files get its modes, and are removed with it.
    #[error(
        "[fleet] `home` is `{home}`, which is {folder}, and would put the fleet's files between others; write a folder of its \
         own, such as ~/.sanctum"
    )]
    Shared {
        /// The path as it is written.
        home: String,
        /// What it is.
        folder: &'static str,
    },
}

impl Home {
    /// The home that `[fleet] home` names, for the user whom this process runs as.
    ///
    /// # Errors
    /// If HOME is not set, or the path is relative.
    pub fn of(fleet: &Fleet) -> Result<Self, HomeError> {
        let user = std::env::home_dir()
            .filter(|home| home.is_absolute())
            .ok_or(HomeError::NoUser)?;
        let root = fleet.fleet.home.under(&user);
        if !root.is_absolute() {
            let written = UntrustedText::new(fleet.fleet.home.as_str());
            return Err(HomeError::Relative(written.into()));
        }
        Ok(Self::new(root, user))
    }

    /// As [`Home::of`], for a command that deploys: it gives the files there their modes, and removes them at the end.
    ///
    /// # Errors
    /// As [`Home::of`], and if the home is the user's own folder or one above it.
    pub fn for_deployment(fleet: &Fleet) -> Result<Self, HomeError> {
        let home = Self::of(fleet)?;
        let shared = |folder| HomeError::Shared {
            home: UntrustedText::new(fleet.fleet.home.as_str()).into(),
            folder,
        };
        // Links and `..` lead to the same folders.
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| plain(path));
        let (folder, users) = (real(&home.root), real(&home.user));
        match () {
            () if folder.parent().is_none() => Err(shared("the root folder")),
            () if folder == users => Err(shared("your home folder")),
            () if users.starts_with(&folder) => Err(shared("a folder above your home folder")),
            () => Ok(home),
        }
    }

    /// The home at `root`, of the user whose home folder is `user`. Neither need be there yet.
    pub fn new(root: PathBuf, user: PathBuf) -> Self {
        Self { root, user }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `bin/`: the programs that run. Their paths never change, since the macOS firewall's rules are bound to them.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// `releases/`: the programs of this release and of those before it, one folder for each.
    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// One release's folder.
    pub fn release(&self, version: &str) -> PathBuf {
        self.releases().join(version)
    }

    /// `state/`: what programs remember.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// `logs/`.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of an agent. Our programs write and rotate it themselves; for programs of others it is what launchd saves
    /// of their standard output and standard error.
    pub fn log(&self, agent: &Label) -> PathBuf {
        self.logs().join(format!("{agent}.log"))
    }

    /// What launchd saves of the standard output and standard error of one of our programs: why it could not start, and
    /// panics.
    pub fn launchd_log(&self, agent: &Label) -> PathBuf {
        self.logs().join(format!("{agent}.launchd.log"))
    }

    /// `certs/`.
    pub fn certs(&self) -> PathBuf {
        self.root.join("certs")
    }

    /// `secrets/`.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// The deployed fleet.toml: the one that the agents read.
    pub fn fleet_toml(&self) -> PathBuf {
        self.root.join("fleet.toml")
    }

    /// What was installed.
    pub fn receipt(&self) -> PathBuf {
        self.state().join("receipt.json")
    }

    /// This host's own copy of what was installed on another one: what it compares that host with from outside.
    pub fn receipt_of(&self, host: &Label) -> PathBuf {
        self.state().join("receipts").join(format!("{host}.json"))
    }

    /// Who serves now.
    pub fn active(&self) -> PathBuf {
        self.state().join("active.json")
    }

    /// The maintenance lease.
    pub fn lease(&self) -> PathBuf {
        self.state().join("lease.json")
    }

    /// The agents that are stopped on purpose.
    pub fn stopped(&self) -> PathBuf {
        self.state().join("stopped.json")
    }

    /// The maintenance window.
    pub fn window(&self) -> PathBuf {
        self.state().join("window.json")
    }

    /// The steps of a deployment that has begun; not there when none has.
    pub fn journal(&self) -> PathBuf {
        self.state().join("journal.json")
    }

    /// What a watchdog remembers, its heartbeat included.
    pub fn watch_state(&self, agent: &Label) -> PathBuf {
        self.state().join("watch").join(format!("{agent}.json"))
    }

    /// Alerts of a watchdog that could not be delivered yet.
    pub fn spool(&self, agent: &Label) -> PathBuf {
        self.state().join("spool").join(agent.as_str())
    }

    /// The last alerts of a watchdog, with the channels that accepted them.
    pub fn alert_history(&self, agent: &Label) -> PathBuf {
        self.alerts().join("history").join(format!("{agent}.json"))
    }

    /// The conditions whose alerts are muted.
    pub fn mutes(&self) -> PathBuf {
        self.alerts().join("mutes.json")
    }

    /// The requests to close a condition by hand, one file for each.
    pub fn resolve_requests(&self) -> PathBuf {
        self.alerts().join("resolve")
    }

    /// Which watchdog alerts about the wrong answers of a server.
    pub fn first_alert(&self, server: &Label) -> PathBuf {
        self.alerts().join("first").join(format!("{server}.json"))
    }

    /// The history that the fleet page shows.
    pub fn page_history(&self) -> PathBuf {
        self.state().join("page").join("history.jsonl")
    }

    fn alerts(&self) -> PathBuf {
        self.state().join("alerts")
    }

    /// The folder that launchd reads a user's agents from at login.
    pub fn launch_agents(&self) -> PathBuf {
        self.user.join("Library/LaunchAgents")
    }

    /// The home folder of the user, which is what `~` stands for.
    pub fn user(&self) -> &Path {
        &self.user
    }

    /// The property list of the agent that launchd knows by `label`.
    pub fn plist(&self, label: &str) -> PathBuf {
        self.launch_agents().join(format!("{label}.plist"))
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_that_is_the_users_or_above_it_is_refused() {
        let user = std::env::home_dir().unwrap();
        let above = user.parent().unwrap_or(&user).display().to_string();
        let inside = format!("{}/x/..", user.display());
        for home in ["~", "~/", "~/.", "/", "~/x/..", &above, &inside] {
            let text = format!("[fleet]\nhome = \"{home}\"\n");
            // `~` alone may be refused by the parser already.
            let Ok(fleet) = Fleet::parse(&text, Path::new("fleet.toml")) else {
                continue;
            };
            let error = Home::for_deployment(&fleet).unwrap_err().to_string();
            assert!(error.contains("a folder of its own"), "{home}: {error}");
        }
        let text = "[fleet]\nhome = \"~/.sanctum\"\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        Home::for_deployment(&fleet).unwrap();
    }

    #[test]
    fn everything_has_its_place() {
        let home = Home::new("/u/ada/.sanctum".into(), "/u/ada".into());
        let name: Label = "canary".parse().unwrap();
        let places = [
            (home.receipt(), "/u/ada/.sanctum/state/receipt.json"),
            (
                home.watch_state(&name),
                "/u/ada/.sanctum/state/watch/canary.json",
            ),
            (home.spool(&name), "/u/ada/.sanctum/state/spool/canary"),
            (home.log(&name), "/u/ada/.sanctum/logs/canary.log"),
            (
                home.page_history(),
                "/u/ada/.sanctum/state/page/history.jsonl",
            ),
            (
                home.launchd_log(&name),
                "/u/ada/.sanctum/logs/canary.launchd.log",
            ),
            (
                home.plist("com.sanctum.canary"),
                "/u/ada/Library/LaunchAgents/com.sanctum.canary.plist",
            ),
        ];
        for (path, place) in places {
            assert_eq!(path, Path::new(place));
        }
    }

    #[test]
    fn a_relative_home_would_be_two_places() {
        let text = "[fleet]\nhome = \"sanctum\"\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        let error = Home::of(&fleet).unwrap_err().to_string();
        assert!(error.contains("`sanctum`"), "{error}");
        let text = "[fleet]\nhome = \"a\\nb\"\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        let error = Home::of(&fleet).unwrap_err().to_string();
        assert!(error.contains(r"`a\nb`"), "{error}");
    }
}
