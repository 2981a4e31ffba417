//! One queue: its items, settings, counters and verdict.

use super::counters::Counters;
use super::item::{BodyPlace, Item, ItemState, Token};
use super::items::Items;
use super::keys::Keys;
use super::order::Order;
use super::policy::Policy;
use super::record::{QueueRecord, Record};
use super::usage::Usage;
use std::collections::HashMap;
use std::num::NonZeroU32;

#[derive(Debug)]
pub struct Queue {
    pub number: u32,
    pub name: Box<str>,
    pub policy: Policy,
    pub sealed: bool,
    /// True if the queue was sealed at least once: its producer uses seals, so only a seal means that no more
    /// items come.
    pub seal_used: bool,
    /// True if the queue has ever held an item.
    pub held: bool,
    /// The next number of a queue that counts without end.
    pub count_next: Option<u64>,
    pub counters: Counters,
    /// True if leasing is stopped until the queue is resumed.
    pub paused: bool,
    /// Items that were moved to the dead-letter queue in the present round. A round begins when the queue is
    /// created, or with the first new item or unseal after it was drained.
    pub moved_in_round: u64,
    /// False after a drain whose log record does not say how many items it removed, as in version 1.
    pub counts_drains: bool,
    items: Items,
    /// The times of delayed and leased items.
    whens: HashMap<u64, When>,
    order: Order,
    tallies: [u64; 4],
    body_bytes: u64,
    keys: Keys,
}

/// The time at which a delayed item becomes ready, or a lease expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    pub at_ms: u64,
    pub token: Token,
    /// True if the lease lives no longer than a connection of this process.
    pub bound: bool,
    /// The time from the lease to `at_ms`, if the log has the time of the lease. Four bytes, which would be
    /// padding otherwise: a million items may be delayed or leased.
    pub held_ms: Option<NonZeroU32>,
    pub worker: Option<Box<str>>,
}

impl When {
    /// Creates a time without a lease.
    pub fn delayed(at_ms: u64) -> When {
        When { at_ms, token: Token(0), bound: false, held_ms: None, worker: None }
    }

    /// Returns the time of the lease. `None` if the log does not have it any more, or if the lease has lasted
    /// more than 49 days.
    pub fn leased_ms(&self) -> Option<u64> {
        self.at_ms.checked_sub(self.held_ms?.get().into())
    }

    /// Returns the same lease with another end.
    pub fn until(&self, at_ms: u64) -> When {
        let held_ms = self.leased_ms().and_then(|leased_ms| held_ms(leased_ms, at_ms));
        When { at_ms, held_ms, ..self.clone() }
    }
}

pub fn held_ms(leased_ms: u64, until_ms: u64) -> Option<NonZeroU32> {
    NonZeroU32::new(until_ms.checked_sub(leased_ms)?.try_into().ok()?)
}

/// Tells if the work of a queue is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pending,
    Working,
    Drained,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pending => "pending",
            Verdict::Working => "working",
            Verdict::Drained => "drained",
        }
    }
}

impl Queue {
    pub fn new(number: u32, name: &str, keep_order: bool) -> Queue {
        Queue {
            number,
            name: name.into(),
            policy: Policy::default(),
            sealed: false,
            seal_used: false,
            held: false,
            count_next: None,
            paused: false,
            moved_in_round: 0,
            counters: Counters { moved: Some(0), ..Counters::default() },
            counts_drains: true,
            items: Items::default(),
            whens: HashMap::new(),
            order: Order::new(keep_order),
            tallies: [0; 4],
            body_bytes: 0,
            keys: Keys::default(),
        }
    }

    pub fn record(&self) -> QueueRecord {
        QueueRecord {
            queue: self.number,
            name: self.name.clone(),
            policy: self.policy.clone(),
            sealed: self.sealed,
            seal_used: self.seal_used,
            held: self.held,
            count_next: self.count_next,
            counters: self.counters,
        }
    }

