//! The pure state machine: the state of all queues and the rules by which it changes. It has no clock, no
//! disk and no network.
//!
//! Every change is first a [`Record`], handed to a [`Journal`], and then applied. Reading the journal back
//! applies the same records (`apply.rs`), so the state that is read is the one that was written; a test
//! compares every field (`model.rs`). Two changes have no record, because they follow from the clock alone: a
//! delay that ended, and a key that was remembered long enough.

mod apply;
mod attempts;
mod balance;
mod chosen;
mod dead;
mod lease;
mod push;
mod queues;
mod upkeep;

pub use balance::{Balance, Imbalance};
pub use lease::{LeaseTerms, NackTerms};

use super::attempts::Attempts;
use super::contract::{EngineError, Limits};
use super::item::{Item, ItemId, Place};
use super::queue::Queue;
use super::record::Record;
use super::usage::Usage;
use std::collections::BTreeMap;

/// Keeps records, and reads bodies back.
pub trait Journal {
    /// Appends the record; returns the place of its body.
    fn append(&mut self, record: &Record<'_>) -> Place;
    /// Reads the body of an item that is not in memory.
    fn read(&mut self, place: Place, len: u32) -> std::io::Result<Box<[u8]>>;
}

/// The context of a change: the time, the limits, and the journal.
#[derive(Debug)]
pub struct Turn<'a, J> {
    pub now_ms: u64,
    pub limits: &'a Limits,
    pub journal: &'a mut J,
}

impl<J: Journal> Turn<'_, J> {
    /// Returns the item's body, from memory or from the log.
    fn body(&mut self, item: &Item) -> Result<Box<[u8]>, EngineError> {
        match &item.body {
            Some(body) => Ok(body.clone()),
            None => self.journal.read(item.place, item.len).map_err(|error| {
                EngineError::Unavailable(format!("the item's body cannot be read from the log: {error}"))
            }),
        }
    }
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
    /// Queues that changed since the last `take_touched`.
    touched: Vec<u32>,
    /// Items that were copied from another queue; their bodies were read into memory for the copy.
    copied: Vec<(u32, u64)>,
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
            touched: Vec::new(),
            copied: Vec::new(),
        }
    }

    /// Creates a core into which a log is read; `finish_reading` must follow.
    pub fn reading(epoch: u64, seed: u64) -> Core {
        Core { keep_order: false, ..Core::new(epoch, seed) }
    }

    pub fn finish_reading(&mut self) {
        self.keep_order = true;
        self.queues.values_mut().for_each(Queue::keep_order);
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

    /// Returns the items that were copied from another queue since the last call: queue, number and place.
    pub fn take_copied(&mut self) -> Vec<(u32, u64, Place)> {
        let copied = std::mem::take(&mut self.copied).into_iter();
        let place =
            |(queue, number)| Some((queue, number, self.queue_by_number(queue)?.items().get(number)?.place));
        copied.filter_map(place).collect()
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

    fn write(&mut self, record: &Record<'_>, journal: &mut impl Journal) {
        let place = journal.append(record);
        self.apply(record, place);
    }
}

fn no_such_queue(name: &str) -> EngineError {
    EngineError::NoSuchQueue(name.to_owned())
}
