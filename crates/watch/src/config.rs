//! What fleet.toml says about one watchdog.

use std::path::PathBuf;

use sanctum_client::ReferenceAddress;
use sanctum_config::fleet::Watch;
use sanctum_config::{Fleet, Home, Label, did_you_mean_or_names};
use sanctum_host::{TypedCommands, this_host};

use crate::alert::{BadChannel, Channel};
use crate::args::Args;
use crate::error::MainError;
use crate::section;

/// What fleet.toml says about one watchdog.
#[derive(Clone, Debug)]
pub struct WatchdogConfig {
    /// All of fleet.toml.
    pub fleet: Fleet,
    /// The absolute path of that file.
    pub config: PathBuf,
    /// The fleet's folder on this host.
    pub home: Home,
    /// The watchdog's name.
    pub name: Label,
    /// Its section, `[watch.NAME]`.
    pub watch: Watch,
    /// The host that it runs on.
    pub host: Label,
}

impl WatchdogConfig {
    /// The section that the command line names, for a program with the check `own`.
    pub(crate) fn read(args: &Args, own: &Label) -> Result<Self, MainError> {
        let config = std::path::absolute(&args.config).unwrap_or_else(|_| args.config.clone());
        let fleet = Fleet::read(&config)?;
        let home = Home::of(&fleet)?;
        let name = args.name.clone().unwrap_or_else(|| own.clone());
        let Some(watch) = fleet.watch.get(&name).cloned() else {
            let known = fleet.watch.keys().map(Label::as_str);
            let near = did_you_mean_or_names(name.as_str(), known);
            return Err(MainError::NoSection { config, name, near });
        };
        if watch.check(&name) != own {
            return Err(MainError::OtherCheck {
                check: watch.check(&name).clone(),
                name,
                own: own.clone(),
            });
        }
        let host = fleet.host_of(&name).cloned();
        if args.once
            && let Some(host) = &host
            && let Ok(Some(here)) = this_host(&fleet, &home)
            && here != *host
        {
            let same = fleet.hosts[&here].agents.iter().find(|agent| {
                let other = fleet.watch.get(*agent);
                other.is_some_and(|other| *other.check(agent) == *own)
            });
            let instead = same.map(|other| format!(", or run --name {other} here"));
            return Err(MainError::OtherHost {
                name,
                host: host.clone(),
                here,
                instead: instead.unwrap_or_default(),
            });
        }
        // `--once` tries out a check that is not installed on any host.
        let host = host.or_else(|| {
            let target = watch.target.as_ref().filter(|_| args.once)?;
            Some(fleet.servers.get(target)?.host.clone())
        });
        let host = match host {
            Some(host) => host,
            None if args.once => own.clone(),
            None => return Err(MainError::NoHost(name)),
        };
        Ok(Self {
            fleet,
            config,
            home,
            name,
            watch,
            host,
        })
    }

    /// The commands that its messages print for an operator.
    pub fn commands(&self) -> TypedCommands {
        TypedCommands::of(&self.fleet, &self.home, &self.config)
    }

    /// The `reference` address.
    ///
    /// # Errors
    /// If it is not an address.
    pub fn reference(&self) -> Result<Option<ReferenceAddress>, String> {
        section::reference(&self.watch)
    }

    /// The channels that `alert` names.
    pub(crate) fn channels(&self) -> Result<Vec<(Label, Channel)>, BadChannel> {
        let channel =
            |name: &Label| Ok((name.clone(), Channel::of(&self.fleet, &self.config, name)?));
        self.watch.alert.iter().map(channel).collect()
    }
}
