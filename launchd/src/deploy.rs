//! Carrying out a change, so that it can be interrupted anywhere.
//!
//! One command works at a time ([`Lock`]), and while it works the watchdogs keep their hands still (the maintenance
//! lease). Everything that the new state is made of is kept first; then the journal is written; then agents are stopped,
//! files switched, agents started; then the result is looked at; then the receipt is written and the journal removed.
//! What goes wrong on the way is taken back. What is interrupted is found by the next command, which goes on from the
//! facts: back if no file had been changed, forward otherwise.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sanctum_config::{Home, atomic};
use sanctum_host::lease::{self, LeaseGuard};
use sanctum_host::{InstalledAgent, Receipt};
use sanctum_watch::{BUDGET, State};

use crate::Failure;
use crate::change::{self, Files, Step};
use crate::flight;
use crate::journal::{Journal, Lock, Phase, boundary, now};
use crate::log_excerpt::LogEnds;
use crate::other_fleet;
use crate::report::Report;
use crate::site::Site;
use crate::store::Store;
use crate::target::Target;
use crate::trial;

/// How long the watchdogs keep still for a command that has died; one that lives renews its lease.
const LEASE: Duration = Duration::from_secs(5 * 60);
/// How long launchd may refuse to load a label that it has just forgotten.
const BOOTSTRAP: Duration = Duration::from_secs(30);

/// What is done about the servers when all agents have been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing: the watchdogs will look.
    Leave,
    /// They are waited for and asked a question, for so long; if one does not do, everything is taken back.
    Prove(Duration),
}

/// How a command deals with one that was interrupted before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Goes on from where it was: back if no file had been changed, forward otherwise.
    AsItWas,
    /// Takes it back.
    Back,
}

/// A command at work on this host.
pub struct Deployment<'s, 'r, 'o> {
    site: &'s Site,
    report: &'r mut Report<'o>,
    command: &'static str,
    lease: Option<LeaseGuard>,
    /// Where the logs of the agents that were started ended before.
    logs: LogEnds,
    _lock: Option<Lock>,
}

impl<'s, 'r, 'o> Deployment<'s, 'r, 'o> {
    /// Takes the lock; a dry run needs none. The maintenance lease is taken when there is something to do.
    ///
    /// # Errors
    /// If this system has no launchd, another fleet of this name is installed here, or another command is at work.
    pub fn begin(
        site: &'s Site,
        report: &'r mut Report<'o>,
        command: &'static str,
    ) -> Result<Self, Failure> {
        site.launchctl.check_exists()?;
        other_fleet::refuse(site)?;
        if let Some(receipt) = site.receipt()?
            && receipt.host != site.host
        {
            return Err(Failure::Refused(format!(
                "this machine was installed as `{}`, and the command is about `{}`; type it there",
                receipt.host, site.host
            )));
        }
        let mut lock = None;
        if !report.dry_run {
            make_folders(site)?;
            lock = Some(Lock::take(&site.home.state())?);
        }
        let mut work = Self {
            site,
            report,
            command,
            lease: None,
            logs: LogEnds::default(),
            _lock: lock,
        };
        if !work.report.dry_run {
            sweep(&site.home)?;
            trial::end_left_over(&site.home, work.report)?;
        }
        // Somebody else's must be respected, and one that a dead command has left is given back at the end of this one.
        let left = !matches!(lease::Lease::read(&site.home.lease()), Ok(None));
        if left && !work.report.dry_run {
            work.hold()?;
        }
        Ok(work)
    }

    /// From here on the watchdogs keep still.
    fn hold(&mut self) -> Result<(), Failure> {
        if self.lease.is_none() {
            let owner = format!("sanctum-launchd {}", self.command);
            let reason = format!("agents of {} are being replaced", self.site.host);
            let (held, _) = lease::take(&self.site.home.lease(), &owner, &reason, LEASE)?;
            self.lease = Some(held);
        }
        self.report.go_on_unheard();
        outlive_the_terminal()?;
        boundary("lease");
        Ok(())
    }

    /// Where the logs of the agents that it started ended before.
    pub fn log_ends(&self) -> &LogEnds {
        &self.logs
    }

