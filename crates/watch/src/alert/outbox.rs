//! Alerts that are not delivered yet. Each is on disk until every channel has accepted it, so that neither a channel that is
//! down nor a restart of the watchdog loses it. A channel receives its alerts in the order in which they were raised, each
//! at least once, always with the same id. If the disk is full they wait in memory: the alert about it must be delivered.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use sanctum_config::{Home, Label, RecordError, UntrustedText, atomic, record};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::spool::{self, ChannelFailure, OutboxError, SpooledAlert};
use super::{Alert, Channel, DeliveryError, History, Mutes};

/// The pause after the first failed delivery; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Alerts that one watchdog has raised and not yet delivered.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    channels: BTreeMap<Label, Channel>,
    /// Channels that are down. A restart tries them at once.
    down: BTreeMap<Label, Down>,
    /// Alerts that could not be written to disk; newer than all that are there.
    in_memory: VecDeque<SpooledAlert>,
    /// The ids of alerts that a channel has accepted since the last [`Outbox::take_accepted`].
    accepted: Vec<String>,
    /// The log is the only channel: what is logged is delivered.
    is_log_enough: bool,
    /// The file of muted conditions, if there is one.
    mutes: Option<PathBuf>,
    /// The list of past alerts, if one is kept.
    history: Option<History>,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    until: Instant,
    pause: Duration,
}

/// An alert that waits, and where.
struct Queued {
    /// Its file; none in memory.
    path: Option<PathBuf>,
    spooled: SpooledAlert,
}

/// What one channel did with one alert of the queue.
struct DeliveryAttempt {
    channel: Label,
    index: usize,
    result: Result<(), DeliveryError>,
}

impl Outbox {
    /// The outbox in `folder`, for these channels.
    pub fn new(folder: PathBuf, channels: impl IntoIterator<Item = (Label, Channel)>) -> Self {
        let (log, channels): (BTreeMap<_, _>, BTreeMap<_, _>) = channels
            .into_iter()
            .partition(|(_, channel)| channel.is_log());
        Self {
            folder,
            is_log_enough: !log.is_empty() && channels.is_empty(),
            channels,
            down: BTreeMap::new(),
            in_memory: VecDeque::new(),
            accepted: Vec::new(),
            mutes: None,
            history: None,
        }
    }

    /// The same, which obeys the mutes of `home` and keeps the list of past alerts of the watchdog `agent` there.
    pub fn recorded_in(self, home: &Home, agent: &Label) -> Self {
        Self {
            mutes: Some(home.mutes()),
            history: Some(History::open(home.alert_history(agent))),
            ..self
        }
    }

