//! Stopping, starting and restarting one agent of this host, by hand.
//!
//! The maintenance lease is held meanwhile, so that no watchdog acts on what it observes in between. A stop is recorded
//! ([`StoppedAgents`]) before the agent is unloaded: there is no moment in which it is stopped and that is unknown.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::Utc;
use sanctum_config::{Label, Role, did_you_mean_or_names};
use sanctum_host::{
    INSTALL_RELEASE, Installation, InstalledAgent, Journal, StoppedAgents, other_fleet,
};
use sanctum_watch::WatchdogState;

use crate::Error;
use crate::console::Console;
use crate::execute::bootstrap;
use crate::fault::fault_point;
use crate::log_excerpt::LogEnds;
use crate::maintenance::Maintenance;
use crate::post_deploy_checks::{StartedServer, served_by};
use crate::wait::Wait;

/// How long an agent that is no server may take to run, and a watchdog to write its heartbeat.
const SOON: Duration = Duration::from_secs(60);
/// How long a page may take to accept a connection over loopback.
const CONNECT: Duration = Duration::from_secs(1);
/// Between two checks whether it does.
const PAUSE: Duration = Duration::from_millis(100);

/// One agent of this host, and the right to change it.
pub(crate) struct AgentControl<'a, 'c, 'o> {
    installation: &'a Installation,
    console: &'c mut Console<'o>,
    agent: InstalledAgent,
    maintenance: Maintenance<'a>,
}

/// The agent of that name that fleet.toml puts on the host.
///
/// # Errors
/// If the host has none: the message names the host that has it, or the agents of this one.
pub(crate) fn agent_of_host<'a>(
    installation: &'a Installation,
    name: &Label,
) -> Result<(&'a Label, Role<'a>), Error> {
    let Installation { fleet, host, .. } = installation;
    let agents = fleet.agents_of(host);
    if let Some(agent) = agents.iter().find(|(agent, _)| *agent == name) {
        return Ok(*agent);
    }
    let names = agents.iter().map(|(name, _)| name.as_str());
    let elsewhere = match fleet.host_of(name) {
        Some(other) => format!("; it runs on {other}: add --host {other}"),
        None => did_you_mean_or_names(name.as_str(), names),
    };
    Err(Error::refused(format!(
        "{host} has no agent `{name}`{elsewhere}"
    )))
}

/// The installed agent of that name.
///
/// # Errors
/// If nothing is installed here, or no such agent.
pub(crate) fn installed_agent(
    installation: &Installation,
    name: &Label,
) -> Result<InstalledAgent, Error> {
    let receipt = installation.receipt()?.ok_or_else(|| {
        Error::refused(format!(
            "nothing is installed here; to install, run: {}",
            installation.typed_to_deploy(INSTALL_RELEASE)
        ))
    })?;
    receipt.agent(name).cloned().ok_or_else(|| {
        let names = receipt.agents.iter().map(|agent| agent.name.as_str());
        let elsewhere = match installation.fleet.host_of(name) {
            Some(host) if *host != installation.host => {
                format!("; it runs on {host}: add --host {host}")
            }
            _ => did_you_mean_or_names(name.as_str(), names),
        };
        Error::refused(format!(
            "no agent `{name}` is installed on {}{elsewhere}",
            installation.host
        ))
    })
}

/// Checks that launchd has loaded an agent.
///
/// # Errors
/// If it has not, with the command that loads it.
pub(crate) fn check_loaded(
    installation: &Installation,
    agent: &InstalledAgent,
) -> Result<(), Error> {
    match installation.launchctl.print(&agent.label)? {
        Some(_) => Ok(()),
        None => Err(Error::refused(format!(
            "`{0}` is not loaded; to load it, run: {1}",
            agent.name,
            installation.typed(&format!("start {}", agent.name))
        ))),
    }
}

impl<'a, 'c, 'o> AgentControl<'a, 'c, 'o> {
    /// Takes the right to change an agent, and pauses the watchdogs.
    ///
    /// # Errors
    /// If another command is at work, or one was interrupted.
    pub(crate) fn begin(
        installation: &'a Installation,
        command: &'static str,
        agent: InstalledAgent,
        console: &'c mut Console<'o>,
    ) -> Result<Self, Error> {
        installation.launchctl.check_exists()?;
        other_fleet::check_no_other(installation)?;
        if let Some(journal) = Journal::read(&installation.home.journal())? {
            return Err(Error::refused(format!(
                "{}; finish that first with: {}, or: {}",
                journal.interruption(),
                installation.typed("install"),
                installation.typed("rollback")
            )));
        }
        let mut maintenance = Maintenance::begin(installation, command, console)?;
        maintenance.pause_watchdogs(console)?;
        Ok(Self {
            installation,
            console,
            agent,
            maintenance,
        })
    }