    /// Returns the records that describe the queue without its items: its own record, then one for each value
    /// that is not at its default.
    pub fn records(&self) -> impl Iterator<Item = Record<'static>> + use<> {
        self.records_with(self.record())
    }

    /// Returns the same records as `records`, with `record` in place of the queue's own one.
    pub fn records_with(&self, record: QueueRecord) -> impl Iterator<Item = Record<'static>> + use<> {
        let round = Record::Round { queue: self.number, moved: self.moved_in_round };
        let paused = Record::Paused { queue: self.number, paused: self.paused };
        std::iter::once(Record::Queue(record))
            .chain((self.moved_in_round > 0).then_some(round))
            .chain(self.paused.then_some(paused))
    }

    /// Sets the values of a queue's record. Values with a record of their own get their default until that
    /// record follows. An expired key stays forgotten, even if this record lengthens the time for which keys
    /// are remembered.
    pub fn follow(&mut self, record: &QueueRecord, now_ms: u64) {
        if record.policy.key_memory_ms != self.policy.key_memory_ms {
            self.forget_keys(now_ms);
        }
        (self.moved_in_round, self.paused) = (0, false);
        self.policy = record.policy.clone();
        (self.sealed, self.seal_used, self.held) = (record.sealed, record.seal_used, record.held);
        (self.count_next, self.counters) = (record.count_next, record.counters);
        self.counts_drains = true;
    }

    pub fn tally(&self, state: ItemState) -> u64 {
        self.tallies.get(usize::from(state.number())).copied().unwrap_or_default()
    }

    fn count(&mut self, state: ItemState, change: impl FnOnce(u64) -> u64) {
        if let Some(tally) = self.tallies.get_mut(usize::from(state.number())) {
            *tally = change(*tally);
        }
    }

    /// Returns the number of items that are ready, delayed or leased. While it is not 0, the queue is not
    /// drained and a scaler must not scale down.
    pub fn backlog(&self) -> u64 {
        self.tally(ItemState::Ready) + self.tally(ItemState::Delayed) + self.tally(ItemState::Leased)
    }

    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub fn items(&self) -> &Items {
        &self.items
    }

    pub fn verdict(&self) -> Verdict {
        // A queue that counts always has a next number.
        if self.count_next.is_some() || self.backlog() > 0 {
            Verdict::Working
        } else if self.sealed {
            // A seal means that no more items come, even if none ever came.
            Verdict::Drained
        } else if !self.held {
            Verdict::Pending
        } else if self.seal_used {
            Verdict::Working
        } else {
            Verdict::Drained
        }
    }

    /// Returns the number of failed items: dead ones, and those moved to the dead-letter queue in this round.
    pub fn failed(&self) -> u64 {
        self.tally(ItemState::Dead).saturating_add(self.moved_in_round)
    }

    /// True if a lease would get an item.
    pub fn has_work(&self) -> bool {
        !self.paused && (self.next_ready().is_some() || self.count_next.is_some())
    }

    /// Returns the item that a lease would get if the queue is not paused.
    pub fn next_ready(&self) -> Option<u64> {
        self.order.next()
    }

    /// Returns the first moment at which a delay or a lease ends.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.order.first_due().map(|(at_ms, _)| at_ms)
    }

    /// Returns the first item whose delay or lease has ended.
    pub fn due(&self, now_ms: u64) -> Option<u64> {
        self.order.first_due().filter(|(at_ms, _)| *at_ms <= now_ms).map(|(_, number)| number)
    }

    pub fn when(&self, number: u64) -> Option<&When> {
        self.whens.get(&number)
    }

    /// Returns the items whose leases end with a connection.
    pub fn bound(&self) -> Vec<u64> {
        self.whens.iter().filter(|(_, when)| when.bound).map(|(number, _)| *number).collect()
    }

    /// Inserts an item, or replaces the one with the same number.
    pub fn put(&mut self, item: Item, when: Option<When>, usage: &mut Usage) {
        self.take(item.number, usage);
        usage.add(&item);
        self.body_bytes += u64::from(item.len);
        self.count(item.state, |tally| tally + 1);
        self.order.add(item.number, item.state, when.as_ref().map_or(0, |when| when.at_ms));
        if let Some(when) = when {
            self.whens.insert(item.number, when);
        }
        if let Some(key) = item.key() {
            self.keys.learn(key, item.number);
        }
        self.items.insert(item);
    }

    /// Removes an item and forgets its key; see `finish_key` for an acked one.
    pub fn take(&mut self, number: u64, usage: &mut Usage) -> Option<Item> {
        let item = self.items.remove(number)?;
        usage.subtract(&item);
        self.body_bytes -= u64::from(item.len);
        self.count(item.state, |tally| tally - 1);
        let when = self.whens.remove(&number);
        self.order.remove(number, item.state, when.map_or(0, |when| when.at_ms));
        if let Some(key) = item.key() {
            self.keys.forget(key);
        }
        Some(item)
    }

    /// Changes the state of an item.
    pub fn shift(&mut self, number: u64, state: ItemState, when: Option<When>) -> Option<&mut Item> {
        let old = self.items.get(number)?.state;
        let at_ms = self.whens.remove(&number).map_or(0, |when| when.at_ms);
        self.order.remove(number, old, at_ms);
        self.order.add(number, state, when.as_ref().map_or(0, |when| when.at_ms));
        if let Some(when) = when {
            self.whens.insert(number, when);
        }
        self.count(old, |tally| tally - 1);
        self.count(state, |tally| tally + 1);
        let item = self.items.get_mut(number)?;
        item.state = state;
        Some(item)
    }

    /// Drops a body from memory. From then on it is read from the log.
    pub fn evict_body(&mut self, number: u64, usage: &mut Usage) {
        if let Some(item) = self.items.get_mut(number) {
            usage.memory_bytes -= item.body_bytes_in_memory();
            item.body = None;
        }
    }

    /// True if the queue has this item in this state.
    pub fn is_at(&self, number: u64, state: ItemState, attempts: u32, when: Option<&When>) -> bool {
        let time = |when: &When| (when.at_ms, when.token);
        self.items.get(number).is_some_and(|item| {
            (item.state, item.attempts) == (state, attempts) && self.when(number).map(time) == when.map(time)
        })
    }

    /// Records that the item was rewritten at another place of the log.
    pub fn relocate(&mut self, number: u64, place: BodyPlace, usage: &mut Usage) {
        if let Some(item) = self.items.get_mut(number) {
            usage.subtract(item);
            item.place = place;
            usage.add(item);
        }
    }

    /// Returns the numbers of all items in any of these states.
    pub fn numbers_in(&self, states: &[ItemState]) -> Vec<u64> {
        self.items.iter().filter(|item| states.contains(&item.state)).map(|item| item.number).collect()
    }

    /// Returns the item of an earlier push with this key.
    pub fn known(&self, key: &str, now_ms: u64) -> Option<u64> {
        self.keys.item(key, self.policy.key_memory_ms, now_ms)
    }

    /// Remembers the key of an acked item for a while.
    pub fn finish_key(&mut self, key: &str, number: u64, at_ms: u64, segment: u32) {
        if self.policy.key_memory_ms > 0 {
            self.keys.finish(key, number, at_ms, segment);
        }
    }

    /// Frees the memory of keys whose time is over.
    pub fn forget_keys(&mut self, now_ms: u64) {
        self.keys.forget_finished(now_ms, self.policy.key_memory_ms);
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn oldest_ready_ms(&self) -> Option<u64> {
        let item = self.items.get(self.next_ready()?)?;
        Some(item.pushed_ms)
    }

    /// Ends the delays that are over at this time, and builds the order of the items, after a log was read.
    pub fn finish_reading(&mut self, now_ms: u64) {
        let is_over = |(number, when): (&u64, &When)| (when.at_ms <= now_ms).then_some(*number);
        let over: Vec<u64> = self.whens.iter().filter_map(is_over).collect();
        for number in over {
            if self.items.get(number).is_some_and(|item| item.state == ItemState::Delayed) {
                self.shift(number, ItemState::Ready, None);
            }
        }
        self.order = Order::new(true);
        for item in self.items.iter() {
            let at_ms = self.whens.get(&item.number).map_or(0, |when| when.at_ms);
            self.order.add(item.number, item.state, at_ms);
        }
    }
}

