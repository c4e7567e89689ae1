//! Alerts that are not delivered yet. Each is on disk until every channel has accepted it, so that neither a channel that is
//! down nor a restart of the watchdog loses it. A channel receives its alerts in the order in which they were raised, each
//! at least once, always with the same id. If the disk is full they wait in memory: the alert about it must be delivered.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use sanctum_config::{Label, RecordError, UntrustedText, atomic, record};
use tokio::time::Instant;

use super::spool::{self, ChannelFailure, OutboxError, SpooledAlert};
use super::{Alert, Channel, DeliveryError};

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
}

#[derive(Clone, Copy, Debug)]
struct Down {
    until: Instant,
    pause: Duration,
}

/// The outcome of one alert on one channel.
enum DeliveryOutcome {
    Accepted,
    /// It is not tried again: the channel rejected it permanently, or is no longer in fleet.toml.
    Ended,
    /// It is retried later. The error, if it was tried now.
    Waits(Option<UntrustedText>),
}

impl Outbox {
    /// The outbox in `folder`, for these channels.
    pub fn new(folder: PathBuf, channels: impl IntoIterator<Item = (Label, Channel)>) -> Self {
        let (log, channels): (BTreeMap<_, _>, BTreeMap<_, _>) = channels
            .into_iter()
            .partition(|(_, channel)| *channel == Channel::Log);
        Self {
            folder,
            is_log_enough: !log.is_empty() && channels.is_empty(),
            channels,
            down: BTreeMap::new(),
            in_memory: VecDeque::new(),
            accepted: Vec::new(),
        }
    }

    /// Logs an alert and writes it to disk for all channels, with its texts escaped. An id that is waiting already is a
    /// duplicate.
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
        if self.channels.is_empty() || waits {
            return Ok(());
        }
        let pending = self.channels.keys().cloned().collect();
        self.in_memory.push_back(SpooledAlert {
            alert,
            pending,
            failures: BTreeMap::new(),
        });
        self.keep()
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

    /// Delivers what is due. Returns when to try again; none if nothing waits.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub async fn deliver(&mut self) -> Result<Option<Instant>, OutboxError> {
        self.keep()?;
        for (_, path) in spool::files(&self.folder)? {
            let mut spooled = match spool::read(&path) {
                Ok(Some(spooled)) => spooled,
                Ok(None) => continue,
                Err(error) if is_damaged(&error) => {
                    self.set_aside(&path, &error)?;
                    continue;
                }
                // It may be readable later.
                Err(error) => {
                    tracing::error!("{error}");
                    continue;
                }
            };
            let changed = self.deliver_one(&mut spooled, &path).await;
            if spooled.pending.is_empty() {
                atomic::remove(&path).map_err(|source| self.failed(source))?;
            } else if changed && let Err(error) = self.write(&path, &spooled) {
                // A channel that accepted it will receive it again.
                tracing::error!("{error}");
            }
        }
        for mut spooled in std::mem::take(&mut self.in_memory) {
            let path = self.path(0, &spooled.alert);
            self.deliver_one(&mut spooled, &path).await;
            if !spooled.pending.is_empty() {
                self.in_memory.push_back(spooled);
            }
        }
        let left = !(self.in_memory.is_empty() && spool::files(&self.folder)?.is_empty());
        let now = Instant::now();
        // A channel for which nothing waits is not tried, and its time stays in the past.
        let next = self.down.values().map(|down| down.until);
        let next = next.filter(|until| *until > now).min();
        Ok(left.then(|| next.unwrap_or(now + FIRST_PAUSE)))
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

    /// Tries one alert on every channel that has not accepted it. Returns whether its file must be written again.
    async fn deliver_one(&mut self, spooled: &mut SpooledAlert, path: &Path) -> bool {
        let before = spooled.pending.len();
        let mut changed = false;
        for name in std::mem::take(&mut spooled.pending) {
            match self.deliver_to(&name, spooled, path).await {
                DeliveryOutcome::Accepted => self.accepted.push(spooled.alert.id.clone()),
                DeliveryOutcome::Ended => {}
                DeliveryOutcome::Waits(error) => {
                    if let Some(error) = error
                        && spooled.failures.get(&name).map(|known| &known.error) != Some(&error)
                    {
                        let since = Utc::now();
                        let failure = ChannelFailure { error, since };
                        spooled.failures.insert(name.clone(), failure);
                        changed = true;
                    }
                    spooled.pending.push(name);
                }
            }
        }
        let SpooledAlert {
            pending, failures, ..
        } = spooled;
        failures.retain(|name, _| pending.contains(name));
        changed || pending.len() < before
    }

