//! What has been read and not been handed over: in memory, and in the spool while logd is away.

use crate::outbox::{Batch, Outbox};
use crate::tally::Tally;
use std::rc::Rc;

/// The lines between the input and the receipt, oldest first.
#[derive(Debug)]
pub(crate) struct Backlog {
    outbox: Outbox,
    in_flight: Option<Rc<Batch>>,
    buffer_bytes_max: usize,
    pub(crate) tally: Tally,
}

impl Backlog {
    pub(crate) fn new(batch_bytes_max: usize, buffer_bytes_max: usize) -> Backlog {
        Backlog {
            outbox: Outbox::new(batch_bytes_max),
            in_flight: None,
            buffer_bytes_max,
            tally: Tally::default(),
        }
    }

    pub(crate) fn push(&mut self, line: &[u8]) {
        self.outbox.push(line);
    }

    pub(crate) fn has_room(&self) -> bool {
        let in_flight = self.in_flight.as_ref().map_or(0, |batch| batch.bytes.len());
        self.outbox.bytes() + in_flight < self.buffer_bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outbox.is_empty() && self.in_flight.is_none()
    }

    pub(crate) fn has_full_batch(&self) -> bool {
        self.outbox.has_full_batch()
    }

    /// The oldest batch, which is in flight until `delivered` or `failed` is called.
    pub(crate) fn take(&mut self) -> Option<Rc<Batch>> {
        self.in_flight = self.outbox.pop().map(Rc::new);
        self.in_flight.clone()
    }

    pub(crate) fn delivered(&mut self) {
        if let Some(batch) = self.in_flight.take() {
            self.tally.lines.add(batch.lines);
            self.tally.bytes.add(batch.bytes.len() as u64);
            self.tally.batches.add(1);
        }
    }

    pub(crate) fn failed(&mut self) {
        self.tally.retries.add(1);
        if let Some(batch) = self.in_flight.take() {
            self.outbox.put_back(Rc::unwrap_or_clone(batch));
        }
    }

    pub(crate) fn lines(&self) -> u64 {
        self.outbox.lines() + self.in_flight.as_ref().map_or(0, |batch| batch.lines)
    }
}
