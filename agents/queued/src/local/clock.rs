//! The engine's time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall's time at the start and what passed since: it never jumps. Nor does it begin before what has happened already: if
/// the wall's clock was set back between two runs, leases and delays would last for so much longer.
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
