//! The clock by which keys expire.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The host's clock, except that it never goes back while the process runs: a key that has expired stays
/// expired.
#[derive(Debug, Default)]
pub struct Clock {
    latest_ms: AtomicU64,
}

impl Clock {
    /// Returns milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let now_ms = host_now_ms();
        self.latest_ms.fetch_max(now_ms, Ordering::Relaxed).max(now_ms)
    }
}

/// Returns the host's time in milliseconds since 1970.
pub fn host_now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
