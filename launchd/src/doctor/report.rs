//! The lines of `doctor`, which another host's `doctor` reads as JSON.

use std::fmt;

use chrono::{DateTime, Utc};
use sanctum_config::{Label, escape_json};
use serde::{Deserialize, Serialize};

/// What a host's `doctor` has found about itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct DoctorReport {
    /// The host.
    pub(crate) host: Label,
    /// The version of its sanctum-launchd.
    pub(crate) version: String,
    /// The installed release.
    pub(crate) release: Option<String>,
    /// Its clock.
    pub(crate) time: DateTime<Utc>,
    /// What was checked.
    pub(crate) lines: Vec<DoctorLine>,
}

/// One check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct DoctorLine {
    /// What is checked: a stable word for programs.
    pub(crate) check: String,
    /// The outcome.
    pub(crate) outcome: DoctorOutcome,
    /// What was found; why it cannot be checked.
    pub(crate) detail: String,
    /// The command or setting that fixes a failure, or that checks by hand what cannot be checked here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DoctorOutcome {
    /// It is in order.
    Passed,
    /// It is not.
    Failed,
    /// Unknown.
    NotCheckable,
}

impl DoctorLine {
    pub(crate) fn passed(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            outcome: DoctorOutcome::Passed,
            detail: detail.into(),
            fix: None,
        }
    }

    pub(crate) fn failed(
        check: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            outcome: DoctorOutcome::Failed,
            fix: Some(fix.into()),
            ..Self::passed(check, detail)
        }
    }

    pub(crate) fn not_checkable(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            outcome: DoctorOutcome::NotCheckable,
            ..Self::passed(check, why)
        }
    }

    /// The same with a command that checks it by hand.
    pub(crate) fn by_hand(self, command: impl Into<String>) -> Self {
        Self {
            fix: Some(command.into()),
            ..self
        }
    }

    /// Whether it says that ssh does not work.
    pub(crate) fn is_failed_ssh(&self) -> bool {
        self.is_failure() && self.check == "ssh"
    }

    /// Whether it has failed.
    pub(crate) fn is_failure(&self) -> bool {
        self.outcome == DoctorOutcome::Failed
    }
}

impl DoctorReport {
    /// The same with all texts escaped: another host has written them.
    pub(crate) fn escaped(self) -> Self {
        let value = serde_json::to_value(self).expect("a report is plain data");
        serde_json::from_value(escape_json(value)).expect("only texts have changed")
    }
}

impl fmt::Display for DoctorLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, detail, .. } = self;
        match (self.outcome, &self.fix) {
            (DoctorOutcome::Passed, _) => write!(f, "passed  {check}: {detail}"),
            (DoctorOutcome::Failed, fix) => {
                write!(f, "FAILED  {check}: {detail}")?;
                fix.iter()
                    .try_for_each(|fix| write!(f, "\n        fix: {fix}"))
            }
            (DoctorOutcome::NotCheckable, fix) => {
                write!(f, "?       {check}: not checkable here: {detail}")?;
                fix.iter()
                    .try_for_each(|fix| write!(f, "\n        by hand: {fix}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_its_outcome_and_the_fix() {
        let lines = [
            DoctorLine::passed("disk", "9 of 10 GiB are free"),
            DoctorLine::failed("sleep", "it sleeps", "sudo pmset -a sleep 0"),
            DoctorLine::not_checkable("FileVault", "this is not macOS"),
        ];
        assert_eq!(
            lines.each_ref().map(ToString::to_string),
            [
                "passed  disk: 9 of 10 GiB are free",
                "FAILED  sleep: it sleeps\n        fix: sudo pmset -a sleep 0",
                "?       FileVault: not checkable here: this is not macOS",
            ]
        );
        let json = serde_json::to_string(&lines).unwrap();
        assert!(json.contains("\"outcome\":\"not-checkable\""), "{json}");
    }
}
