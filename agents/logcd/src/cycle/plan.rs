//! The plan of a cycle: each file of the directories is matched with its archived entry.

use crate::archive::entry::{Entry, Origin};
use crate::archive::file_stamp::FileStamp;
use crate::cycle::comparison::{Comparison, compare};
use crate::logs::scan::Found;
use std::collections::{HashMap, HashSet};

/// One member of the next archive, in archive order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A file, and the entry that has held it so far.
    Live { found: Found, old: Option<usize> },
    /// An entry whose file is gone.
    Missing(usize),
    /// An entry of a directory that cannot be looked at now.
    Away(usize),
    /// An entry that was superseded before.
    Superseded(usize),
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub items: Vec<Item>,
    /// Entries whose files were read and hold exactly what is archived.
    pub verified: HashSet<usize>,
}

impl Plan {
    /// `is_away` is true for an entry whose directory was not looked at.
    pub fn new(files: Vec<Found>, entries: &[Entry], is_away: &dyn Fn(&[u8]) -> bool) -> Plan {
        let claims = claims(&files, entries);
        let mut claimed = vec![false; entries.len()];
        for old in claims.iter().flatten() {
            claimed[*old] = true;
        }
        let mut items: Vec<Item> =
            files.into_iter().zip(claims).map(|(found, old)| Item::Live { found, old }).collect();
        for (number, entry) in entries.iter().enumerate().filter(|(number, _)| !claimed[*number]) {
            items.push(match entry.origin {
                Origin::Superseded => Item::Superseded(number),
                Origin::Live(_) | Origin::Recovered if is_away(&entry.name) => Item::Away(number),
                Origin::Live(_) | Origin::Recovered => Item::Missing(number),
            });
        }
        items.sort_by(|a, b| a.name(entries).cmp(b.name(entries)));
        Plan { items, verified: HashSet::new() }
    }

    /// The files that exist.
    pub fn live(&self) -> impl Iterator<Item = &Found> {
        self.items.iter().filter_map(|item| match item {
            Item::Live { found, .. } => Some(found),
            Item::Missing(_) | Item::Away(_) | Item::Superseded(_) => None,
        })
    }

    /// The inodes of archived files that no longer have their names: they were deleted or moved.
    pub fn lost(&self, entries: &[Entry]) -> HashSet<(u64, u64)> {
        let lost = self.items.iter().filter_map(|item| match item {
            Item::Missing(old) => entries[*old].stamp(),
            Item::Live { found, old: Some(old) } => {
                let other = |s: &&FileStamp| (s.dev, s.ino) != (found.stamp.dev, found.stamp.ino);
                entries[*old].stamp().filter(other)
            }
            Item::Live { old: None, .. } | Item::Away(_) | Item::Superseded(_) => None,
        });
        lost.map(|stamp| (stamp.dev, stamp.ino)).collect()
    }

    /// Returns all names that are in use.
    pub fn names(&self, entries: &[Entry]) -> HashSet<Vec<u8>> {
        self.items.iter().map(|item| item.name(entries).to_vec()).collect()
    }

    /// Returns by how many bytes, as far as stamps show, the files differ from the archive; `None` if nothing
    /// differs.
    pub fn news(&self, entries: &[Entry]) -> Option<u64> {
        let mut news = None;
        for item in &self.items {
            let bytes = match item {
                Item::Away(_) | Item::Superseded(_) => continue,
                Item::Missing(_) => 0,
                Item::Live { found, old: None } => found.stamp.size,
                Item::Live { found, old: Some(old) } => {
                    let entry = &entries[*old];
                    match compare(entry, &found.stamp) {
                        Comparison::Doubtful | Comparison::Same if self.verified.contains(old) => {
                            if entry.name == found.name {
                                continue;
                            }
                            0
                        }
                        Comparison::Same if entry.name == found.name => continue,
                        Comparison::Same => 0,
                        Comparison::Grown => found.stamp.size - entry.size(),
                        Comparison::Doubtful => found.stamp.size,
                    }
                }
            };
            *news.get_or_insert(0) += bytes;
        }
        news
    }
}

impl Item {
    fn name<'a>(&'a self, entries: &'a [Entry]) -> &'a [u8] {
        match self {
            Item::Live { found, .. } => &found.name,
            Item::Missing(old) | Item::Away(old) | Item::Superseded(old) => &entries[*old].name,
        }
    }
}

