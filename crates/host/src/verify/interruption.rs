//! A command that was interrupted: its journal, its trial server, its lease.

use sanctum_config::record::RecordError;

use crate::finding::{Finding, FindingKind, REINSTALL};
use crate::journal::{Journal, is_command_running};
use crate::lease::LeaseStatus;
use crate::{Error, Installation, TrialRecord};

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
            "{REINSTALL} (finishes it, or rolls it back if no file had been changed), or: sanctum-launchd rollback"
        );
        findings.push(Finding::new(
            FindingKind::Interrupted,
            installation.home.journal().display(),
            journal.interruption(),
            fix,
        ));
    }
    if !is_running {
        findings.extend(trial(TrialRecord::read(&installation.home)));
    }
    // A journal's finding names the interruption already.
    if journal.is_none()
        && let Ok(LeaseStatus::Expired(lease)) =
            LeaseStatus::read(&installation.home.lease(), chrono::Utc::now())
    {
        let problem = format!(
            "`{}` (process {}) took the maintenance lease at {} and never released it",
            lease.owner, lease.pid, lease.taken
        );
        findings.push(Finding::new(
            FindingKind::Lease,
            installation.home.lease().display(),
            problem,
            REINSTALL,
        ));
    }
    journal
}

fn damaged_journal(installation: &Installation, error: &RecordError) -> Finding {
    let path = installation.home.journal();
    let fix = format!("mv {0} {0}.damaged && {REINSTALL}", path.display());
    Finding::new(
        FindingKind::Interrupted,
        path.display(),
        error.to_string(),
        fix,
    )
}

fn trial(record: Result<Option<TrialRecord>, Error>) -> Option<Finding> {
    let (problem, fix) = match record {
        Ok(record) => {
            let record = record?;
            let problem = format!(
                "an interrupted upgrade left its trial of `{}` running, with a second copy of the model (process {})",
                record.server, record.process.pid
            );
            (problem, format!("{REINSTALL} (ends it)"))
        }
        Err(error) => (error.to_string(), format!("do that, then: {REINSTALL}")),
    };
    let subject = "trial of an upgrade";
    Some(Finding::new(
        FindingKind::Interrupted,
        subject,
        problem,
        fix,
    ))
}
