//! The delay before a client's next attempt: exponential, with full jitter.
//!
//! Full jitter (from zero to the ceiling) spreads a node's clients best when their daemon comes back. The
//! usual retry crates add jitter on top of the delay instead.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);

/// The failures since the last success.
#[derive(Debug)]
pub struct Backoff {
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts without failures. Ceilings double up to `max`.
    pub fn up_to(max: Duration) -> Backoff {
        Backoff { max, failures: 0 }
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and returns the longest delay.
    pub fn ceiling_after_failure(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        FIRST.saturating_mul(factor).min(self.max)
    }
}

/// A random duration up to `ceiling`.
pub fn jittered(ceiling: Duration) -> Duration {
    ceiling.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound() {
        let mut backoff = Backoff::up_to(Duration::from_secs(15));
        let ceilings: Vec<u128> = (0..10).map(|_| backoff.ceiling_after_failure().as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]);
        backoff.succeeded();
        assert_eq!(backoff.ceiling_after_failure(), FIRST);
        assert!((0..1000).all(|_| jittered(FIRST) <= FIRST));
    }
}
