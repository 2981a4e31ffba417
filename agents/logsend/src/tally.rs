//! Counts the work of one run, for its last log line.

use std::cell::Cell;

/// Counters of one run, all used by one thread.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Lines and bytes that were delivered, each counted once.
    pub(crate) lines: Counter,
    pub(crate) bytes: Counter,
    pub(crate) batches: Counter,
    /// Attempts without a receipt.
    pub(crate) retries: Counter,
    /// Lines that were moved to the spool, and lines that were dropped.
    pub(crate) spooled: Counter,
    pub(crate) dropped: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.set(self.0.get().saturating_add(more));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Tally {
    pub(crate) fn log(&self) {
        tracing::info!(
            event = "finished",
            lines = self.lines.get(),
            bytes = self.bytes.get(),
            batches = self.batches.get(),
            retries = self.retries.get(),
            spooled_lines = self.spooled.get(),
            dropped_lines = self.dropped.get(),
            "done"
        );
    }
}
