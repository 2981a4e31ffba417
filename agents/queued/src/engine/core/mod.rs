//! The pure state machine: the state of all queues and the rules by which it changes. It has no clock, no
//! disk and no network.
//!
//! Every change is made as a [`Record`], passed to a [`Journal`], and then applied (`apply.rs`). Reading the
//! journal back applies the same records, so the state is a function of the records alone; a test compares
//! every field (`model`). Time is recorded, too: the latest time in the log decides if a delay has ended or a
//! key is forgotten.

mod apply;
mod attempts;
mod balance;
mod dead;
mod items_by_id;
mod lease;
mod push;
mod queues;
mod upkeep;

pub use balance::{Balance, Imbalance};
pub use lease::{LeaseTerms, NackTerms};

use super::attempts::Attempts;
use super::contract::{EngineError, Limits};
use super::item::{BodyPlace, Item, ItemId};
use super::queue::Queue;
use super::record::Record;
use super::usage::Usage;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Keeps records, and reads bodies back.
pub trait Journal {
    /// Appends the record; returns the place of its body.
    fn append(&mut self, record: &Record<'_>) -> BodyPlace;
    /// Reads the body of an item that is not in memory.
    fn read(&mut self, place: BodyPlace, len: u32) -> std::io::Result<Box<[u8]>>;
    /// Returns the item's body, from memory or from the log.
    fn body<'a>(&mut self, item: &'a Item) -> Result<Cow<'a, [u8]>, EngineError> {
        match &item.body {
            Some(body) => Ok(Cow::Borrowed(body)),
            None => self.read(item.place, item.len).map(|body| body.into_vec().into()).map_err(|error| {
                EngineError::Unavailable(format!("the item's body cannot be read from the log: {error}"))
            }),
        }
    }
}

/// The context of a change: the time, the limits, and the journal.
#[derive(Debug)]
pub struct Turn<'a, J> {
    pub now_ms: u64,
    pub limits: &'a Limits,
    pub journal: &'a mut J,
}

#[derive(Debug)]
pub struct Core {
    pub epoch: u64,
    next_number: u64,
    next_queue: u32,
    names: BTreeMap<Box<str>, u32>,
    /// Approximate bytes of all queues in a checkpoint.
    checkpoint_bytes: u64,
    queues: BTreeMap<u32, Queue>,
    pub usage: Usage,
    attempts: Attempts,
    random: fastrand::Rng,
    /// False while a log is read.
    keep_order: bool,
    /// Bodies beyond this limit stay in the log while it is read.
    pub memory_bytes_max_while_reading: u64,
    /// The latest time found in any record.
    pub latest_ms: u64,
    /// True if a record without a time of its own was made at `latest_ms`. False in a part of the log that an
    /// earlier queued wrote, since that version recorded few times.
    is_timed: bool,
    /// Queues that changed since the last `take_touched`.
    touched: Vec<u32>,
    /// New items whose bodies are in memory and may be evicted: queue, number and place. The service empties
    /// this list after each turn.
    pub added: Vec<(u32, u64, BodyPlace)>,
}

impl Core {
    pub fn new(epoch: u64, seed: u64) -> Core {
        Core {
            epoch,
            next_number: 1,
            next_queue: 1,
            names: BTreeMap::new(),
            checkpoint_bytes: 0,
            queues: BTreeMap::new(),
            usage: Usage::default(),
            attempts: Attempts::default(),
            random: fastrand::Rng::with_seed(seed),
            keep_order: true,
            memory_bytes_max_while_reading: u64::MAX,
            latest_ms: 0,
            is_timed: false,
            touched: Vec::new(),
            added: Vec::new(),
        }
    }

    /// Creates a core into which a log is read; `finish_reading` must follow.
    pub fn reading(epoch: u64, seed: u64) -> Core {
        Core { keep_order: false, ..Core::new(epoch, seed) }
    }

    pub fn finish_reading(&mut self) {
        self.keep_order = true;
        self.queues.values_mut().for_each(|queue| queue.finish_reading(self.latest_ms));
        self.touched.clear();
    }

    pub fn id(&self, number: u64) -> ItemId {
        ItemId { epoch: self.epoch, number }
    }

    pub fn queue_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(AsRef::as_ref)
    }

    pub fn queue_count(&self) -> usize {
        self.names.len()
    }

    /// Iterates over the queues in order of name.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.names.values().filter_map(|number| self.queues.get(number))
    }

    pub fn queue(&self, name: &str) -> Result<&Queue, EngineError> {
        let number = self.names.get(name).ok_or_else(|| no_such_queue(name))?;
        self.queues.get(number).ok_or_else(|| no_such_queue(name))
    }

    pub fn queue_by_number(&self, number: u32) -> Option<&Queue> {
        self.queues.get(&number)
    }

    /// Returns the queues that changed since the last call. A queue may be listed twice.
    pub fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }

    fn touch(&mut self, queue: u32) {
        if self.touched.last() != Some(&queue) {
            self.touched.push(queue);
        }
    }

    /// Returns the next time at which `tick` has something to do.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.queues.values().filter_map(Queue::next_due_ms).min()
    }

    /// Returns the time of the present record, if the log has it.
    fn now_ms(&self) -> Option<u64> {
        self.is_timed.then_some(self.latest_ms)
    }

    /// Makes a change at the time of this turn.
    fn write(&mut self, record: &Record<'_>, turn: &mut Turn<'_, impl Journal>) {
        self.tell_time(turn);
        self.put(record, turn.journal);
    }

    /// Records the time of this turn, unless the last record has it.
    fn tell_time(&mut self, turn: &mut Turn<'_, impl Journal>) {
        if !self.is_timed || self.latest_ms < turn.now_ms {
            self.put(&Record::Time(turn.now_ms.max(self.latest_ms)), turn.journal);
        }
    }

    /// Makes a change that does not depend on the time, or whose record has it.
    fn put(&mut self, record: &Record<'_>, journal: &mut impl Journal) {
        let place = journal.append(record);
        self.apply(record, place);
    }

    /// Formats every field that follows from the log; see [`Queue::fields`].
    #[cfg(test)]
    pub fn fields(&self, history: bool) -> Vec<String> {
        let Core { epoch, next_number, next_queue, names, checkpoint_bytes, queues, .. } = self;
        let Core { usage, attempts, latest_ms, is_timed, .. } = self;
        let queues = queues.values().map(|queue| queue.fields(*latest_ms, history));
        let time = (latest_ms, is_timed);
        let past = history.then_some((next_queue, attempts));
        let own = format!("{epoch} {next_number} {names:?} {checkpoint_bytes} {usage:?} {time:?} {past:?}");
        queues.chain([own]).collect()
    }
}

fn no_such_queue(name: &str) -> EngineError {
    EngineError::NoSuchQueue(name.to_owned())
}
