//! One queue: its items, in which order they come, and what it can say of itself.

use super::item::{Item, Place, State, Token};
use super::policy::Policy;
use super::record::QueueRecord;
use super::shelf::Shelf;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Finished keys that a queue remembers; the protocol promises this number.
pub const FINISHED_KEYS_MAX: usize = 100_000;
/// What an item costs in the log beyond its body, about.
const RECORD_BYTES: u64 = 40;

#[derive(Debug)]
pub struct Queue {
    pub number: u32,
    pub name: Box<str>,
    pub policy: Policy,
    pub sealed: bool,
    /// It was sealed at least once: its producer seals, so only a seal says that nothing more comes.
    pub seal_used: bool,
    /// It has held something.
    pub held: bool,
    /// The next number of a queue that counts for ever.
    pub count_next: Option<u64>,
    pub counters: Counters,
    shelf: Shelf,
    /// Of the delayed and the leased.
    whens: HashMap<u64, When>,
    order: Order,
    tallies: [u64; 4],
    body_bytes: u64,
    keys: HashMap<Box<str>, Known>,
    finished: VecDeque<Finished>,
}

/// Counts since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub pushed: u64,
    pub leases: u64,
    pub acked: u64,
    pub nacked: u64,
    pub expired: u64,
    pub released: u64,
    pub died: u64,
    pub drained: u64,
    pub removed: u64,
}

impl Counters {
    pub fn each(&self, mut see: impl FnMut(u64)) {
        let Counters { pushed, leases, acked, nacked, expired, released, died, drained, removed } = *self;
        for value in [pushed, leases, acked, nacked, expired, released, died, drained, removed] {
            see(value);
        }
    }

    pub fn from_each(mut next: impl FnMut() -> Option<u64>) -> Option<Counters> {
        Some(Counters {
            pushed: next()?,
            leases: next()?,
            acked: next()?,
            nacked: next()?,
            expired: next()?,
            released: next()?,
            died: next()?,
            drained: next()?,
            removed: next()?,
        })
    }
}

/// When a delayed item is ready, or a leased one's lease expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    pub at_ms: u64,
    pub token: Token,
    /// The lease lives no longer than a connection of this very process.
    pub bound: bool,
    pub worker: Option<Box<str>>,
}

/// What every item of every queue costs, kept as they come and go.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    pub items: u64,
    /// Bodies in memory.
    pub memory_bytes: u64,
    /// Log bytes of existing items, by segment.
    pub live: BTreeMap<u32, u64>,
    pub live_bytes: u64,
}

impl Usage {
    fn add(&mut self, item: &Item) {
        let bytes = u64::from(item.len) + RECORD_BYTES;
        self.items += 1;
        self.memory_bytes += item.body_bytes_in_memory();
        self.live_bytes += bytes;
        *self.live.entry(item.place.segment).or_default() += bytes;
    }

    fn subtract(&mut self, item: &Item) {
        let bytes = u64::from(item.len) + RECORD_BYTES;
        self.items -= 1;
        self.memory_bytes -= item.body_bytes_in_memory();
        self.live_bytes -= bytes;
        if let Some(live) = self.live.get_mut(&item.place.segment) {
            *live -= bytes;
            if *live == 0 {
                self.live.remove(&item.place.segment);
            }
        }
    }
}

/// What a key leads to.
#[derive(Clone, Copy, Debug)]
struct Known {
    number: u64,
    finished: bool,
}

/// A finished key, until it is forgotten.
#[derive(Clone, Debug)]
struct Finished {
    at_ms: u64,
    number: u64,
    segment: u32,
    key: Box<str>,
}

/// In which order items come. While a log is read it is left alone and made once at the end.
#[derive(Debug, Default)]
struct Order {
    kept: bool,
    /// Ready items as they were pushed, ascending.
    fresh: VecDeque<u64>,
    /// Ready items that came later than one with a higher number: they were leased, delayed or dead.
    returned: BTreeSet<u64>,
    /// Delayed and leased items by time.
    timed: BTreeSet<(u64, u64)>,
}

