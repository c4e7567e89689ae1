//! Agents as launchd has them: loaded, enabled, with the arguments of their property lists, running the program that lies
//! on disk, and, if they are watchdogs, alive.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Role, files};
use sanctum_host::launchctl::{LastExit, Service};
use sanctum_host::{Active, ArtefactKind, InstalledAgent, Receipt};
use sanctum_watch::{Schedule, State};

use super::REINSTALL;
use crate::Failure;
use crate::finding::{Finding, Kind};
use crate::plist::arguments_in;
use crate::running::{self, Runs};
use crate::site::Site;

/// How long after an installation a watchdog may give its first sign of life: its first check comes before it.
const FIRST_SIGN: TimeDelta = TimeDelta::minutes(25);

pub(super) fn agents(
    site: &Site,
    receipt: &Receipt,
    now: DateTime<Utc>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let disabled = site.launchctl.disabled()?;
    for agent in &receipt.agents {
        let is_disabled = disabled.get(&agent.label).copied().unwrap_or(false);
        let service = site.launchctl.print(&agent.label)?;
        let mut look = Look {
            site,
            agent,
            findings,
        };
        look.standing(is_disabled, service.is_some());
        if let Some(service) = service.filter(|_| agent.enabled) {
            look.arguments(&service);
            look.process(&service);
            look.program(&service, receipt);
            look.sign_of_life(receipt, now);
        }
    }
    active(site, receipt, findings)
}

/// One agent under examination.
struct Look<'a> {
    site: &'a Site,
    agent: &'a InstalledAgent,
    findings: &'a mut Vec<Finding>,
}

impl Look<'_> {
    fn found(&mut self, kind: Kind, wrong: impl Into<String>, mend: impl Into<String>) {
        self.findings
            .push(Finding::new(kind, &self.agent.label, wrong, mend));
    }

    /// As launchctl names it.
    fn target(&self) -> String {
        self.site.launchctl.target(&self.agent.label)
    }

    fn standing(&mut self, is_disabled: bool, is_loaded: bool) {
        let target = self.target();
        match (self.agent.enabled, is_disabled) {
            (true, true) => self.found(
                Kind::Disabled,
                "it is disabled, so it will not start at the next login",
                format!("launchctl enable {target}"),
            ),
            (false, false) => self.found(
                Kind::Disabled,
                "it stands by and is not disabled: at the next login it would fight for the port",
                format!("launchctl disable {target}"),
            ),
            _ => {}
        }
        match (self.agent.enabled, is_loaded) {
            (true, false) => self.found(Kind::NotLoaded, "it is not loaded", REINSTALL),
            (false, true) => self.found(
                Kind::Loaded,
                "it stands by and is loaded: it fights for the port",
                format!("launchctl bootout {target}"),
            ),
            _ => {}
        }
    }

    fn arguments(&mut self, service: &Service) {
        let on_disk = files::read(&self.agent.plist, 1 << 20)
            .ok()
            .and_then(|bytes| arguments_in(&bytes));
        if let Some(on_disk) = on_disk
            && on_disk != service.arguments
        {
            let wrong = format!(
                "it was loaded with other arguments than {} has (loaded: {}; there: {}); a kickstart keeps the old ones",
                self.agent.plist.display(),
                service.arguments.join(" "),
                on_disk.join(" ")
            );
            self.found(Kind::StaleArguments, wrong, REINSTALL);
        }
    }

    fn process(&mut self, service: &Service) {
        if let (None, Some(exit @ (LastExit::Code(_) | LastExit::Signal(_)))) =
            (service.pid, service.last_exit)
        {
            let log = self.site.home.log(&self.agent.name);
            self.found(
                Kind::NotRunning,
                format!("it is loaded and does not run (last: {exit})"),
                format!("tail {}", log.display()),
            );
        }
    }

    /// Of our own programs only: a program of others may be a script, whose process is its interpreter.
    fn program(&mut self, service: &Service, receipt: &Receipt) {
        let (Some(pid), Some(program)) = (service.pid, service.arguments.first()) else {
            return;
        };
        let program = Path::new(program);
        let ours = receipt.artefact(program);
        if ours.is_none_or(|artefact| artefact.kind != ArtefactKind::Binary) {
            return;
        }
        match running::runs(pid, program) {
            Ok(Runs::TheFile | Runs::Nothing | Runs::AScript) => {}
            Ok(Runs::SomethingElse) => {
                let wrong = format!(
                    "its process does not run the file that lies at {}: that was replaced after the process had been \
                     started",
                    program.display()
                );
                let mend = format!("launchctl kickstart -k {}", self.target());
                self.found(Kind::OldProgram, wrong, mend);
            }
            Err(failure) => {
                let wrong = format!("it cannot be told which program its process runs: {failure}");
                self.found(Kind::OldProgram, wrong, running::asking(pid).to_string());
            }
        }
    }

    /// A watchdog that has stopped watching is silent about everything.
    fn sign_of_life(&mut self, receipt: &Receipt, now: DateTime<Utc>) {
        let Some(Role::Watch(watch)) = self.site.fleet.role(&self.agent.name) else {
            return;
        };
        let path = self.site.home.watch_state(&self.agent.name);
        let wrong = match State::read(&path) {
            Err(error) => Some(error.to_string()),
            Ok(None) => {
                let installed = DateTime::parse_from_rfc3339(&receipt.installed);
                let new = installed.is_ok_and(|then| now - then.to_utc() < FIRST_SIGN);
                (!new).then(|| {
                    format!(
                        "it has never given a sign of life ({} is missing)",
                        path.display()
                    )
                })
            }
            Ok(Some(state)) => {
                let silent = state.silent_since(now).map(|since| {
                    format!("it has stopped watching: its last sign of life was at {since}")
                });
                let schedule = Schedule::of(watch).ok();
                let overdue = || {
                    let (checked, due) = state.overdue(&schedule?, now)?;
                    Some(format!(
                        "it lives and does not check: its last check was at {checked}, the next was due at {due}"
                    ))
                };
                silent.or_else(overdue)
            }
        };
        if let Some(wrong) = wrong {
            let log = self.site.home.log(&self.agent.name);
            let mend = format!(
                "tail {}; launchctl kickstart -k {}",
                log.display(),
                self.target()
            );
            self.found(Kind::Watchdog, wrong, mend);
        }
    }
}

/// Who serves, as it is written down, must be who is enabled.
fn active(site: &Site, receipt: &Receipt, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let active = Active::read(&site.home.active())?;
    for (name, role) in site.fleet.agents_of(&receipt.host) {
        let enabled = |name| receipt.agent(name).is_some_and(|agent| agent.enabled);
        if matches!(role, Role::Server(_))
            && receipt.agent(name).is_some()
            && !enabled(active.agent_for(name))
        {
            let path = site.home.active();
            let wrong = format!(
                "it says that `{}` serves for `{name}`, which is not enabled",
                active.agent_for(name)
            );
            findings.push(Finding::new(Kind::Active, path.display(), wrong, REINSTALL));
        }
    }
    Ok(())
}
