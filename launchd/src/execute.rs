//! Carrying out a plan so that it can be interrupted anywhere.
//!
//! New files are written beside the installed ones first; then the journal is written; then the steps of the plan are taken;
//! then the receipt is written and the journal removed. A step that fails rolls everything back. A command that is killed
//! leaves the journal, and the next command continues from the facts: back if no file had been changed, forward otherwise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sanctum_config::atomic::{self, Staged};
use sanctum_host::journal::{Journal, JournalProgress, timestamp};
use sanctum_host::{Installation, InstalledAgent};

use crate::Error;
use crate::actual::ActualState;
use crate::console::Console;
use crate::fault::fault_point;
use crate::host_state::HostState;
use crate::log_excerpt::LogEnds;
use crate::maintenance::Maintenance;
use crate::outside_checks::OutsideChecks;
use crate::plan::{DeployStep, FileChanges, plan};
use crate::post_deploy_checks;
use crate::store::DeploymentStore;

/// How long launchd may refuse to load a label that it has just unloaded.
const BOOTSTRAP: Duration = Duration::from_secs(30);

/// What happens to the servers after all agents have been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterStart {
    /// Nothing: the watchdogs check them.
    Leave,
    /// Each must become ready within this time and answer a question, or everything is rolled back.
    Check(Duration),
}

/// Carries out plans on one host.
pub(crate) struct Executor<'a, 'c, 'o> {
    pub(crate) installation: &'a Installation,
    pub(crate) console: &'c mut Console<'o>,
    pub(crate) maintenance: Maintenance<'a>,
    pub(crate) store: DeploymentStore<'a>,
    /// Where the logs of the started agents ended before they were started.
    pub(crate) logs: LogEnds,
    /// What other hosts check after an upgrade.
    pub(crate) outside: OutsideChecks,
}

