//! Log lines that strangers can cause: as many as are read, not as many as are caused.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

/// How many are written in each span of time.
const AT_ONCE: u32 = 20;
/// The span.
const EVERY: Duration = Duration::from_secs(60);

/// Counts what is left out.
#[derive(Debug, Default)]
pub struct Sparing(Mutex<Span>);

#[derive(Debug, Default)]
struct Span {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Sparing {
    /// Whether to write a line now, and if so how many were left out since the last.
    pub fn admits(&self) -> Option<u64> {
        let now = Instant::now();
        let mut span = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if span.began.is_none_or(|began| now - began >= EVERY) {
            span.began = Some(now);
            span.written = 0;
        }
        if span.written == AT_ONCE {
            span.left_out += 1;
            return None;
        }
        span.written += 1;
        Some(std::mem::take(&mut span.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_told_with_the_next_line() {
        let sparing = Sparing::default();
        let written = (0..1000).filter(|_| sparing.admits().is_some()).count();
        assert_eq!(written, 20);
        tokio::time::advance(EVERY).await;
        assert_eq!(sparing.admits(), Some(980));
        assert_eq!(sparing.admits(), Some(0));
    }
}
