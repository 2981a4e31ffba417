//! Removes archives: those above a bound, in the way of a day's archive, or on a full disk.

use super::Store;
use crate::error::ArchiveError;
use crate::pods::day_room::day_room;
use crate::pods::hour::ArchiveName;
use crate::pods::share::{self, Hours};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::{BTreeMap, BTreeSet};

/// The space that is freed on a full disk in addition to the missing space.
const ROOM_BYTES: u64 = 64 << 20;

/// An archive that was removed to keep a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    pub namespace: String,
    pub bytes: u64,
    /// True if the namespace used at most its share, and the archive was removed because the disk was full.
    pub is_within_share: bool,
}

/// The archives that were removed, and an error if others could not be removed.
pub struct Evictions {
    pub evicted: Vec<Evicted>,
    pub result: Result<(), ArchiveError>,
}

impl Store {
    /// Closes full archives. Removes archives above a bound or in the way of a day's archive. May be retried
    /// after an error.
    pub fn tidy(&mut self) -> Evictions {
        let closed = self.close_full_parts();
        let bound_of = |namespace: &str| self.bounds.of(namespace);
        let removable = share::to_remove(&self.sizes, bound_of, self.bounds.all.bytes, self.hour.day());
        let Evictions { mut evicted, result } = self.remove(removable);
        let mut result = closed.and(result);
        match self.missing_for_days() {
            Ok(0) => {}
            Ok(missing) => {
                let more = self.remove_for_days(missing);
                evicted.extend(more.evicted);
                result = result.and(more.result);
            }
            Err(error) => result = result.and(Err(error)),
        }
        Evictions { evicted, result }
    }

    /// Returns the bytes that are missing for the next archive of a day.
    fn missing_for_days(&self) -> Result<u64, ArchiveError> {
        let room = self.bounds.days.as_deref().map_or(0, day_room);
        if room == 0 {
            return Ok(0);
        }
        let space = self.space()?;
        let floor = self.bounds.min_free.bytes_of(space.capacity_bytes);
        Ok(floor.saturating_add(room).saturating_sub(space.available_bytes))
    }

    /// Removes archives for a day's archive. Each freed byte helps that archive, even if all of them together
    /// are too few.
    fn remove_for_days(&mut self, missing: u64) -> Evictions {
        let closed = self.closed();
        let kept: u64 = closed.values().flat_map(BTreeMap::values).sum();
        let bound_of = |namespace: &str| self.bounds.of(namespace);
        let removable = share::to_remove(&closed, bound_of, kept.saturating_sub(missing), self.hour.day());
        self.remove_for_space(removable)
    }

    fn close_full_parts(&mut self) -> Result<(), ArchiveError> {
        let full: Vec<String> = self
            .open
            .iter()
            .filter(|(namespace, open)| {
                !open.archive.is_accepted() && open.archive.committed() >= self.part_bytes(namespace)
            })
            .map(|(namespace, _)| namespace.clone())
            .collect();
        for namespace in full {
            if let Some(open) = self.open.get(&namespace) {
                open.archive.close(&open.dir)?;
                self.open.remove(&namespace);
            }
        }
        Ok(())
    }

    /// Removes archives, except those that the checkpoint names. These are considered again after the next
    /// commit.
    fn remove(&mut self, names: Vec<(String, ArchiveName)>) -> Evictions {
        let (mut evicted, mut result) = (Vec::new(), Ok(()));
        for (namespace, name) in names {
            if self.listed.contains(&(namespace.clone(), name)) {
                continue;
            }
            let dir = self.namespace_dir(&namespace);
            let removed = dir.and_then(|dir| dir.map_or(Ok(()), |dir| dir.remove(&name.to_string())));
            if removed.is_err() {
                result = removed;
                continue;
            }
            let hours = self.sizes.get_mut(&namespace);
            let bytes = hours.and_then(|hours| hours.remove(&name)).unwrap_or(0);
            self.forget_if_empty(&namespace);
            evicted.push(Evicted { namespace, bytes, is_within_share: false });
        }
        Evictions { evicted, result }
    }

