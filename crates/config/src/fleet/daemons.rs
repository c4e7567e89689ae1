//! `[agents.*]` and `[watch.*]`: parsed here so that every program finds an error in them. The watchdogs interpret
//! schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::{Label, TildePath, duration};

/// The shortest pause between two checks.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// `[agents.NAME]`: a foreign program that runs as an agent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The host it runs on.
    pub host: Label,
    /// The executable, which begins with `/` or `~/`, and its arguments; a leading `~/` is the home folder.
    pub program: Vec<String>,
    /// Environment variables besides launchd's own.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The server in whose place it serves after `rollback --agent`; it is disabled until then.
    pub standby_for: Option<Label>,
}

/// `[watch.NAME]`: one watchdog. The check decides which keys it needs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The check that it runs; by default the section's name.
    pub check: Option<Label>,
    /// The server that it watches.
    pub target: Option<Label>,
    /// Run again after this time.
    #[serde(default, deserialize_with = "duration::optional")]
    pub every: Option<Duration>,
    /// Run at these times: a five-field crontab line, local time.
    pub at: Option<String>,
    /// How long one check may take.
    #[serde(default, deserialize_with = "duration::optional")]
    pub timeout: Option<Duration>,
    /// Misses in a row before it acts.
    pub misses: Option<u32>,
    /// How long an engine with work may make no progress before it counts as hung.
    #[serde(default, deserialize_with = "duration::optional")]
    pub stall_after: Option<Duration>,
    /// How long a process may take to start.
    #[serde(default, deserialize_with = "duration::optional")]
    pub startup_grace: Option<Duration>,
    /// The restart budget: restarts in one hour, after which the guardian alerts instead.
    pub restarts_per_hour: Option<u32>,
    /// The folder with reports of kernel panics; by default the system's own.
    pub panic_reports: Option<TildePath>,
    /// How long an open condition does not alert again.
    #[serde(default, deserialize_with = "duration::optional")]
    pub cooldown: Option<Duration>,
    /// What the canary asks.
    pub question: Option<String>,
    /// What the answer must contain.
    pub expect: Option<String>,
    /// An address that answers whenever this host is on the network.
    pub reference: Option<String>,
    /// The file with the questions of the parity check.
    pub spec: Option<TildePath>,
    /// Wrong answers that do not alert.
    pub max_failures: Option<u32>,
    /// The channels that it alerts through.
    #[serde(default)]
    pub alert: Vec<Label>,
    /// The address that is requested after each round, so that a service outside notices when the rounds stop.
    pub heartbeat_url: Option<String>,
    /// The file with that address, if it is a secret.
    pub heartbeat_url_file: Option<TildePath>,
}

impl Agent {
    /// A contradiction within this section.
    pub(super) fn contradiction(&self) -> Option<String> {
        let absolute = |program: &String| program.starts_with('/') || program.starts_with("~/");
        match self.program.first() {
            None => Some("`program` is empty; give the executable and its arguments".into()),
            Some(program) if !absolute(program) => Some(format!(
                "the program `{program}` would be looked up in launchd's PATH; write its absolute path"
            )),
            Some(_) => self.text_that_no_property_list_has(),
        }
    }

    /// A property list is XML 1.0, which has few control characters; an environment has no variable without a name.
    fn text_that_no_property_list_has(&self) -> Option<String> {
        let is_xml = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        let bad = |text: &str| text.chars().find(|c| !is_xml(*c));
        if let Some((text, c)) = self
            .program
            .iter()
            .find_map(|text| bad(text).map(|c| (text, c)))
        {
            return Some(format!(
                "`program` has the character U+{:04X} in {text:?}, which no property list can have; remove it",
                u32::from(c)
            ));
        }
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
                return Some(format!(
                    "`environment` has the variable name {name:?}; write a name without `=` and without control characters"
                ));
            }
            if let Some(c) = bad(name).or_else(|| bad(value)) {
                return Some(format!(
                    "`environment`: {name} has the character U+{:04X}, which no property list can have; remove it",
                    u32::from(c)
                ));
            }
        }
        None
    }
}

impl Watch {
    /// Which check the watchdog of that name runs.
    pub fn check<'a>(&'a self, name: &'a Label) -> &'a Label {
        self.check.as_ref().unwrap_or(name)
    }

    /// A contradiction within this section.
    pub(super) fn contradiction(&self) -> Option<String> {
        if self.every.is_some() && self.at.is_some() {
            return Some(
                "`every` and `at` are two schedules; keep one of them (a watchdog runs at intervals or at set times)"
                    .into(),
            );
        }
        if self.heartbeat_url.is_some() && self.heartbeat_url_file.is_some() {
            return Some(
                "`heartbeat_url` and `heartbeat_url_file` are two addresses; keep one of them (the file, if the address is \
                 a secret)"
                    .into(),
            );
        }
        if self.misses == Some(0) {
            return Some(
                "`misses` is 0, and an alert needs one miss at least; write 1 or more".into(),
            );
        }
        if let Some(every) = self.every.filter(|every| *every < SHORTEST_INTERVAL) {
            return Some(format!(
                "`every` = {every:?} is too short; write {SHORTEST_INTERVAL:?} or more, such as \"1m\""
            ));
        }
        self.question_contradiction()
    }

    /// The canary compares the answer with `expect`: without one, or with an empty one, it would check nothing.
    fn question_contradiction(&self) -> Option<String> {
        match (&self.question, &self.expect) {
            (Some(question), _) if question.trim().is_empty() => Some(
                "`question` is empty; write what to ask, or remove it and `expect` for the default".into(),
            ),
            (_, Some(expect)) if expect.trim().is_empty() => Some(
                "`expect` is empty, and every answer contains nothing; write what the answer must contain".into(),
            ),
            (Some(_), None) => {
                Some("`question` needs `expect`: write what its answer must contain".into())
            }
            _ => None,
        }
    }
}
