//! Agents as launchd has them: loaded, enabled, with the arguments of their property lists, and running the program file
//! on disk.

use std::path::Path;

use sanctum_config::{RecordError, Role};

use crate::finding::{Finding, FindingKind, REINSTALL};
use crate::launchctl::{LastExit, Service};
use crate::property_list::PropertyList;
use crate::running_program::{RunningProgram, lsof_line, running_program};
use crate::ssh::quoted_file;
use crate::{
    Active, ArtefactKind, Error, Installation, InstalledAgent, Receipt, StoppedAgent, StoppedAgents,
};

pub(super) fn check(
    installation: &Installation,
    receipt: &Receipt,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let disabled = installation.launchctl.disabled()?;
    let path = installation.home.stopped();
    let stopped = StoppedAgents::read(&path);
    let stopped = or_default(stopped, &path, installation, findings);
    for agent in &receipt.agents {
        let is_disabled = disabled.get(&agent.label).copied().unwrap_or(false);
        let service = installation.launchctl.print(&agent.label)?;
        let mut check = AgentCheck {
            installation,
            agent,
            findings,
        };
        match stopped.get(&agent.name).filter(|_| agent.enabled) {
            Some(stopped) => check.stopped(stopped, is_disabled, service.is_some()),
            None => check.enabled_and_loaded(is_disabled, service.is_some()),
        }
        if let Some(service) = service.filter(|_| agent.enabled) {
            check.arguments(&service);
            check.process(&service);
            check.program(&service, receipt);
        }
    }
    check_active(installation, receipt, findings);
    Ok(())
}

/// What a record says; the default, and a finding, if it cannot be read: it must not hide the other findings.
fn or_default<T: Default>(
    record: Result<T, RecordError>,
    path: &Path,
    installation: &Installation,
    findings: &mut Vec<Finding>,
) -> T {
    record.unwrap_or_else(|error| {
        let fix = installation.moving_away(path);
        let problem = error.to_string();
        findings.push(Finding::new(
            FindingKind::Record,
            path.display(),
            problem,
            fix,
        ));
        T::default()
    })
}

/// One agent and the findings about it.
struct AgentCheck<'a> {
    installation: &'a Installation,
    agent: &'a InstalledAgent,
    findings: &'a mut Vec<Finding>,
}

impl AgentCheck<'_> {
    fn add(&mut self, kind: FindingKind, problem: impl Into<String>, fix: impl Into<String>) {
        self.findings
            .push(Finding::new(kind, &self.agent.label, problem, fix));
    }

    /// launchctl's name for the agent.
    fn target(&self) -> String {
        self.installation.launchctl.target(&self.agent.label)
    }

    fn enabled_and_loaded(&mut self, is_disabled: bool, is_loaded: bool) {
        let target = self.target();
        match (self.agent.enabled, is_disabled) {
            (true, true) => self.add(
                FindingKind::Disabled,
                "it is disabled, so it will not start at the next login",
                format!("launchctl enable {target}"),
            ),
            (false, false) => self.add(
                FindingKind::Disabled,
                "it is on standby and not disabled: at the next login it would start and take the server's port",
                format!("launchctl disable {target}"),
            ),
            _ => {}
        }
        match (self.agent.enabled, is_loaded) {
            (true, false) => {
                let fix = self.installation.typed(REINSTALL);
                self.add(FindingKind::NotLoaded, "it is not loaded", fix);
            }
            (false, true) => self.add(
                FindingKind::Loaded,
                "it is on standby and loaded: it competes for the server's port",
                format!("launchctl bootout {target}"),
            ),
            _ => {}
        }
    }

    /// An agent that was stopped on purpose is disabled and not loaded.
    fn stopped(&mut self, stopped: &StoppedAgent, is_disabled: bool, is_loaded: bool) {
        let (name, what) = (&self.agent.name, stopped.describe());
        let typed = |verb: &str| self.installation.typed(&format!("{verb} {name}"));
        let fix = format!("{}, or: {}", typed("start"), typed("stop"));
        if is_loaded {
            let problem = format!("it is {what}, and it is loaded");
            self.add(FindingKind::Loaded, problem, fix);
        } else if !is_disabled {
            let problem = format!("it is {what}, and at the next login it would start");
            self.add(FindingKind::Disabled, problem, fix);
        }
    }

    fn arguments(&mut self, service: &Service) {
        let on_disk = PropertyList::read(&self.agent.plist).and_then(|plist| plist.arguments);
        if let Some(on_disk) = on_disk
            && on_disk != service.arguments
        {
            let problem = format!(
                "it was loaded with other arguments than {} has (loaded: {}; in the file: {}); a kickstart does not change \
                 them",
                self.agent.plist.display(),
                service.arguments.join(" "),
                on_disk.join(" ")
            );
            let fix = self.installation.typed(REINSTALL);
            self.add(FindingKind::StaleArguments, problem, fix);
        }
    }

    fn process(&mut self, service: &Service) {
        if let (None, Some(exit @ (LastExit::Code(_) | LastExit::Signal(_)))) =
            (service.pid, service.last_exit)
        {
            let log = self.installation.home.log(&self.agent.name);
            self.add(
                FindingKind::NotRunning,
                format!("it is loaded and does not run (last: {exit})"),
                format!("tail {}", quoted_file(&log)),
            );
        }
    }

    /// Only for the fleet's own programs: another program may be a script, whose process is its interpreter.
    fn program(&mut self, service: &Service, receipt: &Receipt) {
        let (Some(pid), Some(program)) = (service.pid, service.arguments.first()) else {
            return;
        };
        let program = Path::new(program);
        let artefact = receipt.artefact(program);
        if artefact.is_none_or(|artefact| artefact.kind != ArtefactKind::Binary) {
            return;
        }
        match running_program(pid, program) {
            Ok(RunningProgram::File | RunningProgram::None | RunningProgram::Script) => {}
            Ok(RunningProgram::Other) => {
                let problem = format!(
                    "its process does not run the file {}, which was replaced after the process had started",
                    program.display()
                );
                let fix = format!("launchctl kickstart -k {}", self.target());
                self.add(FindingKind::OldProgram, problem, fix);
            }
            Err(error) => {
                let problem = format!("it is unknown which program its process runs: {error}");
                self.add(FindingKind::OldProgram, problem, lsof_line(pid).to_string());
            }
        }
    }
}

/// The agent that serves according to the record must be enabled.
fn check_active(installation: &Installation, receipt: &Receipt, findings: &mut Vec<Finding>) {
    let path = installation.home.active();
    let active = or_default(Active::read(&path), &path, installation, findings);
    for (name, role) in installation.fleet.agents_of(&receipt.host) {
        let is_enabled = |name| receipt.agent(name).is_some_and(|agent| agent.enabled);
        if matches!(role, Role::Server(_))
            && receipt.agent(name).is_some()
            && !is_enabled(active.agent_for(name))
        {
            let problem = format!(
                "it says that `{}` serves for `{name}`, and that agent is not enabled",
                active.agent_for(name)
            );
            findings.push(Finding::new(
                FindingKind::Active,
                path.display(),
                problem,
                installation.typed(REINSTALL),
            ));
        }
    }
}
