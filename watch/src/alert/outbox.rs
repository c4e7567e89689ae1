//! Alerts on their way: each lies on disk until every channel has taken it, so that neither a channel that is down nor
//! a restart of the watchdog loses one. A channel gets its alerts in the order in which they were raised, each at
//! least once, always with the same id. Where the disk takes none, they wait in memory: a full disk must not silence
//! who would tell of it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::{Label, atomic};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

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
}

#[derive(Clone, Copy, Debug)]
struct Down {
    until: Instant,
    pause: Duration,
}

/// One file of the spool.
#[derive(Debug, Deserialize, Serialize)]
struct Letter {
    alert: Alert,
    /// The channels that have not taken it.
    pending: Vec<Label>,
}

/// An alert that could not be put on disk.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep alerts in {}: {source}; they are lost if this process ends before they are delivered", folder.display())]
pub struct OutboxError {
    folder: PathBuf,
    source: io::Error,
}

impl Outbox {
    /// The outbox in `folder`, for these channels.
    pub fn new(folder: PathBuf, channels: impl IntoIterator<Item = (Label, Channel)>) -> Self {
        Self {
            folder,
            // The log has it already.
            channels: channels
                .into_iter()
                .filter(|(_, channel)| *channel != Channel::Log)
                .collect(),
            down: BTreeMap::new(),
            unkept: VecDeque::new(),
        }
    }

    /// Logs an alert and puts it on disk for all channels. The same id twice is one alert, while it is still here.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub fn put(&mut self, alert: Alert) -> Result<(), OutboxError> {
        alert.log();
        let suffix = format!("-{}.json", alert.id);
        let known = |(_, path): &(u64, PathBuf)| path.to_string_lossy().ends_with(&suffix);
        let waits = self.letters()?.iter().any(known)
            || self.unkept.iter().any(|letter| letter.alert.id == alert.id);
        if self.channels.is_empty() || waits {
            return Ok(());
        }
        let pending = self.channels.keys().cloned().collect();
        self.unkept.push_back(Letter { alert, pending });
        self.keep()
    }

    /// Puts on disk what is not there yet, in its order, as far as the disk takes it.
    fn keep(&mut self) -> Result<(), OutboxError> {
        let mut number = self.letters()?.last().map_or(0, |(number, _)| *number);
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
        for (_, path) in self.letters()? {
            let Some(mut letter) = read(&path) else {
                self.set_aside(&path, "it is damaged")?;
                continue;
            };
            let before = letter.pending.len();
            self.pass_on(&mut letter, &path).await?;
            if letter.pending.is_empty() {
                atomic::remove(&path).map_err(|source| self.failed(source))?;
            } else if letter.pending.len() < before
                && let Err(error) = self.write(&path, &letter)
            {
                // Who has it will get it again.
                tracing::error!("{error}");
            }
        }
        for mut letter in std::mem::take(&mut self.unkept) {
            let path = self.path(0, &letter.alert);
            self.pass_on(&mut letter, &path).await?;
            if !letter.pending.is_empty() {
                self.unkept.push_back(letter);
            }
        }
        let left = !(self.unkept.is_empty() && self.letters()?.is_empty());
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
        let kept = self.letters()?.len();
        Ok(kept + self.unkept.len())
    }

    /// Tries one alert on every channel that has not taken it.
    async fn pass_on(&mut self, letter: &mut Letter, path: &Path) -> Result<(), OutboxError> {
        let mut pending = Vec::new();
        for name in std::mem::take(&mut letter.pending) {
            if !self.pass(&name, &letter.alert, path).await? {
                pending.push(name);
            }
        }
        letter.pending = pending;
        Ok(())
    }

    /// Tries one alert on one channel; true if it need not be tried again. A channel that is down takes nothing, which
    /// keeps the order.
    async fn pass(
        &mut self,
        name: &Label,
        alert: &Alert,
        path: &Path,
    ) -> Result<bool, OutboxError> {
        let Some(channel) = self.channels.get(name) else {
            tracing::warn!(
                alert = alert.id,
                "the channel {name} is no longer in fleet.toml; this alert is not delivered there"
            );
            return Ok(true);
        };
        let down = self.down.get(name).copied();
        if down.is_some_and(|down| Instant::now() < down.until) {
            return Ok(false);
        }
        match channel.deliver(alert).await {
            Ok(()) => {
                if self.down.remove(name).is_some() {
                    tracing::info!("the channel {name} takes alerts again");
                }
                Ok(true)
            }
            Err(DeliveryError::Later(why)) => {
                let pause = down.map_or(FIRST, |down| (down.pause * 2).min(MOST));
                let until = Instant::now() + pause;
                self.down.insert(name.clone(), Down { until, pause });
                tracing::warn!(
                    alert = alert.id,
                    "the channel {name} takes no alerts: {why}; they wait in {} and are tried again in {} s",
                    self.folder.display(),
                    pause.as_secs()
                );
                Ok(false)
            }
            Err(DeliveryError::Never(why)) => {
                self.down.remove(name);
                // Kept for people; it would dam up all that comes after it.
                let aside = self.aside(path);
                let letter = Letter {
                    alert: alert.clone(),
                    pending: vec![name.clone()],
                };
                if let Err(error) = self.write(&aside, &letter) {
                    tracing::error!("{error}");
                }
                tracing::error!(
                    alert = alert.id,
                    "the channel {name} refuses this alert for good: {why}; see {}",
                    aside.display()
                );
                Ok(true)
            }
        }
    }

    /// The files in the order in which they were written.
    fn letters(&self) -> Result<Vec<(u64, PathBuf)>, OutboxError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| self.failed(source))?,
        };
        let mut letters = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| self.failed(source))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name
                .strip_suffix(".json")
                .and_then(|name| name.split_once('-'))
                .and_then(|(number, _)| number.parse().ok());
            letters.extend(number.map(|number| (number, path.clone())));
        }
        letters.sort();
        Ok(letters)
    }

    fn aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default();
        self.folder.join("refused").join(name)
    }

    fn set_aside(&self, path: &Path, why: &str) -> Result<(), OutboxError> {
        let aside = self.aside(path);
        let moved = atomic::folder_for_owner(&self.folder.join("refused"))
            .and_then(|()| std::fs::rename(path, &aside));
        tracing::error!("{}: {why}; moved to {}", path.display(), aside.display());
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

fn read(path: &Path) -> Option<Letter> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity;

    #[tokio::test]
    async fn a_channel_that_nothing_waits_for_keeps_nobody_awake() {
        let folder = tempfile::tempdir().unwrap();
        let name = |text: &str| text.parse::<Label>().unwrap();
        let url = Channel::Http("http://127.0.0.1:9/notify".parse().unwrap());
        let mut outbox = Outbox::new(folder.path().to_owned(), [(name("two"), url)]);
        let alert = Alert {
            id: "canary-1".into(),
            severity: Severity::Info,
            source: "canary".into(),
            host: "mini".into(),
            title: "title".into(),
            body: "body".into(),
            time: chrono::DateTime::UNIX_EPOCH,
        };
        outbox.put(alert).unwrap();
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
