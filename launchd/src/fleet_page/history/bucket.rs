//! What was observed of a server in five minutes.

use serde::{Deserialize, Serialize};

use crate::fleet_page::availability::{Availability, ServerSample};

/// The length of a bucket.
pub(super) const BUCKET_SECONDS: i64 = 300;

/// The sum of a server's samples in a bucket. Names are short: a file has two thousand of them for each server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bucket {
    /// Samples in which it was up.
    #[serde(default, rename = "u", skip_serializing_if = "is_zero")]
    pub(super) up: u32,
    /// Samples in which it was degraded.
    #[serde(default, rename = "g", skip_serializing_if = "is_zero")]
    pub(super) degraded: u32,
    /// Samples in which it was down.
    #[serde(default, rename = "d", skip_serializing_if = "is_zero")]
    pub(super) down: u32,
    /// Samples with a rate of tokens.
    #[serde(default, rename = "n", skip_serializing_if = "is_zero")]
    pub(super) rates: u32,
    /// The sum of these rates, in tenths of tokens a second.
    #[serde(default, rename = "t", skip_serializing_if = "is_none")]
    pub(super) rate_sum: u64,
    /// The largest number of requests that waited.
    #[serde(default, rename = "q", skip_serializing_if = "is_none")]
    pub(super) queued: u64,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

impl Bucket {
    /// One sample.
    pub(super) fn of(sample: &ServerSample) -> Self {
        let is = |availability| u32::from(sample.availability == availability);
        let rate = sample.tokens_per_second.filter(|rate| rate.is_finite());
        Self {
            up: is(Availability::Up),
            degraded: is(Availability::Degraded),
            down: is(Availability::Down),
            rates: u32::from(rate.is_some()),
            // A rate is never negative, and far below the limit of the type.
            rate_sum: rate.map_or(0, |rate| (rate * 10.0).round() as u64),
            queued: sample.queued.unwrap_or(0),
        }
    }

    /// Adds the samples of another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.up = self.up.saturating_add(other.up);
        self.degraded = self.degraded.saturating_add(other.degraded);
        self.down = self.down.saturating_add(other.down);
        self.rates = self.rates.saturating_add(other.rates);
        self.rate_sum = self.rate_sum.saturating_add(other.rate_sum);
        self.queued = self.queued.max(other.queued);
    }

    /// The number of samples.
    pub(super) fn samples(&self) -> u64 {
        u64::from(self.up) + u64::from(self.degraded) + u64::from(self.down)
    }

    /// The worst that was observed; none without a sample.
    pub(super) fn worst(&self) -> Option<Availability> {
        match self {
            Self { down: 1.., .. } => Some(Availability::Down),
            Self { degraded: 1.., .. } => Some(Availability::Degraded),
            Self { up: 1.., .. } => Some(Availability::Up),
            _ => None,
        }
    }

    /// The average rate, in tokens a second.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.rates > 0).then(|| self.rate_sum as f64 / 10.0 / f64::from(self.rates))
    }
}
