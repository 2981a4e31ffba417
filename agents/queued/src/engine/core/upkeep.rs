//! Upkeep of the log: the checkpoint of a new segment, and items rewritten so that an old segment can be
//! removed.

use super::apply::KEPT_BODY_BYTES;
use super::{Core, Journal, Turn};
use crate::engine::item::{BodyPlace, Token};
use crate::engine::queue::Queue;
use crate::engine::record::{Moved, Pushed, Record};

impl Core {
    /// Repeats the records of every queue, so that a log can begin here.
    pub fn checkpoint(&mut self, journal: &mut impl Journal) {
        let touched = std::mem::take(&mut self.touched);
        self.put(&Record::NextNumber(self.next_number), journal);
        self.put(&Record::Time(self.latest_ms), journal);
        for number in self.queues.keys().copied().collect::<Vec<_>>() {
            for record in self.queues.get(&number).map(Queue::records).into_iter().flatten() {
                self.put(&record, journal);
            }
        }
        // Repeating the records of a queue does not change it.
        self.touched = touched;
    }

    /// Rewrites an item if it is still at the place from which the caller read `body`.
    pub fn rewrite(
        &mut self,
        queue: u32,
        number: u64,
        from: BodyPlace,
        body: &[u8],
        journal: &mut impl Journal,
    ) -> bool {
        let Some(q) = self.queues.get(&queue) else { return false };
        let Some(item) = q.items().get(number).filter(|item| item.place == from) else { return false };
        let (extra, when) = (item.extra.as_deref().cloned().unwrap_or_default(), q.when(number).cloned());
        let moved = Moved {
            item: Pushed {
                queue,
                number,
                pushed_ms: item.pushed_ms,
                due_ms: None,
                key: extra.key.as_deref(),
                content_type: extra.content_type.as_deref(),
                body,
            },
            state: item.state,
            attempts: item.attempts,
            reason: extra.reason.as_deref(),
            at_ms: when.as_ref().map_or(0, |when| when.at_ms),
            token: when.as_ref().map_or(Token(0), |when| when.token),
            bound: when.as_ref().is_some_and(|when| when.bound),
            worker: when.as_ref().and_then(|when| when.worker.as_deref()),
        };
        self.put(&Record::Moved(moved), journal);
        true
    }

    /// Rewrites finished keys of segments up to this one, at most this many, and forgets those whose time is
    /// over. True if more are left.
    pub fn rewrite_keys(&mut self, up_to: u32, count_max: usize, turn: &mut Turn<'_, impl Journal>) -> bool {
        let mut left = count_max;
        let queues: Vec<u32> = self.queues.keys().copied().collect();
        for queue in queues {
            let finished = self.queues.get(&queue).map(|q| q.keys().finished_in(up_to)).unwrap_or_default();
            if finished.is_empty() {
                continue;
            }
            self.tell_time(turn);
            if let Some(q) = self.queues.get_mut(&queue) {
                q.forget_keys(turn.now_ms);
            }
            for (at_ms, number) in finished {
                let Some(q) = self.queues.get(&queue) else { break };
                let Some(key) = q.keys().finished_key(&(at_ms, number)) else { continue };
                // A later item may have the same key.
                if q.known(&key, turn.now_ms) != Some(number) {
                    continue;
                }
                if left == 0 {
                    return true;
                }
                left -= 1;
                self.write(&Record::KeyKept { queue, key: &key, number, at_ms }, turn);
            }
        }
        false
    }

    /// Evicts the item's body from memory if the item is still at this place.
    pub fn evict(&mut self, queue: u32, number: u64, place: BodyPlace) {
        if let Some(q) = self.queues.get_mut(&queue)
            && q.items()
                .get(number)
                .is_some_and(|item| item.place == place && item.len as usize > KEPT_BODY_BYTES)
        {
            q.evict_body(number, &mut self.usage);
        }
    }
}
