//! Matches the files of the log directories with their archived entries, and finds by stamps what has
//! changed.

use crate::archive::entry::{Entry, Origin};
use crate::archive::file_stamp::FileStamp;
use crate::cycle::comparison::{Comparison, compare};
use crate::logs::scanned_file::ScannedFile;
use std::collections::{HashMap, HashSet};

/// A file and its entry, or one of them without the other: a member of the next archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// A file without an entry.
    New(ScannedFile),
    /// A file, and the number of the entry that has held it so far.
    Known { file: ScannedFile, entry: usize, change: FileChange },
    /// An entry whose file is gone.
    Missing(usize),
    /// An entry of a directory that cannot be read now.
    Away(usize),
    /// An entry that was superseded before.
    Superseded(usize),
}

/// The change of a known file since it was archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// The entry holds the file's content: its stamp is the same, or the file was read again.
    None,
    /// The content is the same, but the name is another.
    Renamed,
    /// As far as stamps show, this many bytes were appended.
    Grown { bytes: u64 },
    /// The content of the file is unknown.
    Doubtful,
}

impl FileChange {
    /// Judges by stamps alone.
    fn of(file: &ScannedFile, entry: &Entry) -> FileChange {
        match compare(entry, &file.stamp) {
            Comparison::Same => FileChange::unchanged(file, entry),
            Comparison::Grown => FileChange::Grown { bytes: file.stamp.size - entry.size() },
            Comparison::Doubtful => FileChange::Doubtful,
        }
    }

    /// Returns the change of a file whose content is the same.
    pub fn unchanged(file: &ScannedFile, entry: &Entry) -> FileChange {
        if entry.name == file.name { FileChange::None } else { FileChange::Renamed }
    }
}

/// All members of the next archive, in archive order.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub matches: Vec<Match>,
}

impl Changes {
    /// Matches the files with the entries. `is_away` is true for an entry whose directory cannot be read now.
    pub fn new(files: Vec<ScannedFile>, entries: &[Entry], is_away: &dyn Fn(&[u8]) -> bool) -> Changes {
        let numbers = match_files(&files, entries);
        let mut is_matched = vec![false; entries.len()];
        let mut matches = Vec::with_capacity(entries.len().max(files.len()));
        for (file, number) in files.into_iter().zip(numbers) {
            matches.push(match number {
                Some(entry) => {
                    is_matched[entry] = true;
                    let change = FileChange::of(&file, &entries[entry]);
                    Match::Known { file, entry, change }
                }
                None => Match::New(file),
            });
        }
        for (number, entry) in entries.iter().enumerate().filter(|(number, _)| !is_matched[*number]) {
            matches.push(match entry.origin {
                Origin::Superseded => Match::Superseded(number),
                Origin::Live(_) | Origin::Recovered if is_away(&entry.name) => Match::Away(number),
                Origin::Live(_) | Origin::Recovered => Match::Missing(number),
            });
        }
        matches.sort_by(|a, b| a.name(entries).cmp(b.name(entries)));
        Changes { matches }
    }

    /// Iterates over the files that exist.
    pub fn files(&self) -> impl Iterator<Item = &ScannedFile> {
        self.matches.iter().filter_map(|found| match found {
            Match::New(file) | Match::Known { file, .. } => Some(file),
            Match::Missing(_) | Match::Away(_) | Match::Superseded(_) => None,
        })
    }

    /// Returns the inodes of archived files that no longer have their names: they were deleted or moved.
    pub fn lost(&self, entries: &[Entry]) -> HashSet<(u64, u64)> {
        let lost = self.matches.iter().filter_map(|found| match found {
            Match::Missing(entry) => entries[*entry].stamp(),
            Match::Known { file, entry, .. } => {
                entries[*entry].stamp().filter(|stamp| stamp.id() != file.stamp.id())
            }
            Match::New(_) | Match::Away(_) | Match::Superseded(_) => None,
        });
        lost.map(FileStamp::id).collect()
    }

    /// Returns all names that are in use.
    pub fn names(&self, entries: &[Entry]) -> HashSet<Vec<u8>> {
        self.matches.iter().map(|found| found.name(entries).to_vec()).collect()
    }

    /// Returns the number of new bytes in the files, as far as stamps show; `None` if no file differs from
    /// the archive.
    pub fn news_bytes(&self) -> Option<u64> {
        let news = self.matches.iter().filter_map(|found| match found {
            Match::New(file) => Some(file.stamp.size),
            Match::Missing(_) => Some(0),
            Match::Away(_) | Match::Superseded(_) => None,
            Match::Known { file, change, .. } => match change {
                FileChange::None => None,
                FileChange::Renamed => Some(0),
                FileChange::Grown { bytes } => Some(*bytes),
                FileChange::Doubtful => Some(file.stamp.size),
            },
        });
        news.fold(None, |all: Option<u64>, bytes| Some(all.unwrap_or(0) + bytes))
    }
}

impl Match {
    fn name<'a>(&'a self, entries: &'a [Entry]) -> &'a [u8] {
        match self {
            Match::New(file) | Match::Known { file, .. } => &file.name,
            Match::Missing(entry) | Match::Away(entry) | Match::Superseded(entry) => &entries[*entry].name,
        }
    }
}

