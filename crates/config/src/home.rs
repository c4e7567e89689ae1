//! The paths on a host: the fleet's home folder, and launchd's folder of agents.

use std::path::{Path, PathBuf};

use crate::{Fleet, Label};

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
    #[error("HOME is not set; set it to the home folder of the user who runs the agents")]
    NoUser,
    /// `[fleet] home` is relative: the deployed copy of fleet.toml is in the home, and would name another folder.
    #[error("[fleet] `home` is `{0}`; write a path that begins with / or ~/")]
    Relative(String),
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
            return Err(HomeError::Relative(fleet.fleet.home.to_string()));
        }
        Ok(Self::new(root, user))
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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
