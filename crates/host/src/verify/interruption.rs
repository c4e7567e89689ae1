//! A command that was interrupted: its journal, its trial server, its lease.

use sanctum_config::record::RecordError;

use crate::finding::{Finding, FindingKind, REINSTALL};
use crate::journal::{Journal, is_command_running};
use crate::lease::LeaseStatus;
use crate::{Installation, TrialRecord};

/// Adds what is known of an interrupted command. Returns its journal if it has left one.
pub(super) fn check(installation: &Installation, findings: &mut Vec<Finding>) -> Option<Journal> {
    // The journal and the trial of a command that is running are not left over.
    let is_running = is_command_running(&installation.home);
    let journal = match Journal::read(&installation.home.journal()) {
        Ok(journal) => journal.filter(|_| !is_running),
        Err(error) => {
            findings.push(damaged_journal(installation, &error));
            None
        }
    };
    if let Some(journal) = &journal {
        let fix = format!(
            "{} (finishes it, or rolls it back if no file had been changed), or: {}",
            installation.typed(REINSTALL),
            installation.typed("rollback")
        );
        findings.push(Finding::new(
            FindingKind::Interrupted,
            installation.home.journal().display(),
            journal.interruption(),
            fix,
        ));
    }
    if !is_running {
        findings.extend(trial(installation));
    }
    findings.extend(lease(installation, journal.is_some() || is_running));
    journal
}

/// A lease that pauses the watchdogs although no command runs, or that they cannot read. One that is held is explained by the
/// command that runs, or by the journal of the one that was interrupted.
fn lease(installation: &Installation, is_explained: bool) -> Option<Finding> {
    let path = installation.home.lease();
    let (problem, fix) = match LeaseStatus::read(&path, chrono::Utc::now()) {
        Ok(LeaseStatus::Free) => return None,
        Ok(LeaseStatus::Held(_) | LeaseStatus::Expired(_)) if is_explained => return None,
        Ok(LeaseStatus::Held(lease)) if lease.has_live_process() => return None,
        Ok(LeaseStatus::Held(lease) | LeaseStatus::Expired(lease)) => {
            let problem = format!(
                "`{}` (process {}) took the maintenance lease at {} and never released it",
                lease.owner, lease.pid, lease.taken
            );
            (problem, installation.typed(REINSTALL))
        }
        Err(error) => {
            let problem = format!("{error}; watchdogs ignore this maintenance lease");
            (problem, installation.moving_away(&path))
        }
    };
    Some(Finding::new(
        FindingKind::Lease,
        path.display(),
        problem,
        fix,
    ))
}

fn damaged_journal(installation: &Installation, error: &RecordError) -> Finding {
    let path = installation.home.journal();
    let fix = installation.moving_away(&path);
    Finding::new(
        FindingKind::Interrupted,
        path.display(),
        error.to_string(),
        fix,
    )
}

fn trial(installation: &Installation) -> Option<Finding> {
    let reinstall = installation.typed(REINSTALL);
    let (problem, fix) = match TrialRecord::read(&installation.home) {
        Ok(record) => {
            let record = record?;
            let problem = format!(
                "an interrupted upgrade left its trial of `{}` running, with a second copy of the model (process {})",
                record.server, record.process.pid
            );
            (problem, format!("{reinstall} (ends it)"))
        }
        Err(error) => (error.to_string(), format!("do that, then: {reinstall}")),
    };
    let subject = "trial of an upgrade";
    Some(Finding::new(
        FindingKind::Interrupted,
        subject,
        problem,
        fix,
    ))
}