/// Finds the entry that each file continues. The first choice is the one with its name and inode. Next is its
/// inode (it was renamed), then its name (it was replaced, or its inode is not known).
fn claims(files: &[Found], entries: &[Entry]) -> Vec<Option<usize>> {
    let mut by_inode: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    let mut by_name: HashMap<&[u8], usize> = HashMap::new();
    for (number, entry) in entries.iter().enumerate().filter(|(_, e)| e.origin != Origin::Superseded) {
        by_name.insert(&entry.name, number);
        if let Some(stamp) = entry.stamp() {
            by_inode.entry((stamp.dev, stamp.ino)).or_default().push(number);
        }
    }
    let mut free = vec![true; entries.len()];
    let mut claims = vec![None; files.len()];
    let mut pass = |candidate: &dyn Fn(&Found, &[bool]) -> Option<usize>| {
        for (claim, found) in claims.iter_mut().zip(files).filter(|(claim, _)| claim.is_none()) {
            if let Some(old) = candidate(found, &free) {
                free[old] = false;
                *claim = Some(old);
            }
        }
    };
    let inodes =
        |found: &Found| by_inode.get(&(found.stamp.dev, found.stamp.ino)).map_or(&[][..], Vec::as_slice);
    pass(&|found, free| {
        inodes(found).iter().copied().find(|old| free[*old] && entries[*old].name == found.name)
    });
    pass(&|found, free| inodes(found).iter().copied().find(|old| free[*old]));
    pass(&|found, free| by_name.get(found.name.as_slice()).copied().filter(|old| free[*old]));
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::entry::EntryLayout;
    use crate::archive::header::Meta;

    fn entry(name: &str, ino: u64) -> Entry {
        let stamp = FileStamp { ino, ..FileStamp::default() };
        let (meta, layout) = (Meta::default(), EntryLayout::default());
        Entry { name: name.into(), origin: Origin::Live(stamp), meta, layout, blocks: Vec::new() }
    }

    fn found(name: &str, ino: u64) -> Found {
        Found { name: name.into(), stamp: FileStamp { ino, ..FileStamp::default() }, links: 1 }
    }

    fn claimed(files: &[Found], entries: &[Entry]) -> Vec<Option<usize>> {
        claims(files, entries)
    }

    #[test]
    fn renamed_file_continues_its_entry() {
        let entries = [entry("a.log", 1), entry("b.log", 2)];
        // b was rotated to b-1, and a new b was begun.
        let files = [found("a.log", 1), found("b-1.log", 2), found("b.log", 3)];
        assert_eq!(claimed(&files, &entries), [Some(0), Some(1), None]);
        // Two files swapped their names.
        assert_eq!(claimed(&[found("a.log", 2), found("b.log", 1)], &entries), [Some(1), Some(0)]);
        // a was replaced by a new file.
        assert_eq!(claimed(&[found("a.log", 9), found("b.log", 2)], &entries), [Some(0), Some(1)]);
    }

    #[test]
    fn hard_links_keep_their_own_entries() {
        let entries = [entry("a.log", 1), entry("b.log", 1)];
        assert_eq!(claimed(&[found("a.log", 1), found("b.log", 1)], &entries), [Some(0), Some(1)]);
        assert_eq!(claimed(&[found("b.log", 1)], &entries), [Some(1)]);
    }

    #[test]
    fn unclaimed_entry_is_missing_or_superseded() {
        let mut old = entry("x.log.20261121T000000", 0);
        old.origin = Origin::Superseded;
        let entries = [entry("x.log", 1), old];
        let plan = Plan::new(Vec::new(), &entries, &|_| false);
        assert_eq!(plan.items, [Item::Missing(0), Item::Superseded(1)]);
        assert_eq!(plan.news(&entries), Some(0));
        let plan = Plan::new(Vec::new(), &entries, &|_| true);
        assert_eq!(
            (plan.items.as_slice(), plan.news(&entries)),
            (&[Item::Away(0), Item::Superseded(1)][..], None)
        );
        let plan = Plan::new(vec![found("x.log", 1)], &entries, &|_| false);
        assert_eq!(plan.news(&entries), None);
    }
}
