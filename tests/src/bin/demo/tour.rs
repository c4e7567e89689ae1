//! What the steps have in common: commands that are shown and run, and waits with a time limit that say what they saw.

use std::time::{Duration, Instant};

use sanctum_sim_launchd::wire::Status;
use sanctum_tests::host::label;
use sanctum_tests::receiver::{Receiver, field};
use serde_json::Value;

use crate::fleet::{DemoFleet, DemoHost, Ran};
use crate::screen::{Screen, Shown};

/// Between two observations of files and processes.
const PAUSE: Duration = Duration::from_millis(50);

/// The condition of the guardian that is about the machine, and not about the fleet.
const MEMORY: &str = "memory";

/// The demo at one of its steps.
pub(crate) struct Tour<'a> {
    pub(crate) fleet: &'a DemoFleet,
    pub(crate) screen: &'a Screen,
    alerts: &'a Receiver,
    /// The time limit of each command and each wait.
    pub(crate) limit: Duration,
    /// The alerts that had arrived before this step.
    before: usize,
}

/// Why a step failed.
#[derive(Debug)]
pub(crate) struct StepFailure {
    pub(crate) expected: String,
    pub(crate) seen: String,
}

impl StepFailure {
    pub(crate) fn new(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            seen: seen.into(),
        }
    }
}

impl<'a> Tour<'a> {
    /// At the begin of a step.
    pub(crate) fn at_step(
        fleet: &'a DemoFleet,
        screen: &'a Screen,
        alerts: &'a Receiver,
        limit: Duration,
    ) -> Self {
        Self {
            fleet,
            screen,
            alerts,
            limit,
            before: alerts.taken().len(),
        }
    }

    /// Shows a command, runs it at the host that watches, and shows its output. It must exit with `code`.
    pub(crate) fn command(&self, line: &str, shown: Shown, code: i32) -> Result<Ran, StepFailure> {
        self.check_reader()?;
        self.screen.command(line);
        let expected = || format!("`{line}` exits with {code}");
        let waiting = self.screen.waiting("the command");
        let ran = self.fleet.run(line, self.limit);
        drop(waiting);
        let ran = ran.map_err(|error| StepFailure::new(expected(), error))?;
        let is_expected = ran.code == Some(code);
        let shown = if is_expected { shown } else { Shown::All };
        self.screen.output(&ran.output, shown);
        match is_expected {
            true => Ok(ran),
            false => Err(StepFailure::new(
                expected(),
                format!("exit code {:?}", ran.code),
            )),
        }
    }

    /// Waits until `found` returns a value; its error is what it sees.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        found: impl Fn() -> Result<T, String>,
    ) -> Result<T, StepFailure> {
        let begun = Instant::now();
        let _waiting = self.screen.waiting(what);
        loop {
            self.check_reader()?;
            match found() {
                Ok(value) => return Ok(value),
                Err(seen) if begun.elapsed() >= self.limit => {
                    let limit = self.limit.as_secs_f64();
                    return Err(StepFailure::new(format!("{what} within {limit} s"), seen));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Waits for an alert that has arrived in this step.
    pub(crate) fn alert(&self, source: &str, title: &str) -> Result<Value, StepFailure> {
        self.wait(&format!("an alert of {source}: {title}"), || {
            let arrived = self.arrived();
            let is_it =
                |alert: &&Value| field(alert, "source") == source && field(alert, "title") == title;
            arrived.iter().find(is_it).cloned().ok_or_else(|| {
                let titles = arrived.iter().map(|alert| field(alert, "title"));
                format!("alerts: {:?}", titles.collect::<Vec<_>>())
            })
        })
    }

    /// The alerts of this step so far.
    pub(crate) fn arrived(&self) -> Vec<Value> {
        self.alerts.taken().split_off(self.before)
    }

    /// Waits until every watchdog has checked once more, reports no problem and has no open alert.
    pub(crate) fn all_well(&self) -> Result<(), StepFailure> {
        let watchdogs = self.watchdogs();
        let before = watchdogs.map(|(host, agent)| host.rounds(agent));
        self.wait("all watchdogs find everything well", || {
            for ((host, agent), before) in watchdogs.iter().zip(before) {
                let here = format!("{agent} on {}", host.name);
                let state = host.memory(agent);
                let open = state["open"].as_object().into_iter().flatten();
                for (key, condition) in open {
                    if key != MEMORY {
                        return Err(format!("{here}: open: {}", condition["title"]));
                    }
                }
                let verdict = host.verdict(agent);
                if !verdict.starts_with("ok:") {
                    return Err(format!("{here}: {verdict}"));
                }
                if host.rounds(agent) <= before {
                    return Err(format!("{here} has not checked again"));
                }
            }
            Ok(())
        })
    }

    fn watchdogs(&self) -> [(&DemoHost, &'static str); 5] {
        let DemoFleet { mini, studio, .. } = self.fleet;
        [
            (mini, "guardian"),
            (mini, "canary"),
            (mini, "drift"),
            (studio, "canary-offbox"),
            (studio, "drift-offbox"),
        ]
    }

    /// Waits until an agent of the host that serves has a process that satisfies `wanted`.
    pub(crate) fn process(
        &self,
        agent: &str,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<i32, StepFailure> {
        let _waiting = self.screen.waiting(what);
        let launchd = &self.fleet.mini.launchd;
        let running = |status: &Status| status.pid.is_some() && wanted(status);
        let found = launchd.wait_for(&label(agent), self.limit, running);
        let found = found.map_err(|error| StepFailure::new(what, error.to_string()))?;
        Ok(found.pid.unwrap_or_default())
    }

    /// The process of the server.
    pub(crate) fn server(&self) -> Result<i32, StepFailure> {
        self.process("server", "the server runs", |_| true)
    }

    /// Waits until the server has another process than this.
    pub(crate) fn server_after(&self, pid: i32) -> Result<i32, StepFailure> {
        let what = format!("the server has another process than {pid}");
        self.process("server", &what, |status| status.pid != Some(pid))
    }

    fn check_reader(&self) -> Result<(), StepFailure> {
        match self.screen.is_closed() {
            true => Err(StepFailure::new(
                "a reader of the output",
                "standard output is closed",
            )),
            false => Ok(()),
        }
    }
}

impl Ran {
    /// Its output must have this text.
    pub(crate) fn says(&self, text: &str) -> Result<&Self, StepFailure> {
        match self.output.contains(text) {
            true => Ok(self),
            false => Err(StepFailure::new(
                format!("the command says: {text}"),
                self.output.clone(),
            )),
        }
    }
}
