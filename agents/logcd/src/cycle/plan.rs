//! Decides about each file and entry in the next archive: a step before any file is opened, and an action for
//! each opened file.

use crate::archive::block::{BlockSizes, kept_after_append, plain_len};
use crate::archive::entry::Entry;
use crate::cycle::changes::{FileChange, Match};
use crate::cycle::superseded;
use crate::logs::scanned_file::ScannedFile;
use std::collections::HashSet;

/// The decision about a file or entry before any file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryStep<'a> {
    /// The entry's blocks are copied; nothing is opened.
    Carry(&'a Entry),
    /// The file is opened, and its content decides the [`FileAction`].
    Open(&'a ScannedFile, Option<&'a Entry>),
    /// The entry is kept under another name, because its file is gone.
    Supersede(&'a Entry),
    /// The entry is not in the next archive.
    Drop,
}

/// The rules for content that no file holds any more.
#[derive(Debug)]
pub struct SupersededRules {
    /// False for the first archive of a day, and if no superseded content is kept at all.
    pub is_kept: bool,
    /// Names of superseded entries beyond the limit.
    excess: HashSet<Vec<u8>>,
}

impl SupersededRules {
    pub fn new(entries: &[Entry], is_same_day: bool, packed_bytes_max: u64) -> SupersededRules {
        let is_kept = is_same_day && packed_bytes_max > 0;
        SupersededRules { is_kept, excess: superseded::too_many(entries, packed_bytes_max) }
    }
}

impl<'a> EntryStep<'a> {
    pub fn decide(found: &'a Match, entries: &'a [Entry], rules: &SupersededRules) -> EntryStep<'a> {
        match found {
            Match::New(file) => EntryStep::Open(file, None),
            Match::Known { entry, change: FileChange::None, .. } | Match::Away(entry) => {
                EntryStep::Carry(&entries[*entry])
            }
            Match::Known { file, entry, .. } => EntryStep::Open(file, Some(&entries[*entry])),
            Match::Missing(_) | Match::Superseded(_) if !rules.is_kept => EntryStep::Drop,
            Match::Missing(entry) => EntryStep::Supersede(&entries[*entry]),
            Match::Superseded(entry) if rules.excess.contains(&entries[*entry].name) => EntryStep::Drop,
            Match::Superseded(entry) => EntryStep::Carry(&entries[*entry]),
        }
    }
}

