//! Upkeep of the log: the checkpoint of a new segment, and items rewritten so that an old segment can be
//! removed.

use super::apply::KEPT_BODY_BYTES;
use super::{Core, Journal, Turn};
use crate::engine::item::{Place, Token};
use crate::engine::record::{Moved, Pushed, Record};

impl Core {
    /// Repeats the records of every queue, so that a log can begin here.
    pub fn checkpoint(&mut self, journal: &mut impl Journal) {
        journal.append(&Record::NextNumber(self.next_number));
        for queue in self.queues.values() {
            for record in queue.records() {
                journal.append(&record);
            }
        }
    }

    /// Rewrites an item if it is still at the place from which the caller read `body`.
    pub fn rewrite(
        &mut self,
        queue: u32,
        number: u64,
        from: Place,
        body: &[u8],
        journal: &mut impl Journal,
    ) -> bool {
        let Some(q) = self.queues.get(&queue) else { return false };
        let Some(item) = q.items().get(number).filter(|item| item.place == from) else { return false };
        let when = q.when(number);
        let moved = Moved {
            item: Pushed {
                queue,
                number,
                pushed_ms: item.pushed_ms,
                due_ms: None,
                key: item.key(),
                content_type: item.content_type(),
                body,
            },
            state: item.state,
            attempts: item.attempts,
            reason: item.reason(),
            at_ms: when.map_or(0, |when| when.at_ms),
            token: when.map_or(Token(0), |when| when.token),
            bound: when.is_some_and(|when| when.bound),
            worker: when.and_then(|when| when.worker.as_deref()),
        };
        let place = journal.append(&Record::Moved(moved));
        // Only the place changes: the item itself, and its place in the order, stay as they are.
        if let Some(q) = self.queues.get_mut(&queue) {
            q.relocate(number, place, &mut self.usage);
        }
        true
    }

    /// Rewrites the finished keys of segments up to this one.
    pub fn rewrite_keys(&mut self, up_to: u32, turn: &mut Turn<'_, impl Journal>) {
        for queue in self.queues.values_mut() {
            queue.forget_keys(turn.now_ms);
            let number = queue.number;
            queue.rewrite_keys(up_to, |key, item, at_ms| {
                turn.journal.append(&Record::KeyKept { queue: number, key, number: item, at_ms }).segment
            });
        }
    }

    /// Evicts the item's body from memory if the item is still at this place.
    pub fn evict(&mut self, queue: u32, number: u64, place: Place) {
        if let Some(q) = self.queues.get_mut(&queue)
            && q.items()
                .get(number)
                .is_some_and(|item| item.place == place && item.len as usize > KEPT_BODY_BYTES)
        {
            q.evict_body(number, &mut self.usage);
        }
    }
}
