//! The last fifteen minutes of an agent's figures, so that a page shows a past when it opens.
//!
//! No timer samples them. Every change of a figure also calls [`History::tick`], which keeps at most one
//! sample per interval. Figures stay the same between ticks, so an idle agent sleeps and nothing is missed.
//! All changes since a sample happened within one interval after it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(15);
/// The time that samples cover.
const SPAN: Duration = Duration::from_secs(900);
/// Limit on the samples: two for each interval.
const SAMPLES_MAX: usize = 120;

/// Samples of `N` figures, counters or levels.
#[derive(Debug)]
pub struct History<const N: usize> {
    started: Instant,
    /// Milliseconds after `started` at which the next sample is due.
    next_due_ms: AtomicU64,
    samples: Mutex<Samples<N>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample<const N: usize> {
    at: Instant,
    figures: [u64; N],
}

/// The samples of the last fifteen minutes, oldest first.
#[derive(Debug, Default)]
pub struct Samples<const N: usize>(VecDeque<Sample<N>>);

impl<const N: usize> Samples<N> {
    /// Adds a sample, and drops those that are too old.
    pub fn push(&mut self, at: Instant, figures: [u64; N]) {
        // The sample before the span says with which figures the span began.
        let is_old = |sample: &Sample<N>| at.saturating_duration_since(sample.at) >= SPAN;
        while self.0.len() >= SAMPLES_MAX || self.0.get(1).is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back(Sample { at, figures });
    }

    pub fn last_at(&self) -> Option<Instant> {
        self.0.back().map(|sample| sample.at)
    }

    /// The age in milliseconds, then the figures.
    pub fn rows(&self, now: Instant) -> Vec<Vec<u64>> {
        self.0.iter().map(|sample| row(now, sample.at, &sample.figures)).collect()
    }
}

/// The age in milliseconds, then the figures.
pub fn row(now: Instant, at: Instant, figures: &[u64]) -> Vec<u64> {
    [&[millis(now.saturating_duration_since(at))], figures].concat()
}

impl<const N: usize> History<N> {
    /// Starts the history with one sample.
    pub fn new(now: Instant, figures: [u64; N]) -> History<N> {
        let samples = Samples(VecDeque::from([Sample { at: now, figures }]));
        History { started: now, next_due_ms: AtomicU64::new(millis(INTERVAL)), samples: Mutex::new(samples) }
    }

    /// Samples the figures if a sample is due. Call this before a figure changes.
    pub fn tick(&self, now: Instant, figures: impl FnOnce() -> [u64; N]) {
        let now_ms = millis(now.saturating_duration_since(self.started));
        if now_ms < self.next_due_ms.load(Ordering::Relaxed) {
            return;
        }
        self.next_due_ms.store(now_ms + millis(INTERVAL), Ordering::Relaxed);
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(now, figures());
    }

    /// All samples, the oldest first: the age in milliseconds, then the figures.
    pub fn rows(&self, now: Instant) -> Vec<Vec<u64>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).rows(now)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_per_interval_is_kept() {
        let start = Instant::now();
        let history = History::new(start, [0]);
        for second in 0..=40 {
            history.tick(start + Duration::from_secs(second), || [second]);
        }
        let rows = history.rows(start + Duration::from_secs(40));
        assert_eq!(rows, [[40_000, 0], [25_000, 15], [10_000, 30]]);
    }

    #[test]
    fn oldest_samples_are_dropped() {
        let start = Instant::now();
        let history = History::new(start, [0]);
        let hours = 3600 / INTERVAL.as_secs() * 2;
        for tick in 1..=hours {
            history.tick(start + INTERVAL * u32::try_from(tick).unwrap(), || [tick]);
        }
        let rows = history.rows(start + INTERVAL * u32::try_from(hours).unwrap());
        let span_ms = u64::try_from(SPAN.as_millis()).unwrap();
        assert_eq!((rows[0][0], rows.last().unwrap()), (span_ms, &vec![0, hours]));
        assert!(rows.len() <= SAMPLES_MAX);
    }
}
