//! The keys that are used most, counted in bounded memory.

use crate::store::key::Key;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The number of keys that are counted at a time.
const KEYS_MAX: usize = 64;

/// Interval at which all counts are halved, so that a key that was hot cools down.
const HALVED_EVERY: Duration = Duration::from_secs(60);

/// The uses of a key. A key that replaced another one in the full table also has the counts of the replaced
/// key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUses {
    pub reads: u64,
    pub writes: u64,
}

impl KeyUses {
    fn total(self) -> u64 {
        self.reads + self.writes
    }
}

/// Counts the uses of all keys together, and those of the most used keys (the Space-Saving algorithm).
#[derive(Debug)]
pub struct HotKeys(Mutex<HotCounts>);

#[derive(Debug)]
struct HotCounts {
    all: KeyUses,
    keys: HashMap<Key, KeyUses>,
    halved: Instant,
}

impl HotKeys {
    pub fn new(now: Instant) -> HotKeys {
        HotKeys(Mutex::new(HotCounts { all: KeyUses::default(), keys: HashMap::new(), halved: now }))
    }

    pub fn read(&self, key: &Key) {
        self.counts().add(Instant::now(), key, KeyUses { reads: 1, writes: 0 });
    }

    pub fn write(&self, key: &Key) {
        self.counts().add(Instant::now(), key, KeyUses { reads: 0, writes: 1 });
    }

    /// Returns the uses of all keys since the start.
    pub fn all(&self) -> KeyUses {
        self.counts().all
    }

    /// Returns the most used keys, in descending order of their uses.
    pub fn hottest(&self, max: usize) -> Vec<(Key, KeyUses)> {
        let mut keys: Vec<_> = self.counts().keys.iter().map(|(key, uses)| (key.clone(), *uses)).collect();
        keys.sort_by(|(a, a_uses), (b, b_uses)| b_uses.total().cmp(&a_uses.total()).then(a.cmp(b)));
        keys.truncate(max);
        keys
    }

    fn counts(&self) -> MutexGuard<'_, HotCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HotCounts {
    fn add(&mut self, now: Instant, key: &Key, uses: KeyUses) {
        self.all.reads += uses.reads;
        self.all.writes += uses.writes;
        if now.saturating_duration_since(self.halved) >= HALVED_EVERY {
            self.halved = now;
            self.keys.retain(|_, uses| {
                *uses = KeyUses { reads: uses.reads / 2, writes: uses.writes / 2 };
                uses.total() > 0
            });
        }
        if let Some(known) = self.keys.get_mut(key) {
            known.reads += uses.reads;
            known.writes += uses.writes;
            return;
        }
        let mut first = uses;
        if self.keys.len() >= KEYS_MAX {
            let coldest = self.keys.iter().min_by_key(|(_, uses)| uses.total());
            if let Some((coldest, inherited)) = coldest.map(|(key, uses)| (key.clone(), *uses)) {
                self.keys.remove(&coldest);
                first =
                    KeyUses { reads: uses.reads + inherited.reads, writes: uses.writes + inherited.writes };
            }
        }
        self.keys.insert(key.clone(), first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::new(&number.to_string()).unwrap()
    }

    #[test]
    fn hot_key_is_found_among_many_others() {
        let hot = HotKeys::new(Instant::now());
        for number in 0..10_000 {
            hot.read(&key(number));
            if number % 10 == 0 {
                hot.write(&Key::new("hot").unwrap());
            }
        }
        let hottest = hot.hottest(1).remove(0);
        assert_eq!(&*hottest.0, "hot");
        assert!(hottest.1.writes >= 1000 - 1, "{hottest:?}");
        assert_eq!(hot.all(), KeyUses { reads: 10_000, writes: 1000 });
        assert_eq!(hot.hottest(1000).len(), KEYS_MAX);
    }

    #[test]
    fn unused_keys_cool_down() {
        let begun = Instant::now();
        let mut counts = HotCounts { all: KeyUses::default(), keys: HashMap::new(), halved: begun };
        let read = KeyUses { reads: 1, writes: 0 };
        for _ in 0..4 {
            counts.add(begun, &key(1), read);
        }
        counts.add(begun + HALVED_EVERY, &key(2), read);
        assert_eq!(counts.keys[&key(1)], KeyUses { reads: 2, writes: 0 });
        for minute in 2..4 {
            counts.add(begun + HALVED_EVERY * minute, &key(2), read);
        }
        assert!(!counts.keys.contains_key(&key(1)));
    }
}
