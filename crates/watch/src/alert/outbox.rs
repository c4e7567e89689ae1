//! Alerts on their way: each lies on disk until every channel has taken it, so that neither a channel that is down nor
//! a restart of the watchdog loses one. A channel gets its alerts in the order in which they were raised, each at
//! least once, always with the same id. Where the disk takes none, they wait in memory: a full disk must not silence
//! who would tell of it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use sanctum_config::{Label, UntrustedText, atomic};
use tokio::time::Instant;

use super::spool::{self, Failure, Letter};
use super::{Alert, Channel, DeliveryError};

/// The first pause after a failed delivery; it doubles up to [`MOST`].
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause.
const MOST: Duration = Duration::from_secs(300);

/// Alerts that one watchdog has raised and not yet delivered.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    channels: BTreeMap<Label, Channel>,
    /// Channels that are down. A restart tries them at once.
    down: BTreeMap<Label, Down>,
    /// What the disk has not taken; later than all that it has.
    unkept: VecDeque<Letter>,
    /// The ids of alerts that a channel has accepted since this was asked last.
    accepted: Vec<String>,
    /// The operator has named the log and no other channel: what is logged is delivered.
    is_log_enough: bool,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    until: Instant,
    pause: Duration,
}

/// What came of one alert on one channel.
enum Outcome {
    Accepted,
    /// It need not be tried again: the channel refused it for good, or is no longer in fleet.toml.
    Ended,
    /// It is tried again later. The error, if it was tried now.
    Waits(Option<UntrustedText>),
}

/// An alert that could not be put on disk.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep alerts in {}: {source}; they are lost if this process ends before they are delivered", folder.display())]
pub struct OutboxError {
    pub(super) folder: PathBuf,
    pub(super) source: io::Error,
}

impl Outbox {
    /// The outbox in `folder`, for these channels.
    pub fn new(folder: PathBuf, channels: impl IntoIterator<Item = (Label, Channel)>) -> Self {
        // The log has every alert already.
        let (log, channels): (BTreeMap<_, _>, BTreeMap<_, _>) = channels
            .into_iter()
            .partition(|(_, channel)| *channel == Channel::Log);
        Self {
            folder,
            is_log_enough: !log.is_empty() && channels.is_empty(),
            channels,
            down: BTreeMap::new(),
            unkept: VecDeque::new(),
            accepted: Vec::new(),
        }
    }