    /// Where words go.
    pub fn report(&mut self) -> &mut Report<'o> {
        self.report
    }

    /// Deals with a command that was interrupted, if one was. Returns whether one was. Servers that it starts are waited
    /// for as long as `patience` says.
    ///
    /// # Errors
    /// If it can be neither finished nor taken back; the journal stays then.
    pub fn resume(&mut self, way: Resume, patience: Duration) -> Result<bool, Failure> {
        let Some(mut journal) = Journal::read(&self.site.home.journal())? else {
            return Ok(false);
        };
        let forward = way == Resume::AsItWas && journal.phase == Phase::Changing;
        let next = if forward { "finished" } else { "taken back" };
        self.report
            .note(&format!("{}; it is {next} first", journal.interruption()))?;
        if self.report.dry_run {
            return Ok(true);
        }
        self.hold()?;
        let store = Store(&self.site.home);
        let from = journal
            .from
            .clone()
            .map(|from| Target::recall(&store, from))
            .transpose()?;
        let to = match journal.to.artefacts.is_empty() && journal.to.agents.is_empty() {
            true => Target::nothing(&journal.to.host),
            false => Target::recall(&store, journal.to.clone())?,
        };
        let receipts = journal.from.iter().chain([&journal.to]);
        for artefact in receipts.flat_map(|receipt| &receipt.artefacts) {
            if let Some(folder) = artefact.path.parent() {
                atomic::sweep(folder).map_err(|error| Failure::write(folder, error))?;
            }
        }
        if forward {
            let after = match journal.command == "upgrade" {
                true => After::Prove(patience),
                false => After::Leave,
            };
            let steps = change::between(self.site, from.as_ref(), &to)?;
            self.carry_out(&mut journal, steps, from.as_ref(), &to, after)?;
        } else {
            if !matches!(journal.phase, Phase::TakingBack(_)) {
                journal.phase = Phase::TakingBack("it was interrupted".to_owned());
            }
            self.go_back(&mut journal, from.as_ref(), &to)?;
        }
        Ok(true)
    }

    /// Turns this host into `to`. Returns whether anything had to be done.
    ///
    /// # Errors
    /// [`Failure::TakenBack`] if it did not do. Anything else: the journal stays, and the next command goes on.
    pub fn turn(
        &mut self,
        from: Option<&Target>,
        to: &Target,
        after: After,
    ) -> Result<bool, Failure> {
        let steps = change::between(self.site, from, to)?;
        if let Some(from) = from
            && steps.is_empty()
            && same(&from.receipt, &to.receipt)
        {
            if !self.report.dry_run {
                Store(&self.site.home).mend(&from.receipt, to)?;
                self.restore_budgets(&from.receipt)?;
            }
            return Ok(false);
        }
        for step in &steps {
            for line in step.describe() {
                self.plan(step, &line)?;
            }
        }
        if self.report.dry_run {
            return Ok(true);
        }
        self.hold()?;
        Store(&self.site.home).keep(to)?;
        boundary("keep");
        // Found out now, a damaged release costs nothing; found out between stop and start, it would cost an outage.
        for step in &steps {
            if let Step::Switch(files) = step {
                for artefact in &files.write {
                    Store(&self.site.home).open(&to.receipt.release, artefact)?;
                }
            }
        }
        let mut journal = Journal {
            command: self.command.to_owned(),
            started: now(),
            from: from.map(|from| from.receipt.clone()),
            to: to.receipt.clone(),
            phase: Phase::Preparing,
            steps: Vec::new(),
            done: Vec::new(),
        };
        self.carry_out(&mut journal, steps, from, to, after)?;
        Ok(true)
    }

    /// A deployment restores a guardian's restart budget, one that had nothing to change as well: the guardian sees that the
    /// receipt was written again. Where no budget is spent nothing is written.
    fn restore_budgets(&mut self, receipt: &Receipt) -> Result<(), Failure> {
        let home = &self.site.home;
        let spent = receipt.agents.iter().filter(|agent| {
            // A state that cannot be read is `verify`'s to report.
            let state = State::read(&home.watch_state(&agent.name)).ok().flatten();
            state.is_some_and(|state| state.open.contains_key(BUDGET))
        });
        let spent: Vec<String> = spent.map(|agent| agent.name.to_string()).collect();
        if !spent.is_empty() {
            receipt.write(&home.receipt())?;
            let names = spent.join(", ");
            self.report
                .note(&format!("the restart budget of {names} is restored"))?;
        }
        Ok(())
    }

    fn plan(&mut self, step: &Step, line: &str) -> io::Result<()> {
        if self.report.dry_run {
            self.report.step(&step.to_string(), line)?;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        journal: &mut Journal,
        steps: Vec<Step>,
        from: Option<&Target>,
        to: &Target,
        after: After,
    ) -> Result<(), Failure> {
        let done = self.perform(journal, steps, to).and_then(|()| match after {
            After::Leave => Ok(()),
            After::Prove(patience) => {
                let renew = || renew(&mut self.lease, patience);
                flight::after(self.site, to, patience, &self.logs, self.report, renew)?;
                self.done(journal, "post-flight")
            }
        });
        match done {
            Ok(()) => self.finish(to),
            Err(failure) => Err(self.take_back(journal, from, to, failure)),
        }
    }

    /// Goes back to `from` because of `why`; the failure that is left to be told.
    fn take_back(
        &mut self,
        journal: &mut Journal,
        from: Option<&Target>,
        to: &Target,
        why: Failure,
    ) -> Failure {
        let why = why.to_string();
        journal.phase = Phase::TakingBack(why.clone());
        let what = format!("{} of release {}", journal.command, to.receipt.release);
        match self.go_back(journal, from, to) {
            Ok(()) => Failure::TakenBack {
                what,
                why,
                now: match from {
                    Some(from) => format!("release {} is in place again", from.receipt.release),
                    None => "nothing is installed, as before".to_owned(),
                },
            },
            Err(failure) => Failure::Refused(format!(
                "{what} failed ({why}), and taking it back failed too: {failure}; mend that, then type: sanctum-launchd \
                 rollback"
            )),
        }
    }

    fn go_back(
        &mut self,
        journal: &mut Journal,
        from: Option<&Target>,
        to: &Target,
    ) -> Result<(), Failure> {
        let nothing = Target::nothing(&to.receipt.host);
        let back = from.unwrap_or(&nothing);
        if let Phase::TakingBack(reason) = &journal.phase {
            let line = format!("taking it back: {reason}");
            self.report.note(&line)?;
        }
        journal.done.clear();
        journal.write(&self.site.home.journal())?;
        boundary("taking-back");
        let steps = change::between(self.site, Some(to), back)?;
        self.perform(journal, steps, back)?;
        // It may have been interrupted after its receipt was written.
        let path = self.site.home.receipt();
        match from {
            Some(from) => from.receipt.write(&path)?,
            None => atomic::remove(&path).map_err(|error| Failure::write(&path, error))?,
        }
        self.end()
    }

    fn perform(
        &mut self,
        journal: &mut Journal,
        steps: Vec<Step>,
        to: &Target,
    ) -> Result<(), Failure> {
        journal.steps = steps.iter().map(Step::to_string).collect();
        journal.write(&self.site.home.journal())?;
        boundary("journal");
        let site = self.site;
        for step in steps {
            let limit = match &step {
                Step::BootOut(agent) => site.launchctl.exit_limit(&agent.label)?,
                _ => Duration::ZERO,
            };
            renew(&mut self.lease, limit)?;
            for line in step.describe() {
                self.report.step(&step.to_string(), &line)?;
            }
            match &step {
                Step::Disable(agent) => site.launchctl.disable(&agent.label)?,
                Step::Enable(agent) => site.launchctl.enable(&agent.label)?,
                Step::BootOut(agent) => site.launchctl.bootout(&agent.label)?,
                Step::Switch(files) => self.switch(journal, files, to)?,
                Step::Bootstrap(agent) => {
                    self.logs.mark(&site.home, &agent.name);
                    bootstrap(site, agent)?;
                }
                Step::Active(active) => active.write(&site.home.active())?,
            }
            self.done(journal, &step.to_string())?;
        }
        Ok(())
    }

    fn done(&self, journal: &mut Journal, step: &str) -> Result<(), Failure> {
        journal.done.push(step.to_owned());
        journal.write(&self.site.home.journal())?;
        boundary(step);
        Ok(())
    }

    /// All files lie ready beside their places before the first is renamed; between two renames lie microseconds.
    fn switch(&self, journal: &mut Journal, files: &Files, to: &Target) -> Result<(), Failure> {
        let store = Store(&self.site.home);
        let mut staged = Vec::new();
        for artefact in &files.write {
            let mut contents = store.open(&to.receipt.release, artefact)?;
            let ready = atomic::stage(&artefact.path, &mut contents, artefact.mode)
                .map_err(|error| Failure::write(&artefact.path, error))?;
            staged.push(ready);
        }
        boundary("staged");
        if journal.phase == Phase::Preparing {
            journal.phase = Phase::Changing;
            journal.write(&self.site.home.journal())?;
        }
        for ready in staged {
            let path = ready.path().to_owned();
            ready.put().map_err(|error| Failure::write(&path, error))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            boundary(&format!("put:{name}"));
        }
        for path in &files.remove {
            atomic::remove(path).map_err(|error| Failure::write(path, error))?;
        }
        for (path, mode) in &files.close {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
                .map_err(|error| Failure::write(path, error))?;
        }
        Ok(())
    }

    /// The receipt comes last: whoever finds it finds everything that it names.
    fn finish(&mut self, to: &Target) -> Result<(), Failure> {
        let home = &self.site.home;
        if to.is_nothing() {
            for record in [home.receipt(), home.active()] {
                atomic::remove(&record).map_err(|error| Failure::write(&record, error))?;
            }
            return self.end();
        }
        let store = Store(home);
        store.remember(&to.receipt)?;
        boundary("remembered");
        to.receipt.write(&home.receipt())?;
        boundary("receipt");
        for old in store.prune(&to.receipt, to.fleet.fleet.retention.get())? {
            let line = format!("remove release {old}, which is kept no longer");
            self.report.step("prune", &line)?;
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), Failure> {
        let path = self.site.home.journal();
        atomic::remove(&path).map_err(|error| Failure::write(&path, error))?;
        boundary("done");
        Ok(())
    }
}

/// Holds the lease for something that may take so long.
fn renew(lease: &mut Option<LeaseGuard>, limit: Duration) -> Result<(), Failure> {
    match lease {
        Some(lease) => Ok(lease.renew(limit + LEASE)?),
        None => Ok(()),
    }
}

/// A laptop that is closed ends its ssh session, and must not end the deployment with it, between stop and start.
fn outlive_the_terminal() -> Result<(), Failure> {
    let refused =
        |error: io::Error| Failure::Refused(format!("the system gives no signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(refused)?;
    let _inside = runtime.enter();
    // Who listens once has taken the place of the default, which is to end, for as long as the process lives.
    let listening = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    listening.map(drop).map_err(refused)
}

/// Removes half-written files that killed commands and watchdogs have left in the home and among the property lists.
fn sweep(home: &Home) -> Result<(), Failure> {
    let mut folders = vec![home.launch_agents(), home.path().to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder that cannot be entered holds nothing that this user has written.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        atomic::sweep(&folder).map_err(|error| Failure::write(&folder, error))?;
        if !folder.starts_with(home.path()) {
            continue;
        }
        let inner = entries.flatten().filter(|entry| {
            // Not a link, which could lead anywhere.
            entry.file_type().is_ok_and(|kind| kind.is_dir())
        });
        folders.extend(inner.map(|entry| entry.path()));
    }
    Ok(())
}

/// Whether two receipts say the same, apart from the moment.
fn same(a: &Receipt, b: &Receipt) -> bool {
    let b = Receipt {
        installed: a.installed.clone(),
        ..b.clone()
    };
    *a == b
}

fn make_folders(site: &Site) -> Result<(), Failure> {
    let home = &site.home;
    let folders = [
        home.path().to_owned(),
        home.bin(),
        home.releases(),
        home.state(),
        home.logs(),
        home.certs(),
        home.secrets(),
        home.launch_agents(),
    ];
    folders.iter().try_for_each(|folder| {
        atomic::folder_for_owner(folder).map_err(|error| Failure::write(folder, error))
    })
}

/// Loads an agent. launchd refuses for a moment when it has just forgotten the label, and for good when the agent is
/// loaded already (a guardian may have been quicker, after a lease had expired).
fn bootstrap(site: &Site, agent: &InstalledAgent) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match site.launchctl.bootstrap(&agent.plist) {
            Err(error) if error.is_label_in_use() && begun.elapsed() < BOOTSTRAP => {
                if site.launchctl.print(&agent.label)?.is_some() {
                    return Ok(());
                }
                sleep(Duration::from_millis(250));
            }
            other => return Ok(other?),
        }
    }
}
