//! The lines of `doctor`, which another host's `doctor` reads as JSON.

use std::collections::BTreeMap;
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
    /// The agents that the failure explains: they do not run, or give no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) down: Vec<Label>,
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
            down: Vec::new(),
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

    /// The same with the agents that do not run, or give no answer, because of it.
    pub(crate) fn with_down(self, down: impl IntoIterator<Item = Label>) -> Self {
        Self {
            down: down.into_iter().collect(),
            ..self
        }
    }

    /// Adds the agents that are down because of it, and are not known to be.
    fn note_down(&self, causes: &mut BTreeMap<Label, String>) {
        for agent in self.down.iter().filter(|_| self.is_failure()) {
            let check = || self.check.clone();
            causes.entry(agent.clone()).or_insert_with(check);
        }
    }

    /// The check that failed first for these agents; none if it is this one for one of them.
    fn cause(&self, causes: &BTreeMap<Label, String>) -> Option<String> {
        let all_known = self.down.iter().all(|agent| causes.contains_key(agent));
        let first = self.down.first().filter(|_| all_known)?;
        causes.get(first).filter(|_| self.is_failure()).cloned()
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

/// Lines in the order of causes, so that one cause fails once: a line that only repeats that agents are down, of which
/// `earlier` lines about the same host or lines before it have the cause, names that check instead of failing.
pub(crate) fn one_failure_for_each_cause(
    lines: Vec<DoctorLine>,
    earlier: &[DoctorLine],
) -> Vec<DoctorLine> {
    let mut causes: BTreeMap<Label, String> = BTreeMap::new();
    earlier.iter().for_each(|line| line.note_down(&mut causes));
    let after_its_cause = |line: DoctorLine| match line.cause(&causes) {
        Some(cause) => {
            let why = format!("{}, which follows from `{cause}`", line.detail);
            DoctorLine::not_checkable(line.check, why)
        }
        None => {
            line.note_down(&mut causes);
            line
        }
    };
    lines.into_iter().map(after_its_cause).collect()
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
    fn server_that_is_down_fails_once_with_its_cause_first() {
        let down = |check: &str, agents: &[&str]| {
            let agents = agents.iter().map(|name| name.parse().unwrap());
            DoctorLine::failed(check, "no answer", "fix").with_down(agents)
        };
        let failed = |lines: &[DoctorLine]| -> Vec<String> {
            let failed = lines.iter().filter(|line| line.is_failure());
            failed.map(|line| line.check.clone()).collect()
        };
        let inside = vec![
            DoctorLine::passed("disk", "9 of 10 GiB are free"),
            down("model of server", &["server"]),
            down("agents", &["server"]),
            down("token of server", &["server"]),
            down("token of other", &["other"]),
        ];
        let inside = one_failure_for_each_cause(inside, &[]);
        assert_eq!(failed(&inside), ["model of server", "token of other"]);
        assert_eq!(
            inside[3].to_string(),
            "?       token of server: not checkable here: no answer, which follows from `model of server`"
        );
        // The same servers from another host.
        let outside = vec![
            DoctorLine::failed("ssh", "no", "fix"),
            down("port of server", &["server"]),
            down("port of third", &["third"]),
        ];
        let outside = one_failure_for_each_cause(outside, &inside);
        assert_eq!(failed(&outside), ["ssh", "port of third"]);
        // Another agent is down for a reason that is not known yet.
        let more = vec![down("agents", &["server", "canary"])];
        assert_eq!(
            failed(&one_failure_for_each_cause(more, &inside)),
            ["agents"]
        );
    }

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
