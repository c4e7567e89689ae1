//! What the fleet page has observed of each server in the last seven days: in memory, and in a file that survives restarts.
//!
//! Samples are summed in buckets of five minutes. A line of the file adds to a bucket, so that each sample can be appended
//! when it is taken, and a whole bucket is one line after the next compaction ([`file`]).

mod bucket;
mod file;
mod strip;

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use sanctum_config::Label;

use super::availability::ServerSample;
use bucket::{BUCKET_SECONDS, Bucket};
use file::{HistoryFile, HistoryRecord};
pub(crate) use strip::{Span, Strip};

/// The oldest bucket that is kept, in seconds before now: seven days, and the cell in which they begin.
const KEPT_SECONDS: i64 = 7 * 86_400 + 3_600;

/// The buckets of each server, by their number since 1970.
type Buckets = BTreeMap<Label, BTreeMap<i64, Bucket>>;

/// The history of all servers.
#[derive(Debug)]
pub(crate) struct FleetHistory {
    buckets: Buckets,
    /// None if another process writes it.
    file: Option<HistoryFile>,
    /// Why it is not written.
    problem: Option<String>,
}

impl FleetHistory {
    /// Reads the history at `path`, and continues it there. A file that is damaged is moved aside and the history begins empty;
    /// one that another process writes is read and not written. Both are logged.
    pub(crate) fn open(path: &Path, now: DateTime<Utc>) -> Self {
        let (file, records, problem) = HistoryFile::open(path);
        let mut history = Self {
            buckets: Buckets::new(),
            file,
            problem,
        };
        for record in records {
            let bucket = history.buckets.entry(record.server).or_default();
            bucket.entry(record.bucket).or_default().add(&record.sum);
        }
        history.forget_old(now);
        history.compact();
        history
    }

    /// Why it is not written; none while it is.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Adds what was observed now, in memory. Returns the lines to append.
    fn add(
        &mut self,
        now: DateTime<Utc>,
        samples: &BTreeMap<Label, ServerSample>,
    ) -> Vec<HistoryRecord> {
        self.forget_old(now);
        let number = now.timestamp().div_euclid(BUCKET_SECONDS);
        let records = samples.iter().map(|(server, sample)| HistoryRecord {
            server: server.clone(),
            bucket: number,
            sum: Bucket::of(sample),
        });
        let records: Vec<HistoryRecord> = records.collect();
        for record in &records {
            let buckets = self.buckets.entry(record.server.clone()).or_default();
            buckets.entry(record.bucket).or_default().add(&record.sum);
        }
        records
    }

    /// Adds what was observed now, and appends it to the file. `shown` is called in between, so that a slow disk delays only
    /// what follows.
    pub(crate) fn record(
        &mut self,
        now: DateTime<Utc>,
        samples: &BTreeMap<Label, ServerSample>,
        shown: impl FnOnce(&Self),
    ) {
        let records = self.add(now, samples);
        shown(self);
        let Some(file) = &mut self.file else { return };
        let appended = match file.must_compact() {
            true => file.replace(&self.buckets),
            false => file.append(&records),
        };
        self.written(appended);
    }

    /// A strip of a server's history that ends now.
    pub(crate) fn strip(&self, server: &Label, span: Span, now: DateTime<Utc>) -> Strip {
        let nothing = BTreeMap::new();
        let buckets = self.buckets.get(server).unwrap_or(&nothing);
        Strip::of(buckets, span, now.timestamp())
    }

    /// Writes one line for each bucket.
    fn compact(&mut self) {
        if let Some(file) = &mut self.file {
            let replaced = file.replace(&self.buckets);
            self.written(replaced);
        }
    }

    /// Logs the first failure after a success, and the first success after one.
    fn written(&mut self, done: Result<(), String>) {
        match (done, &self.problem) {
            (Ok(()), Some(_)) => {
                tracing::info!("the history is written again");
                self.problem = None;
            }
            (Ok(()), None) => {}
            (Err(error), before) => {
                if before.is_none() {
                    tracing::warn!("{error}; the page continues with what is in memory");
                }
                self.problem = Some(error);
            }
        }
    }

    /// Drops buckets that are too old, and those in the future: the clock was set back.
    fn forget_old(&mut self, now: DateTime<Utc>) {
        let now = now.timestamp();
        let oldest = (now - KEPT_SECONDS).div_euclid(BUCKET_SECONDS);
        let newest = (now + 3_600).div_euclid(BUCKET_SECONDS);
        for buckets in self.buckets.values_mut() {
            buckets.retain(|number, _| (oldest..=newest).contains(number));
        }
        self.buckets.retain(|_, buckets| !buckets.is_empty());
    }
}

#[cfg(test)]
mod tests;
