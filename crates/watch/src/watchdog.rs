//! The loop: wait until a check is due, check, count, alert, execute, remember.

mod conditions;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::Label;
use sanctum_host::lease::{self, LeaseStatus};
use sanctum_host::{MaintenanceWindow, TypedCommands};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::alert::{AlertText, Outbox, ResolveRequest, Severity};
use crate::check::{Check, CheckReport, PlannedAction, Round};
use crate::error::WatchError;
use crate::first_cause::FirstCause;
use crate::heartbeat_url::HeartbeatUrl;
use crate::policy::Policy;
use crate::schedule::Schedule;
use crate::server_log::ServerLog;
use crate::state::{CoveredAlert, PULSE, WatchdogState};
use crate::verdict::{MissCause, Verdict, VerdictKind};

/// How long a watchdog that is stopped waits for the deliveries that run. launchd kills it after 20 seconds.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);
/// The condition of misses in a row.
pub(crate) const MISSES: &str = "misses";
/// The condition of a target that is busy for hours.
pub(crate) const BUSY: &str = "busy";
/// The condition of a state file that cannot be written.
pub(crate) const MEMORY: &str = "state";
/// The condition of a maintenance lease that has expired or cannot be read.
pub(crate) const LEASE: &str = "lease";

/// A check, and what turns it into a watchdog.
#[derive(Debug)]
pub struct Watchdog<C> {
    /// What is checked.
    pub check: C,
    /// The host that this process runs on.
    pub host: Label,
    /// When it alerts.
    pub policy: Policy,
    /// When it checks.
    pub schedule: Schedule,
    /// What it remembers.
    pub state: WatchdogState,
    /// The file of that state.
    pub state_file: PathBuf,
    /// The maintenance lease.
    pub lease_file: PathBuf,
    /// The maintenance window.
    pub window_file: PathBuf,
    /// The end of the maintenance window that was open at the last check; none once a later check was settled. Nothing is
    /// alerted about before.
    pub quiet_until: Option<DateTime<Utc>>,
    /// The guardian on this host that reports outages of the watched server.
    pub first_cause: FirstCause,
    /// Alerts that are not delivered yet.
    pub outbox: Outbox,
    /// The folder of requests to close a condition by hand.
    pub resolve_folder: PathBuf,
    /// The log of the watched server, if it is on this host.
    pub server_log: Option<ServerLog>,
    /// The service outside that notices when the rounds stop.
    pub heartbeat_url: Option<HeartbeatUrl>,
    /// The commands that alerts print.
    pub commands: TypedCommands,
    /// Notified when there may be a request.
    pub wake: Arc<Notify>,
}