    /// Logs an alert and writes it to disk for all channels, with its texts escaped. An id that is waiting already is a
    /// duplicate. A muted alert is logged and listed, and not delivered later either.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub fn put(&mut self, alert: Alert) -> Result<(), OutboxError> {
        let alert = Alert {
            title: UntrustedText::new(&alert.title).into(),
            body: UntrustedText::multiline(&alert.body).into(),
            ..alert
        };
        alert.log();
        if let Some(history) = &mut self.history {
            history.raised(&alert);
        }
        if self.is_log_enough {
            self.accepted.push(alert.id.clone());
        }
        let suffix = format!("-{}.json", alert.id);
        let known = |(_, path): &(u64, PathBuf)| path.to_string_lossy().ends_with(&suffix);
        let waits = spool::files(&self.folder)?.iter().any(known)
            || self
                .in_memory
                .iter()
                .any(|spooled| spooled.alert.id == alert.id);
        let mut pending: Vec<Label> = self.channels.keys().cloned().collect();
        if !waits {
            let mutes = self.mutes();
            self.silence(&mutes, &alert, &mut pending);
        }
        if !pending.is_empty() && !waits {
            self.in_memory.push_back(SpooledAlert {
                alert,
                pending,
                failures: BTreeMap::new(),
            });
            self.keep()?;
        }
        self.write_history();
        Ok(())
    }

    /// The mutes, as they are now. In doubt nothing is muted.
    fn mutes(&self) -> Mutes {
        let read = |path: &PathBuf| {
            Mutes::read(path).unwrap_or_else(|error| {
                tracing::warn!("{error}; no alert is muted");
                Mutes::default()
            })
        };
        self.mutes.as_ref().map(read).unwrap_or_default()
    }

    /// Takes all channels from the pending ones of an alert that is muted. Returns whether it is.
    fn silence(&mut self, mutes: &Mutes, alert: &Alert, pending: &mut Vec<Label>) -> bool {
        let Some(mute) = mutes.of(&alert.condition, Utc::now()) else {
            return false;
        };
        tracing::info!(
            alert = alert.id,
            "muted until {} by {}: no channel receives this alert",
            mute.until.format("%Y-%m-%d %H:%M UTC"),
            mute.by
        );
        for channel in pending.drain(..) {
            if let Some(history) = &mut self.history {
                history.muted(&alert.id, &channel);
            }
        }
        true
    }

    fn write_history(&mut self) {
        if let Some(history) = &mut self.history {
            history.write();
        }
    }

    /// Writes the alerts in memory to disk, in their order, until one cannot be written.
    fn keep(&mut self) -> Result<(), OutboxError> {
        let files = spool::files(&self.folder)?;
        let mut number = files.last().map_or(0, |(number, _)| *number);
        while let Some(spooled) = self.in_memory.front() {
            number += 1;
            let path = self.path(number, &spooled.alert);
            if let Err(error) = self.write(&path, spooled) {
                tracing::error!("{error}");
                break;
            }
            self.in_memory.pop_front();
        }
        Ok(())
    }

    fn path(&self, number: u64, alert: &Alert) -> PathBuf {
        self.folder.join(format!("{number:010}-{}.json", alert.id))
    }

    /// Delivers what is due: each channel its own alerts, in their order and at the same time as the others, so that one
    /// that is slow or down delays no other. Returns when to try again; none if nothing waits.
    ///
    /// # Errors
    /// If the spool cannot be read or changed.
    pub async fn deliver(&mut self) -> Result<Option<Instant>, OutboxError> {
        self.keep()?;
        let mut queue = self.queue()?;
        self.end_silent(&mut queue)?;
        // Dropped with this future, which ends the deliveries.
        let mut deliveries = JoinSet::new();
        let (report, mut attempts) = mpsc::unbounded_channel();
        for (name, channel) in &self.channels {
            // A channel that is down is not tried, which keeps its order.
            let is_down = self.down.get(name);
            if is_down.is_some_and(|down| Instant::now() < down.until) {
                continue;
            }
            let waiting = queue.iter().enumerate();
            let waiting = waiting.filter(|(_, queued)| queued.spooled.pending.contains(name));
            let alerts: Vec<(usize, Alert)> = waiting
                .map(|(index, queued)| (index, queued.spooled.alert.clone()))
                .collect();
            if !alerts.is_empty() {
                let (name, channel, report) = (name.clone(), channel.clone(), report.clone());
                deliveries.spawn(deliver_in_order(name, channel, alerts, report));
            }
        }
        drop(report);
        // Each outcome is on disk before the next one is known: a process that ends meanwhile repeats little.
        while let Some(attempt) = attempts.recv().await {
            self.settle(&mut queue, attempt)?;
        }
        self.write_history();
        let left = !(self.in_memory.is_empty() && spool::files(&self.folder)?.is_empty());
        let now = Instant::now();
        // A channel for which nothing waits is not tried, and its time stays in the past.
        let next = self.down.values().map(|down| down.until);
        let next = next.filter(|until| *until > now).min();
        Ok(left.then(|| next.unwrap_or(now + FIRST_PAUSE)))
    }

    /// The alerts that wait, in their order.
    fn queue(&self) -> Result<Vec<Queued>, OutboxError> {
        let mut queue = Vec::new();
        for (_, path) in spool::files(&self.folder)? {
            match spool::read(&path) {
                Ok(Some(spooled)) => queue.push(Queued {
                    path: Some(path),
                    spooled,
                }),
                Ok(None) => {}
                Err(error) if is_damaged(&error) => self.set_aside(&path, &error)?,
                // It may be readable later.
                Err(error) => tracing::error!("{error}"),
            }
        }
        let in_memory = self.in_memory.iter().map(|spooled| Queued {
            path: None,
            spooled: spooled.clone(),
        });
        queue.extend(in_memory);
        Ok(queue)
    }

    /// Ends the wait of alerts that are muted by now, and of all for a channel that is no longer in fleet.toml.
    fn end_silent(&mut self, queue: &mut [Queued]) -> Result<(), OutboxError> {
        let mutes = self.mutes();
        for queued in queue {
            let SpooledAlert { alert, pending, .. } = &mut queued.spooled;
            let before = pending.len();
            pending.retain(|name| {
                let is_known = self.channels.contains_key(name);
                if !is_known {
                    tracing::warn!(
                        alert = alert.id,
                        "the channel {name} is no longer in fleet.toml; this alert is not delivered there"
                    );
                }
                is_known
            });
            let is_muted = self.silence(
                &mutes,
                &queued.spooled.alert.clone(),
                &mut queued.spooled.pending,
            );
            if is_muted || queued.spooled.pending.len() < before {
                self.update(queued)?;
            }
        }
        Ok(())
    }

    /// The number of alerts that wait.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub fn waiting(&self) -> Result<usize, OutboxError> {
        let kept = spool::files(&self.folder)?.len();
        Ok(kept + self.in_memory.len())
    }

    /// The ids of the alerts that a channel has accepted since the last call.
    pub(crate) fn take_accepted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.accepted)
    }

    /// Notes what a channel did with an alert.
    fn settle(
        &mut self,
        queue: &mut [Queued],
        attempt: DeliveryAttempt,
    ) -> Result<(), OutboxError> {
        let DeliveryAttempt {
            channel: name,
            index,
            result,
        } = attempt;
        let queued = &mut queue[index];
        let SpooledAlert {
            alert,
            pending,
            failures,
        } = &mut queued.spooled;
        let waits = match result {
            Ok(()) => {
                if self.down.remove(&name).is_some() {
                    tracing::info!("the channel {name} accepts alerts again");
                }
                self.accepted.push(alert.id.clone());
                if let Some(history) = &mut self.history {
                    history.delivered(&alert.id, &name, Utc::now());
                }
                false
            }
            Err(error) if error.is_permanent => {
                self.down.remove(&name);
                // It would block all alerts after it.
                let error = UntrustedText::new(&error.problem);
                self.refuse(alert, &name, queued.path.as_deref(), error);
                false
            }
            Err(error) => {
                let why = UntrustedText::new(&error.problem);
                let before = self.down.get(&name);
                let pause = before.map_or(FIRST_PAUSE, |down| (down.pause * 2).min(MAX_PAUSE));
                let until = Instant::now() + pause;
                self.down.insert(name.clone(), Down { until, pause });
                tracing::warn!(
                    alert = alert.id,
                    "cannot deliver to the channel {name}: {why}; its alerts wait in {} and are retried in {} s; to try it now: \
                     sanctum-launchd alert test {name}",
                    self.folder.display(),
                    pause.as_secs()
                );
                if failures.get(&name).map(|known| &known.error) == Some(&why) {
                    return Ok(());
                }
                let since = Utc::now();
                failures.insert(name.clone(), ChannelFailure { error: why, since });
                true
            }
        };
        if !waits {
            pending.retain(|other| *other != name);
            failures.remove(&name);
        }
        self.update(queued)
    }

    /// Writes where an alert still waits; removes it if it waits nowhere.
    fn update(&mut self, queued: &Queued) -> Result<(), OutboxError> {
        let Queued { path, spooled } = queued;
        let is_done = spooled.pending.is_empty();
        match path {
            Some(path) if is_done => atomic::remove(path).map_err(|source| self.failed(source))?,
            Some(path) => {
                if let Err(error) = self.write(path, spooled) {
                    // A channel that accepted it will receive it again.
                    tracing::error!("{error}");
                }
            }
            None => {
                let id = &spooled.alert.id;
                let waiting = self
                    .in_memory
                    .iter()
                    .position(|other| other.alert.id == *id);
                match waiting {
                    Some(index) if is_done => drop(self.in_memory.remove(index)),
                    Some(index) => self.in_memory[index] = spooled.clone(),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Keeps an alert that a channel rejects permanently, to be listed.
    fn refuse(&self, alert: &Alert, name: &Label, path: Option<&Path>, error: UntrustedText) {
        let aside = match path {
            Some(path) => self.refused(path, name),
            None => self.refused(&self.path(0, alert), name),
        };
        tracing::error!(
            alert = alert.id,
            "the channel {name} rejects this alert permanently: {error}; see {}",
            aside.display()
        );
        let since = Utc::now();
        let refused = SpooledAlert {
            alert: alert.clone(),
            pending: vec![name.clone()],
            failures: BTreeMap::from([(name.clone(), ChannelFailure { error, since })]),
        };
        if let Err(error) = self.write(&aside, &refused) {
            tracing::error!("{error}");
        }
    }

    /// The file of an alert that this channel rejected permanently; another channel may reject it too.
    fn refused(&self, path: &Path, channel: &Label) -> PathBuf {
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{channel}.json"));
        spool::refused(&self.folder).join(name)
    }

    fn aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default();
        spool::refused(&self.folder).join(name)
    }

    fn set_aside(&self, path: &Path, why: &RecordError) -> Result<(), OutboxError> {
        let aside = self.aside(path);
        let moved = atomic::folder_for_owner(&spool::refused(&self.folder))
            .and_then(|()| std::fs::rename(path, &aside));
        tracing::error!(
            "{} is not an alert ({why}); moved to {}",
            path.display(),
            aside.display()
        );
        moved.map_err(|source| self.failed(source))
    }

    fn write(&self, path: &Path, spooled: &SpooledAlert) -> Result<(), RecordError> {
        record::write(path, spooled)
    }

    fn failed(&self, source: io::Error) -> OutboxError {
        OutboxError {
            folder: self.folder.clone(),
            source,
        }
    }
}

/// Whether a file is not an alert. Other errors may be temporary.
fn is_damaged(error: &RecordError) -> bool {
    match error {
        RecordError::Form { .. } => true,
        // A FIFO, or a folder.
        RecordError::Read { source, .. } => source.kind() == io::ErrorKind::InvalidData,
        RecordError::Write { .. } => false,
    }
}

/// Delivers alerts to one channel, in their order, up to the first that must be retried.
async fn deliver_in_order(
    name: Label,
    channel: Channel,
    alerts: Vec<(usize, Alert)>,
    report: mpsc::UnboundedSender<DeliveryAttempt>,
) {
    for (index, alert) in alerts {
        let result = channel.deliver(&alert).await;
        let must_wait = matches!(&result, Err(error) if !error.is_permanent);
        let channel = name.clone();
        let attempt = DeliveryAttempt {
            channel,
            index,
            result,
        };
        // The receiver is gone when the delivery was interrupted.
        if report.send(attempt).is_err() || must_wait {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
