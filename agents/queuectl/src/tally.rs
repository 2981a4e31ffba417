//! Counts what a worker did, for its last log line.

use crate::process::Conclusion;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(crate) struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    released: AtomicU64,
    lost: AtomicU64,
}

impl Tally {
    pub(crate) fn count(&self, conclusion: &Conclusion) {
        let counter = match conclusion {
            Conclusion::Ack => &self.done,
            Conclusion::Nack(_) => &self.failed,
            Conclusion::Release => &self.released,
            Conclusion::Lost => &self.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn say(&self) {
        let [done, failed, released, lost] = [&self.done, &self.failed, &self.released, &self.lost]
            .map(|counter| counter.load(Ordering::Relaxed));
        tracing::info!(event = "finished", done, failed, released, lost, "ended");
    }
}
