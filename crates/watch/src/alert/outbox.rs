//! Alerts that are not delivered yet. Each is on disk until every channel has accepted it, so that neither a channel that is
//! down nor a restart of the watchdog loses it. A channel receives its alerts in the order in which they were raised, each
//! at least once, always with the same id. If the disk is full they wait in memory: the alert about it must be delivered.

mod deliveries;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use sanctum_config::{Home, Label, RecordError, UntrustedText, atomic, record};
use tokio::time::Instant;

use super::spool::{self, ChannelFailure, OutboxError, SpooledAlert};
use super::{Alert, Channel, History, Mutes};
use deliveries::Deliveries;
pub(crate) use deliveries::EndedDelivery;

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
    /// The deliveries that run.
    deliveries: Deliveries,
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
            deliveries: Deliveries::default(),
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

    /// Starts what is due: the next alert of each channel that is not down and has no delivery running. Returns when to call
    /// this again although no delivery has ended; none if nothing waits for a time.
    ///
    /// # Errors
    /// If the spool cannot be read or changed.
    pub fn start_due(&mut self) -> Result<Option<Instant>, OutboxError> {
        self.keep()?;
        let mut queue = self.queue()?;
        self.end_silent(&mut queue)?;
        self.write_history();
        let now = Instant::now();
        for (name, channel) in &self.channels {
            // A channel that is down is not tried, which keeps its order.
            let is_down = self.down.get(name).is_some_and(|down| now < down.until);
            if is_down || self.deliveries.is_running(name) {
                continue;
            }
            let next = queue
                .iter()
                .find(|queued| queued.spooled.pending.contains(name));
            if let Some(next) = next {
                self.deliveries.start(name, channel, &next.spooled.alert);
            }
        }
        // A channel for which nothing waits is not tried, and its time stays in the past.
        let next = self.down.values().map(|down| down.until);
        let next = next.filter(|until| *until > now).min();
        let left = self.deliveries.is_empty() && self.waiting()? > 0;
        Ok(next.or_else(|| left.then(|| now + FIRST_PAUSE)))
    }

    /// Waits until a delivery has ended; for ever if none runs. Nothing is lost if this future is dropped. Give the result to
    /// [`Outbox::settle`]; [`Outbox::take_accepted`] has the alert's id before.
    pub(crate) async fn ended(&mut self) -> EndedDelivery {
        let ended = self.deliveries.ended().await;
        if ended.is_accepted() {
            self.accepted.push(ended.alert.id.clone());
        }
        ended
    }

    /// Whether no delivery runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Delivers until nothing is due. Returns when to try again; none if nothing waits.
    #[cfg(test)]
    pub(crate) async fn deliver(&mut self) -> Result<Option<Instant>, OutboxError> {
        loop {
            let retry = self.start_due()?;
            if self.is_idle() {
                return Ok(retry.filter(|_| self.waiting().is_ok_and(|waiting| waiting > 0)));
            }
            let ended = self.ended().await;
            self.settle(ended)?;
        }
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

    /// Notes on disk what a channel did with an alert: a process that ends before repeats this delivery, and no other.
    ///
    /// # Errors
    /// If the spool cannot be read or changed.
    pub(crate) fn settle(&mut self, ended: EndedDelivery) -> Result<(), OutboxError> {
        let is_accepted = ended.is_accepted();
        let EndedDelivery {
            channel: name,
            alert,
            result,
        } = ended;
        // It is gone if it was muted meanwhile, or removed by an operator.
        let mut queued = self.find(&alert.id)?;
        let path = queued.as_ref().and_then(|queued| queued.path.clone());
        if is_accepted {
            if self.down.remove(&name).is_some() {
                tracing::info!("the channel {name} accepts alerts again");
            }
            if let Some(history) = &mut self.history {
                history.delivered(&alert.id, &name, Utc::now());
            }
            self.write_history();
        }
        let waits = match result {
            Ok(()) => None,
            Err(error) if error.is_permanent => {
                self.down.remove(&name);
                // It would block all alerts after it.
                let error = UntrustedText::new(&error.problem);
                self.refuse(&alert, &name, path.as_deref(), error);
                None
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
                Some(why)
            }
        };
        let Some(queued) = &mut queued else {
            return Ok(());
        };
        let SpooledAlert {
            pending, failures, ..
        } = &mut queued.spooled;
        match waits {
            Some(error) => {
                if failures.get(&name).map(|known| &known.error) == Some(&error) {
                    return Ok(());
                }
                let since = Utc::now();
                failures.insert(name, ChannelFailure { error, since });
            }
            None => {
                pending.retain(|other| *other != name);
                failures.remove(&name);
            }
        }
        self.update(queued)
    }

    /// The alert of this id, if it waits. Its file may be newer than its delivery.
    fn find(&self, id: &str) -> Result<Option<Queued>, OutboxError> {
        Ok(self
            .queue()?
            .into_iter()
            .find(|queued| queued.spooled.alert.id == id))
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

#[cfg(test)]
mod tests;