#[cfg(test)]
impl Queue {
    /// Formats every field that follows from the log. The beginnings of leases are in the records of the
    /// leases only, so `history` is false for a log from which such records were removed.
    pub fn fields(&self, now_ms: u64, history: bool) -> String {
        let Queue {
            number,
            name,
            policy,
            sealed,
            seal_used,
            held,
            count_next,
            counters,
            paused,
            moved_in_round,
            counts_drains,
            items,
            whens,
            // Follows from the items; its two ends are compared.
            order: _,
            tallies,
            body_bytes,
            keys,
        } = self;
        let ends = (self.next_ready(), self.next_due_ms());
        let flags = (sealed, seal_used, held, paused, counts_drains);
        let counts = (count_next, counters, moved_in_round, tallies, body_bytes);
        let keys = keys.fields(policy.key_memory_ms, now_ms);
        let when = |number: &u64| {
            let when = whens.get(number)?.clone();
            Some(if history { when } else { When { held_ms: None, ..when } })
        };
        assert!(whens.keys().all(|number| items.get(*number).is_some()));
        let items: Vec<_> = items.iter().map(|item| format!("{item:?} {:?}\n", when(&item.number))).collect();
        format!("{number} {name} {policy:?} {flags:?} {counts:?} {ends:?} {keys}\n{}", items.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_of_a_lease_takes_no_memory_of_its_own() {
        assert!(size_of::<When>() <= 40, "{}", size_of::<When>());
        let when = When { held_ms: held_ms(1_000, 31_000), ..When::delayed(31_000) };
        assert_eq!(when.leased_ms(), Some(1_000));
        assert_eq!(
            (when.until(90_000).leased_ms(), when.until(2_000).leased_ms()),
            (Some(1_000), Some(1_000))
        );
        assert_eq!(when.until(1_000 + (1 << 32)).leased_ms(), None);
        assert_eq!(When::delayed(31_000).until(90_000).leased_ms(), None);
    }
}