impl<C: Check> Watchdog<C> {
    /// Watches until `stop` is done. Alerts are delivered beside the checks, and no check waits for a channel.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), WatchError> {
        self.watch(stop).await?;
        self.end_deliveries().await?;
        match self.note_accepted(Utc::now()) {
            true => Ok(self.state.write(&self.state_file)?),
            false => Ok(()),
        }
    }

    async fn watch(&mut self, stop: impl Future<Output = ()>) -> Result<(), WatchError> {
        let mut stop = std::pin::pin!(stop);
        let mut since = Utc::now();
        loop {
            let now = Utc::now();
            // The clock may have been set back meanwhile.
            since = since.min(now);
            self.resolve_requested(now)?;
            let before = self.state.checked;
            let mut is_paused = false;
            if self.due(since, now) <= now {
                tokio::select! {
                    done = self.round(now) => done?,
                    () = &mut stop => return Ok(()),
                }
                is_paused = self.state.checked == before;
                if !is_paused {
                    self.report_heartbeat();
                }
            }
            let now = Utc::now();
            self.note_accepted(now);
            let due = match is_paused {
                true => now + self.schedule.soon(),
                false => self.due(since, now),
            };
            self.state.heartbeat = now;
            self.state.due = Some(due);
            self.remember(now)?;
            let pause = (due - now).clamp(TimeDelta::zero(), PULSE);
            let wake = Instant::now() + pause.to_std().unwrap_or_default();
            let idle = async {
                tokio::select! {
                    () = tokio::time::sleep_until(wake) => Woken::Due,
                    () = self.wake.notified() => Woken::Due,
                    result = finished(&mut self.heartbeat_url) => Woken::Heartbeat(result),
                    () = &mut stop => Woken::Stopped,
                }
            };
            let files = (&mut self.outbox, &mut self.state, self.state_file.as_path());
            match delivering(files, idle).await? {
                Woken::Due => {}
                Woken::Heartbeat(result) => {
                    let status = self.state.heartbeat_url.get_or_insert_default();
                    status.note(result, Utc::now());
                }
                Woken::Stopped => return Ok(()),
            }
        }
    }

    /// Waits for the deliveries that run, for [`LAST_DELIVERIES`] at most. What has not ended then is repeated by the next
    /// process.
    async fn end_deliveries(&mut self) -> Result<(), WatchError> {
        let outbox = &mut self.outbox;
        let all = async {
            while !outbox.is_idle() {
                let ended = outbox.ended().await;
                outbox.settle(ended)?;
            }
            Ok(())
        };
        let ended = tokio::time::timeout(LAST_DELIVERIES, all).await;
        ended.unwrap_or(Ok(()))
    }

    /// Closes the conditions that an operator asks to close.
    fn resolve_requested(&mut self, now: DateTime<Utc>) -> Result<(), WatchError> {
        let requests = match ResolveRequest::pending(&self.resolve_folder, &self.state.agent) {
            Ok(requests) => requests,
            Err(error) => {
                let folder = self.resolve_folder.display();
                tracing::warn!("cannot read the requests in {folder}: {error}");
                return Ok(());
            }
        };
        for request in requests {
            self.resolve(&request, now)?;
            // In this order: after a crash the request is handled again, and finds the condition closed.
            self.remember(now)?;
            if let Err(error) = request.remove(&self.resolve_folder) {
                tracing::warn!("cannot remove the request to close {}: {error}", request.id);
            }
        }
        Ok(())
    }

    /// Reports the round that was completed to the service outside.
    fn report_heartbeat(&mut self) {
        let Some(url) = &mut self.heartbeat_url else {
            // The status of a URL that was removed from fleet.toml.
            self.state.heartbeat_url = None;
            return;
        };
        let open = self.state.open.values();
        let critical: Vec<&str> = open
            .filter(|open| open.severity == Some(Severity::Critical))
            .map(|open| open.title.as_str())
            .collect();
        url.report((!critical.is_empty()).then(|| critical.join("\n")));
    }

    /// When the next check is due. What was only observed in a maintenance window is checked again when the window ends, so
    /// that a check of once a night is not lost.
    fn due(&self, since: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let due = self.schedule.due(self.state.checked, since, now);
        self.quiet_until.map_or(due, |end| due.min(end))
    }

    /// Runs one check and what follows from it. While a maintenance lease is held it does not, and the check stays due, so
    /// that the result of a deployment is checked when the deployment ends.
    ///
    /// # Errors
    /// As [`Watchdog::run`].
    pub async fn round(&mut self, now: DateTime<Utc>) -> Result<(), WatchError> {
        let begun = Instant::now();
        let window = self.window(now);
        match (&window, self.quiet_until) {
            (Some(window), _) => self.quiet_until = Some(window.until),
            // The operator has closed it before its end.
            (None, Some(until)) if now < until => self.quiet_until = Some(now),
            (None, _) => {}
        }
        if self.is_paused(now)? {
            return Ok(());
        }
        if window.is_none() {
            self.raise_interrupted(now)?;
        }
        let memory = self.state.memory.clone();
        let round = Round {
            now,
            memory: &memory,
            misses: self.state.misses,
        };
        let checking = check_within_limit(&mut self.check, &round);
        let files = (&mut self.outbox, &mut self.state, self.state_file.as_path());
        let mut report = delivering(files, checking).await?;
        // A deployment that began during the check explains whatever was observed: the report is discarded.
        if self.is_paused(now)? {
            return Ok(());
        }
        if let Some(window) = window.or_else(|| self.window(now + begun.elapsed())) {
            return self.observe(report.verdict, &window, now);
        }
        self.quiet_until = None;
        let actions = std::mem::take(&mut report.actions);
        let last_error = self.last_error(&report.verdict).await?;
        self.settle(report, &last_error, now)?;
        self.remember(now)?;
        self.execute(actions, now).await
    }

    /// Shows a verdict, and does nothing else with it: it is not counted, no condition opens or closes, and what the check
    /// would remember is forgotten, because the check assumes that its actions are executed.
    fn observe(
        &mut self,
        verdict: Verdict,
        window: &MaintenanceWindow,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        tracing::info!("{}: this check is not counted", window.describe());
        verdict.log();
        self.state.checked = Some(now);
        self.state.heartbeat = now;
        self.state.last = Some(verdict);
        self.quiet_until = Some(window.until);
        self.remember(now)
    }

    /// The maintenance window, if one is open.
    fn window(&self, now: DateTime<Utc>) -> Option<MaintenanceWindow> {
        MaintenanceWindow::read(&self.window_file, now).unwrap_or_else(|error| {
            tracing::warn!("{error}. Watching continues as if there were no maintenance window");
            None
        })
    }

    /// Executes what the check planned, and nothing else. A deployment or a maintenance window that has begun since the check
    /// cancels it.
    async fn execute(
        &mut self,
        actions: Vec<PlannedAction<C::Action>>,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        let begun = Instant::now();
        for planned in actions {
            if self.is_paused(now)? || self.window(now + begun.elapsed()).is_some() {
                return Ok(());
            }
            if let Some(notice) = planned.if_interrupted {
                self.expect_interruption(notice);
                self.remember(now)?;
            }
            let executing = self.check.execute(planned.action);
            let files = (&mut self.outbox, &mut self.state, self.state_file.as_path());
            let notices = delivering(files, executing).await?;
            // The outcome is in the spool before the possibility of an interruption is forgotten.
            for notice in notices {
                self.notice(notice, now)?;
            }
            self.state.interrupted.clear();
            self.remember(now)?;
        }
        Ok(())
    }

    /// The last error in the watched server's log since its last good answer, for an alert about a miss.
    async fn last_error(&mut self, verdict: &Verdict) -> Result<String, WatchError> {
        let is_about_server =
            verdict.kind == VerdictKind::Miss && verdict.miss != MissCause::CannotCheck;
        let since = self.state.last_ok.or(self.state.missing_since);
        let (Some(log), Some(since), true) = (&self.server_log, since, is_about_server) else {
            return Ok(String::new());
        };
        let reading = log.last_error(since);
        let files = (&mut self.outbox, &mut self.state, self.state_file.as_path());
        delivering(files, reading).await
    }

    /// Records which conditions an operator was notified of. Returns whether there were any.
    fn note_accepted(&mut self, now: DateTime<Utc>) -> bool {
        note_accepted(&mut self.outbox, &mut self.state, now)
    }

    /// Writes the state. If that fails (a full disk), it alerts and continues: only a restart would lose something.
    fn remember(&mut self, now: DateTime<Utc>) -> Result<(), WatchError> {
        match self.state.write(&self.state_file) {
            Ok(()) => self.close(MEMORY, "the state file can be written again", now),
            Err(error) => {
                let agent = &self.state.agent;
                let text = AlertText {
                    severity: Severity::Warning,
                    title: format!("{agent} on {} cannot write its state", self.host),
                    body: format!("{error}. It keeps watching; a restart would lose its state"),
                    next: "df -h ~".into(),
                };
                self.open(MEMORY, text, now, now, &[])
            }
        }
    }

    /// Counts a verdict, and raises the alerts of its report.
    fn settle(
        &mut self,
        report: CheckReport<C::Action>,
        last_error: &str,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        let verdict = report.verdict;
        verdict.log();
        self.state.covered = None;
        // A host that was asleep did not observe that its target was busy all the time.
        if self.state.overdue(&self.schedule, now).is_some() {
            self.state.busy_since = None;
        }
        self.state.checked = Some(now);
        self.state.heartbeat = now;
        if let Some(memory) = report.memory {
            self.state.memory = memory;
        }
        self.state.count(&verdict, report.misses, now);
        match verdict.kind {
            VerdictKind::Ok => {
                self.close(MISSES, &verdict.message, now)?;
                self.close(BUSY, &verdict.message, now)?;
            }
            VerdictKind::Miss => {
                self.alert_on_misses(&verdict, &report.problems, last_error, now)?
            }
            VerdictKind::Busy => self.alert_on_hours_of_busy(&verdict, now)?,
            VerdictKind::Offline | VerdictKind::Stopped => {}
        }
        self.state.last = Some(verdict);
        for notice in report.notices {
            self.notice(notice, now)?;
        }
        Ok(())
    }

    fn alert_on_misses(
        &mut self,
        verdict: &Verdict,
        problems: &[String],
        last_error: &str,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        let misses = self.state.misses;
        if misses < self.policy.misses || !self.check.alerts_on_misses() {
            return Ok(());
        }
        if let Some(by) = self.reported_by(verdict.miss, now) {
            tracing::info!("{by} reports the same cause; one cause is one alert");
            self.state.covered = Some(CoveredAlert {
                by,
                message: verdict.message.clone(),
                since: self.state.missing_since.unwrap_or(now),
            });
            return Ok(());
        }
        let subject = self.check.subject();
        let (severity, title) = match verdict.miss {
            MissCause::Failed => (Severity::Critical, format!("{subject} fails its check")),
            MissCause::NoAnswer => self.check.unanswered(),
            MissCause::CannotCheck => {
                let Self { state, host, .. } = self;
                let title = format!("{} on {host} cannot check {subject}", state.agent);
                (Severity::Critical, title)
            }
        };
        let since = self.state.missing_since.unwrap_or(now);
        let count = match misses {
            1 => "one miss".to_owned(),
            misses => format!("{misses} misses"),
        };
        let text = AlertText {
            severity,
            title,
            body: format!(
                "{} ({count} in a row since {}){last_error}",
                verdict.message,
                since.format("%Y-%m-%d %H:%M:%S UTC")
            ),
            next: verdict.next.clone(),
        };
        self.open(MISSES, text, since, now, problems)?;
        if let Some(open) = self.state.open.get_mut(MISSES) {
            open.is_wrong_answer = verdict.miss == MissCause::Failed;
        }
        Ok(())
    }

    fn alert_on_hours_of_busy(
        &mut self,
        verdict: &Verdict,
        now: DateTime<Utc>,
    ) -> Result<(), WatchError> {
        let since = self.state.busy_since.unwrap_or(now);
        if (now - since).to_std().unwrap_or_default() < self.policy.busy_for {
            return Ok(());
        }
        let text = AlertText {
            severity: Severity::Warning,
            title: format!("{} {} for hours", self.check.subject(), self.check.busy()),
            body: format!(
                "no check was answered since {}: {}",
                since.format("%Y-%m-%d %H:%M UTC"),
                verdict.message
            ),
            next: verdict.next.clone(),
        };
        self.open(BUSY, text, since, now, &[])
    }

    /// Whether a deployment holds the maintenance lease of this host. A lease that has expired alerts once.
    fn is_paused(&mut self, now: DateTime<Utc>) -> Result<bool, WatchError> {
        let status = match LeaseStatus::read(&self.lease_file, now) {
            Ok(status) => status,
            // Watching during a deployment is better than never watching again.
            Err(error) => {
                let text = AlertText {
                    severity: Severity::Warning,
                    title: format!("the maintenance lease on {} cannot be read", self.host),
                    body: format!("{error}. Watching continues as if no deployment held it"),
                    next: self.commands.typed("verify"),
                };
                self.open(LEASE, text, now, now, &[])?;
                return Ok(false);
            }
        };
        match status {
            LeaseStatus::Free => {
                self.close(LEASE, "the lease is free", now)?;
                Ok(false)
            }
            LeaseStatus::Held(lease) => {
                let until = lease.expires.format("%H:%M:%S UTC");
                tracing::info!(
                    "paused until {until} at the latest: `{}` holds the maintenance lease: {}",
                    lease.owner,
                    lease.reason
                );
                Ok(true)
            }
            LeaseStatus::Expired(lease) => {
                let is_open = self.state.open.contains_key(LEASE);
                // Of the watchdogs of a host one alerts; if that cannot be decided, each of them does.
                let claims = || lease::claim_alert(&self.lease_file, &lease, &self.state.agent);
                if is_open || claims().unwrap_or(true) {
                    let text = AlertText {
                        severity: Severity::Warning,
                        title: format!("a deployment on {} did not finish", self.host),
                        body: format!(
                            "`{}` (process {}) took the maintenance lease at {} for \"{}\" and did not release it. \
                             Watching continues",
                            lease.owner,
                            lease.pid,
                            lease.taken.format("%Y-%m-%d %H:%M:%S UTC"),
                            lease.reason
                        ),
                        next: self.commands.typed("verify"),
                    };
                    self.open(LEASE, text, lease.expires, now, &[])?;
                }
                Ok(false)
            }
        }
    }

    /// The watchdog that reports the cause of these misses. A condition that is open here stays open.
    fn reported_by(&self, cause: MissCause, now: DateTime<Utc>) -> Option<Label> {
        if self.state.open.contains_key(MISSES) {
            return None;
        }
        match cause {
            MissCause::NoAnswer => self.first_cause.reported_by(now),
            MissCause::Failed => self.first_cause.wrong_answers_reported_by(now),
            MissCause::CannotCheck => None,
        }
    }
}

