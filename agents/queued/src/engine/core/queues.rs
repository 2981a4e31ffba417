//! The commands for the owner of a queue: create, configure, seal, pause, count without end, drain, delete.

use super::{Core, Journal, Turn};
use crate::engine::contract::EngineError;
use crate::engine::item::ItemState;
use crate::engine::policy::{PolicyChange, check_name};
use crate::engine::queue::{Queue, Verdict};
use crate::engine::record::{QueueRecord, Record};

/// Bytes of a queue's record beyond its name: numbers, most of them small.
const QUEUE_RECORD_BYTES: u64 = 128;

pub(super) fn record_bytes(name: &str) -> u64 {
    QUEUE_RECORD_BYTES + name.len() as u64
}

impl Core {
    /// Returns the queue's number; creates the queue if it does not exist.
    pub fn ensure(&mut self, name: &str, turn: &mut Turn<'_, impl Journal>) -> Result<u32, EngineError> {
        if let Some(number) = self.names.get(name) {
            return Ok(*number);
        }
        check_name(name).map_err(EngineError::Invalid)?;
        if self.names.len() >= turn.limits.queues_max {
            return Err(EngineError::TooManyQueues(turn.limits.queues_max));
        }
        let checkpoint_bytes = self.checkpoint_bytes.saturating_add(record_bytes(name));
        if checkpoint_bytes > turn.limits.checkpoint_bytes_max {
            let bytes_max = turn.limits.checkpoint_bytes_max;
            return Err(EngineError::TooMuchOfQueues { queues: self.names.len(), bytes_max });
        }
        Ok(self.create(name, turn))
    }

    fn create(&mut self, name: &str, turn: &mut Turn<'_, impl Journal>) -> u32 {
        let number = self.next_queue;
        for record in Queue::new(number, name, self.keep_order).records() {
            self.write(&record, turn);
        }
        number
    }

    /// Changes the values in the queue's own record.
    fn write_queue(
        &mut self,
        number: u32,
        turn: &mut Turn<'_, impl Journal>,
        change: impl FnOnce(&mut QueueRecord),
    ) {
        let Some(queue) = self.queues.get(&number) else { return };
        let mut record = queue.record();
        change(&mut record);
        for record in queue.records_with(record) {
            self.write(&record, turn);
        }
    }

    /// Begins a new round of a drained queue: called before its first new item, and before it is unsealed.
    pub(super) fn leave_drained(&mut self, number: u32, turn: &mut Turn<'_, impl Journal>) {
        let ended = |queue: &Queue| queue.moved_in_round > 0 && queue.verdict() == Verdict::Drained;
        if self.queues.get(&number).is_some_and(ended) {
            self.write(&Record::Round { queue: number, moved: 0 }, turn);
        }
    }

    /// Creates or configures the queue. True if it was created.
    pub fn configure(
        &mut self,
        name: &str,
        change: &PolicyChange,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<bool, EngineError> {
        check_name(name).map_err(EngineError::Invalid)?;
        let old = self.queue(name).map(|queue| queue.policy.clone());
        let created = old.is_err();
        let policy = old.unwrap_or_default().changed(change).map_err(EngineError::Invalid)?;
        let number = self.ensure(name, turn)?;
        if self.queues.get(&number).is_some_and(|queue| queue.policy != policy) {
            self.write_queue(number, turn, |record| record.policy = policy);
        }
        Ok(created)
    }

    pub fn delete(&mut self, name: &str, turn: &mut Turn<'_, impl Journal>) -> Result<(), EngineError> {
        let queue = self.queue(name)?.number;
        self.write(&Record::QueueGone { queue }, turn);
        Ok(())
    }

    pub fn seal(
        &mut self,
        name: &str,
        sealed: bool,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<(), EngineError> {
        let number = if sealed { self.ensure(name, turn)? } else { self.queue(name)?.number };
        if self.queues.get(&number).is_some_and(|queue| queue.sealed != sealed) {
            if !sealed {
                self.leave_drained(number, turn);
            }
            self.write_queue(number, turn, |record| {
                (record.sealed, record.seal_used) = (sealed, record.seal_used || sealed);
            });
        }
        Ok(())
    }

    /// Stops or resumes leasing from the queue.
    pub fn pause(
        &mut self,
        name: &str,
        paused: bool,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<(), EngineError> {
        let queue = self.queue(name)?;
        if queue.paused != paused {
            self.write(&Record::Paused { queue: queue.number, paused }, turn);
        }
        Ok(())
    }

    /// Lets the queue count without end. A queue that already counts continues from its next number.
    pub fn count_from(
        &mut self,
        name: &str,
        first: u64,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<(), EngineError> {
        let number = self.ensure(name, turn)?;
        if self.queues.get(&number).is_some_and(|queue| queue.count_next.is_none()) {
            self.write_queue(number, turn, |record| record.count_next = Some(first));
        }
        Ok(())
    }

    /// Removes ready and delayed items; returns the number of removed items.
    pub fn drain(&mut self, name: &str, turn: &mut Turn<'_, impl Journal>) -> Result<u64, EngineError> {
        let queue = self.queue(name)?;
        let (number, count) = (queue.number, queue.tally(ItemState::Ready) + queue.tally(ItemState::Delayed));
        if count > 0 {
            self.write(&Record::Drained { queue: number }, turn);
            // The removed items may no longer be in the log when it is read, but their number must still be
            // known.
            self.write_queue(number, turn, |_| {});
        }
        Ok(count)
    }
}