    /// Tries one alert on one channel. A channel that is down is not tried, which keeps the order.
    async fn deliver_to(
        &mut self,
        name: &Label,
        spooled: &SpooledAlert,
        path: &Path,
    ) -> DeliveryOutcome {
        let alert = &spooled.alert;
        let Some(channel) = self.channels.get(name) else {
            tracing::warn!(
                alert = alert.id,
                "the channel {name} is no longer in fleet.toml; this alert is not delivered there"
            );
            return DeliveryOutcome::Ended;
        };
        let down = self.down.get(name).copied();
        if down.is_some_and(|down| Instant::now() < down.until) {
            return DeliveryOutcome::Waits(None);
        }
        match channel.deliver(alert).await {
            Ok(()) => {
                if self.down.remove(name).is_some() {
                    tracing::info!("the channel {name} accepts alerts again");
                }
                DeliveryOutcome::Accepted
            }
            Err(DeliveryError::Later(why)) => {
                let why = UntrustedText::new(&why);
                let pause = down.map_or(FIRST_PAUSE, |down| (down.pause * 2).min(MAX_PAUSE));
                let until = Instant::now() + pause;
                self.down.insert(name.clone(), Down { until, pause });
                tracing::warn!(
                    alert = alert.id,
                    "cannot deliver to the channel {name}: {why}; its alerts wait in {} and are retried in {} s",
                    self.folder.display(),
                    pause.as_secs()
                );
                DeliveryOutcome::Waits(Some(why))
            }
            Err(DeliveryError::Never(why)) => {
                let error = UntrustedText::new(&why);
                self.down.remove(name);
                // It would block all alerts after it.
                let aside = self.refused(path, name);
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
                DeliveryOutcome::Ended
            }
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
mod tests {
    use super::*;
    use crate::alert::{Severity, undelivered};

    fn name(text: &str) -> Label {
        text.parse().unwrap()
    }

    fn alert(id: &str) -> Alert {
        Alert {
            id: id.into(),
            severity: Severity::Info,
            source: "canary".into(),
            host: "mini".into(),
            title: "title".into(),
            body: "body".into(),
            time: chrono::DateTime::UNIX_EPOCH,
        }
    }

    /// An HTTP receiver that answers `status` to everything, and closes.
    fn receiver(status: &'static str) -> Channel {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0");
                let _ = write!(stream, "{head}\r\nconnection: close\r\n\r\n");
            }
        });
        Channel::Http(format!("http://{address}/").parse().unwrap())
    }

    #[tokio::test]
    async fn undelivered_alerts_are_listed_with_channel_and_error() {
        let folder = tempfile::tempdir().unwrap();
        let down = [
            (name("down"), receiver("503 Service Unavailable")),
            (name("up"), receiver("204 No Content")),
        ];
        let mut outbox = Outbox::new(folder.path().to_owned(), down);
        assert_eq!(undelivered(folder.path()).unwrap(), []);
        outbox.put(alert("canary-1")).unwrap();
        outbox.put(alert("canary-2")).unwrap();
        assert_eq!(
            undelivered(folder.path()).unwrap().len(),
            4,
            "not tried yet"
        );
        assert!(outbox.deliver().await.unwrap().is_some());
        assert_eq!(outbox.take_accepted(), ["canary-1", "canary-2"]);
        let waiting = undelivered(folder.path()).unwrap();
        assert_eq!(waiting.len(), 2);
        for (one, id) in waiting.iter().zip(["canary-1", "canary-2"]) {
            assert_eq!((one.id.as_str(), &one.channel), (id, &name("down")));
            // The second one was not tried.
            let error = one.error.as_deref().unwrap();
            assert!(error.contains("503"), "{error}");
            assert!(!one.refused);
        }
        let now = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(392);
        let line = waiting[0].line(now);
        assert!(
            line.starts_with(
                "\"title\", raised 392 days ago, has not reached the channel down: http"
            ),
            "{line}"
        );
        // The channel is up again, and the error is removed with the alert.
        let up = [(name("down"), receiver("200 OK"))];
        let mut outbox = Outbox::new(folder.path().to_owned(), up);
        assert_eq!(outbox.deliver().await.unwrap(), None);
        assert_eq!(outbox.take_accepted(), ["canary-1", "canary-2"]);
        assert_eq!(undelivered(folder.path()).unwrap(), []);
    }