    /// Records that the agent is stopped, disables it, and unloads it: its process gets SIGTERM, and SIGKILL at its
    /// ExitTimeOut.
    ///
    /// # Errors
    /// If the record cannot be written or launchctl fails.
    pub(crate) fn stop(mut self, reason: Option<&str>) -> Result<(), Error> {
        let Installation {
            home, launchctl, ..
        } = self.installation;
        let label = self.agent.label.clone();
        StoppedAgents::add(&home.stopped(), &self.agent.name, reason)?;
        fault_point("stop-recorded");
        launchctl.disable(&label)?;
        let limit = launchctl.exit_limit(&label)?;
        self.maintenance.renew(limit)?;
        let wait = Wait::new(limit);
        wait.show(&format!("stopping {}", self.agent.name));
        launchctl.bootout(&label)?;
        Ok(())
    }

    /// Enables and loads the agent, removes the record that it was stopped, and waits until it is healthy.
    ///
    /// # Errors
    /// If launchctl fails, or the agent does not become healthy within `patience`.
    pub(crate) fn start(mut self, patience: Duration) -> Result<(), Error> {
        let Installation {
            home, launchctl, ..
        } = self.installation;
        let label = self.agent.label.clone();
        let mut logs = LogEnds::default();
        logs.mark(home, &self.agent.name);
        let begun = Utc::now();
        launchctl.enable(&label)?;
        match launchctl.print(&label)? {
            None => bootstrap(self.installation, &self.agent)?,
            Some(service) if !service.is_running() => launchctl.kickstart(&label)?,
            Some(_) => {}
        }
        fault_point("start-loaded");
        StoppedAgents::remove(&home.stopped(), &self.agent.name)?;
        self.until_healthy(patience, &logs, begun)
    }

    /// Restarts the agent, and waits until it is healthy.
    ///
    /// # Errors
    /// If the agent is not loaded, launchctl fails, the process does not end, or the agent does not become healthy within
    /// `patience`.
    pub(crate) fn restart(mut self, patience: Duration) -> Result<(), Error> {
        let Installation {
            home, launchctl, ..
        } = self.installation;
        let label = self.agent.label.clone();
        // Another command may have stopped it before this one took the lock.
        check_loaded(self.installation, &self.agent)?;
        let limit = launchctl.exit_limit(&label)?;
        self.maintenance.renew(limit)?;
        let mut logs = LogEnds::default();
        logs.mark(home, &self.agent.name);
        let wait = Wait::new(limit);
        wait.show(&format!("restarting {}", self.agent.name));
        let begun = Utc::now();
        launchctl.restart(&label)?;
        drop(wait);
        self.until_healthy(patience, &logs, begun)
    }

    /// Waits until a server is ready and has answered, a watchdog has written its heartbeat, a page accepts connections, and any
    /// other program runs.
    fn until_healthy(
        &mut self,
        patience: Duration,
        logs: &LogEnds,
        begun: chrono::DateTime<Utc>,
    ) -> Result<(), Error> {
        let Installation { fleet, home, .. } = self.installation;
        self.maintenance.renew(patience)?;
        if let Some(server) = served_by(fleet, &self.agent.name) {
            let started = StartedServer {
                installation: self.installation,
                fleet,
                agent: &self.agent,
                server,
            };
            return started.check(patience, logs, self.console);
        }
        let role = fleet.role(&self.agent.name);
        let is_watchdog = matches!(role, Some(Role::Watch(_)));
        let page = match role {
            Some(Role::Page(page)) => page.address().ok().filter(|address| address.port() != 0),
            _ => None,
        };
        let accepts = || page.is_none_or(|page| TcpStream::connect_timeout(&page, CONNECT).is_ok());
        let state = home.watch_state(&self.agent.name);
        let limit = patience.min(SOON);
        let wait = Wait::new(limit);
        wait.show(&format!("waiting until {} runs", self.agent.name));
        let started = Instant::now();
        loop {
            let service = self.installation.launchctl.print(&self.agent.label)?;
            let runs = service.as_ref().is_some_and(|service| service.is_running());
            let has_written = || {
                let state = WatchdogState::read(&state).ok().flatten();
                state.is_some_and(|state| state.heartbeat >= begun)
            };
            if runs && (!is_watchdog || has_written()) && accepts() {
                drop(wait);
                let took = started.elapsed().as_secs_f64();
                let what = match (is_watchdog, page) {
                    (true, _) => "has written its heartbeat",
                    (false, None) => "runs",
                    (false, Some(_)) => "accepts connections",
                };
                let name = &self.agent.name;
                return Ok(self
                    .console
                    .note(&format!("`{name}` {what} after {took:.1} s"))?);
            }
            if started.elapsed() >= limit {
                return Err(Error::refused(format!(
                    "`{}` was started and {} after {} s{}; read its log: {}",
                    self.agent.name,
                    match (runs, page) {
                        (true, None) => "has written no heartbeat",
                        (true, Some(_)) => "accepts no connection",
                        (false, _) => "does not run",
                    },
                    limit.as_secs(),
                    logs.excerpt(home, &self.agent.name),
                    self.installation
                        .typed(&format!("logs {}", self.agent.name))
                )));
            }
            sleep(PAUSE);
        }
    }
}
