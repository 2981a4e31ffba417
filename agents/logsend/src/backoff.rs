//! How long to wait before the next attempt: exponential, with full jitter.
//!
//! Full jitter (anything from nothing to the ceiling) spreads a node's clients best when their daemon comes
//! back; the retry crates at hand add their jitter on top of the delay instead.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(15);
/// While draining, time is short and an attempt is worth more than politeness.
const MAX_DRAINING: Duration = Duration::from_secs(1);

/// The failures since the last success.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and returns how long to wait, at most.
    pub(crate) fn ceiling_after_failure(&mut self, draining: bool) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        FIRST.saturating_mul(factor).min(if draining { MAX_DRAINING } else { MAX })
    }
}

/// A random moment up to `ceiling`.
pub(crate) fn jittered(ceiling: Duration) -> Duration {
    ceiling.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_fifteen_seconds_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<u128> = (0..10).map(|_| backoff.ceiling_after_failure(false).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]);
        assert_eq!(backoff.ceiling_after_failure(true), MAX_DRAINING);
        backoff.succeeded();
        assert_eq!(backoff.ceiling_after_failure(false), FIRST);
        assert!((0..1000).all(|_| jittered(FIRST) <= FIRST));
    }
}