impl Order {
    fn add(&mut self, number: u64, state: State, at_ms: u64) {
        if !self.kept {
            return;
        }
        match state {
            State::Ready if self.fresh.back().is_none_or(|last| *last < number) => {
                self.fresh.push_back(number);
            }
            State::Ready => {
                self.returned.insert(number);
            }
            State::Delayed | State::Leased => {
                self.timed.insert((at_ms, number));
            }
            State::Dead => {}
        }
    }

    fn remove(&mut self, number: u64, state: State, at_ms: u64) {
        if !self.kept {
            return;
        }
        match state {
            State::Ready if self.fresh.front() == Some(&number) => {
                self.fresh.pop_front();
                if self.fresh.is_empty() {
                    self.fresh.shrink_to(64);
                }
            }
            State::Ready if self.returned.remove(&number) => {}
            State::Ready => {
                if let Ok(at) = self.fresh.binary_search(&number) {
                    self.fresh.remove(at);
                }
            }
            State::Delayed | State::Leased => {
                self.timed.remove(&(at_ms, number));
            }
            State::Dead => {}
        }
    }

    fn next(&self) -> Option<u64> {
        match (self.fresh.front(), self.returned.first()) {
            (Some(fresh), Some(returned)) => Some(*fresh.min(returned)),
            (fresh, returned) => fresh.or(returned).copied(),
        }
    }
}