impl Executor<'_, '_, '_> {
    /// Changes this host to `to` with the steps of a plan.
    ///
    /// # Errors
    /// [`Error::RolledBack`] if a step or a check failed and everything was rolled back. After any other error the journal
    /// stays, and the next command continues.
    pub(crate) fn apply(
        &mut self,
        command: &str,
        steps: Vec<DeployStep>,
        from: Option<&HostState>,
        to: &HostState,
        after: AfterStart,
    ) -> Result<(), Error> {
        self.maintenance.pause_watchdogs(self.console)?;
        self.store.save(&to.receipt.release, &to.contents)?;
        fault_point("store");
        let mut journal = Journal {
            command: command.to_owned(),
            started: timestamp(),
            from: from.map(|from| from.receipt.clone()),
            to: to.receipt.clone(),
            progress: JournalProgress::Preparing,
            steps: Vec::new(),
            done: Vec::new(),
        };
        // A damaged release is found here, before anything is stopped.
        let staged = self.stage(&steps, to)?;
        self.finish_or_roll_back(&mut journal, steps, Ok(staged), from, to, after)
    }

    /// Finishes what an interrupted command has begun.
    ///
    /// # Errors
    /// As [`Executor::apply`].
    pub(crate) fn finish_interrupted(
        &mut self,
        journal: &mut Journal,
        from: Option<&HostState>,
        to: &HostState,
        after: AfterStart,
    ) -> Result<(), Error> {
        let actual = ActualState::observe(self.installation, from, to)?;
        let steps = plan(&actual, from, to);
        let staged = self.stage(&steps, to);
        self.finish_or_roll_back(journal, steps, staged, from, to, after)
    }

    fn finish_or_roll_back(
        &mut self,
        journal: &mut Journal,
        steps: Vec<DeployStep>,
        staged: Result<Vec<Staged>, Error>,
        from: Option<&HostState>,
        to: &HostState,
        after: AfterStart,
    ) -> Result<(), Error> {
        let done = staged
            .and_then(|staged| self.take_steps(journal, steps, staged))
            .and_then(|()| match after {
                AfterStart::Leave => Ok(()),
                AfterStart::Check(patience) => self.check(journal, to, patience),
            });
        let Err(error) = done else {
            return self.finish(to);
        };
        let why = error.to_string();
        let what = format!("{} of release {}", journal.command, to.receipt.release);
        journal.progress = JournalProgress::RollingBack(why.clone());
        Err(match self.roll_back(journal, from, to) {
            Ok(()) => Error::RolledBack {
                what,
                why,
                now: match from {
                    Some(from) => format!("release {} is in place again", from.receipt.release),
                    None => "nothing is installed, as before".to_owned(),
                },
            },
            Err(error) => Error::refused(format!(
                "{what} failed ({why}), and the rollback failed too: {error}; fix that, then run: {}",
                self.installation.typed("rollback")
            )),
        })
    }

    /// Returns this host to `from`. The journal's progress says why.
    ///
    /// # Errors
    /// If a step fails; the journal stays.
    pub(crate) fn roll_back(
        &mut self,
        journal: &mut Journal,
        from: Option<&HostState>,
        to: &HostState,
    ) -> Result<(), Error> {
        let nothing = HostState::nothing(&to.receipt.host);
        let back = from.unwrap_or(&nothing);
        if let JournalProgress::RollingBack(reason) = &journal.progress {
            self.console.note(&format!("rolling back: {reason}"))?;
        }
        journal.done.clear();
        journal.write(&self.installation.home.journal())?;
        fault_point("rollback");
        let actual = ActualState::observe(self.installation, Some(to), back)?;
        let steps = plan(&actual, Some(to), back);
        let staged = self.stage(&steps, back)?;
        self.take_steps(journal, steps, staged)?;
        // The deployment may have been interrupted after it had written its receipt.
        let path = self.installation.home.receipt();
        match from {
            Some(from) => from.receipt.write(&path)?,
            None => atomic::remove(&path).map_err(|error| Error::write(&path, error))?,
        }
        self.end()
    }

    /// Writes all new files beside the installed ones, and verifies them. Nothing that is installed changes.
    fn stage(&self, steps: &[DeployStep], to: &HostState) -> Result<Vec<Staged>, Error> {
        let mut staged = Vec::new();
        for step in steps {
            if let DeployStep::Switch(files) = step {
                for artefact in &files.write {
                    staged.push(self.store.stage(&to.receipt.release, artefact)?);
                }
            }
        }
        fault_point("staged");
        Ok(staged)
    }

    fn take_steps(
        &mut self,
        journal: &mut Journal,
        steps: Vec<DeployStep>,
        staged: Vec<Staged>,
    ) -> Result<(), Error> {
        let Installation {
            home, launchctl, ..
        } = self.installation;
        journal.steps = steps.iter().map(DeployStep::to_string).collect();
        journal.write(&home.journal())?;
        fault_point("journal");
        let mut staged = Some(staged);
        for step in steps {
            let limit = match &step {
                DeployStep::BootOut(agent) => launchctl.exit_limit(&agent.label)?,
                _ => Duration::ZERO,
            };
            self.maintenance.renew(limit)?;
            for line in step.describe() {
                self.console.step(&step.to_string(), &line)?;
            }
            match &step {
                DeployStep::Disable(agent) => launchctl.disable(&agent.label)?,
                DeployStep::Enable(agent) => launchctl.enable(&agent.label)?,
                DeployStep::BootOut(agent) => launchctl.bootout(&agent.label)?,
                DeployStep::Switch(files) => {
                    self.switch(journal, files, staged.take().unwrap_or_default())?;
                }
                DeployStep::Active(active) => active.write(&home.active())?,
                DeployStep::Bootstrap(agent) => {
                    self.logs.mark(home, &agent.name);
                    bootstrap(self.installation, agent)?;
                }
            }
            self.done(journal, &step.to_string())?;
        }
        Ok(())
    }

    fn done(&self, journal: &mut Journal, step: &str) -> Result<(), Error> {
        journal.done.push(step.to_owned());
        journal.write(&self.installation.home.journal())?;
        fault_point(step);
        Ok(())
    }

    /// Renames the new files over the installed ones, which takes microseconds each.
    fn switch(
        &self,
        journal: &mut Journal,
        files: &FileChanges,
        staged: Vec<Staged>,
    ) -> Result<(), Error> {
        if journal.progress == JournalProgress::Preparing {
            journal.progress = JournalProgress::Changing;
            journal.write(&self.installation.home.journal())?;
        }
        for file in staged {
            let path = file.path().to_owned();
            file.put().map_err(|error| Error::write(&path, error))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            fault_point(&format!("put:{name}"));
        }
        for path in &files.remove {
            atomic::remove(path).map_err(|error| Error::write(path, error))?;
        }
        for (path, mode) in &files.chmod {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
                .map_err(|error| Error::write(path, error))?;
        }
        Ok(())
    }

    fn check(
        &mut self,
        journal: &mut Journal,
        to: &HostState,
        patience: Duration,
    ) -> Result<(), Error> {
        let maintenance = &mut self.maintenance;
        let before_each = || maintenance.renew(patience);
        post_deploy_checks::run(
            self.installation,
            to,
            patience,
            &self.logs,
            self.console,
            before_each,
        )?;
        self.maintenance.renew(self.outside.limit())?;
        self.outside.check(self.installation, self.console)?;
        self.done(journal, "post-deploy-checks")
    }

    /// The receipt is written last: everything that it names exists then.
    fn finish(&mut self, to: &HostState) -> Result<(), Error> {
        let home = &self.installation.home;
        if to.is_nothing() {
            for record in [home.receipt(), home.active(), home.stopped(), home.window()] {
                atomic::remove(&record).map_err(|error| Error::write(&record, error))?;
            }
            return self.end();
        }
        self.store.record(&to.receipt)?;
        fault_point("recorded");
        to.receipt.write(&home.receipt())?;
        fault_point("receipt");
        let retention = to.fleet.fleet.retention.get();
        for old in self.store.prune(&to.receipt, retention)? {
            let line = format!("remove release {old}, which is beyond `retention`");
            self.console.step("prune", &line)?;
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        let path = self.installation.home.journal();
        atomic::remove(&path).map_err(|error| Error::write(&path, error))?;
        fault_point("done");
        Ok(())
    }
}

/// Loads an agent. launchd may refuse for a moment after it has unloaded the label, and always if the agent is loaded: a
/// guardian whose lease had expired may have loaded it first.
///
/// # Errors
/// If launchctl fails.
pub(crate) fn bootstrap(installation: &Installation, agent: &InstalledAgent) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        match installation.launchctl.bootstrap(&agent.plist) {
            Err(error) if error.is_label_in_use() && begun.elapsed() < BOOTSTRAP => {
                if installation.launchctl.print(&agent.label)?.is_some() {
                    return Ok(());
                }
                sleep(Duration::from_millis(250));
            }
            other => return Ok(other?),
        }
    }
}