/// Why the loop continues after it has waited for the next check.
enum Woken {
    /// A check may be due, or a request of an operator.
    Due,
    /// The request of the heartbeat URL has ended.
    Heartbeat(Result<(), String>),
    /// The watchdog is stopped.
    Stopped,
}

/// Does `work`, and delivers alerts meanwhile. The state and its file have what was accepted before the spool forgets it.
async fn delivering<T>(
    (outbox, state, state_file): (&mut Outbox, &mut WatchdogState, &Path),
    work: impl Future<Output = T>,
) -> Result<T, WatchError> {
    let mut work = std::pin::pin!(work);
    loop {
        let retry = outbox.start_due()?;
        let ended = tokio::select! {
            result = &mut work => return Ok(result),
            ended = outbox.ended() => ended,
            () = until(retry) => continue,
        };
        if note_accepted(outbox, state, Utc::now())
            && let Err(error) = state.write(state_file)
        {
            // The loop writes it again, and alerts if that fails.
            tracing::warn!("{error}");
        }
        outbox.settle(ended)?;
    }
}

/// Records which conditions an operator was notified of. Returns whether there were any.
fn note_accepted(outbox: &mut Outbox, state: &mut WatchdogState, now: DateTime<Utc>) -> bool {
    let accepted = outbox.take_accepted();
    for id in &accepted {
        state.accepted(id, now);
    }
    !accepted.is_empty()
}

/// Waits until a time; for ever if there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until the running request of a heartbeat URL has finished; for ever if there is none.
async fn finished(url: &mut Option<HeartbeatUrl>) -> Result<(), String> {
    match url {
        Some(url) => url.finished().await,
        None => std::future::pending().await,
    }
}

/// Runs one check. One that exceeds its limit is dropped and is a miss.
pub(crate) async fn check_within_limit<C: Check>(
    check: &mut C,
    round: &Round<'_>,
) -> CheckReport<C::Action> {
    let limit: Duration = check.limit();
    let done = tokio::time::timeout(limit, check.check(round)).await;
    let report = done.unwrap_or_else(|_| {
        check.timed_out(format!(
            "the check did not finish within {} s",
            limit.as_secs()
        ))
    });
    report.escaped()
}

#[cfg(test)]
mod tests;