    /// Logs an alert and puts it on disk for all channels. The same id twice is one alert, while it is still here.
    /// Servers, logs and commands may have had a say in its texts: no control character goes further.
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
        let waits = spool::letters(&self.folder)?.iter().any(known)
            || self.unkept.iter().any(|letter| letter.alert.id == alert.id);
        if self.channels.is_empty() || waits {
            return Ok(());
        }
        let pending = self.channels.keys().cloned().collect();
        self.unkept.push_back(Letter {
            alert,
            pending,
            failures: BTreeMap::new(),
        });
        self.keep()
    }

    /// Puts on disk what is not there yet, in its order, as far as the disk takes it.
    fn keep(&mut self) -> Result<(), OutboxError> {
        let letters = spool::letters(&self.folder)?;
        let mut number = letters.last().map_or(0, |(number, _)| *number);
        while let Some(letter) = self.unkept.front() {
            number += 1;
            let path = self.path(number, &letter.alert);
            if let Err(error) = self.write(&path, letter) {
                tracing::error!("{error}");
                break;
            }
            self.unkept.pop_front();
        }
        Ok(())
    }

    fn path(&self, number: u64, alert: &Alert) -> PathBuf {
        self.folder.join(format!("{number:010}-{}.json", alert.id))
    }

    /// Delivers what is due and can be delivered. Returns when to try again; none if nothing is left.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub async fn deliver(&mut self) -> Result<Option<Instant>, OutboxError> {
        self.keep()?;
        for (_, path) in spool::letters(&self.folder)? {
            let mut letter = match spool::read(&path) {
                Ok(Some(letter)) => letter,
                Ok(None) => continue,
                Err(error) if is_damaged(&error) => {
                    self.set_aside(&path, &error)?;
                    continue;
                }
                // It may be readable later.
                Err(error) => {
                    tracing::error!("cannot read {}: {error}", path.display());
                    continue;
                }
            };
            let changed = self.pass_on(&mut letter, &path).await;
            if letter.pending.is_empty() {
                atomic::remove(&path).map_err(|source| self.failed(source))?;
            } else if changed && let Err(error) = self.write(&path, &letter) {
                // A channel that has it will get it again.
                tracing::error!("{error}");
            }
        }
        for mut letter in std::mem::take(&mut self.unkept) {
            let path = self.path(0, &letter.alert);
            self.pass_on(&mut letter, &path).await;
            if !letter.pending.is_empty() {
                self.unkept.push_back(letter);
            }
        }
        let left = !(self.unkept.is_empty() && spool::letters(&self.folder)?.is_empty());
        let now = Instant::now();
        // A channel that nothing waits for any more is not tried, and its time stays past.
        let next = self.down.values().map(|down| down.until);
        let next = next.filter(|until| *until > now).min();
        Ok(left.then(|| next.unwrap_or(now + FIRST)))
    }

    /// How many alerts wait.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub fn waiting(&self) -> Result<usize, OutboxError> {
        let kept = spool::letters(&self.folder)?.len();
        Ok(kept + self.unkept.len())
    }

    /// The ids of the alerts that a channel has accepted since this was called last.
    pub(crate) fn take_accepted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.accepted)
    }

    /// Tries one alert on every channel that has not accepted it; whether its file is to be written again.
    async fn pass_on(&mut self, letter: &mut Letter, path: &Path) -> bool {
        let before = letter.pending.len();
        let mut changed = false;
        for name in std::mem::take(&mut letter.pending) {
            match self.pass(&name, letter, path).await {
                Outcome::Accepted => self.accepted.push(letter.alert.id.clone()),
                Outcome::Ended => {}
                Outcome::Waits(error) => {
                    if let Some(error) = error
                        && letter.failures.get(&name).map(|known| &known.error) != Some(&error)
                    {
                        let since = Utc::now();
                        let failure = Failure { error, since };
                        letter.failures.insert(name.clone(), failure);
                        changed = true;
                    }
                    letter.pending.push(name);
                }
            }
        }
        let Letter {
            pending, failures, ..
        } = letter;
        failures.retain(|name, _| pending.contains(name));
        changed || pending.len() < before
    }

    /// Tries one alert on one channel. A channel that is down gets nothing, which keeps the order.
    async fn pass(&mut self, name: &Label, letter: &Letter, path: &Path) -> Outcome {
        let alert = &letter.alert;
        let Some(channel) = self.channels.get(name) else {
            tracing::warn!(
                alert = alert.id,
                "the channel {name} is no longer in fleet.toml; this alert is not delivered there"
            );
            return Outcome::Ended;
        };
        let down = self.down.get(name).copied();
        if down.is_some_and(|down| Instant::now() < down.until) {
            return Outcome::Waits(None);
        }
        match channel.deliver(alert).await {
            Ok(()) => {
                if self.down.remove(name).is_some() {
                    tracing::info!("the channel {name} accepts alerts again");
                }
                Outcome::Accepted
            }
            Err(DeliveryError::Later(why)) => {
                let why = UntrustedText::new(&why);
                let pause = down.map_or(FIRST, |down| (down.pause * 2).min(MOST));
                let until = Instant::now() + pause;
                self.down.insert(name.clone(), Down { until, pause });
                tracing::warn!(
                    alert = alert.id,
                    "the channel {name} accepts no alerts: {why}; they wait in {} and are tried again in {} s",
                    self.folder.display(),
                    pause.as_secs()
                );
                Outcome::Waits(Some(why))
            }
            Err(DeliveryError::Never(why)) => {
                let error = UntrustedText::new(&why);
                self.down.remove(name);
                // Kept for people; it would hold up all that comes after it.
                let aside = self.refused(path, name);
                tracing::error!(
                    alert = alert.id,
                    "the channel {name} refuses this alert for good: {error}; see {}",
                    aside.display()
                );
                let since = Utc::now();
                let refused = Letter {
                    alert: alert.clone(),
                    pending: vec![name.clone()],
                    failures: BTreeMap::from([(name.clone(), Failure { error, since })]),
                };
                if let Err(error) = self.write(&aside, &refused) {
                    tracing::error!("{error}");
                }
                Outcome::Ended
            }
        }
    }

    /// Where an alert is kept that this channel refused for good; another channel may refuse it too.
    fn refused(&self, path: &Path, channel: &Label) -> PathBuf {
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{channel}.json"));
        spool::refused(&self.folder).join(name)
    }

    fn aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default();
        spool::refused(&self.folder).join(name)
    }

    fn set_aside(&self, path: &Path, why: &io::Error) -> Result<(), OutboxError> {
        let aside = self.aside(path);
        let moved = atomic::folder_for_owner(&spool::refused(&self.folder))
            .and_then(|()| std::fs::rename(path, &aside));
        tracing::error!(
            "{} is no alert ({why}); moved to {}",
            path.display(),
            aside.display()
        );
        moved.map_err(|source| self.failed(source))
    }

    fn write(&self, path: &Path, letter: &Letter) -> Result<(), OutboxError> {
        serde_json::to_vec_pretty(letter)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            .and_then(|bytes| atomic::write(path, &bytes, 0o600))
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> OutboxError {
        OutboxError {
            folder: self.folder.clone(),
            source,
        }
    }
}

