//! Records the attempts of items when they end, and lists them.

use super::Core;
use crate::engine::attempts::{Attempt, AttemptEnd, Ended, Fate};
use crate::engine::item::{Item, ItemState};
use crate::engine::queue::Queue;
use crate::engine::record::Return;

impl Core {
    /// Keeps the attempt that ends with this record. Must be called while the item is still leased.
    pub(super) fn end_attempt(
        &mut self,
        queue: u32,
        number: u64,
        how: Return,
        reason: Option<&str>,
        fate: Option<Fate>,
    ) {
        let Some(q) = self.queues.get(&queue) else { return };
        let Some(item) = q.items().get(number) else { return };
        let Some(lease) = held_attempt(q, item) else { return };
        let bound = q.when(number).is_some_and(|when| when.bound);
        let end = AttemptEnd {
            how: Ended::new(how, bound),
            at_ms: self.now_ms(),
            reason: reason.map(Into::into),
            fate,
        };
        self.attempts.add(number, Attempt { end: Some(end), ..lease });
    }

    /// Returns the last attempts of an item, oldest first. The running attempt is the last.
    pub fn attempts(&self, queue: &Queue, item: &Item) -> Vec<Attempt> {
        self.attempts.of(item.number).iter().cloned().chain(held_attempt(queue, item)).collect()
    }
}

/// Returns the running attempt, if the item is leased.
fn held_attempt(queue: &Queue, item: &Item) -> Option<Attempt> {
    let when = queue.when(item.number).filter(|_| item.state == ItemState::Leased)?;
    let (worker, leased_ms) = (when.worker.clone(), when.leased_ms());
    Some(Attempt { number: item.attempts, worker, leased_ms, end: None })
}