/// The decision about an opened file. The kept blocks are the leading ones of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction<'a> {
    /// The file has no entry: all of it is read.
    Create,
    /// The file holds what the entry holds: all blocks are copied.
    Carry(&'a Entry),
    /// The file begins with all of its entry: blocks are kept, and the bytes after them are read.
    Continue { entry: &'a Entry, kept: usize },
    /// The file no longer holds all of its entry, which is superseded. The rest is done as for `Continue`.
    Rewrite { entry: &'a Entry, kept: usize },
}

impl<'a> FileAction<'a> {
    /// Decides for a file of `size` bytes that holds the `matching` leading blocks of its entry.
    pub fn decide(
        entry: Option<&'a Entry>,
        matching: usize,
        size: u64,
        sizes: &BlockSizes,
    ) -> FileAction<'a> {
        let Some(entry) = entry else { return FileAction::Create };
        let held = &entry.blocks[..matching];
        let kept = kept_after_append(sizes, held, size.saturating_sub(plain_len(held)));
        if matching < entry.blocks.len() {
            FileAction::Rewrite { entry, kept }
        } else if size == entry.size() {
            FileAction::Carry(entry)
        } else {
            FileAction::Continue { entry, kept }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::block::Block;
    use crate::archive::entry::{EntryLayout, Origin};
    use crate::archive::file_stamp::FileStamp;
    use crate::archive::header::Meta;
    use proptest::prelude::*;

    /// Block sizes so small that a test's files have many blocks.
    const SIZES: BlockSizes = BlockSizes { block_bytes_max: 4, dictionary_bytes_max: 0, final_bytes_min: 3 };

    fn entry(content: &[u8]) -> Entry {
        let block = |part: &[u8]| Block {
            plain_len: u32::try_from(part.len()).unwrap(),
            plain_crc: crc32fast::hash(part),
            packed_len: 1,
            packed_crc: 0,
        };
        let blocks = content.chunks(SIZES.block_bytes_max).map(block).collect();
        let (meta, layout) = (Meta::default(), EntryLayout::default());
        Entry { name: b"x.log".to_vec(), origin: Origin::Live(FileStamp::default()), meta, layout, blocks }
    }

    /// Counts the leading blocks of `archived` that `file` holds.
    fn matching(archived: &[u8], file: &[u8]) -> usize {
        let parts = archived.chunks(SIZES.block_bytes_max).enumerate();
        parts.take_while(|(n, part)| file[(n * 4).min(file.len())..].starts_with(part)).count()
    }

    /// The content that an action gives to the file's member, from the entry's blocks and from the file.
    fn member(action: FileAction<'_>, archived: &[u8], file: &[u8]) -> Vec<u8> {
        let kept = match action {
            FileAction::Carry(_) => return archived.to_vec(),
            FileAction::Create => 0,
            FileAction::Continue { kept, .. } | FileAction::Rewrite { kept, .. } => kept,
        };
        let kept = plain_len(&entry(archived).blocks[..kept]);
        let kept = usize::try_from(kept).unwrap();
        [&archived[..kept], &file[kept..]].concat()
    }

    prop_compose! {
        /// A file's content when it was archived, and now: appended to, truncated, edited, or anything.
        fn contents()(
            archived in prop::collection::vec(0u8..2, 0..40), added in prop::collection::vec(0u8..2, 0..20),
            cut in 0usize..60, edit in prop::option::of((0usize..60, 0u8..2)),
        ) -> (Vec<u8>, Vec<u8>) {
            let mut file = archived.clone();
            file.truncate(cut);
            file.extend(added);
            if let Some((at, byte)) = edit && let Some(old) = file.get_mut(at) {
                *old = byte;
            }
            (archived, file)
        }
    }

    proptest! {
        #[test]
        fn member_is_the_file_and_no_archived_byte_is_lost((archived, file) in contents()) {
            let matching = matching(&archived, &file);
            let entry = entry(&archived);
            let action = FileAction::decide(Some(&entry), matching, file.len() as u64, &SIZES);
            prop_assert_eq!(member(action, &archived, &file), file.clone());
            let is_superseded = matches!(action, FileAction::Rewrite { .. });
            prop_assert_eq!(is_superseded, !file.starts_with(&archived));
            prop_assert_eq!(matches!(action, FileAction::Carry(_)), file == archived);
        }

        #[test]
        fn new_file_is_read_from_its_beginning(size: u64) {
            prop_assert_eq!(FileAction::decide(None, 0, size, &SIZES), FileAction::Create);
        }

        #[test]
        fn content_ends_only_where_nothing_superseded_is_kept(same_day: bool, packed_bytes_max in 0u64..3, kind in 0u8..5) {
            let mut old = entry(b"line");
            old.origin = Origin::Superseded;
            let file = ScannedFile { name: b"x.log".to_vec(), stamp: FileStamp::default(), links: 1 };
            let found = match kind {
                0 => Match::New(file),
                1 => Match::Known { file, entry: 0, change: FileChange::Doubtful },
                2 => Match::Missing(0),
                3 => Match::Away(0),
                _ => Match::Superseded(0),
            };
            let entries = [old];
            let rules = SupersededRules::new(&entries, same_day, packed_bytes_max);
            let step = EntryStep::decide(&found, &entries, &rules);
            let is_kept = match found {
                Match::Missing(_) => same_day && packed_bytes_max > 0,
                Match::Superseded(_) => same_day && entries[0].packed_len() <= packed_bytes_max,
                Match::New(_) | Match::Known { .. } | Match::Away(_) => true,
            };
            prop_assert_eq!(step != EntryStep::Drop, is_kept);
            let opens = matches!(found, Match::New(_) | Match::Known { .. });
            prop_assert_eq!(matches!(step, EntryStep::Open(..)), opens);
        }
    }
}