    /// Forgets a namespace without archives, and removes its directory.
    fn forget_if_empty(&mut self, namespace: &str) {
        let is_empty = self.sizes.get(namespace).is_none_or(BTreeMap::is_empty);
        if is_empty && !self.open.contains_key(namespace) {
            self.sizes.remove(namespace);
            // A directory with a file of another program stays.
            let _ = unlinkat(self.at.fd(), namespace, UnlinkatFlags::RemoveDir);
        }
    }

    /// Removes old archives until this many bytes are free. Takes them from the namespaces that use the most.
    /// Removes none if all of them together are too small.
    pub fn make_room(&mut self, needed_bytes: u64) -> Result<Evictions, ArchiveError> {
        let missing = needed_bytes.saturating_sub(self.space()?.available_bytes);
        let bound_of = |namespace: &str| self.bounds.of(namespace);
        let removable = share::to_make_room(&self.closed(), bound_of, missing, ROOM_BYTES, self.hour.day());
        Ok(self.remove_for_space(removable))
    }

    /// Returns the archives that may be removed, with their sizes.
    fn closed(&self) -> BTreeMap<String, Hours> {
        let mut closed = self.sizes.clone();
        for (namespace, hours) in &mut closed {
            hours.retain(|name, _| !self.listed.contains(&(namespace.clone(), *name)));
        }
        closed
    }

    /// Removes archives because the disk is full.
    fn remove_for_space(&mut self, removable: Vec<(String, ArchiveName)>) -> Evictions {
        let within: BTreeSet<String> = self
            .usages()
            .into_iter()
            .filter(|(_, usage)| usage.kept_bytes <= usage.share_bytes)
            .map(|(namespace, _)| namespace)
            .collect();
        let mut evictions = self.remove(removable);
        for evicted in &mut evictions.evicted {
            evicted.is_within_share = within.contains(&evicted.namespace);
        }
        evictions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::bounds::Bound;
    use crate::pods::store::tests::{add, hour, store};
    use std::fs::File;
    use trial::kubelet::lines_of_all;

    #[test]
    fn namespace_without_archives_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().canonicalize().unwrap();
        let mut store = store(&out, None);
        store.bounds.all = Bound { bytes: 1 << 20, days: 2 };
        let archive = |store: &mut Store, namespaces: &[&str]| {
            namespaces.iter().for_each(|namespace| add(store, namespace).unwrap());
            store.commit(BTreeMap::new()).unwrap();
            store.show().unwrap();
            store.tidy().result.unwrap();
        };
        archive(&mut store, &["dev", "shop"]);
        assert_eq!(store.usages()["shop"].share_bytes, 1 << 19);
        store.begin_hour(hour("2026-11-30T14.tar.gz")).unwrap();
        archive(&mut store, &["shop"]);
        assert!(!out.join("dev").exists());
        assert_eq!(store.usages()["shop"].share_bytes, 1 << 20);
        // The namespace may return.
        archive(&mut store, &["dev"]);
        assert_eq!(store.usages()["dev"].share_bytes, 1 << 19);
    }

    #[test]
    fn archives_give_way_to_those_of_days() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().canonicalize().unwrap();
        let mut store = store(&out, Some(out.clone()));
        let archive = |store: &mut Store| {
            add(store, "shop").unwrap();
            store.commit(BTreeMap::new()).unwrap();
            store.show().unwrap();
            let Evictions { evicted, result } = store.tidy();
            result.unwrap();
            evicted
        };
        assert_eq!(archive(&mut store), []);
        store.begin_hour(hour("2026-11-28T15.tar.gz")).unwrap();
        assert_eq!(archive(&mut store), []);
        // The file is larger than the free space.
        File::create(out.join("all-logs-2026-11-28.tar.gz")).unwrap().set_len(1 << 43).unwrap();
        let evicted = archive(&mut store);
        assert_eq!(
            evicted.iter().map(|evicted| (&*evicted.namespace, evicted.is_within_share)).collect::<Vec<_>>(),
            [("shop", true)]
        );
        // The present archive must stay.
        assert_eq!(lines_of_all(&out).len(), 2);
    }
}
