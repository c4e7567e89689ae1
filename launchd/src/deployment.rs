//! A deployment from the request to the result: refuse, recover, decide, plan, execute.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::Home;
use sanctum_host::journal::{Journal, JournalProgress};
use sanctum_host::{Installation, Receipt, Release, ReleaseFile, other_fleet, ssh};
use sanctum_watch::{BUDGET, WatchdogState};

use crate::Error;
use crate::actual::ActualState;
use crate::console::Console;
use crate::execute::{AfterStart, Executor};
use crate::host_state::HostState;
use crate::log_excerpt::LogEnds;
use crate::maintenance::Maintenance;
use crate::outside_checks::OutsideChecks;
use crate::plan::{DeployStep, plan};
use crate::preflight::{self, Preflight};
use crate::release_folder::{self, remove_folder};
use crate::store::DeploymentStore;

/// What a command asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeployRequest {
    /// The command: `install`, `upgrade`, `rollback` or `uninstall`.
    pub(crate) command: &'static str,
    /// What to do with a command that was interrupted before this one.
    pub(crate) recovery: Recovery,
    /// How long a server may take to become ready when an interrupted upgrade is finished.
    pub(crate) patience: Duration,
}

/// What to do with an interrupted command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Finish it, or roll it back if no file had been changed.
    Continue,
    /// Roll it back.
    RollBack,
}

/// The change that a command has decided on.
pub(crate) struct DeployChange {
    /// What is installed; none if nothing is.
    pub(crate) from: Option<HostState>,
    /// What is to be installed.
    pub(crate) to: HostState,
    /// A release to import first, with its folder.
    pub(crate) import: Option<(Release, PathBuf)>,
    /// Checks before anything is stopped.
    pub(crate) preflight: Option<Preflight>,
    /// Checks after everything is started.
    pub(crate) after: AfterStart,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum DeployOutcome {
    /// The command decided that there is nothing to change. An interrupted command may have been recovered.
    Undecided,
    /// This host is in the desired state already.
    Unchanged,
    /// The plan has been printed, and nothing has been changed (`--dry-run`).
    Planned,
    /// The change was made. The logs of the agents that were started ended here before.
    Changed(LogEnds),
}

/// Serves a request. `decide` receives whether an interrupted command was recovered, and returns the change, or none if
/// nothing is left to do. It must not change anything.
///
/// # Errors
/// If the command is refused, [`Error::RolledBack`] if the change failed and was rolled back. After any other error during
/// the change the journal stays, and the next command continues.
pub(crate) fn run(
    installation: &Installation,
    console: &mut Console,
    request: DeployRequest,
    decide: impl FnOnce(bool, &mut Console) -> Result<Option<DeployChange>, Error>,
) -> Result<DeployOutcome, Error> {
    check_permitted(installation)?;
    if console.dry_run {
        return print_plan(installation, console, request, decide);
    }
    let maintenance = Maintenance::begin(installation, request.command, console)?;
    let mut executor = Executor {
        installation,
        console,
        maintenance,
        store: DeploymentStore::new(&installation.home),
        logs: LogEnds::default(),
        outside: OutsideChecks::default(),
    };
    let recovered = recover(&mut executor, request)?;
    let Some(change) = decide(recovered, executor.console)? else {
        return Ok(DeployOutcome::Undecided);
    };
    let is_new = prepare(&mut executor, &change)?;
    let DeployChange {
        from, to, after, ..
    } = change;
    let steps = steps(installation, from.as_ref(), &to)?;
    if let Some(from) = &from
        && steps.is_empty()
        && is_same(&from.receipt, &to.receipt)
    {
        executor.store.repair(&from.receipt, &to.contents)?;
        restore_budgets(installation, executor.console, &from.receipt)?;
        return Ok(DeployOutcome::Unchanged);
    }
    let applied = executor.apply(request.command, steps, from.as_ref(), &to, after);
    if let Err(error) = applied {
        // A release that was never switched to would fill the disk. One that was rolled back stays, to be inspected.
        let is_interrupted = !matches!(Journal::read(&installation.home.journal()), Ok(None));
        if is_new && !is_interrupted && !matches!(error, Error::RolledBack { .. }) {
            remove_folder(&installation.home.release(&to.receipt.release))?;
        }
        return Err(error);
    }
    Ok(DeployOutcome::Changed(executor.logs))
}

/// A dry run: the same decision and the same plan, printed instead of executed.
fn print_plan(
    installation: &Installation,
    console: &mut Console,
    request: DeployRequest,
    decide: impl FnOnce(bool, &mut Console) -> Result<Option<DeployChange>, Error>,
) -> Result<DeployOutcome, Error> {
    let journal = Journal::read(&installation.home.journal())?;
    if let Some(journal) = &journal {
        let verb = recovery_verb(journal, request);
        console.note(&format!("{}; it is {verb} first", journal.interruption()))?;
    }
    let Some(change) = decide(journal.is_some(), console)? else {
        return Ok(DeployOutcome::Undecided);
    };
    if let Some((release, folder)) = &change.import {
        release_folder::check(release, folder)?;
    }
    let (from, to) = (change.from.as_ref(), &change.to);
    let steps = steps(installation, from, to)?;
    if steps.is_empty() && from.is_some_and(|from| is_same(&from.receipt, &to.receipt)) {
        return Ok(DeployOutcome::Unchanged);
    }
    for step in &steps {
        for line in step.describe() {
            console.step(&step.to_string(), &line)?;
        }
    }
    Ok(DeployOutcome::Planned)
}

fn steps(
    installation: &Installation,
    from: Option<&HostState>,
    to: &HostState,
) -> Result<Vec<DeployStep>, Error> {
    let actual = ActualState::observe(installation, from, to)?;
    Ok(plan(&actual, from, to))
}

/// Checks that this system has launchd, and that neither another fleet of this name nor another host is installed here.
fn check_permitted(installation: &Installation) -> Result<(), Error> {
    installation.launchctl.check_exists()?;
    other_fleet::check_no_other(installation)?;
    match installation.receipt()? {
        Some(receipt) if receipt.host != installation.host => Err(Error::refused(format!(
            "this machine is installed as `{}`, not as `{}`; run the command on {}",
            receipt.host, installation.host, installation.host
        ))),
        _ => Ok(()),
    }
}

/// Finishes or rolls back a command that was interrupted. Returns whether there was one.
fn recover(executor: &mut Executor, request: DeployRequest) -> Result<bool, Error> {
    let home = &executor.installation.home;
    let Some(mut journal) = Journal::read(&home.journal())? else {
        return Ok(false);
    };
    let verb = recovery_verb(&journal, request);
    executor
        .console
        .note(&format!("{}; it is {verb} first", journal.interruption()))?;
    executor.maintenance.pause_watchdogs(executor.console)?;
    let from = journal.from.clone();
    let from = from.map(|from| HostState::recall(&executor.store, from));
    let from = from.transpose()?;
    let to = match journal.to.artefacts.is_empty() && journal.to.agents.is_empty() {
        true => HostState::nothing(&journal.to.host),
        false => HostState::recall(&executor.store, journal.to.clone())?,
    };
    if continues_forward(&journal, request) {
        let after = match journal.command == "upgrade" {
            true => AfterStart::Check(request.patience),
            false => AfterStart::Leave,
        };
        executor.finish_interrupted(&mut journal, from.as_ref(), &to, after)?;
    } else {
        if !matches!(journal.progress, JournalProgress::RollingBack(_)) {
            journal.progress = JournalProgress::RollingBack("it was interrupted".to_owned());
        }
        executor.roll_back(&mut journal, from.as_ref(), &to)?;
    }
    Ok(true)
}

fn continues_forward(journal: &Journal, request: DeployRequest) -> bool {
    request.recovery == Recovery::Continue && journal.progress == JournalProgress::Changing
}

fn recovery_verb(journal: &Journal, request: DeployRequest) -> &'static str {
    match continues_forward(journal, request) {
        true => "finished",
        false => "rolled back",
    }
}

