//! Applies records to the state, both when they are made and when a log is read back.

use super::Core;
use super::queues::record_bytes;
use crate::engine::attempts::Fate;
use crate::engine::item::{BodyPlace, Extra, Item, ItemState};
use crate::engine::queue::{Queue, When, held_ms};
use crate::engine::record::{Moved, Pushed, Record, Return};
use std::collections::btree_map::Entry;

/// Smaller bodies stay in memory whatever its limit: evicting them would save less than it costs.
pub(super) const KEPT_BODY_BYTES: usize = 32;

impl Core {
    /// Applies the change that a record describes. A record about a missing item changes only counters: the
    /// item's own record was in a segment that was removed because the item is gone.
    pub fn apply(&mut self, record: &Record<'_>, place: BodyPlace) {
        match record {
            Record::Time(now_ms) => {
                self.is_timed = true;
                self.latest_ms = self.latest_ms.max(*now_ms);
            }
            Record::Queue(record) => {
                let number = record.queue;
                // A queue never changes its name. Our logs never say otherwise, but a foreign log may, and
                // must do no harm.
                if self.names.get(&record.name).is_some_and(|known| *known != number) {
                    return;
                }
                self.next_queue = self.next_queue.max(number.saturating_add(1));
                let (keep_order, latest_ms) = (self.keep_order, self.latest_ms);
                let queue = match self.queues.entry(number) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        self.names.insert(record.name.clone(), number);
                        self.checkpoint_bytes =
                            self.checkpoint_bytes.saturating_add(record_bytes(&record.name));
                        new.insert(Queue::new(number, &record.name, keep_order))
                    }
                };
                queue.follow(record, latest_ms);
                self.touch(number);
            }
            Record::QueueGone { queue } => {
                self.touch(*queue);
                if let Some(mut gone) = self.queues.remove(queue) {
                    self.checkpoint_bytes = self.checkpoint_bytes.saturating_sub(record_bytes(&gone.name));
                    for number in gone.numbers_in(&ItemState::ALL) {
                        gone.take(number, &mut self.usage);
                        self.attempts.forget(number);
                    }
                    if self.names.get(&gone.name) == Some(queue) {
                        self.names.remove(&gone.name);
                    }
                }
            }
            // Begins a checkpoint. A record of the time follows, unless an earlier queued wrote the
            // checkpoint.
            Record::NextNumber(next) => {
                self.is_timed = false;
                self.next_number = self.next_number.max(*next);
            }
            Record::Pushed(pushed) => {
                let body = self.fits(pushed.body).then(|| pushed.body.into());
                self.put_pushed(pushed, body, pushed.body.len(), place);
            }
            Record::Moved(moved) => self.put_moved(moved, place),
            Record::KeyKept { queue, key, number, at_ms } => {
                if let Some(q) = self.queues.get_mut(queue) {
                    q.forget_keys(self.latest_ms);
                    q.finish_key(key, *number, *at_ms, place.segment);
                }
            }
            Record::Leased { queue, number, token, until_ms, bound, worker } => {
                self.touch(*queue);
                let held_ms = self.now_ms().and_then(|now_ms| held_ms(now_ms, *until_ms));
                let Some(q) = self.queues.get_mut(queue) else { return };
                count_up(&mut q.counters.leases, 1);
                let worker = worker.map(Into::into);
                let when = When { at_ms: *until_ms, token: *token, bound: *bound, held_ms, worker };
                if let Some(item) = q.shift(*number, ItemState::Leased, Some(when)) {
                    item.attempts = item.attempts.saturating_add(1);
                }
            }
            Record::Extended { queue, number, until_ms } => {
                let Some(q) = self.queues.get_mut(queue) else { return };
                if let Some(when) = q.when(*number).map(|when| when.until(*until_ms)) {
                    q.shift(*number, ItemState::Leased, Some(when));
                }
                self.touch(*queue);
            }
            Record::Acked { queue, number, at_ms } => {
                self.latest_ms = self.latest_ms.max(*at_ms);
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                count_up(&mut q.counters.acked, 1);
                let Some(item) = q.take(*number, &mut self.usage) else { return };
                self.attempts.forget(*number);
                if let Some(key) = item.extra.and_then(|extra| extra.key) {
                    q.forget_keys(*at_ms);
                    // The key is in the item's own record: without that segment this ack would not find it.
                    q.finish_key(&key, *number, *at_ms, item.place.segment);
                }
            }
            Record::Returned { queue, number, how, due_ms, reason } => {
                self.touch(*queue);
                self.end_attempt(*queue, *number, *how, *reason, None);
                let Some(q) = self.queues.get_mut(queue) else { return };
                match how {
                    Return::Nacked => count_up(&mut q.counters.nacked, 1),
                    Return::Expired => count_up(&mut q.counters.expired, 1),
                    Return::Released => count_up(&mut q.counters.released, 1),
                }
                let when = due_ms.map(When::delayed);
                let state = if when.is_some() { ItemState::Delayed } else { ItemState::Ready };
                if let Some(item) = q.shift(*number, state, when) {
                    item.set_reason(*reason);
                    if *how == Return::Released {
                        item.attempts = item.attempts.saturating_sub(1);
                    }
                }
            }
            Record::Died { queue, number, how, moved, reason } => {
                self.touch(*queue);
                let fate = if *moved { Fate::Moved } else { Fate::Dead };
                self.end_attempt(*queue, *number, *how, *reason, Some(fate));
                let Some(q) = self.queues.get_mut(queue) else { return };
                count_up(&mut q.counters.died, 1);
                match how {
                    Return::Expired => count_up(&mut q.counters.expired, 1),
                    _ => count_up(&mut q.counters.nacked, 1),
                }
                if *moved {
                    count_up(&mut q.moved_in_round, 1);
                    q.counters.moved = q.counters.moved.map(|moved| moved.saturating_add(1));
                    q.take(*number, &mut self.usage);
                    // The record before this one pushed the copy.
                    self.attempts.hand_on(*number, self.next_number.saturating_sub(1));
                } else if let Some(item) = q.shift(*number, ItemState::Dead, None) {
                    item.set_reason(*reason);
                }
            }
            Record::Round { queue, moved } => {
                self.touch(*queue);
                if let Some(q) = self.queues.get_mut(queue) {
                    q.moved_in_round = *moved;
                }
            }
            Record::Paused { queue, paused } => {
                self.touch(*queue);
                if let Some(q) = self.queues.get_mut(queue) {
                    q.paused = *paused;
                }
            }
            Record::Redriven { queue, number } => {
                self.touch(*queue);
                if let Some(q) = self.queues.get_mut(queue)
                    && let Some(item) = q.shift(*number, ItemState::Ready, None)
                {
                    item.attempts = 0;
                }
            }
            Record::HandedOn { number } => {
                self.attempts.hand_on(*number, self.next_number.saturating_sub(1));
            }
            Record::Deleted { queue, number } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                count_up(&mut q.counters.removed, 1);
                q.take(*number, &mut self.usage);
                self.attempts.forget(*number);
            }
            Record::Drained { queue } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                let numbers = q.numbers_in(&[ItemState::Ready, ItemState::Delayed]);
                count_up(&mut q.counters.drained, numbers.len() as u64);
                count_up(&mut q.counters.removed, numbers.len() as u64);
                // Items whose segment has been removed since then are not counted here.
                q.counts_drains = false;
                for number in numbers {
                    q.take(number, &mut self.usage);
                    self.attempts.forget(number);
                }
            }
        }
    }

    /// Applies a push. A body that is kept in memory is passed separately, so that a new one need not be
    /// copied.
    pub(super) fn put_pushed(
        &mut self,
        pushed: &Pushed<'_>,
        body: Option<Box<[u8]>>,
        len: usize,
        place: BodyPlace,
    ) {
        let Pushed { queue, number, pushed_ms, due_ms, key, content_type, .. } = *pushed;
        self.next_number = self.next_number.max(number.saturating_add(1));
        self.latest_ms = self.latest_ms.max(pushed_ms);
        self.touch(queue);
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        queue.forget_keys(pushed_ms);
        let state = if due_ms.is_some() { ItemState::Delayed } else { ItemState::Ready };
        queue.held = true;
        count_up(&mut queue.counters.pushed, 1);
        if let (Some(next), Some(body)) = (queue.count_next, &body)
            && **body == *next.to_string().as_bytes()
        {
            queue.count_next = Some(next.saturating_add(1));
        }
        let when = due_ms.map(When::delayed);
        let extra =
            Extra { key: key.map(Into::into), content_type: content_type.map(Into::into), reason: None };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let item = Item { number, pushed_ms, body, len, place, attempts: 0, state, extra: extra.boxed() };
        queue.put(item, when, &mut self.usage);
    }

    fn put_moved(&mut self, moved: &Moved<'_>, place: BodyPlace) {
        let Pushed { queue, number, pushed_ms, key, content_type, body, .. } = moved.item;
        self.next_number = self.next_number.max(number.saturating_add(1));
        let fits = self.fits(body);
        let Some(q) = self.queues.get_mut(&queue) else { return };
        let timed = matches!(moved.state, ItemState::Delayed | ItemState::Leased);
        let (at_ms, token, bound) = (moved.at_ms, moved.token, moved.bound);
        let when =
            timed.then(|| When { at_ms, token, bound, held_ms: None, worker: moved.worker.map(Into::into) });
        // The item itself, and its place in the order, stay as they are.
        if q.is_at(number, moved.state, moved.attempts, when.as_ref()) {
            return q.relocate(number, place, &mut self.usage);
        }
        let extra = Extra {
            key: key.map(Into::into),
            content_type: content_type.map(Into::into),
            reason: moved.reason.map(Into::into),
        };
        let item = Item {
            number,
            pushed_ms,
            body: fits.then(|| body.into()),
            len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            place,
            attempts: moved.attempts,
            state: moved.state,
            extra: extra.boxed(),
        };
        q.put(item, when, &mut self.usage);
    }

    fn fits(&self, body: &[u8]) -> bool {
        body.len() <= KEPT_BODY_BYTES
            || self.usage.memory_bytes.saturating_add(body.len() as u64)
                <= self.memory_bytes_max_while_reading
    }
}

/// Adds without overflow: a log may contain any number.
fn count_up(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}