/// Finds the entry that each file continues. The first choice is the entry with its name and inode. The
/// second is the entry with its inode: the file was renamed. The third is the entry with its name: the file
/// was replaced, or its inode is not known.
fn match_files(files: &[ScannedFile], entries: &[Entry]) -> Vec<Option<usize>> {
    let mut by_inode: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    let mut by_name: HashMap<&[u8], usize> = HashMap::new();
    for (number, entry) in entries.iter().enumerate().filter(|(_, e)| e.origin != Origin::Superseded) {
        by_name.insert(&entry.name, number);
        if let Some(stamp) = entry.stamp() {
            by_inode.entry(stamp.id()).or_default().push(number);
        }
    }
    let mut free = vec![true; entries.len()];
    let mut numbers = vec![None; files.len()];
    let mut pass = |candidate: &dyn Fn(&ScannedFile, &[bool]) -> Option<usize>| {
        for (number, file) in numbers.iter_mut().zip(files).filter(|(number, _)| number.is_none()) {
            if let Some(entry) = candidate(file, &free) {
                free[entry] = false;
                *number = Some(entry);
            }
        }
    };
    let inodes = |file: &ScannedFile| by_inode.get(&file.stamp.id()).map_or(&[][..], Vec::as_slice);
    pass(&|file, free| {
        inodes(file).iter().copied().find(|entry| free[*entry] && entries[*entry].name == file.name)
    });
    pass(&|file, free| inodes(file).iter().copied().find(|entry| free[*entry]));
    pass(&|file, free| by_name.get(file.name.as_slice()).copied().filter(|entry| free[*entry]));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::entry::EntryLayout;
    use crate::archive::header::Meta;
    use proptest::prelude::*;

    fn entry(name: &str, ino: u64) -> Entry {
        let stamp = FileStamp { ino, ..FileStamp::default() };
        let (meta, layout) = (Meta::default(), EntryLayout::default());
        Entry { name: name.into(), origin: Origin::Live(stamp), meta, layout, blocks: Vec::new() }
    }

    fn file(name: &str, ino: u64) -> ScannedFile {
        ScannedFile { name: name.into(), stamp: FileStamp { ino, ..FileStamp::default() }, links: 1 }
    }

    #[test]
    fn renamed_file_continues_its_entry() {
        let entries = [entry("a.log", 1), entry("b.log", 2)];
        // b was rotated to b-1, and a new b was begun.
        let files = [file("a.log", 1), file("b-1.log", 2), file("b.log", 3)];
        assert_eq!(match_files(&files, &entries), [Some(0), Some(1), None]);
        // Two files swapped their names.
        assert_eq!(match_files(&[file("a.log", 2), file("b.log", 1)], &entries), [Some(1), Some(0)]);
        // a was replaced by a new file.
        assert_eq!(match_files(&[file("a.log", 9), file("b.log", 2)], &entries), [Some(0), Some(1)]);
    }

    #[test]
    fn hard_links_keep_their_own_entries() {
        let entries = [entry("a.log", 1), entry("b.log", 1)];
        assert_eq!(match_files(&[file("a.log", 1), file("b.log", 1)], &entries), [Some(0), Some(1)]);
        assert_eq!(match_files(&[file("b.log", 1)], &entries), [Some(1)]);
    }

    #[test]
    fn entry_without_file_is_missing_or_superseded() {
        let mut old = entry("x.log.20261121T000000", 0);
        old.origin = Origin::Superseded;
        let entries = [entry("x.log", 1), old];
        let changes = Changes::new(Vec::new(), &entries, &|_| false);
        assert_eq!(changes.matches, [Match::Missing(0), Match::Superseded(1)]);
        assert_eq!(changes.news_bytes(), Some(0));
        let changes = Changes::new(Vec::new(), &entries, &|_| true);
        assert_eq!(
            (changes.matches.as_slice(), changes.news_bytes()),
            (&[Match::Away(0), Match::Superseded(1)][..], None)
        );
        let changes = Changes::new(vec![file("x.log", 1)], &entries, &|_| false);
        assert_eq!(changes.news_bytes(), None);
    }

    proptest! {
        #[test]
        fn each_file_and_each_entry_is_in_one_match(
            files in prop::collection::btree_map(0u8..12, (1u64..9, 0u64..3), 0..10),
            entries in prop::collection::btree_map(0u8..12, (1u64..9, 0u8..3), 0..10),
        ) {
            let files: Vec<ScannedFile> = files.iter().map(|(name, (ino, size))| {
                let mut file = file(&format!("{name}.log"), *ino);
                file.stamp.size = *size;
                file
            }).collect();
            let entries: Vec<Entry> = entries.iter().map(|(name, (ino, origin))| {
                let mut entry = entry(&format!("{name}.log"), *ino);
                match origin { 0 => entry.origin = Origin::Superseded, 1 => entry.origin = Origin::Recovered, _ => {} }
                entry
            }).collect();
            let changes = Changes::new(files.clone(), &entries, &|_| false);
            let mut seen: Vec<&ScannedFile> = changes.files().collect();
            seen.sort_by(|a, b| a.name.cmp(&b.name));
            let mut sorted: Vec<&ScannedFile> = files.iter().collect();
            sorted.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(seen, sorted);
            let mut used: Vec<usize> = changes.matches.iter().filter_map(|found| match found {
                Match::New(_) => None,
                Match::Known { entry, .. } | Match::Missing(entry) | Match::Away(entry) | Match::Superseded(entry) => Some(*entry),
            }).collect();
            used.sort_unstable();
            prop_assert_eq!(used, (0..entries.len()).collect::<Vec<_>>());
            prop_assert!(changes.matches.is_sorted_by_key(|found| found.name(&entries).to_vec()));
            for found in &changes.matches {
                if let Match::Known { file, entry, change: FileChange::None } = found {
                    prop_assert_eq!(&file.name, &entries[*entry].name);
                    prop_assert_eq!(entries[*entry].stamp(), Some(&file.stamp));
                }
            }
        }
    }
}
