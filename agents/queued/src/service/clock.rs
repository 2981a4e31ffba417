//! The engine's clock, and the task that makes delayed items ready and expires leases.

use super::{Engine, RECORD_BYTES_MAX};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Limit on the leases that expire under one hold of the lock.
const EXPIRIES_AT_ONCE: usize = 256;

/// A clock that never jumps: the wall clock's time at the start, plus the time that has passed since. It
/// starts no earlier than the latest event in the log. Otherwise, if the wall clock was set back between two
/// runs, leases and delays would last longer by that difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    wall_ms: u64,
}

impl Clock {
    pub(super) fn start(latest_ms: u64) -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { began: Instant::now(), wall_ms: millis(wall).max(latest_ms) }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.wall_ms + millis(self.began.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// Makes delayed items ready and expires leases when they are due. Must be spawned once.
    pub(super) async fn keep_time(self) {
        loop {
            let wait = {
                let mut state = self.0.lock();
                let more = state.turn(EXPIRIES_AT_ONCE as u64 * RECORD_BYTES_MAX, |core, turn| {
                    core.tick(EXPIRIES_AT_ONCE, turn)
                });
                state.armed_ms = state.core.next_due_ms().unwrap_or(u64::MAX);
                let wait = match more {
                    true => Duration::ZERO,
                    false => Duration::from_millis(state.armed_ms.saturating_sub(state.clock.now_ms())),
                };
                self.0.follow_up(&mut state);
                wait
            };
            if wait.is_zero() {
                tokio::task::yield_now().await;
                continue;
            }
            // The wait may be capped: the timer is notified when something is due earlier.
            let wait = wait.min(Duration::from_secs(3600));
            let _ = tokio::time::timeout(wait, self.0.timer.notified()).await;
        }
    }
}