    #[test]
    fn alert_is_delivered_by_the_log_if_no_other_channel_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let accepted = |channels: Vec<(Label, Channel)>| {
            let mut outbox = Outbox::new(folder.path().to_owned(), channels);
            outbox.put(alert("canary-1")).unwrap();
            outbox.take_accepted()
        };
        let log = || (name("log"), Channel::Log);
        assert_eq!(accepted(vec![log()]), ["canary-1"]);
        assert_eq!(accepted(vec![]), [] as [&str; 0]);
        assert_eq!(
            accepted(vec![log(), (name("down"), receiver("503 Down"))]),
            [] as [&str; 0]
        );
    }

    #[tokio::test]
    async fn alert_that_is_rejected_permanently_is_listed_as_refused() {
        let folder = tempfile::tempdir().unwrap();
        let channel = (name("flow"), receiver("422 Unprocessable Entity"));
        let mut outbox = Outbox::new(folder.path().to_owned(), [channel]);
        outbox.put(alert("canary-1")).unwrap();
        assert_eq!(outbox.deliver().await.unwrap(), None);
        assert_eq!(outbox.take_accepted(), [] as [&str; 0]);
        let [refused] = &undelivered(folder.path()).unwrap()[..] else {
            panic!("one alert is refused");
        };
        assert!(refused.refused && refused.error.as_deref().unwrap().contains("422"));
    }

    #[tokio::test]
    async fn alert_that_two_channels_reject_is_listed_for_both() {
        let folder = tempfile::tempdir().unwrap();
        let refuses = |channel| (name(channel), receiver("422 Unprocessable Entity"));
        let channels = [refuses("flow"), refuses("phone")];
        let mut outbox = Outbox::new(folder.path().to_owned(), channels);
        outbox.put(alert("canary-1")).unwrap();
        assert_eq!(outbox.deliver().await.unwrap(), None);
        let refused = undelivered(folder.path()).unwrap();
        let channels: Vec<_> = refused.iter().map(|one| one.channel.as_str()).collect();
        assert_eq!(channels, ["flow", "phone"]);
        assert!(refused.iter().all(|one| one.refused && one.error.is_some()));
    }

    #[tokio::test]
    async fn spool_file_that_is_not_an_alert_is_moved_away_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path();
        let made = std::process::Command::new("mkfifo")
            .arg(spool.join("0000000001-fifo.json"))
            .status();
        assert!(made.unwrap().success());
        std::fs::create_dir(spool.join("0000000002-folder.json")).unwrap();
        std::fs::write(spool.join("0000000003-text.json"), "{").unwrap();
        assert_eq!(undelivered(spool).unwrap(), []);
        let mut outbox = Outbox::new(spool.to_owned(), [(name("up"), receiver("200 OK"))]);
        outbox.put(alert("canary-1")).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(outbox.deliver().await.unwrap(), None);
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(outbox.take_accepted(), ["canary-1"]);
        let aside = std::fs::read_dir(spool.join("refused")).unwrap();
        assert_eq!(aside.count(), 3);
    }

    #[tokio::test]
    async fn channel_for_which_nothing_waits_does_not_wake_the_loop() {
        let folder = tempfile::tempdir().unwrap();
        let url = Channel::Http("http://127.0.0.1:9/notify".parse().unwrap());
        let mut outbox = Outbox::new(folder.path().to_owned(), [(name("two"), url)]);
        outbox.put(alert("canary-1")).unwrap();
        // `one` was down, and nothing waits for it; `two` is down for a while.
        let now = Instant::now();
        let down = |until| Down {
            until,
            pause: FIRST_PAUSE,
        };
        outbox.down.insert(name("one"), down(now));
        outbox.down.insert(name("two"), down(now + MAX_PAUSE));
        let next = outbox.deliver().await.unwrap();
        assert_eq!(next, Some(now + MAX_PAUSE));
    }
}
