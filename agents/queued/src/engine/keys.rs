//! The keys by which a queue recognizes an item that was pushed before.

use std::collections::{BTreeMap, HashMap};

/// Limit on the finished keys that a queue remembers; the protocol promises this number.
pub const FINISHED_KEYS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub struct Keys {
    known: HashMap<Box<str>, Known>,
    /// Finished keys by the time of the ack and the number of the item.
    finished: BTreeMap<(u64, u64), Finished>,
}

/// The item that has a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    number: u64,
    /// The time of the ack; `u64::MAX` while the item exists.
    finished_ms: u64,
}

/// A finished key, until it is forgotten.
#[derive(Clone, Debug)]
struct Finished {
    /// The segment that must be kept for the sake of this key.
    segment: u32,
    key: Box<str>,
}

fn is_over(finished_ms: u64, memory_ms: u64, now_ms: u64) -> bool {
    finished_ms.saturating_add(memory_ms) <= now_ms
}

impl Keys {
    /// Returns the item that has this key, or had it within the last `memory_ms`.
    pub fn item(&self, key: &str, memory_ms: u64, now_ms: u64) -> Option<u64> {
        let known = self.known.get(key).filter(|known| !is_over(known.finished_ms, memory_ms, now_ms))?;
        Some(known.number)
    }

    pub fn learn(&mut self, key: &str, number: u64) {
        self.known.insert(key.into(), Known { number, finished_ms: u64::MAX });
    }

    pub fn forget(&mut self, key: &str) {
        self.known.remove(key);
    }

    /// Remembers the key of an acked item; the oldest keys are forgotten beyond the limit. For a key that is
    /// remembered already only the segment changes: its record was written again there.
    pub fn finish(&mut self, key: &str, number: u64, at_ms: u64, segment: u32) {
        match self.finished.get_mut(&(at_ms, number)) {
            Some(finished) => finished.segment = segment,
            None => {
                self.known.insert(key.into(), Known { number, finished_ms: at_ms });
                self.finished.insert((at_ms, number), Finished { segment, key: key.into() });
            }
        }
        if self.finished.len() > FINISHED_KEYS_MAX {
            self.forget_first();
        }
    }

    /// Forgets keys that were finished at least this long ago.
    pub fn forget_finished(&mut self, now_ms: u64, memory_ms: u64) {
        let first = |keys: &Keys| keys.finished.first_key_value().map(|((at_ms, _), _)| *at_ms);
        while first(self).is_some_and(|at_ms| is_over(at_ms, memory_ms, now_ms)) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some(((finished_ms, number), first)) = self.finished.pop_first() else { return };
        // A later item may have the same key.
        if self.known.get(&first.key).is_some_and(|k| (k.finished_ms, k.number) == (finished_ms, number)) {
            self.known.remove(&first.key);
        }
    }

    /// Returns the finished keys of segments up to this one, as time and number.
    pub fn finished_in(&self, up_to: u32) -> Vec<(u64, u64)> {
        self.finished.iter().filter(|(_, finished)| finished.segment <= up_to).map(|(at, _)| *at).collect()
    }

    pub fn finished_key(&self, at: &(u64, u64)) -> Option<Box<str>> {
        Some(self.finished.get(at)?.key.clone())
    }

    /// Formats all keys that are known at this time, in a fixed order.
    #[cfg(test)]
    pub fn fields(&self, memory_ms: u64, now_ms: u64) -> String {
        let Keys { known, finished } = self;
        let known: BTreeMap<_, _> =
            known.iter().filter(|(_, known)| !is_over(known.finished_ms, memory_ms, now_ms)).collect();
        let finished: BTreeMap<_, _> =
            finished.iter().filter(|((at_ms, _), _)| !is_over(*at_ms, memory_ms, now_ms)).collect();
        format!("{known:?} {finished:?}")
    }
}
