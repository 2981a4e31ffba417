//! The keys by which a queue recognizes an item that was pushed before.

use std::collections::{HashMap, VecDeque};

/// Limit on the finished keys that a queue remembers; the protocol promises this number.
pub const FINISHED_KEYS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub struct Keys {
    known: HashMap<Box<str>, Known>,
    /// Finished keys in the order in which they finished.
    finished: VecDeque<Finished>,
}

/// The item that has a key.
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

impl Keys {
    /// Returns the item that has or had this key.
    pub fn item(&self, key: &str) -> Option<u64> {
        self.known.get(key).map(|known| known.number)
    }

    pub fn learn(&mut self, key: &str, number: u64) {
        self.known.insert(key.into(), Known { number, finished: false });
    }

    pub fn forget(&mut self, key: &str) {
        self.known.remove(key);
    }

    /// Remembers the key of an acked item; the oldest keys are forgotten beyond the limit.
    pub fn finish(&mut self, key: Box<str>, number: u64, at_ms: u64, segment: u32) {
        self.known.insert(key.clone(), Known { number, finished: true });
        self.finished.push_back(Finished { at_ms, number, segment, key });
        if self.finished.len() > FINISHED_KEYS_MAX {
            self.forget_first();
        }
    }

    /// Forgets keys that were finished at least this long ago.
    pub fn forget_finished(&mut self, now_ms: u64, memory_ms: u64) {
        while self.finished.front().is_some_and(|first| first.at_ms.saturating_add(memory_ms) <= now_ms) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some(first) = self.finished.pop_front() else { return };
        // A later item may have the same key.
        if self.known.get(&first.key).is_some_and(|known| known.finished && known.number == first.number) {
            self.known.remove(&first.key);
        }
    }

    /// Restores the order after a log was read: keys that were rewritten come late in it.
    pub fn sort(&mut self) {
        self.finished.make_contiguous().sort_by_key(|finished| finished.at_ms);
    }

    /// Rewrites the finished keys of segments up to this one; `write` returns the new segment.
    pub fn rewrite(&mut self, up_to: u32, mut write: impl FnMut(&str, u64, u64) -> u32) {
        for finished in self.finished.iter_mut().filter(|finished| finished.segment <= up_to) {
            finished.segment = write(&finished.key, finished.number, finished.at_ms);
        }
    }
}