/// Whether what was read is no alert; other errors are the system's.
fn is_damaged(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
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
            // The second one was not even tried.
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
        // It is up again, and the error is forgotten with the alert.
        let up = [(name("down"), receiver("200 OK"))];
        let mut outbox = Outbox::new(folder.path().to_owned(), up);
        assert_eq!(outbox.deliver().await.unwrap(), None);
        assert_eq!(outbox.take_accepted(), ["canary-1", "canary-2"]);
        assert_eq!(undelivered(folder.path()).unwrap(), []);
    }

    #[test]
    fn alert_is_delivered_by_the_log_only_where_no_other_channel_is_named() {
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
    async fn alert_that_is_refused_for_good_is_listed_as_refused() {
        let folder = tempfile::tempdir().unwrap();
        let channel = (name("flow"), receiver("422 Unprocessable Entity"));
        let mut outbox = Outbox::new(folder.path().to_owned(), [channel]);
        outbox.put(alert("canary-1")).unwrap();
        assert_eq!(outbox.deliver().await.unwrap(), None);
        assert_eq!(outbox.take_accepted(), [] as [&str; 0]);
        let [refused] = &undelivered(folder.path()).unwrap()[..] else {
            panic!("one alert was refused");
        };
        assert!(refused.refused && refused.error.as_deref().unwrap().contains("422"));
    }

    #[tokio::test]
    async fn alert_that_two_channels_refuse_is_listed_for_both() {
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
    async fn spool_file_of_another_kind_is_set_aside_at_once() {
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
    async fn a_channel_that_nothing_waits_for_keeps_nobody_awake() {
        let folder = tempfile::tempdir().unwrap();
        let url = Channel::Http("http://127.0.0.1:9/notify".parse().unwrap());
        let mut outbox = Outbox::new(folder.path().to_owned(), [(name("two"), url)]);
        outbox.put(alert("canary-1")).unwrap();
        // `one` was down, and what waited for it is gone; `two` is down for a while.
        let now = Instant::now();
        let down = |until| Down {
            until,
            pause: FIRST,
        };
        outbox.down.insert(name("one"), down(now));
        outbox.down.insert(name("two"), down(now + MOST));
        let next = outbox.deliver().await.unwrap();
        assert_eq!(next, Some(now + MOST));
    }
}
