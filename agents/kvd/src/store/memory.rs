//! The engine in memory: an ordered map that ends with the process.

use super::contract::{
    KeyPage, KeyRange, KeySnapshot, KeyStore, KeyUsage, ListedValue, MutationGroup, PageBuilder, Revision,
    StoreError, VersionedValue,
};
use super::key::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

type KeyMap = BTreeMap<Key, VersionedValue>;

#[derive(Debug)]
pub struct MemoryStore(Arc<RwLock<MemoryKeys>>);

#[derive(Debug, Default)]
struct MemoryKeys {
    keys: KeyMap,
    expiring: BTreeSet<(u64, Key)>,
    usage: KeyUsage,
    revision: Revision,
    snapshots: Vec<Weak<Mutex<OldKeys>>>,
}

/// The former values of keys that changed since a snapshot began, until the snapshot has read them.
#[derive(Debug)]
struct OldKeys {
    /// The revision of the snapshot. Later values are not in it.
    revision: Revision,
    /// The last key that the snapshot has read.
    read_to: Option<Key>,
    keys: KeyMap,
}

impl MemoryStore {
    /// Creates an empty store. Its first mutation has the revision after this one.
    pub fn starting_at(revision: Revision) -> MemoryStore {
        MemoryStore(Arc::new(RwLock::new(MemoryKeys { revision, ..MemoryKeys::default() })))
    }

    fn read(&self) -> RwLockReadGuard<'_, MemoryKeys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, MemoryKeys> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(old: &Mutex<OldKeys>) -> std::sync::MutexGuard<'_, OldKeys> {
    old.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryKeys {
    fn set(&mut self, key: &Key, value: Option<VersionedValue>) {
        let expiry = |value: &VersionedValue| value.expires_ms.map(|expires| (expires.get(), key.clone()));
        let old = match value {
            Some(value) => {
                self.expiring.extend(expiry(&value));
                self.keys.insert(key.clone(), value)
            }
            None => self.keys.remove(key),
        };
        if let Some(gone) = old.as_ref().and_then(expiry)
            && self.keys.get(key).and_then(expiry).as_ref() != Some(&gone)
        {
            self.expiring.remove(&gone);
        }
        self.snapshots.retain(|snapshot| {
            let Some(snapshot) = snapshot.upgrade() else { return false };
            let mut snapshot = lock(&snapshot);
            if let Some(old) = old.as_ref().filter(|old| old.revision <= snapshot.revision)
                && snapshot.read_to.as_ref().is_none_or(|read_to| key > read_to)
            {
                snapshot.keys.insert(key.clone(), old.clone());
            }
            true
        });
    }
}

impl KeyStore for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn reads_block(&self) -> bool {
        false
    }

    fn revision(&self) -> Revision {
        self.read().revision
    }

    fn usage(&self) -> KeyUsage {
        self.read().usage
    }

    fn get(&self, key: &Key) -> Result<Option<VersionedValue>, StoreError> {
        Ok(self.read().keys.get(key).cloned())
    }

    fn page(&self, range: &KeyRange) -> Result<KeyPage, StoreError> {
        let state = self.read();
        let from = match &range.after {
            Some(after) if **after >= *range.prefix => Bound::Excluded(&**after),
            _ => Bound::Included(&*range.prefix),
        };
        let mut page = PageBuilder::new(range, state.revision);
        let keys = state.keys.range::<str, _>((from, Bound::Unbounded));
        for (key, value) in keys.take_while(|(key, _)| key.starts_with(&*range.prefix)) {
            if !page.add(key.clone(), value.clone()) {
                break;
            }
        }
        Ok(page.finish())
    }

    fn expired(&self, now_ms: u64, keys_max: usize) -> Result<Vec<Key>, StoreError> {
        let state = self.read();
        let due = state.expiring.iter().take_while(|(expires, _)| *expires <= now_ms);
        Ok(due.take(keys_max).map(|(_, key)| key.clone()).collect())
    }

    fn next_expiry(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.read().expiring.first().map(|(expires, _)| *expires))
    }

    fn write(&self, group: MutationGroup<'_>) -> Result<(), StoreError> {
        let mut state = self.change();
        for mutation in group.mutations {
            state.set(&mutation.key, mutation.value());
        }
        state.usage = group.usage;
        state.revision = group.revision;
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn KeySnapshot>, StoreError> {
        let mut state = self.change();
        let old = OldKeys { revision: state.revision, read_to: None, keys: KeyMap::new() };
        let old = Arc::new(Mutex::new(old));
        state.snapshots.push(Arc::downgrade(&old));
        Ok(Box::new(MemorySnapshot { store: MemoryStore(self.0.clone()), old, revision: state.revision }))
    }
}

/// A snapshot: the present keys, with the former values of those that changed since it began. Its memory grows
/// only with keys of the snapshot that change meanwhile.
struct MemorySnapshot {
    store: MemoryStore,
    old: Arc<Mutex<OldKeys>>,
    revision: Revision,
}

impl KeySnapshot for MemorySnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn next(&mut self, bytes_max: usize) -> Result<Vec<(Key, ListedValue)>, StoreError> {
        let state = self.store.read();
        let mut old = lock(&self.old);
        let from = old.read_to.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let present = state.keys.range((from, Bound::Unbounded));
        let mut present = present.filter(|(_, value)| value.revision <= self.revision).peekable();
        let range = KeyRange { keys_max: usize::MAX, bytes_max, ..KeyRange::default() };
        let mut page = PageBuilder::new(&range, self.revision);
        loop {
            let changed = old.keys.first_key_value().map(|(key, _)| key);
            let unchanged = present.peek().map(|(key, _)| *key);
            let Some(key) = changed.into_iter().chain(unchanged).min().cloned() else { break };
            let value = old.keys.get(&key).or(present.peek().map(|(_, value)| *value));
            if value.is_some_and(|value| !page.add(key.clone(), value.clone())) {
                break;
            }
            old.keys.remove(&key);
            present.next_if(|(other, _)| **other == key);
            old.read_to = Some(key);
        }
        Ok(page.finish().keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{Mutation, MutationKind};

    #[test]
    fn keys_younger_than_a_snapshot_take_no_memory_in_it() {
        let store = MemoryStore::starting_at(0);
        let change = |revision, kind| {
            let mutations = vec![Mutation { key: Key::new("job").unwrap(), revision, kind }];
            let group = MutationGroup { mutations: &mutations, usage: KeyUsage::default(), revision };
            store.write(group).unwrap();
        };
        let snapshot = store.snapshot().unwrap();
        for revision in (1..=10).step_by(2) {
            change(revision, MutationKind::Put { bytes: b"x".as_slice().into(), expires_ms: None });
            change(revision + 1, MutationKind::Delete);
        }
        let old = store.read().snapshots[0].upgrade().unwrap();
        assert!(lock(&old).keys.is_empty());
        drop(snapshot);
    }
}
