//! Decides when news must be published, from the age of the oldest bytes that may be missing from the
//! archive.

use std::time::{Duration, Instant};

/// The age of the oldest bytes that may be missing from the archive.
#[derive(Debug)]
pub enum Freshness {
    /// No scan has ended yet: the first one publishes all news.
    Unknown,
    /// The archive has every byte that the last scan could see.
    Current,
    /// Bytes may be missing from the archive. The oldest were written at this time or later.
    MissingSince(Instant),
}

impl Freshness {
    /// Records news that was written at `since` or later.
    pub fn news(&mut self, since: Instant) {
        *self = match *self {
            Freshness::Unknown => Freshness::Unknown,
            Freshness::Current => Freshness::MissingSince(since),
            Freshness::MissingSince(earlier) => Freshness::MissingSince(earlier.min(since)),
        };
    }

    /// Records that a scan ended, and that the archive has everything that it saw.
    pub fn published(&mut self) {
        *self = Freshness::Current;
    }

    /// True if this scan must publish the news, because it would be older than `within` at the next one.
    pub fn is_due(&self, now: Instant, within: Duration, interval: Duration) -> bool {
        match *self {
            Freshness::Unknown => true,
            Freshness::Current => false,
            Freshness::MissingSince(since) => since + within < now + interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Simulates the daemon's scans. Returns the age of the oldest byte at its publication, in milliseconds.
    fn oldest_ms(interval_ms: u64, within_ms: u64, cycle_ms: u64, writes_ms: &[u64]) -> u64 {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (interval, within) = (Duration::from_millis(interval_ms), Duration::from_millis(within_ms));
        let mut freshness = Freshness::Unknown;
        let (mut look_ms, mut missing, mut oldest) = (0, writes_ms, 0);
        let mut seen = 0;
        while !missing.is_empty() {
            let written = missing.iter().take_while(|write| **write <= look_ms).count();
            if written > seen {
                freshness.news(at(missing[seen]));
            }
            seen = written;
            if written > 0 && freshness.is_due(at(look_ms), within, interval) {
                oldest = oldest.max(look_ms - missing[0]);
                missing = &missing[written..];
                freshness.published();
                seen = 0;
            } else if written == 0 {
                freshness.published();
            }
            look_ms += interval_ms.max(cycle_ms);
        }
        oldest
    }

    #[test]
    fn default_settings_keep_news_below_a_minute() {
        // Written just after a scan, in the middle of an interval, and just before the next scan.
        for write in [1, 30_000, 59_999] {
            let oldest = oldest_ms(60_000, 60_000, 500, &[write]);
            assert!(oldest <= 60_000, "written after {write} ms, published {oldest} ms later");
        }
    }

    #[test]
    fn news_waits_as_long_as_it_may() {
        let oldest = oldest_ms(1_000, 10_000, 0, &[500]);
        assert!((9_000..=10_000).contains(&oldest), "{oldest}");
    }

    proptest! {
        #[test]
        fn age_is_bounded_by_interval_within_and_one_cycle(
            interval in 10u64..5_000, within in 0u64..20_000, cycle in 0u64..6_000,
            mut writes in prop::collection::vec(0u64..100_000, 1..50),
        ) {
            writes.sort_unstable();
            let oldest = oldest_ms(interval, within, cycle, &writes);
            let extra = cycle.saturating_sub(interval);
            prop_assert!(oldest <= interval.max(within) + extra, "{oldest}");
        }
    }
}