/// Imports the release and runs the checks that need nothing to be stopped. A release that fails them is removed again. Returns
/// whether the release is new here.
fn prepare(executor: &mut Executor, change: &DeployChange) -> Result<bool, Error> {
    let installation = executor.installation;
    let mut is_new = false;
    if let Some((release, folder)) = &change.import {
        require_space(folder, release, &installation.home)?;
        is_new = release_folder::import(release, folder, &installation.home)?;
        executor.store.trust(release);
    }
    let Some(preflight) = &change.preflight else {
        return Ok(is_new);
    };
    let programs = installation.home.release(&change.to.receipt.release);
    let checked = preflight::run(installation, &programs, preflight, executor.console);
    if checked.is_err() && is_new {
        remove_folder(&programs)?;
    }
    checked?;
    executor.outside = OutsideChecks::before(installation, executor.console)?;
    Ok(is_new)
}

/// Checks that the disk has room for a release beside the state and the logs: twice its size. One that is stored already needs
/// none.
fn require_space(folder: &Path, release: &Release, home: &Home) -> Result<(), Error> {
    if home.release(release.version.as_str()).exists() {
        return Ok(());
    }
    let size = |file: &ReleaseFile| {
        folder
            .join(file.name.as_str())
            .metadata()
            .map_or(0, |about| about.len())
    };
    let needed = 2 * release.files.iter().map(size).sum::<u64>();
    let mut place = home.path();
    while let (false, Some(above)) = (place.exists(), place.parent()) {
        place = above;
    }
    let Ok(volume) = rustix::fs::statvfs(place) else {
        return Ok(());
    };
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    match free < needed {
        false => Ok(()),
        true => Err(Error::refused(format!(
            "the disk of {} has {} MiB left, and this release needs {} MiB; nothing has been changed. Make room, for example: du -sh \
             {}/*, then run the command again",
            home.path().display(),
            free >> 20,
            (needed >> 20) + 1,
            ssh::quoted(&home.releases().to_string_lossy())
        ))),
    }
}

/// Whether two receipts are equal apart from the time of the installation.
fn is_same(a: &Receipt, b: &Receipt) -> bool {
    let b = Receipt {
        installed: a.installed.clone(),
        ..b.clone()
    };
    *a == b
}

/// A deployment restores a guardian's restart budget, even one that has nothing to change: the guardian sees that the
/// receipt was written again. Nothing is written if no budget is spent.
fn restore_budgets(
    installation: &Installation,
    console: &mut Console,
    receipt: &Receipt,
) -> Result<(), Error> {
    let home = &installation.home;
    let spent = receipt.agents.iter().filter(|agent| {
        // `verify` reports a state that cannot be read.
        let state = WatchdogState::read(&home.watch_state(&agent.name))
            .ok()
            .flatten();
        state.is_some_and(|state| state.open.contains_key(BUDGET))
    });
    let spent: Vec<String> = spent.map(|agent| agent.name.to_string()).collect();
    if !spent.is_empty() {
        receipt.write(&home.receipt())?;
        let names = spent.join(", ");
        console.note(&format!("the restart budget of {names} is restored"))?;
    }
    Ok(())
}