/// The server's word on whether the work is done.
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
            counters: Counters::default(),
            shelf: Shelf::default(),
            whens: HashMap::new(),
            order: Order { kept: keep_order, ..Order::default() },
            tallies: [0; 4],
            body_bytes: 0,
            keys: HashMap::new(),
            finished: VecDeque::new(),
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

    /// Becomes what a record says, but for the items.
    pub fn follow(&mut self, record: &QueueRecord) {
        self.policy = record.policy.clone();
        (self.sealed, self.seal_used, self.held) = (record.sealed, record.seal_used, record.held);
        (self.count_next, self.counters) = (record.count_next, record.counters);
    }

    pub fn tally(&self, state: State) -> u64 {
        self.tallies.get(usize::from(state.number())).copied().unwrap_or_default()
    }

    fn count(&mut self, state: State, change: impl FnOnce(u64) -> u64) {
        if let Some(tally) = self.tallies.get_mut(usize::from(state.number())) {
            *tally = change(*tally);
        }
    }

    /// What keeps the queue from being drained, and a scaler from scaling down.
    pub fn backlog(&self) -> u64 {
        self.tally(State::Ready) + self.tally(State::Delayed) + self.tally(State::Leased)
    }

    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub fn items(&self) -> &Shelf {
        &self.shelf
    }

    pub fn verdict(&self) -> Verdict {
        if self.count_next.is_some() {
            // Its next number is always there.
            Verdict::Working
        } else if !self.held {
            Verdict::Pending
        } else if self.backlog() > 0 || (self.seal_used && !self.sealed) {
            Verdict::Working
        } else {
            Verdict::Drained
        }
    }

    /// The item that a lease would get.
    pub fn next_ready(&self) -> Option<u64> {
        self.order.next()
    }

    /// The first moment at which something changes by itself.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.order.timed.first().map(|(at_ms, _)| *at_ms)
    }

    /// The first item whose time has come.
    pub fn due(&self, now_ms: u64) -> Option<u64> {
        self.order.timed.first().filter(|(at_ms, _)| *at_ms <= now_ms).map(|(_, number)| *number)
    }

    pub fn when(&self, number: u64) -> Option<&When> {
        self.whens.get(&number)
    }

    /// The leases that live and die with connections.
    pub fn bound(&self) -> Vec<u64> {
        self.whens.iter().filter(|(_, when)| when.bound).map(|(number, _)| *number).collect()
    }

    /// Takes an item in, in the place of one with the same number.
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
            self.keys.insert(key.into(), Known { number: item.number, finished: false });
        }
        self.shelf.insert(item);
    }

    /// Takes an item out. Its key is forgotten; see `finish_key` for one that was acked.
    pub fn take(&mut self, number: u64, usage: &mut Usage) -> Option<Item> {
        let item = self.shelf.remove(number)?;
        usage.subtract(&item);
        self.body_bytes -= u64::from(item.len);
        self.count(item.state, |tally| tally - 1);
        let when = self.whens.remove(&number);
        self.order.remove(number, item.state, when.map_or(0, |when| when.at_ms));
        if let Some(key) = item.key() {
            self.keys.remove(key);
        }
        Some(item)
    }

    /// Brings an item into another state.
    pub fn shift(&mut self, number: u64, state: State, when: Option<When>) -> Option<&mut Item> {
        let old = self.shelf.get(number)?.state;
        let at_ms = self.whens.remove(&number).map_or(0, |when| when.at_ms);
        self.order.remove(number, old, at_ms);
        self.order.add(number, state, when.as_ref().map_or(0, |when| when.at_ms));
        if let Some(when) = when {
            self.whens.insert(number, when);
        }
        self.count(old, |tally| tally - 1);
        self.count(state, |tally| tally + 1);
        let item = self.shelf.get_mut(number)?;
        item.state = state;
        Some(item)
    }

    /// Lets go of a body that lies in the log.
    pub fn evict_body(&mut self, number: u64, usage: &mut Usage) {
        if let Some(item) = self.shelf.get_mut(number) {
            usage.memory_bytes -= item.body_bytes_in_memory();
            item.body = None;
        }
    }

    /// The item's bytes lie elsewhere now.
    pub fn relocate(&mut self, number: u64, place: Place, usage: &mut Usage) {
        if let Some(item) = self.shelf.get_mut(number) {
            usage.subtract(item);
            item.place = place;
            usage.add(item);
        }
    }

    /// The numbers of all items in one of these states.
    pub fn numbers_in(&self, states: &[State]) -> Vec<u64> {
        self.shelf.iter().filter(|item| states.contains(&item.state)).map(|item| item.number).collect()
    }

    /// Which item an earlier push with this key made.
    pub fn known(&self, key: &str) -> Option<u64> {
        self.keys.get(key).map(|known| known.number)
    }

    /// Remembers the key of an acked item for a while.
    pub fn finish_key(&mut self, key: Box<str>, number: u64, at_ms: u64, segment: u32) {
        if self.policy.key_memory_ms == 0 {
            return;
        }
        self.keys.insert(key.clone(), Known { number, finished: true });
        self.finished.push_back(Finished { at_ms, number, segment, key });
        if self.finished.len() > FINISHED_KEYS_MAX {
            self.forget_first_key();
        }
    }

    pub fn forget_keys(&mut self, now_ms: u64) {
        let memory_ms = self.policy.key_memory_ms;
        while self.finished.front().is_some_and(|first| first.at_ms.saturating_add(memory_ms) <= now_ms) {
            self.forget_first_key();
        }
    }

    fn forget_first_key(&mut self) {
        let Some(first) = self.finished.pop_front() else { return };
        // The key may lead to a later item by now.
        if self.keys.get(&first.key).is_some_and(|known| known.finished && known.number == first.number) {
            self.keys.remove(&first.key);
        }
    }

    /// Has the finished keys of segments up to this one written anew; `write` tells into which segment.
    pub fn rewrite_keys(&mut self, up_to: u32, mut write: impl FnMut(&str, u64, u64) -> u32) {
        for finished in self.finished.iter_mut().filter(|finished| finished.segment <= up_to) {
            finished.segment = write(&finished.key, finished.number, finished.at_ms);
        }
    }

    pub fn oldest_ready_ms(&self) -> Option<u64> {
        let item = self.shelf.get(self.next_ready()?)?;
        Some(item.pushed_ms)
    }

    /// Puts the items in order, after a log was read.
    pub fn keep_order(&mut self) {
        self.order = Order { kept: true, ..Order::default() };
        for item in self.shelf.iter() {
            let at_ms = self.whens.get(&item.number).map_or(0, |when| when.at_ms);
            self.order.add(item.number, item.state, at_ms);
        }
    }
}
